"""What can be told of a command line before anything is imported that could read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["starts_local_workers"]

ELSEWHERE = ("-h", "--help", "--cluster", "--detach", "--version")
"""With these a run starts no local workers, or it takes more than a glance to tell."""


def starts_local_workers(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether a command line is plainly one that will want local worker processes.

    Starting them early is all that depends on it: a plain no costs time, a wrong yes a process
    that ends with this one.

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
