"""Adapter for PyTorch (CPU and CUDA tensors)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hcsflow.arrays.casting import refuse
from hcsflow.arrays.libraries import dtype_name
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# torch stores these but computes little with them: widened before arithmetic.
_WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.float16: torch.float32}


def to_host(array: torch.Tensor) -> NDArray[Any]:
    """Return a view of a CPU tensor's memory, or a copy of a CUDA tensor's; without gradient."""
    try:
        result: NDArray[Any] = array.numpy(force=True)
    except (TypeError, RuntimeError) as error:
        raise MemoryConversionError("torch", "numpy", "Tensor.numpy", str(error)) from error
    return result


def from_host(array: NDArray[Any], device: int | str | None) -> torch.Tensor:
    """Return a tensor on the array's memory; a copy where torch cannot represent the array."""
    try:
        tensor = _view(array)
        if tensor is None:
            tensor = torch.from_numpy(array.astype(_native(array.dtype), order="C"))
    except (TypeError, ValueError) as error:
        raise MemoryConversionError("numpy", "torch", "from_numpy", str(error)) from error
    return tensor if device is None else place(tensor, device)


def _view(array: NDArray[Any]) -> torch.Tensor | None:
    if not (array.flags.writeable and array.dtype.isnative):
        return None
    try:
        return torch.from_numpy(array.view(_native(array.dtype)))
    except ValueError:  # strides that are negative or no multiple of the element
        return None


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype in native byte order, and of two C types of one size the one torch knows."""
    return np.dtype(dtype.name) if dtype.kind in "biufc" else dtype.newbyteorder("=")


def shareable(array: torch.Tensor, *, compact: bool) -> torch.Tensor:
    try:
        plain = array.detach().resolve_conj().resolve_neg()
        if compact and not (plain.is_contiguous() and plain.data_ptr() % 64 == 0):
            return plain.clone(memory_format=torch.contiguous_format)
    except (RuntimeError, NotImplementedError) as error:  # sparse, nested, without data
        raise MemoryConversionError("torch", "any", "dlpack", str(error)) from error
    return plain


def from_dlpack(array: Any, device: int | str | None) -> torch.Tensor:
    try:
        tensor = torch.from_dlpack(array)
    except (TypeError, RuntimeError, BufferError) as error:
        raise MemoryConversionError("any", "torch", "dlpack", str(error)) from error
    return place(tensor, device)


def place(array: torch.Tensor, device: int | str | None) -> torch.Tensor:
    if device is None:
        return array
    wanted = f"cuda:{device}" if isinstance(device, int) else device
    try:
        return array.to(wanted)
    except (AssertionError, RuntimeError) as error:
        raise MemoryConversionError("torch", "torch", f"to({wanted!r})", str(error)) from error


def cast(array: torch.Tensor, dtype: np.dtype[Any], mode: str) -> torch.Tensor:
    target = getattr(torch, dtype.name)
    if array.dtype == target:
        return array
    if torch.uint64 in (array.dtype, target):
        reason = "torch cannot compute with uint64; cast in numpy"
        raise MemoryConversionError(dtype_name(array), dtype.name, "cast", reason)
    wide = array.to(_WIDER.get(array.dtype, array.dtype))
    if dtype.kind == "b":
        return wide != 0
    if array.dtype == torch.bool:
        return array.to(torch.uint8).to(target)
    if dtype.kind == "f":
        return _to_float(wide, target, mode)
    return _to_int(wide, target, mode)


def _to_float(array: torch.Tensor, target: torch.dtype, mode: str) -> torch.Tensor:
    by_way = (array.dtype, target) == (torch.float64, torch.float16)
    result = (_to_odd(array) if by_way else array).to(target)
    overflown = torch.isinf(result) & torch.isfinite(array)
    if mode == "refuse" and bool(overflown.any()):
        raise refuse(array.dtype, target, low=array.min().item(), high=array.max().item())
    top = torch.finfo(target).max
    return torch.where(overflown, result.clamp(-top, top), result)


def _to_odd(array: torch.Tensor) -> torch.Tensor:
    """Return float64 as float32 for float16, as `hcsflow.arrays.casting` does."""
    near = array.to(torch.float32)
    back = near.to(torch.float64)
    toward = torch.where(array > back, torch.inf, -torch.inf).to(torch.float32)
    is_even = (near.view(torch.int32) & 1) == 0
    return torch.where((back != array) & is_even, torch.nextafter(near, toward), near)


def _to_int(array: torch.Tensor, target: torch.dtype, mode: str) -> torch.Tensor:
    info = torch.iinfo(target)
    if array.is_floating_point():
        rounded = torch.round(array)  # half to even
        above = rounded >= 2.0 ** int(info.max).bit_length()
        below = rounded < float(info.min)
        outside = above | below | torch.isnan(array)
    else:
        rounded = array
        have = torch.iinfo(array.dtype)
        above = array > min(info.max, have.max)
        below = array < max(info.min, have.min)
        outside = above | below
    if mode == "refuse" and bool(outside.any()):
        raise refuse(array.dtype, target, low=array.min().item(), high=array.max().item())
    wide = torch.where(outside, 0, rounded).to(torch.int64)
    wide = torch.where(above, info.max, wide)
    wide = torch.where(below, info.min, wide)
    return wide.to(target)


def stack(slices: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(slices)
