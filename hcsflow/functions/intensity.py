"""Grey values, one by one. What is added or stretched is said by the user, never by the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.arrays import numpy
from hcsflow.contracts import contract
from hcsflow.functions.planes import check_pixels, map_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "add_constant",
    "clip",
    "invert",
    "multiply_constant",
    "normalize_range",
    "subtract_constant",
]

EXACT = ("float64",)  # holds every 32-bit integer


@contract(per_slice=True, working_planes=0.0, fixed_planes=2.0)
@numpy
def invert(stack: NDArray[Any]) -> NDArray[Any]:
    """Turn bright into dark.

    Unsigned integers: the dtype's maximum minus the value. Signed: -1 minus the value. Floats:
    1 minus the value. As `skimage.util.invert`.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    """
    if stack.dtype.kind == "f":
        return map_planes(stack, lambda plane: plane.dtype.type(1) - plane)
    return map_planes(stack, np.invert)


def _check_clip(low: float | None, high: float | None) -> None:
    if low is not None and high is not None and low > high:
        raise ValueError(f"low ({low}) must not be above high ({high})")


@contract(per_slice=True, working_planes=0.0, fixed_planes=10.0, check=_check_clip)
@numpy
def clip(
    stack: NDArray[Any], *, low: float | None = None, high: float | None = None
) -> NDArray[Any]:
    """Limit grey values.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    low, high : float or None
        Limits in grey levels; None leaves that end open.

    Raises
    ------
    ValueError
        If low is above high.
    """
    _check_clip(low, high)
    return map_planes(stack, lambda plane: np.clip(plane, low, high), allowed=EXACT)


@contract(per_slice=True, working_planes=0.0, fixed_planes=10.0)
@numpy
def add_constant(stack: NDArray[Any], *, value: float) -> NDArray[Any]:
    """Add a grey value, saturating.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    value : float
        In grey levels.
    """
    return map_planes(stack, lambda plane: plane + value, allowed=EXACT)


@contract(per_slice=True, working_planes=0.0, fixed_planes=10.0)
@numpy
def subtract_constant(stack: NDArray[Any], *, value: float) -> NDArray[Any]:
    """Subtract a grey value, e.g. the camera's offset, saturating.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    value : float
        In grey levels.
    """
    return map_planes(stack, lambda plane: plane - value, allowed=EXACT)


@contract(per_slice=True, working_planes=0.0, fixed_planes=10.0)
@numpy
def multiply_constant(stack: NDArray[Any], *, factor: float) -> NDArray[Any]:
    """Multiply by a factor, e.g. for another exposure time; rounded, saturating.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    factor : float
        Without unit.
    """
    return map_planes(stack, lambda plane: plane * factor, allowed=EXACT)


def _check_range(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"low ({low}) must be below high ({high})")


@contract(per_slice=True, working_planes=0.0, fixed_planes=10.0, check=_check_range)
@numpy
def normalize_range(stack: NDArray[Any], *, low: float, high: float) -> NDArray[Any]:
    """Map a stated range of grey values to the whole range of the dtype, saturating.

    ``low`` becomes 0 and ``high`` the dtype's maximum (1 for floats). The range is the same for
    every image, so images stay comparable.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    low, high : float
        In grey levels.

    Raises
    ------
    ValueError
        If low is not below high.
    """
    _check_range(low, high)
    check_pixels(stack)
    top = 1.0 if stack.dtype.kind == "f" else float(np.iinfo(stack.dtype).max)
    scale = top / (high - low)
    return map_planes(stack, lambda plane: np.clip((plane - low) * scale, 0.0, top), allowed=EXACT)
