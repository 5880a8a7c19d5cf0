"""Loading 8 planes by file name from a store of 384 wells, against a store of one.

    python benchmarks/zarr_planes.py [--peer-python PATH]

Wells of 90 planes (9 fields × 2 channels × 5 z) of 64 × 64 px, saved by ``save_batch``. In turn,
several rounds, a new backend each: 8 planes of one well by ``load_batch`` and one by one, from
either store. With ``--peer-python``, a Python that has polystore 0.6.3, the same by its zarr
backend, from stores of 1 and ``--peer-wells`` wells: writing 384 took it over 9 minutes.
Goal: at most 1.2 × the time of the store with one well.

Prediction: a plane's well is in its name, so the same three files are opened in either store (the
well's document, the array's, the object), and the times differ by chance alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import HERE, save, spread

from hcsflow.storage.zarr import ZarrStorageBackend

GOAL = 1.2
SIZES = (1, 384)
SHAPE = (9, 2, 5)


def main() -> None:
    """Measure and write results/zarr_planes.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=41)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--peer-wells", type=int, default=48)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results: dict[str, Any] = {"goal_ratio": GOAL, "hcsflow": ours(Path(folder), arguments)}
        if arguments.peer_python is not None:
            results["polystore"] = peers(Path(folder), arguments)
    save("zarr_planes", results)


def names_of(well: int) -> list[str]:
    name = f"{chr(65 + well // 24)}{well % 24 + 1:02d}"
    return [f"{name}_s{f + 1:03d}_w{c + 1}_z{z + 1:03d}_t001.tif" for f, c, z in np.ndindex(*SHAPE)]


def ours(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    planes = [np.full((64, 64), i, np.uint16) for i in range(90)]
    for size in SIZES:
        backend = ZarrStorageBackend(folder / "hcsflow")
        for well in range(size):
            paths = [f"{size}.zarr/{name}" for name in names_of(well)]
            backend.save_batch(planes, paths, chunk_name=paths[0].rpartition("/")[2][:3])
    ways = {"load_batch": in_one, "load, one by one": one_by_one}
    taken: dict[str, dict[int, list[float]]] = {way: {n: [] for n in SIZES} for way in ways}
    for _ in range(arguments.repeats):
        for way, load in ways.items():
            for size in SIZES:
                paths = [f"{size}.zarr/{name}" for name in names_of(0)[37:45]]
                backend = ZarrStorageBackend(folder / "hcsflow")
                start = time.perf_counter()
                found = load(backend, paths)
                taken[way][size].append(time.perf_counter() - start)
                assert [int(plane.max()) for plane in found] == list(range(37, 45))
    return {way: told(times) for way, times in taken.items()}


def in_one(backend: ZarrStorageBackend, paths: list[str]) -> list[Any]:
    return list(backend.load_batch(paths))


def one_by_one(backend: ZarrStorageBackend, paths: list[str]) -> list[Any]:
    return [backend.load(path) for path in paths]


def peers(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    script = HERE / "peers" / "polystore_planes.py"
    sizes = (1, arguments.peer_wells)
    command = [arguments.peer_python, script, folder / "polystore", "5", *map(str, sizes)]
    (folder / "polystore").mkdir()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    times = json.loads(done.stdout.splitlines()[-1])
    return {"load_batch": told({int(size): values for size, values in times.items()})}


def told(times: dict[int, list[float]]) -> dict[str, Any]:
    """Return milliseconds by number of wells, and the ratio round by round."""
    few, many = times.values()
    return {
        **{f"{size} wells, ms": spread([1e3 * t for t in taken]) for size, taken in times.items()},
        "ratio": spread([b / a for a, b in zip(few, many, strict=True)]),
    }


if __name__ == "__main__":
    main()
