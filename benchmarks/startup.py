"""How long a user waits for the first answer.

    python benchmarks/startup.py

``hcsflow --help`` (goal < 0.5 s) and ``hcsflow inspect`` of 10,000 tiny files (goal ≤ 1 s + 1.5 ×
a bare walk of the folder), each as a fresh process beside a Python that does nothing.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from measure import Sample, interleave, run, samples, save

CLI = [sys.executable, "-c", "import sys; from hcsflow.cli.main import main; sys.exit(main())"]


def main() -> None:
    """Measure and write results/startup.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        plate = Path(folder, "plate")
        files = write_tiny_plate(plate)
        environment = os.environ | {"XDG_CACHE_HOME": str(Path(folder, "cache"))}
        candidates = {
            "python -c pass": lambda: run([sys.executable, "-c", "pass"]),
            "hcsflow --help": lambda: run([*CLI, "--help"]),
            "bare walk": lambda: walk(plate),
            "hcsflow inspect": lambda: run([*CLI, "inspect", plate, "--json"], env=environment),
        }
        taken = interleave(candidates, repeats)
    results = samples(taken)
    limit = 1 + 1.5 * results["bare walk"]["wall_s"]["median"]
    results["files"] = files
    results["inspect_goal_s"] = limit
    save("startup", results)


def walk(folder: Path) -> Sample:
    """Walk a folder in this process: names only."""
    start = time.perf_counter()
    processor = time.process_time()
    count = sum(len(names) for _, _, names in os.walk(folder))
    assert count >= 10_000
    return Sample(time.perf_counter() - start, time.process_time() - processor, 0)


def write_tiny_plate(folder: Path) -> int:
    """Write 125 wells × 4 fields × 4 channels × 5 z of 16² pixels, flat."""
    folder.mkdir()
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.arange(256, dtype=np.uint16).reshape(16, 16))
    content = buffer.getvalue()
    wells = [f"{row}{column:02d}" for row in "ABCDEF" for column in range(1, 25)][:125]
    count = 0
    for well in wells:
        for field in range(1, 5):
            for channel in range(1, 5):
                for z in range(1, 6):
                    (folder / f"{well}_s{field}_w{channel}_z{z}.tif").write_bytes(content)
                    count += 1
    return count


if __name__ == "__main__":
    main()
