"""What a command does before and while it imports what reads its words."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence

__all__ = ["collect_as_usual", "import_quickly", "starts_local_workers"]

ELSEWHERE = ("-h", "--help", "--cluster", "--detach", "--version")
"""With these a run starts no local workers, or it takes more than a glance to tell."""

LASTING_OBJECTS = 200_000
"""Objects made before the garbage collector looks: imports make many, all of which stay."""

_before: list[tuple[int, int, int]] = []


def import_quickly() -> None:
    """Let the garbage collector wait, as what imports make is not garbage: 0.1 s."""
    _before[:] = [gc.get_threshold()]
    gc.set_threshold(LASTING_OBJECTS, *_before[0][1:])


def collect_as_usual() -> None:
    """End `import_quickly`, if it was called, before anything is made that may be garbage."""
    if _before:
        gc.freeze()  # what imports made stays; no collection need look through it
        gc.set_threshold(*_before.pop())


def starts_local_workers(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether a command line is plainly one that will want local worker processes.

    Starting them early is all that depends on it: a wrong no costs time, a wrong yes a process
    that ends soon after this one.

    Parameters
    ----------
    words : sequence of str
        After the program's name.
    environment : mapping of str to str
        ``HCSFLOW_CLUSTER`` stands for ``--cluster``.

    Examples
    --------
    >>> starts_local_workers(["--debug", "run", "convert", "PLATE", "-o", "OUT"], {})
    True
    >>> starts_local_workers(["run", "--cluster=slurm", "convert", "PLATE", "-o", "OUT"], {})
    False
    """
    verb = next((word for word in words if not word.startswith("-")), None)
    if verb != "run" or not any(word.startswith(("-o", "--output")) for word in words):
        return False
    return "HCSFLOW_CLUSTER" not in environment and not any(_has(words, e) for e in ELSEWHERE)


def _has(words: Sequence[str], option: str) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in words)
