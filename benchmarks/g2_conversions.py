"""G2: arrays pass between the libraries of a GPU without a copy; a chain goes up and down once.

    python benchmarks/g2_conversions.py [--stand-in]

Work: a stack of 5 × 2048² between cupy, torch and jax in every direction; then a chain of five
functions of one library (Gaussian, two of grey values, threshold, projection) over some groups, by
the calls that a task makes. Counted by `hcsflow.arrays.counting`. Goals: the same pointer on both
sides, 0 bytes copied; exactly 1 upload and 1 download a group.

Without a CUDA device nothing is run and the goals stay open. ``--stand-in`` runs the same lines
with torch and jax on the CPU (and numpy as their host): no result of a GPU, and marked so.

Prediction: exact; DLPack hands on pointers, and a step's functions are called on what the one
before returned. Outcome: not run on a GPU so far. On CPUs torch and jax share memory both ways, and
a chain on torch converts once in and once out a group. What was changed: results come down on a
stream of their own, to pinned memory, while the next group is computed; and what one step hands to
the next stays on the device where both are of one library and stack the same planes, so that five
steps convert as rarely as five functions of one step (tests/integration/test_device_steps.py counts
that with OpenCL).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
from measure import goal, save

from hcsflow.arrays import convert, is_installed
from hcsflow.arrays.counting import convert_planned, count_arrays
from hcsflow.arrays.devices import using_gpus
from hcsflow.arrays.downloads import start_download
from hcsflow.arrays.families import address_of, lies_on_device
from hcsflow.contracts import contract_of
from hcsflow.functions.catalogue import find, memory_types_of
from hcsflow.graph.calls import apply
from hcsflow.plan import Call

LIBRARIES = ("cupy", "torch", "jax")
CHAIN: dict[str, dict[str, float]] = {
    "gaussian_filter": {"sigma": 1.5},
    "subtract_constant": {"value": 90},
    "multiply_constant": {"factor": 1.5},
    "threshold_fixed": {"value": 40},
    "max_projection": {},
}
GOALS = (
    ("G2", "conversions cupy ↔ torch ↔ jax with another pointer: 0"),
    ("G2", "bytes copied by them: 0"),
    ("G2", "uploads per group of a chain of 5 GPU functions: exactly 1"),
    ("G2", "downloads per group of it: exactly 1"),
)


def main() -> None:
    """Count and write results/g2_conversions.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="Counts do not vary: ignored.")
    parser.add_argument("--size", type=int, default=2048, help="Side of a plane.")
    parser.add_argument("--planes", type=int, default=5)
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--stand-in", action="store_true", help="On CPUs: no result of a GPU.")
    arguments = parser.parse_args()
    device = device_name()
    if device is None and not arguments.stand_in:
        save("g2_conversions", {"ran_on": None, "goals": open_goals(GOALS)})
        return
    on_gpu = not arguments.stand_in
    with using_gpus(on_gpu):
        results = measured(arguments, on_gpu=on_gpu)
    results["ran_on"] = device if on_gpu else "CPU stand-in: not a GPU result"
    save("g2_conversions", results)


def device_name() -> str | None:
    """Return the name of the CUDA device that cupy sees, None without one."""
    if not is_installed("cupy"):
        return None
    import cupy

    if not cupy.cuda.is_available():
        return None
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


def open_goals(texts: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return goals that nothing has been found for."""
    unknown = {"found": None, "limit": None, "better": None, "met": None}
    return [{"id": name, "goal": text, **unknown} for name, text in texts]


def measured(arguments: argparse.Namespace, *, on_gpu: bool) -> dict[str, Any]:
    """Count the conversions of all pairs and of the chain."""
    shape = (arguments.planes, arguments.size, arguments.size)
    libraries = [name for name in LIBRARIES if is_installed(name) and (on_gpu or name != "cupy")]
    pairs = {
        f"{source} to {target}": pair(source, target, shape, on_gpu=on_gpu)
        for source, target in permutations(libraries, 2)
    }
    chains = {
        name: chain(name, shape, arguments.groups)
        for name in libraries
        if all(name in memory_types_of(function) for function in CHAIN)
    }
    moved = sum(not found["same_pointer"] for found in pairs.values())
    copied = sum(found["bytes_copied"] for found in pairs.values())
    worst = {way: max(found[way] for found in chains.values()) for way in ("uploads", "downloads")}
    goals = [
        goal(*GOALS[0], moved, at_most=0),
        goal(*GOALS[1], copied, at_most=0),
        goal(*GOALS[2], worst["uploads"] / arguments.groups, at_most=1),
        goal(*GOALS[3], worst["downloads"] / arguments.groups, at_most=1),
    ]
    for exact in goals[2:]:
        exact["met"] = exact["found"] == exact["limit"]
    missing = [name for name in LIBRARIES if name not in libraries]
    return {
        "libraries_left_out": missing,
        "pairs": pairs,
        "chains": chains,
        "goals": goals if on_gpu and not missing else open_goals(GOALS),
        **({} if on_gpu else {"stand_in_goals": goals}),
    }


def pair(source: str, target: str, shape: tuple[int, ...], *, on_gpu: bool) -> dict[str, Any]:
    """Convert a stack from one library to another and compare pointers."""
    values = np.zeros(shape, np.float32)
    array = convert(values, source, device=0 if on_gpu and source == "torch" else None)
    array = array.clone() if source == "torch" else array  # memory that torch has aligned
    if lies_on_device(array) != on_gpu:
        raise SystemExit(f"{source} put the stack {'on the host' if on_gpu else 'on a device'}")
    before = address_of(array)
    with count_arrays() as counts:
        shared = convert_planned(array, target)
    found = {kind: counts.nbytes[kind] for kind in ("copy", "host round trip")}
    return {"same_pointer": address_of(shared) == before, "bytes_copied": sum(found.values())}


def chain(name: str, shape: tuple[int, ...], groups: int) -> dict[str, Any]:
    """Run the chain over some groups and count conversions on the way in and out."""
    calls = calls_of(name, shape)
    uploads = downloads = nbytes = 0
    for number in range(groups):
        stack: Any = np.full(shape, 200 + number, np.uint16)
        with count_arrays() as counts:
            for call in calls:
                stack, _ = apply("chain", call, stack, {})
        uploads += counts.conversions.total()
        nbytes += counts.nbytes["copy"]
        with count_arrays() as counts:
            host = start_download(stack).result()
        downloads += counts.conversions.total()
        nbytes += counts.nbytes["copy"]
        if not host.any():
            raise SystemExit("the chain made an empty image")
    return {"groups": groups, "uploads": uploads, "downloads": downloads, "bytes_copied": nbytes}


def calls_of(name: str, shape: tuple[int, ...]) -> list[Call]:
    """Return the chain's calls as a plan has them."""
    dtype, calls = "uint16", []
    for function, parameters in CHAIN.items():
        func = find(function, name)
        declared = contract_of(func)
        dtype = declared.dtype or dtype
        calls.append(
            Call(
                function=f"{func.__module__}:{function}",
                fingerprint="",
                input_type=declared.input_type,
                output_type=declared.output_type,
                parameters=tuple(parameters.items()),
                special_inputs=(),
                special_outputs=(),
                z_out=declared.z_out,
                shape_yx=(shape[1], shape[2]),
                dtype=dtype,
                func=func,
            )
        )
    return calls


if __name__ == "__main__":
    sys.exit(main())
