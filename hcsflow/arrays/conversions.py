"""What every conversion between memory types does: share memory, copy, or refuse.

The rules behind the committed table (``tests/golden/conversions.csv`` writes it out), which the
tests hold `hcsflow.arrays.convert` to, cell by cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hcsflow.arrays.libraries import LIBRARIES, check_memory_type
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "DTYPES",
    "HOLDS",
    "LAYOUTS",
    "Conversion",
    "Holding",
    "Place",
    "conversion",
    "is_direct",
]

Conversion = Literal["zero-copy", "copy", "refused"]
Place = Literal["host", "device"]

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64"),
)
"""Dtypes of the table, by numpy's names."""

LAYOUTS = (
    *("C", "F", "strided", "unaligned", "negative", "read-only", "big-endian", "zero-size", "0-d"),
)
"""Layouts of the table.

``"strided"`` skips elements, ``"negative"`` has a negative stride, ``"unaligned"`` is in C order at
an address that is no multiple of 64 bytes. All others are writable, native, and aligned to 64 bytes
where their library aligns at all.
"""

_VIEWS = ("C", "F", "strided", "unaligned", "zero-size", "0-d")
_PLAIN = ("C", "zero-size", "0-d")
_NARROW = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32")


@dataclass(frozen=True, slots=True)
class Holding:
    """What the arrays of a library can be.

    Parameters
    ----------
    dtypes : tuple of str
        Dtypes that it holds as it is configured by default.
    layouts : tuple of str
        Layouts that its arrays can have.
    places : tuple of str
        Where they can lie, the usual place first.
    """

    dtypes: tuple[str, ...]
    layouts: tuple[str, ...]
    places: tuple[Place, ...] = ("host", "device")


HOLDS: dict[str, Holding] = {
    # bfloat16 is not numpy's own: jax and tensorflow bring it.
    "numpy": Holding(DTYPES, LAYOUTS, ("host",)),
    "cupy": Holding(
        tuple(dtype for dtype in DTYPES if dtype != "bfloat16"), (*_VIEWS, "negative"), ("device",)
    ),
    "torch": Holding(DTYPES, _VIEWS),
    "tensorflow": Holding(DTYPES, _PLAIN),
    "jax": Holding((*_NARROW, "float16", "bfloat16", "float32", "complex64"), _PLAIN),
    "pyclesperanto": Holding((*_NARROW[1:], "float32"), ("C",), ("device",)),
}
"""What each memory type holds."""


def is_direct(source: str, target: str) -> bool:
    """Tell whether two memory types reach each other without a third."""
    if "numpy" in (source, target):
        return True
    return LIBRARIES[source].shares_device and LIBRARIES[target].shares_device


def conversion(
    source: str, target: str, dtype: DTypeLike, layout: str = "C", *, place: Place | None = None
) -> Conversion:
    """Return what `convert` does with such an array where no device is asked for.

    ``"zero-copy"`` is the same memory under another library's name, ``"copy"`` new memory with
    equal values, ``"refused"`` a `MemoryConversionError`. An empty array has no memory to share or
    copy; it goes the way of one that is not empty.

    Parameters
    ----------
    source, target : str
        Memory types.
    dtype : str or dtype-like
        One of `DTYPES`, by name or as numpy has it. That the source holds it is taken for granted.
        jax counts as it is by default, without 64 bits; with ``JAX_ENABLE_X64=1`` those go as 32
        bits do.
    layout : str
        One of `LAYOUTS`.
    place : "host", "device" or None
        Where the array lies; None for where its library usually puts it.

    Raises
    ------
    MemoryConversionError
        If a memory type or dtype is unknown.
    ValueError
        If a layout or place is.

    Examples
    --------
    >>> conversion("numpy", "torch", "uint16")
    'zero-copy'
    >>> conversion("numpy", "torch", "uint16", "read-only")
    'copy'
    >>> conversion("torch", "pyclesperanto", "uint16")
    'refused'
    """
    check_memory_type(source)
    check_memory_type(target)
    name = _dtype_name(dtype, source, target)
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    where = place or HOLDS[source].places[0]
    if where not in HOLDS[source].places:
        raise ValueError(f"{source} arrays lie on the {HOLDS[source].places[0]}, not {where!r}")
    if source == target:
        return "zero-copy"
    if not _is_open(source, target, name, layout):
        return "refused"
    if source == "numpy":
        is_view = target == "torch" and layout not in ("negative", "read-only")
        return "zero-copy" if is_view and not _is_foreign(name, layout) else "copy"
    if target == "numpy":
        return "zero-copy" if source in ("torch", "jax") and where == "host" else "copy"
    if where not in HOLDS[target].places:
        return "refused"
    has_to_move = layout in ("F", "strided", "unaligned") and not LIBRARIES[target].takes_views
    return "copy" if has_to_move or layout == "negative" else "zero-copy"


def _dtype_name(dtype: DTypeLike | None, source: str, target: str) -> str:
    if isinstance(dtype, str) and dtype in DTYPES:  # bfloat16 is not numpy's own
        return dtype
    try:
        name = "" if dtype is None else np.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in DTYPES:
        reason = f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}"
        raise MemoryConversionError(source, target, "dtype", reason)
    return name


def _is_open(source: str, target: str, dtype: str, layout: str) -> bool:
    """Tell whether there is a road, and whether the target can hold the array."""
    if dtype == "bfloat16" and {source, target} == {"numpy", "torch"}:
        return False  # neither knows the other's
    if target == "pyclesperanto" and layout in ("zero-size", "0-d"):
        return False
    return is_direct(source, target) and dtype in HOLDS[target].dtypes


def _is_foreign(dtype: str, layout: str) -> bool:
    return layout == "big-endian" and dtype not in ("bool", "int8", "uint8")
