"""Conversions of a 10 MiB stack between numpy and each library, beside arraybridge.

    python benchmarks/arrays.py [--peer-python PATH]

Goal: numpy to torch and back in at most 5 µs, without a copy. ``--peer-python`` names a Python that
has arraybridge and torch; every round runs ours, torch's own call and the peer's in turn, each in a
process of its own. The other libraries, where they are installed, are for information.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measure import HERE, save, spread, version_of

from hcsflow.arrays import is_installed

SCRIPT = HERE / "peers" / "conversions.py"
GOAL_US = 5.0
VERSIONS = "import importlib.metadata as m, json; print(json.dumps({n: m.version(n) for n in %r}))"


def main() -> None:
    """Measure and write results/arrays.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-python", type=Path)
    arguments = parser.parse_args()
    others = [name for name in ("jax", "tensorflow", "pyclesperanto") if is_installed(name)]
    commands = {
        "hcsflow": [sys.executable, SCRIPT, "hcsflow", "torch"],
        "torch itself": [sys.executable, SCRIPT, "bare", "torch"],
        **{f"hcsflow, {name}": [sys.executable, SCRIPT, "hcsflow", name] for name in others},
    }
    if arguments.peer_python is not None:
        commands["arraybridge"] = [arguments.peer_python, SCRIPT, "arraybridge", "torch"]
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for number in range(arguments.repeats):
        for name, command in commands.items():
            taken[name].append(measured(command))
            print(f"  {number + 1}/{arguments.repeats} {name}: {taken[name][-1]}")
    results = {name: summary(rounds) for name, rounds in taken.items()}
    ours = results["hcsflow"]
    medians = [ours["us"][name]["median"] for name in ("numpy to torch", "torch to numpy")]
    versions = {name: version_of(name) for name in ("torch", "tensorflow-cpu", *others)}
    if arguments.peer_python is not None:
        versions["peer"] = peer_versions(arguments.peer_python)
    goal = {"goal_us": GOAL_US, "met": max(medians) <= GOAL_US and ours["shared"]}
    save("arrays", {**goal, "conversions": results, "versions": versions})


def measured(command: list[str | Path]) -> dict[str, Any]:
    """Run one process and return what it printed."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command} ended {done.returncode}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the spread of each conversion over the rounds."""
    names: Mapping[str, float] = rounds[0]["us"]
    return {
        "us": {name: spread([found["us"][name] for found in rounds]) for name in names},
        "shared": all(found["shared"] for found in rounds),
    }


def peer_versions(python: Path) -> dict[str, str]:
    """Return the versions of what the peer ran with."""
    script = VERSIONS % (("arraybridge", "torch", "numpy"),)
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
