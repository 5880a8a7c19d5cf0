"""PyTorch variants, for tensors on any device; equal to the numpy ones to rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np

from hcsflow.arrays import cast, torch
from hcsflow.contracts import Limits, contract
from hcsflow.functions.filters import gaussian_kernel
from hcsflow.functions.planes import check_at_least

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "add_constant",
    "gaussian_filter",
    "max_projection",
    "mean_projection",
    "min_projection",
    "multiply_constant",
    "subtract_constant",
    "sum_projection",
    "threshold_fixed",
]


def _dtype_name(stack: Tensor) -> str:
    return str(stack.dtype).removeprefix("torch.")


def _wide(stack: Tensor) -> Tensor:
    """Return a tensor as float64, which holds every 32-bit integer."""
    return stack.double()


@contract(per_slice=True, working_planes=1.0, fixed_planes=16.0)
@torch
def gaussian_filter(stack: Tensor, *, sigma: Annotated[float, Limits(ge=0)] = 1.0) -> Tensor:
    """Smooth each plane with a Gaussian; borders are reflected (d c b a | a b c d).

    Parameters
    ----------
    stack : tensor, (Z, Y, X)
        Any integer or float dtype.
    sigma : float
        Standard deviation in pixels; 0 changes nothing.
    """
    import torch as library

    check_at_least(0, sigma=sigma)
    if sigma == 0:
        return stack.clone()
    kernel = gaussian_kernel(sigma)
    result = library.empty_like(stack)
    for index in range(stack.shape[0]):
        plane = _smoothed(stack[index].to(library.float32), kernel, 0)
        result[index] = cast(_smoothed(plane, kernel, 1), _dtype_name(stack))
    return result


def _smoothed(plane: Tensor, kernel: np.ndarray, axis: int) -> Tensor:
    """Correlate along one axis, as a sum of shifted planes (as fast as conv, and exact order)."""
    import torch as library

    radius, size = len(kernel) // 2, plane.shape[axis]
    index = np.arange(-radius, size + radius) % (2 * size)
    mirrored = np.where(index < size, index, 2 * size - 1 - index)
    padded = plane.index_select(axis, library.from_numpy(mirrored).to(plane.device))
    result = library.zeros_like(plane)
    for shift, weight in enumerate(kernel.tolist()):
        result.add_(padded.narrow(axis, shift, size), alpha=weight)
    return result


@contract(z_out="one", ragged=True, working_planes=0.5, fixed_planes=3.0)
@torch
def max_projection(stack: Tensor) -> Tensor:
    """Take each pixel's largest value over the planes.

    Parameters
    ----------
    stack : tensor, (Z, Y, X)
        Any integer or float dtype.
    """
    return _extreme(stack, largest=True)


@contract(z_out="one", ragged=True, working_planes=0.5, fixed_planes=3.0)
@torch
def min_projection(stack: Tensor) -> Tensor:
    """Take each pixel's smallest value over the planes.

    Parameters
    ----------
    stack : tensor, (Z, Y, X)
        Any integer or float dtype.
    """
    return _extreme(stack, largest=False)


def _extreme(stack: Tensor, *, largest: bool) -> Tensor:
    """Reduce plane by plane; torch cannot compare uint16 and uint32, so each is widened."""
    import torch as library

    combine = library.maximum if largest else library.minimum
    wide = {library.uint16: library.int32, library.uint32: library.int64}
    kind = wide.get(stack.dtype, stack.dtype)
    result = stack[0].to(kind)
    for index in range(1, stack.shape[0]):
        result = combine(result, stack[index].to(kind))
    return result.to(stack.dtype)[None].clone()


def _total(stack: Tensor) -> Tensor:
    result = _wide(stack[0])
    for index in range(1, stack.shape[0]):
        result = result + _wide(stack[index])
    return result


@contract(z_out="one", ragged=True, working_planes=2.0, fixed_planes=14.0)
@torch
def mean_projection(stack: Tensor) -> Tensor:
    """Take each pixel's mean over the planes, rounded half to even for integers.

    Parameters
    ----------
    stack : tensor, (Z, Y, X)
        Any integer or float dtype.
    """
    result: Tensor = cast(_total(stack) / stack.shape[0], _dtype_name(stack))
    return result[None]


@contract(z_out="one", ragged=True, working_planes=2.0, fixed_planes=14.0)
@torch
def sum_projection(stack: Tensor) -> Tensor:
    """Take each pixel's sum over the planes, saturating.

    Parameters
    ----------
    stack : tensor, (Z, Y, X)
        Any integer or float dtype.
    """
    result: Tensor = cast(_total(stack), _dtype_name(stack))
    return result[None]


def _scaled(stack: Tensor, factor: float, value: float) -> Tensor:
    """Return ``stack * factor + value`` in the stack's dtype, plane by plane."""
    import torch as library

    result = library.empty_like(stack)
    for index in range(stack.shape[0]):
        result[index] = cast(_wide(stack[index]) * factor + value, _dtype_name(stack))
    return result


@contract(per_slice=True, working_planes=1.0, fixed_planes=16.0)
@torch
def add_constant(stack: Tensor, *, value: float) -> Tensor:
    """Add a grey value, saturating.

    Parameters
    ----------
    stack : tensor, (Z, Y, X)
        Any integer or float dtype.
    value : float
        In grey levels.
    """
    return _scaled(stack, 1.0, value)


@contract(per_slice=True, working_planes=1.0, fixed_planes=16.0)
@torch
def subtract_constant(stack: Tensor, *, value: float) -> Tensor:
    """Subtract a grey value, saturating.

    Parameters
    ----------
    stack : tensor, (Z, Y, X)
        Any integer or float dtype.
    value : float
        In grey levels.
    """
    return _scaled(stack, 1.0, -value)


@contract(per_slice=True, working_planes=1.0, fixed_planes=16.0)
@torch
def multiply_constant(stack: Tensor, *, factor: float) -> Tensor:
    """Multiply by a factor; rounded, saturating.

    Parameters
    ----------
    stack : tensor, (Z, Y, X)
        Any integer or float dtype.
    factor : float
        Without unit.
    """
    return _scaled(stack, factor, 0.0)


@contract(per_slice=True, dtype="uint8", working_planes=1.0, fixed_planes=6.0)
@torch
def threshold_fixed(stack: Tensor, *, value: float) -> Tensor:
    """Mark what is brighter than a stated grey value.

    Parameters
    ----------
    stack : tensor, (Z, Y, X)
        Any integer or float dtype.
    value : float
        In grey levels.
    """
    import torch as library

    result = library.empty(stack.shape, dtype=library.uint8, device=stack.device)
    for index in range(stack.shape[0]):
        result[index] = (_wide(stack[index]) > value).to(library.uint8)
    return result
