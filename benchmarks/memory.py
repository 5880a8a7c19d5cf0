"""A worker's measured peak above its idle size, against what the plan projected.

    python benchmarks/memory.py

Tasks over 256 MB on one worker process (goal: measured ≤ 1.5 × projected). The peak is what the
worker itself records in each outcome; the figure of the plan is that of the worst task.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import save

import hcsflow as hf

WELLS = ("A01", "A02")
LARGE_TASK_BYTES = 256_000_000


@dataclass(frozen=True)
class Case:
    """A plate and a pipeline whose groups are large."""

    name: str
    steps: tuple[dict[str, Any], ...]
    size: int
    z: int
    channels: int = 1


CASES = (
    Case("projection of 40 × 2048²", ({"func": "max_projection"},), size=2048, z=40),
    Case("smoothing a stack of 40 × 2048²", ({"func": "gaussian_filter"},), size=2048, z=40),
    Case(
        "smoothing, then median, of 24 × 2048²",
        ({"func": "gaussian_filter"}, {"func": "median_filter"}),
        size=2048,
        z=24,
    ),
)


def main() -> None:
    """Run every case and write results/memory.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(case, Path(folder, str(n))) for n, case in enumerate(CASES)]
    save("memory", {"cases": results, "goal_ratio": 1.5})


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Run one case on a single worker process."""
    from hcsflow.testing.plates import write_imagexpress_plate

    folder.mkdir()
    write_imagexpress_plate(
        folder / "PLATE", wells=WELLS, fields=1, channels=case.channels, z=case.z, size=case.size
    )
    steps = [hf.FunctionStep(name=f"step {n}", **step) for n, step in enumerate(case.steps)]
    plate = hf.open_plate(folder / "PLATE")
    plan = hf.compile(hf.Pipeline(steps), plate, output=folder / "OUT", workers=1)
    run = plan.run(cluster="local")
    assert run.failures.empty, run.failures
    projected = plan.frozen.projected_bytes
    peaks = [outcome.peak_bytes for outcome in run.outcomes]
    return {
        "case": case.name,
        "projected_bytes": projected,
        "is_large": projected > LARGE_TASK_BYTES,
        "measured_bytes": peaks,
        "ratio": max(peaks) / projected,
    }


if __name__ == "__main__":
    main()
