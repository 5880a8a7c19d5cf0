"""Time conversions of one 10 MiB stack between numpy and another library.

    python benchmarks/peers/conversions.py {hcsflow,arraybridge,bare} {torch,jax,…}

Prints JSON: for each conversion the microseconds of one call and whether memory was shared. Runs in
any environment that has the two libraries; ``bare`` is torch's own call, below which none can go.
"""

from __future__ import annotations

import json
import sys
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

SHAPE = (5, 1024, 1024)  # of uint16: 10 MiB
SECONDS = 0.2


def main() -> None:
    """Time both directions and print what was found."""
    by, library = sys.argv[1:]
    stack = np.zeros(SHAPE, np.uint16)
    convert = CONVERTERS[by]()
    there = convert(stack, "numpy", library)
    back = convert(there, library, "numpy")
    protected = stack.copy()
    protected.flags.writeable = False
    found = {
        f"numpy to {library}": timed(lambda: convert(stack, "numpy", library)),
        f"{library} to numpy": timed(lambda: convert(there, library, "numpy")),
    }
    if by == "hcsflow":
        name = f"numpy, read-only, to {library}"
        found[name] = timed(lambda: convert(protected, "numpy", library))
    print(json.dumps({"us": found, "shared": bool(np.shares_memory(stack, back))}))


def by_hcsflow() -> Callable[[Any, str, str], Any]:
    """Return our conversion; it finds the source by itself."""
    from hcsflow.arrays import convert

    return lambda array, _source, target: convert(array, target)


def by_arraybridge() -> Callable[[Any, str, str], Any]:
    """Return the peer's conversion."""
    from arraybridge import HOST, convert_memory

    return lambda array, source, target: convert_memory(array, source, target, HOST)


def by_torch_itself() -> Callable[[Any, str, str], Any]:
    """Return the library's own call."""
    import torch

    return lambda array, source, _target: (
        torch.from_numpy(array) if source == "numpy" else array.numpy()
    )


CONVERTERS = {"hcsflow": by_hcsflow, "arraybridge": by_arraybridge, "bare": by_torch_itself}


def timed(call: Callable[[], Any]) -> float:
    """Return the microseconds of a call: the fastest of five loops of a fifth of a second."""
    timer = timeit.Timer(call)
    number = max(1, int(SECONDS / (timer.timeit(5) / 5)))
    return min(timer.repeat(5, number)) / number * 1e6


if __name__ == "__main__":
    main()
