"""The main job against a plain script, on the same plate in the same run.

    python benchmarks/main_job.py

A synthetic plate of 16 wells × 4 fields × 2 channels × 3 z × 1024² is processed by
``hcsflow run count-nuclei`` (2 worker processes, no report) and by `peers/plain_script.py`
(multiprocessing.Pool, tifffile, the same step functions, zarr-python), which writes the same
levels, labels and tables. Wall time of whole processes, start-up included, the two in turn; CPU
time of all their processes beside it, which says more on a busy machine. Goal: median wall ratio
≤ 1.15.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from measure import HERE, Sample, interleave, ratios, run, samples, save

CLI = [sys.executable, "-c", "import sys; from hcsflow.cli.main import main; sys.exit(main())"]
PEER = [sys.executable, HERE / "peers" / "plain_script.py"]


def main() -> None:
    """Make the plate, run both in turn, compare what they stored, write results/main_job.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wells", type=int, default=16)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_plate(folder / "PLATE", arguments.wells, arguments.size)
        taken = interleave(candidates(folder, arguments.processes), arguments.repeats)
        results = {
            "plate_bytes": size_of(folder / "PLATE"),
            "processes": arguments.processes,
            "same_pixels": same_pixels(folder / "hcsflow", folder / "plain"),
            "stored_bytes": {n: size_of(folder / n) for n in ("hcsflow", "plain")},
            **samples(taken),
            "hcsflow_over_plain": ratios(taken["hcsflow"], taken["plain script"]),
            "cpu_hcsflow_over_plain": ratios(taken["hcsflow"], taken["plain script"], of="cpu_s"),
            "goal_ratio": 1.15,
        }
    save("main_job", results)


def write_plate(folder: Path, wells: int, size: int) -> None:
    """Write the plate, wells row by row."""
    from hcsflow.testing.plates import write_imagexpress_plate

    names = [f"{'ABCDEFGH'[n // 12]}{n % 12 + 1:02d}" for n in range(wells)]
    write_imagexpress_plate(folder, wells=names, fields=4, channels=2, z=3, size=size)


def candidates(folder: Path, processes: int) -> dict[str, Any]:
    """Return what is timed; each starts from an empty output folder and a warm page cache."""
    plate = folder / "PLATE"
    size_of(plate, read=True)
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    workers = str(processes)

    def ours() -> Sample:
        output = emptied(folder / "hcsflow")
        options = ["-o", output, "--workers", workers, "--no-report"]
        return run([*CLI, "run", "count-nuclei", plate, *options], env=environment)

    def plain() -> Sample:
        output = emptied(folder / "plain")
        return run([*PEER, plate, output, "--processes", workers], env=environment)

    return {"hcsflow": ours, "plain script": plain}


def emptied(folder: Path) -> Path:
    """Remove a folder of an earlier round."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def size_of(folder: Path, *, read: bool = False) -> int:
    """Return the bytes of all files below a folder, reading them where asked."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(len(path.read_bytes()) if read else path.stat().st_size for path in files)


def same_pixels(ours: Path, theirs: Path) -> bool:
    """Whether all levels hold equal pixels, and all levels of labels the same objects."""
    mine, others = (arrays_of(root / "images.zarr") for root in (ours, theirs))
    if mine.keys() != others.keys():
        print("stored arrays differ:", sorted(mine.keys() ^ others.keys())[:5])
        return False
    return all(np.array_equal(mine[path][...], others[path][...]) for path in mine)


def arrays_of(root: Path) -> dict[str, zarr.Array]:
    """Return all zarr arrays below a folder by relative path."""
    nodes = (path for path in root.rglob("zarr.json"))
    arrays = (n.parent for n in nodes if json.loads(n.read_text())["node_type"] == "array")
    return {a.relative_to(root).as_posix(): zarr.open_array(str(a), mode="r") for a in arrays}


if __name__ == "__main__":
    main()
