"""Adapter for numpy: the reference that every other one must equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.arrays.casting import cast_with
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def to_host(array: NDArray[Any]) -> NDArray[Any]:
    return array


def from_host(array: NDArray[Any], device: int | str | None) -> NDArray[Any]:
    return place(array, device)


def place(array: NDArray[Any], device: int | str | None) -> NDArray[Any]:
    # A GPU number is accepted: a CPU step on a GPU worker is given one and has no use for it.
    if isinstance(device, str) and device != "cpu":
        raise MemoryConversionError("numpy", "numpy", "device", f"numpy has no device {device!r}")
    return array


def cast(array: NDArray[Any], dtype: np.dtype[Any], mode: str) -> NDArray[Any]:
    return np.asarray(cast_with(np, array, dtype, mode))  # of 0-d arrays numpy makes scalars


def stack(slices: list[NDArray[Any]]) -> NDArray[Any]:
    return np.stack(slices)
