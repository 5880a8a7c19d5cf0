"""Adapter for TensorFlow (eager tensors)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from hcsflow.arrays.casting import refuse
from hcsflow.arrays.conversions import DTYPES
from hcsflow.arrays.libraries import dtype_name
from hcsflow.arrays.streams import wait_for
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES = frozenset((*DTYPES, "complex128"))


def to_host(array: Any) -> NDArray[Any]:
    """Return a copy: a tensor's own numpy view is writable, the tensor is not."""
    _check_dtype("tensorflow", "numpy", dtype_name(array))
    return np.asarray(array.numpy())  # of 0-d tensors numpy() makes scalars


def from_host(array: NDArray[Any], device: int | str | None) -> Any:
    _check_dtype("numpy", "tensorflow", array.dtype.name)
    try:
        with tf.device(_device_name(device)):
            return tf.constant(array)
    except (TypeError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise MemoryConversionError("numpy", "tensorflow", "constant", str(error)) from error


def shareable(array: Any, *, compact: bool) -> Any:
    del compact  # tensors lie so already
    _check_dtype("tensorflow", "any", dtype_name(array))
    return _Finished(array) if "GPU" in array.device else array


class _Finished:
    """A tensor to hand on by DLPack. It itself refuses the stream that takers on a GPU name."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor
        self.dtype = tensor.dtype

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, number = self._tensor.__dlpack_device__()
        return kind, number

    def __dlpack__(self, **_wanted: Any) -> Any:
        tf.test.experimental.sync_devices()  # so no stream has anything to wait for
        return self._tensor.__dlpack__()


def from_dlpack(array: Any, device: int | str | None) -> Any:
    _check_dtype("any", "tensorflow", dtype_name(array))
    wait_for(array)  # tensorflow names no stream that the giver could make wait
    try:
        tensor = tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    except (TypeError, ValueError, RuntimeError, BufferError, tf.errors.OpError) as error:
        raise MemoryConversionError("any", "tensorflow", "dlpack", str(error)) from error
    return place(tensor, device)


def place(array: Any, device: int | str | None) -> Any:
    if device is None:
        return array
    try:
        with tf.device(_device_name(device)):
            return tf.identity(array)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        method = f"device {device!r}"
        raise MemoryConversionError("tensorflow", "tensorflow", method, str(error)) from error


def _check_dtype(source: str, target: str, dtype: str) -> None:
    """Refuse what is no number: tensorflow ends the process over a string in DLPack."""
    if dtype not in _DTYPES:
        raise MemoryConversionError(source, target, "dtype", f"no dtype {dtype}")


def _device_name(device: int | str | None) -> str | None:
    """Return the full name of a device; tensorflow takes the CPU for one that is not there."""
    if device is None:
        return None
    wanted = f"GPU:{device}" if isinstance(device, int) else device.upper()
    kind, _, number = wanted.removeprefix("/").removeprefix("DEVICE:").partition(":")
    name = f"/device:{kind}:{number or 0}"
    there = [found.name for found in tf.config.list_logical_devices()]
    if name not in there:
        reason = f"there is no such device, only {', '.join(there)}"
        raise MemoryConversionError("tensorflow", "tensorflow", f"device {device!r}", reason)
    return name


def cast(array: Any, dtype: np.dtype[Any], mode: str) -> Any:
    source, target = np.dtype(array.dtype.as_numpy_dtype), tf.as_dtype(dtype)
    if source == dtype:
        return array
    if dtype.kind in "bf" or source.kind == "b":
        return _plain(array, target, mode)
    info = np.iinfo(dtype)
    # float64 holds 32-bit integers and every power of two exactly; 64-bit integers it does not.
    if source.kind in "iu" and 8 in (source.itemsize, dtype.itemsize):
        raise MemoryConversionError(source.name, dtype.name, "cast", "64-bit integers: use numpy")
    rounded = tf.round(tf.cast(array, tf.float64))  # half to even
    above = rounded >= 2.0 ** int(info.max).bit_length()
    below = rounded < float(info.min)
    outside = above | below | tf.math.is_nan(rounded)
    if mode == "refuse" and bool(tf.reduce_any(outside)):
        raise refuse(source, dtype, low=float(np.min(array)), high=float(np.max(array)))
    result = tf.cast(tf.where(outside, tf.zeros_like(rounded), rounded), target)
    result = tf.where(above, tf.constant(info.max, target), result)
    return tf.where(below, tf.constant(info.min, target), result)


def _plain(array: Any, target: Any, mode: str) -> Any:
    by_way = (array.dtype, target) == (tf.float64, tf.float16)
    result = tf.cast(_to_odd(array) if by_way else array, target)
    if not target.is_floating:
        return result
    wide = tf.cast(array, tf.float64)
    overflown = tf.math.is_inf(result) & tf.math.is_finite(wide)
    if mode == "refuse" and bool(tf.reduce_any(overflown)):
        raise refuse(array.dtype, target, low=float(np.min(array)), high=float(np.max(array)))
    limit = tf.constant(target.max, target)
    return tf.where(overflown, tf.where(wide > 0, limit, -limit), result)


def _to_odd(array: Any) -> Any:
    """Return float64 as float32 for float16, as `hcsflow.arrays.casting` does."""
    near = tf.cast(array, tf.float32)
    back = tf.cast(near, tf.float64)
    toward = tf.where(array > back, tf.constant(np.inf, tf.float32), -np.inf)
    is_even = tf.bitwise.bitwise_and(tf.bitcast(near, tf.int32), 1) == 0
    return tf.where((back != array) & is_even, tf.math.nextafter(near, toward), near)


def stack(slices: list[Any]) -> Any:
    return tf.stack(slices)
