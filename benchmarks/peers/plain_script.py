"""What a microscopist would write by hand for one plate: the same job without hcsflow's engine.

    python benchmarks/peers/plain_script.py PLATE OUT --processes 2

multiprocessing.Pool, tifffile, zarr-python and the very functions of ``count-nuclei``. It writes
the same image levels and labels (one shard each) and the same tables as `hcsflow run
count-nuclei`; it does not resume, check, or report, and one bad file ends it.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import defaultdict
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import tifffile
import yaml
import zarr
from zarr.codecs import BloscCodec

from hcsflow.functions.background import subtract_background
from hcsflow.functions.filters import gaussian_filter
from hcsflow.functions.measure import measure_objects
from hcsflow.functions.objects import label_objects, split_touching
from hcsflow.functions.projection import max_projection
from hcsflow.functions.threshold import threshold_otsu
from hcsflow.plate import PlaneKey

NAME = re.compile(r"_(?P<well>[A-Z]\d\d)_s(?P<field>\d+)_w(?P<channel>\d+)\.tif$")
STEP = re.compile(r"ZStep_(\d+)$")
CODEC = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
PIXEL_SIZE_UM = 0.65
SMALLEST_SIDE = 128
GRAPH = Path(__file__).parents[2] / "graphs" / "count-nuclei" / "pipeline.yaml"
SET = yaml.safe_load(GRAPH.read_text())["parameters"]  # so that both use the same values
LABEL_STRIDE = 1 << 16

Files = dict[tuple[int, int, int], Path]


def main() -> None:
    """Process all wells and put the tables together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plate", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    wells = sorted(files_by_well(arguments.plate).items())
    store = arguments.output / "images.zarr"
    names = [{"path": f"{w[0]}/{w[1:]}"} for w, _ in wells]
    zarr.create_group(str(store), attributes={"ome": {"version": "0.5", "plate": {"wells": names}}})
    with Pool(arguments.processes, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        frames = pool.map(partial(process_well, store), wells, chunksize=1)
    results = arguments.output / "results"
    results.mkdir()
    table = pd.concat(frames, ignore_index=True)
    table.to_parquet(results / "nuclei.parquet")
    table.to_csv(results / "nuclei.csv", index=False)


def files_by_well(plate: Path) -> dict[str, Files]:
    """Return the path of each (field, channel, z) of each well."""
    found: dict[str, Files] = defaultdict(dict)
    for path in plate.rglob("*.tif"):
        name, step = NAME.search(path.name), STEP.search(path.parent.name)
        if name and step:
            key = (int(name["field"]) - 1, int(name["channel"]) - 1, int(step[1]) - 1)
            found[name["well"]][key] = path
    return found


def process_well(store: Path, task: tuple[str, Files]) -> pd.DataFrame:
    """Read, segment, measure and write one well."""
    well, files = task
    fields, channels, heights = (1 + max(key[axis] for key in files) for axis in range(3))
    columns = math.ceil(math.sqrt(fields))
    rows = math.ceil(fields / columns)
    side_y, side_x = tifffile.imread(files[0, 0, 0]).shape
    mosaic = np.zeros((channels, heights, rows * side_y, columns * side_x), np.uint16)
    labels = np.zeros((rows * side_y, columns * side_x), np.uint32)
    frames = []
    for field in range(fields):
        row, column = divmod(field, columns)
        tile = np.s_[row * side_y : (row + 1) * side_y, column * side_x : (column + 1) * side_x]
        for channel in range(channels):
            for z in range(heights):
                plane = tifffile.imread(files[field, channel, z])
                mosaic[(channel, z, *tile)] = plane
        stack = mosaic[(slice(None), slice(None), *tile)]
        found, table = count_nuclei(stack, field)
        labels[tile] = np.where(found > 0, found + np.uint32(field * LABEL_STRIDE), 0)
        frames.append(pd.DataFrame({"well": well, "field": field + 1, **table}))
    image = store / well[0] / well[1:] / "0"
    write_levels(image, mosaic, (side_y, side_x))
    write_levels(image / "labels" / "nuclei", labels, (side_y, side_x), is_label=True)
    table = pd.concat(frames, ignore_index=True)
    (image / "tables" / "nuclei").mkdir(parents=True)
    table.to_parquet(image / "tables" / "nuclei" / "table.parquet")
    return table


def count_nuclei(stack: np.ndarray, field: int) -> tuple[np.ndarray, dict[str, Any]]:
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
    return found[0], table


def write_levels(
    folder: Path, array: np.ndarray, chunk: tuple[int, int], *, is_label: bool = False
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
            compressors=CODEC,
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
