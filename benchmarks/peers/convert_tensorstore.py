"""A plate as OME-Zarr, as one would write it with tensorstore: the same shards and levels as ours.

    PYTHON_OF_ITS_OWN_VENV convert_tensorstore.py PLATE OUTPUT --processes 2 --threads 1

Each level of a well is one shard with a field's plane as inner chunk, written by one call (so no
shard is read back), without waiting for the disk, from the array that is there (no copy). Levels
are halved by OpenCV, the fastest there is. It does not check, resume or report; one bad file ends
it.
"""

from __future__ import annotations

from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorstore
from convert_plate import (
    PIXEL_SIZE_UM,
    Z_STEP_UM,
    Codec,
    Files,
    Job,
    files_by_well,
    job_of,
    plate_metadata,
    read_well,
    write_group,
)

SPACES = ("z", "y", "x")


def main() -> None:
    """Convert all wells."""
    job = job_of(__doc__.partition("\n")[0])
    wells = files_by_well(job.plate)
    store = job.output / "images.zarr"
    write_group(store, plate_metadata([well for well, _ in wells]))
    with get_context("fork").Pool(job.processes) as pool:
        for _ in pool.imap_unordered(partial(convert_well, job, store), wells):
            pass


def convert_well(job: Job, store: Path, task: tuple[str, Files]) -> None:
    """Read one well and write its levels."""
    cv2.setNumThreads(job.threads)
    well, files = task
    array, chunk = read_well(files)
    folder = store / well[0] / well[1:]
    write_group(folder, {"version": "0.5", "well": {"images": [{"path": "0"}]}})
    write_group(folder / "0", image_metadata(job.levels))
    written = []
    for level in range(job.levels):
        if level:
            array, chunk = halved(array), (chunk[0] // 2, chunk[1] // 2)
        written.append(write_level(folder / "0" / str(level), array, chunk, job))
    for future in written:
        future.result()


def write_level(folder: Path, array: np.ndarray, chunk: tuple[int, int], job: Job) -> Any:
    """Begin to write a level as one shard; return its future."""
    limit = {"limit": job.threads}
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "metadata": array_metadata(array, chunk, job.codec),
        "context": {
            "data_copy_concurrency": limit,
            "file_io_concurrency": limit,
            "file_io_sync": False,
        },
    }
    opened = tensorstore.open(spec, create=True).result()
    return opened.write(array, can_reference_source_data_indefinitely=True)


def array_metadata(array: np.ndarray, chunk: tuple[int, int], codec: Codec) -> dict[str, Any]:
    """Return what Zarr says of a level."""
    blosc = {**codec._asdict(), "typesize": array.itemsize}
    sharding = {
        "chunk_shape": [1, 1, *chunk],
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": blosc},
        ],
    }
    return {
        "shape": list(array.shape),
        "data_type": array.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(array.shape)}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ["c", *SPACES],
    }


def halved(array: np.ndarray) -> np.ndarray:
    """Downsample y and x by 2: the mean."""
    size = (array.shape[-1] // 2, array.shape[-2] // 2)
    smaller = np.empty((*array.shape[:-2], *size[::-1]), array.dtype)
    for place in np.ndindex(array.shape[:-2]):
        cv2.resize(array[place], size, dst=smaller[place], interpolation=cv2.INTER_AREA)
    return smaller


def image_metadata(levels: int) -> dict[str, Any]:
    """Return what OME-Zarr says of an image."""
    units = [{"name": name, "type": "space", "unit": "micrometer"} for name in SPACES]
    datasets = []
    for level in range(levels):
        pixel = PIXEL_SIZE_UM * 2**level
        scale = {"type": "scale", "scale": [1.0, Z_STEP_UM, pixel, pixel]}
        datasets.append({"path": str(level), "coordinateTransformations": [scale]})
    axes = [{"name": "c", "type": "channel"}, *units]
    return {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


if __name__ == "__main__":
    main()
