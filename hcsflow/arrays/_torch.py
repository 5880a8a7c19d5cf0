"""Adapter for PyTorch (CPU and CUDA tensors)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hcsflow.arrays.casting import check_kinds, refuse
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# torch stores these but computes little with them: widened before arithmetic.
_WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.float16: torch.float32}


def to_host(array: torch.Tensor) -> NDArray[Any]:
    """Return a view of a CPU tensor's memory, or a copy of a CUDA tensor's."""
    try:
        result: NDArray[Any] = array.detach().cpu().resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError) as error:
        raise MemoryConversionError("torch", "numpy", "Tensor.numpy", str(error)) from error
    return result


def from_host(array: NDArray[Any], device: int | str | None) -> torch.Tensor:
    """Return a tensor on the array's memory; a copy where torch cannot represent the array."""
    if not array.flags.writeable or not _is_native(array) or min(array.strides, default=0) < 0:
        array = array.astype(array.dtype.newbyteorder("="), order="C")
    try:
        tensor = torch.from_numpy(array)
    except TypeError as error:
        raise MemoryConversionError("numpy", "torch", "from_numpy", str(error)) from error
    return place(tensor, device)


def _is_native(array: NDArray[Any]) -> bool:
    return array.dtype.isnative


def from_dlpack(array: Any, device: int | str | None) -> torch.Tensor:
    try:
        tensor = torch.from_dlpack(array)
    except (TypeError, RuntimeError, BufferError) as error:
        source = type(array).__module__.partition(".")[0]
        raise MemoryConversionError(source, "torch", "dlpack", str(error)) from error
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
    target = getattr(torch, dtype.name, None)
    if not isinstance(target, torch.dtype) or array.dtype == torch.uint64:
        reason = "torch cannot compute with this dtype"
        raise MemoryConversionError(str(array.dtype), dtype.name, "cast", reason)
    if array.dtype == target:
        return array
    check_kinds(np.dtype(str(array.dtype).removeprefix("torch.")), dtype)
    wide = array.to(_WIDER.get(array.dtype, array.dtype))
    if dtype.kind == "b":
        return wide != 0
    if array.dtype == torch.bool:
        return array.to(torch.uint8).to(target)
    if dtype.kind == "f":
        return _to_float(wide, target, mode)
    return _to_int(wide, target, mode)


def _to_float(array: torch.Tensor, target: torch.dtype, mode: str) -> torch.Tensor:
    result = array.to(target)
    overflown = torch.isinf(result) & torch.isfinite(array)
    if mode == "refuse" and bool(overflown.any()):
        raise refuse(array.dtype, target, low=array.min().item(), high=array.max().item())
    top = torch.finfo(target).max
    limit = torch.where(array > 0, top, -top).to(target)
    return torch.where(overflown, limit, result)


def _to_int(array: torch.Tensor, target: torch.dtype, mode: str) -> torch.Tensor:
    info = torch.iinfo(target)
    if array.is_floating_point():
        array = torch.round(array)  # half to even
        above = array >= 2.0 ** int(info.max).bit_length()
        below = array < float(info.min)
        outside = above | below | torch.isnan(array)
    else:
        have = torch.iinfo(array.dtype)
        above = array > min(info.max, have.max)
        below = array < max(info.min, have.min)
        outside = above | below
    if mode == "refuse" and bool(outside.any()):
        raise refuse(array.dtype, target, low=array.min().item(), high=array.max().item())
    # int64 holds every end except uint64's, which is put in after the last conversion.
    wide = torch.where(outside, 0, array).to(torch.int64)
    wide = torch.where(above, min(info.max, 2**63 - 1), wide)
    wide = torch.where(below, info.min, wide)
    return wide.to(target)


def stack(slices: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(slices)
