"""What every benchmark shares: timed processes, spread, the machine, one JSON file a benchmark."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tree_memory import TreeMemory

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PACKAGES = (
    "hcsflow", "numpy", "dask", "distributed", "zarr", "numcodecs", "tifffile",
    "opencv-python-headless", "scikit-image", "scipy", "pandas", "pyarrow",
)  # fmt: skip


PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one process: wall and CPU seconds (descendants included), exit status.

    ``peak_bytes`` is the peak memory of all its processes together, where it was asked for.
    """

    wall_s: float
    cpu_s: float
    status: int
    peak_bytes: int | None = None


def run(
    command: Sequence[str | Path],
    *,
    memory: TreeMemory | None = None,
    may_fail: bool = False,
    **options: Any,
) -> Sample:
    """Run a command to its end and time it; raise with its output if it fails, unless it may.

    Descendants that outlive it are waited for, after the clock stops, so that their CPU time is
    counted; Linux only, elsewhere theirs is left out. Its memory is sampled where ``memory`` is
    given (the sampler's own CPU time is this process's, and not counted).
    """
    adopt_orphans()
    if memory is not None:
        options["env"] = options.get("env", os.environ) | memory.environment
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with memory or nullcontext():
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, **options
        )
        wall = time.perf_counter() - start
    wait_for_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode and not may_fail:
        raise SystemExit(f"{command} ended {done.returncode}\n{done.stdout}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Sample(wall, cpu, done.returncode, memory and memory.peak_bytes)


def made_folder(text: str) -> Path:
    """Return a folder, made if need be; for options."""
    folder = Path(text)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_orphans(timeout_s: float = 10.0) -> None:
    """Collect every child that has ended or ends soon."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return


def interleave(
    candidates: Mapping[str, Callable[[], Sample]], repeats: int
) -> dict[str, list[Sample]]:
    """Run all candidates in turn, ``repeats`` rounds, so that a busy machine hits them alike."""
    taken: dict[str, list[Sample]] = {name: [] for name in candidates}
    for round_number in range(repeats):
        for name, candidate in candidates.items():
            taken[name].append(candidate())
            print(f"  {round_number + 1}/{repeats} {name}: {taken[name][-1].wall_s:.2f} s")
    return taken


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median, extremes and all values."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "values": [round(value, 4) for value in values],
    }


def ratios(
    ours: Sequence[Sample], theirs: Sequence[Sample], *, of: str = "wall_s"
) -> dict[str, Any]:
    """Return the spread of the ratios of two candidates, round by round."""
    pairs = zip(ours, theirs, strict=True)
    return spread([getattr(a, of) / getattr(b, of) for a, b in pairs])


def samples(taken: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """Return wall and CPU seconds of each candidate, and peak bytes where they were sampled."""
    return {
        name: {
            "wall_s": spread([s.wall_s for s in runs]),
            "cpu_s": spread([s.cpu_s for s in runs]),
            **peaks([s.peak_bytes for s in runs if s.peak_bytes is not None]),
        }
        for name, runs in taken.items()
    }


def peaks(found: Sequence[int]) -> dict[str, Any]:
    """Return the spread of peak bytes, nothing where there are none."""
    return {"peak_bytes": spread(found)} if found else {}


def goal(
    name: str, text: str, found: float, *, at_least: float | None = None, at_most: float = 0.0
) -> dict[str, Any]:
    """Return one entry of ``results["goals"]``: at least, or else at most, what is stated."""
    better, limit = ("lower", at_most) if at_least is None else ("higher", at_least)
    met = found <= limit if at_least is None else found >= limit
    return {
        "id": name, "goal": text, "found": found, "limit": limit, "better": better, "met": met,
    }  # fmt: skip


def save(name: str, results: Mapping[str, Any]) -> Path:
    """Write ``results/<name>.json`` with command, time, machine and versions."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    script = Path(sys.argv[0]).name
    document = {
        "benchmark": name,
        "command": " ".join(["python", f"benchmarks/{script}", *map(placeless, sys.argv[1:])]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "results": results,
    }
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(results, indent=1, ensure_ascii=False))
    return target


def placeless(argument: str) -> str:
    """Return an argument of a command line, a place on this machine as PATH."""
    return "PATH" if Path(argument).expanduser().is_absolute() else argument


def machine() -> dict[str, Any]:
    """Describe the machine: cores, memory, load, system, Python, package versions."""
    return {
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_1_5_15_min": os.getloadavg(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in PACKAGES},
    }


def version_of(name: str) -> str | None:
    """Return a distribution's version, None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
