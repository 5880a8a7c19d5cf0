"""The memory backend, per operation, against polystore's on the same machine in the same run.

    python benchmarks/memory_backend.py --peer-python PATH

Save and load of an array that owns its data (64 × 64, uint16), on the backend itself and through
a ``FileManager`` with its counters on. Each round is a fresh process of each in turn; PATH is a
Python that has polystore 0.6.3. Goal through the ``FileManager``: ≤ 3 µs a save, ≤ 2 µs a load.
polystore keeps the caller's array itself, which the caller can go on changing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from time import perf_counter
from typing import Any

from measure import save, spread

OURS = """
from hcsflow.storage import FileManager, create_storage_registry
registry = create_storage_registry()
backend = registry.get_backend("memory")
files = FileManager(registry)
"""
PEER = """
from polystore.filemanager import FileManager
from polystore.memory import MemoryStorageBackend
backend = MemoryStorageBackend()
files = FileManager({"memory": backend})
"""
MEASURE = """
import gc, json, sys, time
import numpy as np
count = int(sys.argv[1])

def timed(name, call, items):
    gc.collect(); gc.disable()
    start = time.perf_counter()
    for item in items:
        call(*item)
    taken[name] = (time.perf_counter() - start) / count * 1e6
    gc.enable()

taken = {}
for round_number in range(2):  # the first one warms up
    for way, target, more in (("direct", backend, ()), ("FileManager", files, ("memory",))):
        folder = f"/{way}{round_number}"
        target.ensure_directory(folder, *more)
        paths = [f"{folder}/plane_{i}" for i in range(count)]
        arrays = [np.zeros((64, 64), np.uint16) for _ in paths]
        timed(f"save, {way}", target.save, [(a, p, *more) for a, p in zip(arrays, paths)])
        timed(f"load, {way}", target.load, [(p, *more) for p in paths])
print(json.dumps(taken))
"""
GOALS_US = {"save, FileManager": 3.0, "load, FileManager": 2.0}


def main() -> None:
    """Measure both in turn and write results/memory_backend.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", type=Path, help="a Python that has polystore")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--operations", type=int, default=10_000)
    arguments = parser.parse_args()
    candidates = {"hcsflow": (Path(sys.executable), OURS)}
    if arguments.peer_python is not None:
        candidates["polystore"] = (arguments.peer_python, PEER)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in candidates}
    for number in range(arguments.repeats):
        for name, (python, setup) in candidates.items():
            rounds[name].append(measured(python, setup, arguments.operations))
            shown = ", ".join(f"{k} {v:.2f}" for k, v in rounds[name][-1].items())
            print(f"  {number + 1}/{arguments.repeats} {name}: {shown} µs")
    save("memory_backend", results_of(rounds, arguments.peer_python))


def measured(python: Path, setup: str, operations: int) -> dict[str, float]:
    """Return microseconds per operation, from a fresh process."""
    command = [str(python), "-c", setup + MEASURE, str(operations)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    taken: dict[str, float] = json.loads(done.stdout)
    return taken


def results_of(
    rounds: dict[str, list[dict[str, float]]], peer_python: Path | None
) -> dict[str, Any]:
    """Return spreads, ratios round by round, what counting costs, goals."""
    ours = rounds["hcsflow"]
    results: dict[str, Any] = {
        f"{name}_us": {way: spread([taken[way] for taken in all_taken]) for way in all_taken[0]}
        for name, all_taken in rounds.items()
    }
    results["counters"] = counters()
    results["goals_us"] = GOALS_US
    if peer_python is not None:
        pairs = list(zip(ours, rounds["polystore"], strict=True))
        results["hcsflow_over_polystore"] = {
            way: spread([mine[way] / theirs[way] for mine, theirs in pairs]) for way in ours[0]
        }
        results["polystore_version"] = subprocess.run(
            [peer_python, "-c", "import polystore; print(polystore.__version__)"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    return results


def counters() -> dict[str, float]:
    """Return what counting and logging one operation takes, and what 100,000 of them occupy."""
    from hcsflow.storage.traffic import TrafficMeter

    meter = TrafficMeter()
    paths = [f"/plate/plane_{number}" for number in range(100_000)]
    best = min(counted(meter, paths) for _ in range(5))
    tracemalloc.start()
    occupying = TrafficMeter()
    counted(occupying, paths)
    nbytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {"count_us": best / len(paths) * 1e6, "occupied_bytes": nbytes}


def counted(meter: Any, paths: list[str]) -> float:
    """Return the seconds that counting one operation per path takes."""
    start = perf_counter()
    for path in paths:
        meter.count("memory", "save", path, start, 8192)
    return perf_counter() - start


if __name__ == "__main__":
    main()
