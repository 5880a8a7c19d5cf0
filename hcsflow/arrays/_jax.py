"""Adapter for JAX. Its arrays are immutable, so nothing is ever shared that could change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax import numpy as jnp

from hcsflow.arrays.casting import cast_with
from hcsflow.arrays.libraries import dtype_name
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def to_host(array: Any) -> NDArray[Any]:
    """Return a read-only view of a CPU array's memory, or a copy of a GPU array's."""
    try:
        result: NDArray[Any] = np.asarray(array)
    except (TypeError, RuntimeError) as error:  # traced, or deleted
        raise MemoryConversionError("jax", "numpy", "asarray", str(error)) from error
    return result


def from_host(array: NDArray[Any], device: int | str | None) -> Any:
    dtype = array.dtype.newbyteorder("=")
    _check_width("numpy", dtype)
    native = np.array(array, dtype=dtype)  # a copy: jax may alias what it is given
    return jax.device_put(native, _device(device))


def shareable(array: Any, *, compact: bool) -> Any:
    del compact  # jax lays its arrays so
    return array


def from_dlpack(array: Any, device: int | str | None) -> Any:
    _check_width("any", dtype_name(array))
    try:
        result = jax.dlpack.from_dlpack(array)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise MemoryConversionError("any", "jax", "dlpack", str(error)) from error
    return place(result, device)


def place(array: Any, device: int | str | None) -> Any:
    return array if device is None else jax.device_put(array, _device(device))


def cast(array: Any, dtype: np.dtype[Any], mode: str) -> Any:
    _check_width("jax", dtype)
    return cast_with(jnp, array, dtype, mode)


def stack(slices: list[Any]) -> Any:
    return jnp.stack(slices)


def _check_width(source: str, dtype: np.dtype[Any] | str) -> None:
    """Refuse what jax would narrow silently: 64 bits, unless they are enabled."""
    try:
        kept = jax.dtypes.canonicalize_dtype(dtype)
    except TypeError as error:
        raise MemoryConversionError(source, "jax", "dtype", str(error)) from error
    if kept != np.dtype(dtype):
        reason = f"jax would make {kept} of {dtype}; set JAX_ENABLE_X64=1, or cast first"
        raise MemoryConversionError(source, "jax", "dtype", reason)


def _device(device: int | str | None) -> Any:
    if device is None:
        return None
    wanted = f"gpu:{device}" if isinstance(device, int) else device
    name, _, number = wanted.partition(":")
    try:
        there = {str(index): found for index, found in enumerate(jax.devices(name))}
        return there[number or "0"]
    except (RuntimeError, KeyError) as error:
        raise MemoryConversionError("jax", "jax", f"device {device!r}", str(error)) from error
