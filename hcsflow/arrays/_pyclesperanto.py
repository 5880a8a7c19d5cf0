"""Adapter for pyclesperanto, or its prototype (OpenCL arrays)."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.arrays.casting import refuse
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

cle: Any = import_module(
    "pyclesperanto" if find_spec("pyclesperanto") else "pyclesperanto_prototype"
)

if not hasattr(cle, "push"):  # it is imported without a platform too, as an empty shell
    raise ImportError("there is no OpenCL platform; PoCL is one for CPUs")

_DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"})


def to_host(array: Any) -> NDArray[Any]:
    result: NDArray[Any] = cle.pull(array)
    return result


def from_host(array: NDArray[Any], device: int | str | None) -> Any:
    dtype = array.dtype.newbyteorder("=")
    if dtype.name not in _DTYPES:
        # push would narrow 64-bit types, and widen bool, without a word.
        raise MemoryConversionError("numpy", "pyclesperanto", "push", f"no dtype {dtype}")
    if not 1 <= array.ndim <= 3 or array.size == 0:
        reason = f"arrays have 1 to 3 dimensions and an element, found shape {array.shape}"
        raise MemoryConversionError("numpy", "pyclesperanto", "push", reason)
    _select(device)
    try:
        return cle.push(np.ascontiguousarray(array, dtype=dtype))
    except (RuntimeError, ValueError) as error:
        raise MemoryConversionError("numpy", "pyclesperanto", "push", str(error)) from error


def place(array: Any, device: int | str | None) -> Any:
    # An OpenCL array stays on its device; the choice is for arrays made from now on.
    _select(device)
    return array


def _select(device: int | str | None) -> None:
    """Select a device; left to itself, OpenCL takes another one for one that is not there."""
    if device is None:
        return
    there = cle.list_available_devices()
    if isinstance(device, int):
        is_there = 0 <= device < len(there)
    else:
        is_there = any(device in name for name in there)
    if not is_there:
        reason = f"there is no such device, only {', '.join(there) or 'none'}"
        raise MemoryConversionError("pyclesperanto", "pyclesperanto", f"device {device!r}", reason)
    cle.select_device(device)


def cast(array: Any, dtype: np.dtype[Any], mode: str) -> Any:
    source = np.dtype(array.dtype)
    if source == dtype:
        return array
    if dtype.name == "float32":
        return array.astype(dtype.type)
    if not {source.name, dtype.name} <= {"uint8", "int8", "uint16", "int16"}:
        # Its kernels round halves away from zero, and clip 32-bit integers as float32.
        reason = "not exact on OpenCL; cast in numpy"
        raise MemoryConversionError(source.name, dtype.name, "cast", reason)
    have, want = np.iinfo(source), np.iinfo(dtype)
    low, high = float(array.min()), float(array.max())
    if mode == "refuse" and not want.min <= low <= high <= want.max:
        raise refuse(source, dtype, low=low, high=high)
    return array.clip(max(have.min, want.min), min(have.max, want.max)).astype(dtype.type)


def stack(slices: list[Any]) -> Any:
    first = slices[0]
    result = cle.create((len(slices), *first.shape), dtype=np.dtype(first.dtype).type)
    for index, plane in enumerate(slices):
        cle.copy_slice(plane, result, index)
    return result
