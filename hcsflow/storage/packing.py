"""Any object as a short head and the memory of the arrays in it, and back.

The head is a pickle (protocol 5); contiguous arrays, columns of tables and tensors lie beside it
as they are, without a copy. Arrays of other libraries go through host memory and come back in
their own memory type. Reading runs code, so only what our own processes wrote is ever unpacked.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Iterable
from typing import Any, NamedTuple

from hcsflow.arrays.families import freeze, thaw
from hcsflow.arrays.libraries import find_memory_type
from hcsflow.errors import MemoryConversionError

__all__ = ["UNPACKABLE", "Part", "pack", "unpack", "write_all"]

UNPACKABLE = (pickle.PicklingError, TypeError, AttributeError, ValueError, RuntimeError)
"""What `pack` raises for an object that cannot be written: an open file, a lambda, a lock."""


class Part(NamedTuple):
    """Some bytes, and the size of one element of the array that they are of."""

    content: memoryview
    itemsize: int


class _Pickler(pickle.Pickler):
    """Takes arrays of every library through host memory."""

    def reducer_override(self, value: Any) -> Any:
        if find_memory_type(value) in {None, "numpy"}:
            return NotImplemented
        try:
            frozen = freeze(value)
        except MemoryConversionError:  # numpy has no such dtype: the library's own way
            return NotImplemented
        return thaw, frozen


def pack(value: Any) -> list[Part]:
    """Return an object as parts: the head, then arrays; valid while the object is unchanged.

    Raises
    ------
    pickle.PicklingError, TypeError, AttributeError, ValueError, RuntimeError
        If the object cannot be written (`UNPACKABLE`).
    """
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
    head = Part(stream.getbuffer(), 1)
    return [head, *(Part(one.raw(), memoryview(one).itemsize) for one in buffers)]


def unpack(contents: Iterable[Any]) -> Any:
    """Return the object whose parts these are; its arrays lie in the memory given."""
    head, *buffers = contents
    return pickle.loads(head, buffers=buffers)  # noqa: S301 - see the module's first lines


def write_all(stream: int, content: memoryview) -> None:
    """Write bytes to an open file, at its position; the system may take fewer at a time.

    Raises
    ------
    OSError
        If the system refuses.
    """
    while content:
        content = content[os.write(stream, content) :]
