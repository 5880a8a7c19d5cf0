"""Counting what a task's arrays go through: conversions by kind, and rungs of the OOM ladder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from hcsflow.arrays.conversions import HOLDS
from hcsflow.arrays.convert import conversion_path, convert
from hcsflow.arrays.families import address_of, lies_on_device, nbytes_of
from hcsflow.arrays.libraries import memory_type_of

__all__ = [
    "ArrayCounts",
    "OomRecord",
    "convert_planned",
    "count_arrays",
    "note_conversion",
    "note_oom",
]

Kind = Literal["zero-copy", "copy", "host round trip"]
Rung = Literal["free", "halve", "cpu"]

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class OomRecord:
    """A rung of the ladder that was taken.

    Parameters
    ----------
    where : str
        Step and function.
    rung : "free", "halve" or "cpu"
        Pools freed and tried again; cut into pieces; the function's variant for numpy.
    planes : int
        Planes of the next attempt.
    reason : str
        What the library said.
    """

    where: str
    rung: Rung
    planes: int
    reason: str


@dataclass(slots=True)
class ArrayCounts:
    """What `count_arrays` has seen so far.

    Attributes
    ----------
    conversions, nbytes : Counter
        Conversions by kind (``"zero-copy"``, ``"copy"``, ``"host round trip"``), and their bytes.
        A round trip goes from device to device by way of the host.
    oom : list of OomRecord
        In order.
    """

    conversions: Counter[Kind] = field(default_factory=Counter)
    nbytes: Counter[Kind] = field(default_factory=Counter)
    oom: list[OomRecord] = field(default_factory=list)

    def notes(self) -> tuple[str, ...]:
        """Return what a report should say: round trips and rungs, nothing where there are none."""
        trips = self.conversions["host round trip"]
        size = self.nbytes["host round trip"] / MB
        rungs = Counter((record.where, record.rung) for record in self.oom)
        said = [f"round trips through host memory: {trips}, {size:.1f} MB"] if trips else []
        said += [
            f"{where}: out of memory, {_SAID[rung]} ({count} ×)"
            for (where, rung), count in rungs.items()
        ]
        return tuple(said)


_SAID: dict[Rung, str] = {
    "free": "pools freed",
    "halve": "stack halved",
    "cpu": "CPU variant taken",
}

_counting: ContextVar[tuple[ArrayCounts, ...]] = ContextVar("_counting", default=())


@contextmanager
def count_arrays() -> Iterator[ArrayCounts]:
    """Count what happens to arrays inside the block, in this thread.

    Blocks may lie in each other; each counts all that happens in it.

    Examples
    --------
    >>> import numpy as np
    >>> with count_arrays() as counts:
    ...     array = convert_planned(np.zeros((1, 2, 2)), "numpy")
    >>> counts.notes()
    ()
    """
    counts = ArrayCounts()
    token = _counting.set((*_counting.get(), counts))
    try:
        yield counts
    finally:
        _counting.reset(token)


def note_oom(record: OomRecord) -> None:
    """Count a rung of the ladder."""
    for counts in _counting.get():
        counts.oom.append(record)


def note_conversion(kind: Kind, nbytes: int) -> None:
    """Count a conversion."""
    for counts in _counting.get():
        counts.conversions[kind] += 1
        counts.nbytes[kind] += nbytes


def convert_planned(array: Any, target: str, *, device: int | str | None = None) -> Any:
    """Return an array in another memory type by the way that the plan shows, counting it.

    The way is `conversion_path`'s; only there may an array of a device pass through host memory.
    One that lies in host memory (of torch, jax, tensorflow) reaches a library of devices alone
    (cupy) by way of numpy, which costs nothing more than the copy to the device.

    Parameters
    ----------
    array : array
        Any memory type, any shape.
    target : str
        Memory type wanted.
    device : int, str or None
        Where the result is to lie, as for `hcsflow.arrays.convert`; None leaves it to that.

    Raises
    ------
    MemoryConversionError
        As `hcsflow.arrays.convert`.
    """
    path = _path(array, target)
    if len(path) == 1 and device is None:
        return array
    result = array
    for memory_type in path[1:-1]:
        result = convert(result, memory_type)
    result = convert(result, target, device=device)
    if result is array:
        return array
    if _counting.get():
        note_conversion(_kind(array, result, hops=len(path) - 1), nbytes_of(array) or 0)
    return result


def _path(array: Any, target: str) -> tuple[str, ...]:
    source = memory_type_of(array)
    path = conversion_path(source, target)
    is_stranded = "host" not in HOLDS[target].places and not lies_on_device(array)
    return (source, "numpy", target) if is_stranded and source != "numpy" else path


def _kind(array: Any, result: Any, *, hops: int) -> Kind:
    if hops > 1 and lies_on_device(array):
        return "host round trip"
    if not nbytes_of(array):  # nothing to share or copy
        return "zero-copy"
    address = address_of(array)
    return "zero-copy" if address is not None and address == address_of(result) else "copy"
