"""Adapter for CuPy (CUDA arrays)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy

from hcsflow.arrays.casting import cast_with
from hcsflow.arrays.libraries import dtype_name
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def to_host(array: Any) -> NDArray[Any]:
    result: NDArray[Any] = cupy.asnumpy(array)
    return result


def from_host(array: NDArray[Any], device: int | str | None) -> Any:
    number = _device_number(device)
    if array.dtype.kind not in "biufc":
        raise MemoryConversionError("numpy", "cupy", "asarray", f"no dtype {array.dtype}")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)  # cupy has no other
    try:
        with cupy.cuda.Device(number):
            return cupy.asarray(native)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise MemoryConversionError("numpy", "cupy", "asarray", str(error)) from error


def shareable(array: Any, *, compact: bool) -> Any:
    is_compact = array.flags.c_contiguous and array.data.ptr % 64 == 0
    if min(array.strides, default=0) < 0 or (compact and not is_compact):
        return array.copy(order="C")
    return array


def from_dlpack(array: Any, device: int | str | None) -> Any:
    if dtype_name(array) == "bfloat16":
        raise MemoryConversionError("any", "cupy", "dlpack", "no dtype bfloat16")
    try:
        return place(cupy.from_dlpack(array), device)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        reason = f"{error}; data in host memory goes by way of numpy"
        raise MemoryConversionError("any", "cupy", "dlpack", reason) from error


def place(array: Any, device: int | str | None) -> Any:
    number = _device_number(device)
    if number is None or array.device.id == number:
        return array
    try:
        with cupy.cuda.Device(number):
            return cupy.array(array)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise MemoryConversionError("cupy", "cupy", f"device {number}", str(error)) from error


def _device_number(device: int | str | None) -> int | None:
    if device is None or isinstance(device, int):
        return device
    name, _, number = device.partition(":")
    if name != "cuda" or not (number or "0").isdigit():
        raise MemoryConversionError("cupy", "cupy", "device", f"cupy has no device {device!r}")
    return int(number or 0)


def cast(array: Any, dtype: np.dtype[Any], mode: str) -> Any:
    return cast_with(cupy, array, dtype, mode)


def stack(slices: list[Any]) -> Any:
    return cupy.stack(slices)
