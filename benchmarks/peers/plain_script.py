"""What a microscopist would write by hand for one plate: the same job without hcsflow's engine.

    python benchmarks/peers/plain_script.py PLATE OUT --pipeline peer --processes 2

multiprocessing.Pool, tifffile, zarr-python and the very functions of the pipeline: ``peer``
(`peer_pipeline.py`) or ``count-nuclei``. It writes the same image levels and labels (one shard
each) and the same tables as `hcsflow run`; it does not resume, check, or report, and one bad file
ends it.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import tifffile
import yaml
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

from hcsflow.functions.background import subtract_background
from hcsflow.functions.filters import gaussian_filter
from hcsflow.functions.measure import measure_objects
from hcsflow.functions.objects import label_objects, split_touching
from hcsflow.functions.projection import max_projection
from hcsflow.functions.threshold import threshold_otsu
from hcsflow.plate import PlaneKey

sys.path.insert(0, str(Path(__file__).parents[1]))
from peer_pipeline import count_cells, smooth

NAME = re.compile(r"(^|_)(?P<well>[A-Z]\d\d)_s(?P<field>\d+)_w(?P<channel>\d+)\.tif$")
STEP = re.compile(r"ZStep_(\d+)$")
PIXELS = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
LABELS = ZstdCodec(level=1)
PIXEL_SIZE_UM = 0.65
SMALLEST_SIDE = 128
GRAPH = Path(__file__).parents[2] / "graphs" / "count-nuclei" / "pipeline.yaml"
SET = yaml.safe_load(GRAPH.read_text())["parameters"]  # so that both use the same values
LABEL_STRIDE = 1 << 16

Files = dict[tuple[int, int, int], Path]
Field = tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]


def main() -> None:
    """Process all wells and put the tables together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plate", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pipeline", choices=sorted(PIPELINES), default="peer")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    wells = sorted(files_by_well(arguments.plate).items())
    store = arguments.output / "images.zarr"
    names = [{"path": f"{w[0]}/{w[1:]}"} for w, _ in wells]
    zarr.create_group(str(store), attributes={"ome": {"version": "0.5", "plate": {"wells": names}}})
    work = partial(process_well, store, arguments.pipeline)
    fork = get_context("fork")
    with fork.Pool(arguments.processes, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        frames = pool.map(work, wells, chunksize=1)
    results = arguments.output / "results"
    results.mkdir()
    table = pd.concat(frames, ignore_index=True)
    name = TABLES[arguments.pipeline]
    table.to_parquet(results / f"{name}.parquet")
    table.to_csv(results / f"{name}.csv", index=False)


def files_by_well(plate: Path) -> dict[str, Files]:
    """Return the path of each (field, channel, z) of each well."""
    found: dict[str, Files] = defaultdict(dict)
    for path in plate.rglob("*.tif"):
        name, step = NAME.search(path.name), STEP.search(path.parent.name)
        if name and step:
            key = (int(name["field"]) - 1, int(name["channel"]) - 1, int(step[1]) - 1)
            found[name["well"]][key] = path
    return found


def process_well(store: Path, pipeline: str, task: tuple[str, Files]) -> pd.DataFrame:
    """Read, segment, measure and write one well."""
    well, files = task
    fields = 1 + max(field for field, _, _ in files)
    columns = math.ceil(math.sqrt(fields))
    grid = (math.ceil(fields / columns), columns)
    mosaics: dict[str, np.ndarray] = {}
    frames = []
    for field in range(fields):
        pixels, labels, table = PIPELINES[pipeline](read_field(files, field), field)
        for name, stack in mosaics_of(pixels, labels, field):
            if field == 0:
                sides = (grid[0] * stack.shape[-2], grid[1] * stack.shape[-1])
                mosaics[name] = np.zeros((*stack.shape[:-2], *sides), stack.dtype)
            mosaics[name][tile(field, columns, stack.shape[-2:])] = stack
        frames.append(pd.DataFrame({"well": well, "field": field + 1, **table}))
    image = store / well[0] / well[1:] / "0"
    for name, mosaic in mosaics.items():
        write_levels(image / name, mosaic, pixels.shape[-2:], is_label=name != "")
    table = pd.concat(frames, ignore_index=True)
    folder = image / "tables" / TABLES[pipeline]
    folder.mkdir(parents=True)
    table.to_parquet(folder / "table.parquet")
    return table


def read_field(files: Files, field: int) -> np.ndarray:
    """Return all planes of a field, (channel, z, y, x)."""
    first = tifffile.imread(files[field, 0, 0])
    channels, heights = (1 + max(key[axis] for key in files) for axis in (1, 2))
    stack = np.empty((channels, heights, *first.shape), first.dtype)
    stack[0, 0] = first
    for channel, z in list(np.ndindex(channels, heights))[1:]:
        stack[channel, z] = tifffile.imread(files[field, channel, z])
    return stack


def mosaics_of(
    pixels: np.ndarray, labels: dict[str, np.ndarray], field: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each image's path below the well's image, and the field's part of it."""
    yield "", pixels
    offset = np.uint32(field * LABEL_STRIDE)
    for name, found in labels.items():
        yield f"labels/{name}", np.where(found > 0, found + offset, np.uint32(0))


def tile(field: int, columns: int, sides: tuple[int, ...]) -> tuple[Any, ...]:
    """Return where a field lies in the mosaic."""
    row, column = divmod(field, columns)
    y, x = row * sides[0], column * sides[1]
    return np.s_[..., y : y + sides[0], x : x + sides[1]]


def count_nuclei(stack: np.ndarray, field: int) -> Field:
    """Segment the first channel of one field, (channel, z, y, x), and measure all channels."""
    plane = max_projection(stack[0])
    plane = gaussian_filter(plane, sigma=SET["sigma"])
    plane = subtract_background(plane, radius=SET["background_radius"])
    mask = threshold_otsu(plane, scale=SET["threshold_scale"], minimum=SET["threshold_minimum"])
    parts = split_touching(mask, min_distance=SET["min_distance"])
    found, _ = label_objects(parts, min_area=SET["min_area"])
    keys = [PlaneKey(0, 0, field, 0, c, z) for c, z in np.ndindex(stack.shape[:2])]
    _, table = measure_objects(
        stack.reshape(-1, *stack.shape[2:]),
        labels=found,
        pixel_size_um=PIXEL_SIZE_UM,
        plane_keys=keys,
        channel_names=[f"w{c + 1}" for c in range(len(stack))],
    )
    return stack, {"nuclei": found[0]}, table


def count_peer(stack: np.ndarray, _: int) -> Field:
    """Smooth, project and count both channels of one field, (channel, z, y, x)."""
    projected = np.concatenate([max_projection(smooth(channel)) for channel in stack])
    _, first, second, table = count_cells(projected, channel_names=["w1", "w2"])
    return projected, {"w1": first, "w2": second}, table


PIPELINES = {"count-nuclei": count_nuclei, "peer": count_peer}
TABLES = {"count-nuclei": "nuclei", "peer": "counts"}


def write_levels(
    folder: Path, array: np.ndarray, chunk: tuple[int, ...], *, is_label: bool = False
) -> None:
    """Write a pyramid, each level one shard with a field's plane as inner chunk."""
    group = zarr.create_group(str(folder))
    level = 0
    while True:
        name, is_last = str(level), max(array.shape[-2:]) // 2 < SMALLEST_SIDE
        stored = group.create_array(
            name,
            shape=array.shape,
            dtype=array.dtype,
            chunks=(*(1,) * (array.ndim - 2), *chunk),
            shards=array.shape,
            compressors=LABELS if is_label else PIXELS,
        )
        stored[...] = array
        if is_last or chunk[0] % 2 or chunk[1] % 2:
            break
        array, chunk, level = (
            halved(array, is_label=is_label),
            (chunk[0] // 2, chunk[1] // 2),
            level + 1,
        )
    paths = [{"path": str(n)} for n in range(level + 1)]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"datasets": paths}]}


def halved(array: np.ndarray, *, is_label: bool) -> np.ndarray:
    """Downsample y and x by 2: mean of pixels, every second one of labels."""
    if is_label:
        return np.ascontiguousarray(array[..., ::2, ::2])
    size = (array.shape[-1] // 2, array.shape[-2] // 2)
    planes = array.reshape(-1, *array.shape[-2:])
    smaller = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]
    return np.stack(smaller).reshape(*array.shape[:-2], *size[::-1])


if __name__ == "__main__":
    main()
