"""Explicit dtype casts that depend on the value alone, never on the image around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.arrays.libraries import adapter_of, dtype_name, memory_type_of
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["CASTABLE", "MODES", "cast", "cast_with", "refuse"]

MODES = ("saturate", "refuse")
CASTABLE = (
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "float32", "float64"),
)
"""Dtypes that are cast to each other, by numpy's names."""


def cast(array: Any, dtype: DTypeLike, *, mode: str = "saturate") -> Any:
    """Return an array with another dtype; every value is treated alone.

    Floats become integers by rounding half to even. A value beyond the target's range becomes
    the nearest end of that range (``"saturate"``) or is an error (``"refuse"``); NaN becomes 0
    or is an error. Among floats, infinities and NaN stay what they are. To bool: not zero.
    Nothing is ever stretched to an image's own minimum and maximum.

    Parameters
    ----------
    array : array
        Any memory type and shape; bool, integer or float.
    dtype : dtype-like
        Numpy name of the dtype wanted; the result is of native byte order.
    mode : "saturate" or "refuse"
        What happens to values that do not fit.

    Returns
    -------
    array
        Of the same memory type; the array itself if it has that dtype already, else a copy.

    Raises
    ------
    MemoryConversionError
        In mode ``"refuse"`` where a value does not fit; in either mode, for a masked array, for
        what is no dtype, for
        two that are not both among bool, integers and floats of up to 64 bits, or between which
        the library cannot convert exactly.
    ValueError
        If there is no such mode.

    Examples
    --------
    >>> import numpy as np
    >>> cast(np.array([-3.0, 0.5, 1.5, 300.0]), "uint8").tolist()
    [0, 0, 2, 255]
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
    if isinstance(array, np.ma.MaskedArray):
        reason = "its mask would be lost; say .filled(value) first"
        raise MemoryConversionError("numpy.ma", str(dtype), "cast", reason)
    adapter = adapter_of(memory_type_of(array))
    source, target = dtype_name(array), _dtype(dtype, dtype_name(array))
    is_done = source == target.name and getattr(array.dtype, "isnative", True)
    if not is_done and not {source, target.name} <= set(CASTABLE):
        reason = "only bool, integers and floats of up to 64 bits are cast"
        raise MemoryConversionError(source, target.name, "cast", reason)
    return adapter.cast(array, target, mode)


def _dtype(dtype: DTypeLike, source: str) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or dtype is None:  # which numpy takes for float64
        raise MemoryConversionError(source, str(dtype), "cast", f"{dtype!r} is no dtype of numpy")
    return found.newbyteorder("=")


def cast_with(xp: Any, array: Any, target: np.dtype[Any], mode: str) -> Any:
    """Cast with a numpy-like module ``xp`` (numpy, cupy, jax.numpy)."""
    source = np.dtype(array.dtype)
    if source == target:
        return array
    if target.kind == "b":
        return array != 0
    if source.kind == "b":
        return array.astype(target)
    if target.kind == "f":
        return _to_float(xp, array, target, mode)
    if source.kind == "f":
        return _float_to_int(xp, array, target, mode)
    return _int_to_int(xp, array, target, mode)


def refuse(source: object, target: object, *, low: object, high: object) -> MemoryConversionError:
    """Return the error for values that do not fit."""
    reason = f"values from {low} to {high} do not fit"
    return MemoryConversionError(str(source), str(target), "cast", reason)


def _to_float(xp: Any, array: Any, target: np.dtype[Any], mode: str) -> Any:
    source = np.dtype(array.dtype)
    with np.errstate(over="ignore"):
        by_way = xp is not np and (source.name, target.name) == ("float64", "float16")
        result = (_to_odd(xp, array) if by_way else array).astype(target)
    top = float(np.finfo(target).max)
    largest = float(np.finfo(source).max) if source.kind == "f" else float(np.iinfo(source).max)
    if largest <= top:
        return result
    overflown = xp.isinf(result) & xp.isfinite(array)
    if mode == "refuse" and bool(overflown.any()):
        raise refuse(source, target, low=array.min(), high=array.max())
    limit = xp.where(array > 0, target.type(top), target.type(-top))
    return xp.where(overflown, limit, result)


def _to_odd(xp: Any, array: Any) -> Any:
    """Return float64 as float32, rounded such that rounding it to float16 rounds once in all.

    Libraries for devices make float16 of float32. What float32 does not hold exactly goes to the
    neighbour whose last bit is set: never onto the middle between two values of float16.
    """
    near = array.astype(np.float32)
    back = near.astype(np.float64)
    toward = xp.where(array > back, np.float32(np.inf), np.float32(-np.inf))
    is_even = (near.view(np.int32) & 1) == 0
    return xp.where((back != array) & is_even, xp.nextafter(near, toward), near)


def _int_to_int(xp: Any, array: Any, target: np.dtype[Any], mode: str) -> Any:
    have, want = np.iinfo(array.dtype), np.iinfo(target)
    low, high = max(have.min, want.min), min(have.max, want.max)
    if (low, high) == (have.min, have.max):
        return array.astype(target)
    if mode == "refuse" and bool(((array < low) | (array > high)).any()):
        raise refuse(array.dtype, target, low=array.min(), high=array.max())
    return xp.clip(array, low, high).astype(target)


def _float_to_int(xp: Any, array: Any, target: np.dtype[Any], mode: str) -> Any:
    info = np.iinfo(target)
    wide = array if array.dtype.itemsize >= 4 else array.astype(np.float32)
    rounded = xp.rint(wide)
    if rounded.size == 0:
        return rounded.astype(target)
    low, high = float(rounded.min()), float(rounded.max())
    if low >= info.min and high < 2.0 ** _bits(info):  # the usual case; False for NaN
        return rounded.astype(target)
    # Ends as powers of two: exact in every float, where iinfo.max itself may not be.
    above, below = rounded >= 2.0 ** _bits(info), rounded < float(info.min)
    lost = xp.isnan(rounded)
    outside = above | below | lost
    if mode == "refuse" and bool(outside.any()):
        raise refuse(array.dtype, target, low=array.min(), high=array.max())
    result = xp.where(outside, 0, rounded).astype(target)
    result = xp.where(above, target.type(info.max), result)
    return xp.where(below, target.type(info.min), result)


def _bits(info: np.iinfo[Any]) -> int:
    return int(info.max).bit_length()
