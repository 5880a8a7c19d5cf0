"""Smoothing filters. OpenCV on the CPU, equal to scipy.ndimage to the stated tolerance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import cv2
import numpy as np

from hcsflow.arrays import numpy
from hcsflow.contracts import Limits, contract
from hcsflow.functions.planes import Plane, check_at_least, map_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "gaussian_filter",
    "gaussian_kernel",
    "gaussian_plane",
    "gaussian_radius",
    "mean_filter",
    "median_filter",
]

FLOATS = ("float32", "float64")


def gaussian_radius(sigma: float, truncate: float = 4.0) -> int:
    """Return how far a Gaussian's samples reach, in pixels."""
    return int(truncate * sigma + 0.5)


def gaussian_kernel(sigma: float, truncate: float = 4.0) -> NDArray[np.float64]:
    """Return a Gaussian's samples, as `scipy.ndimage.gaussian_filter` takes them, summing to 1.

    Examples
    --------
    >>> gaussian_kernel(0.5).round(3).tolist()
    [0.0, 0.106, 0.787, 0.106, 0.0]
    """
    radius = gaussian_radius(sigma, truncate)
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return np.asarray(weights / weights.sum())


def gaussian_plane(plane: Plane, sigma: float) -> Plane:
    """Smooth one float plane (Y, X); borders are reflected (d c b a | a b c d)."""
    if sigma == 0:
        return plane
    kernel = gaussian_kernel(sigma)
    smooth: Plane = cv2.sepFilter2D(plane, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT)
    return smooth


@contract(per_slice=True, working_planes=0.0, fixed_planes=3.5)
@numpy
def gaussian_filter(
    stack: NDArray[Any], *, sigma: Annotated[float, Limits(ge=0)] = 1.0
) -> NDArray[Any]:
    """Smooth each plane with a Gaussian.

    As `scipy.ndimage.gaussian_filter` with ``mode="reflect"``, ``truncate=4``: floats to
    1e-5 of the largest value, integers to one grey level (ties of rounding).

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    sigma : float
        Standard deviation in pixels; 0 changes nothing.

    Returns
    -------
    ndarray, (Z, Y, X)
        Of the same dtype.

    Raises
    ------
    ValueError
        If sigma is negative.

    Examples
    --------
    >>> import numpy as np
    >>> gaussian_filter(np.full((1, 8, 8), 7, np.uint16), sigma=2.0).max().item()
    7
    """
    check_at_least(0, sigma=sigma)
    return map_planes(stack, lambda plane: gaussian_plane(plane, sigma), allowed=FLOATS)


@contract(per_slice=True, working_planes=0.0, fixed_planes=7.5)
@numpy
def mean_filter(
    stack: NDArray[Any], *, size: Annotated[int, Limits(ge=1, odd=True)] = 3
) -> NDArray[Any]:
    """Replace each pixel by the mean of the square around it.

    As `scipy.ndimage.uniform_filter` with ``mode="reflect"`` in float64.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    size : int
        Side of the square in pixels; odd.

    Raises
    ------
    ValueError
        If size is even or less than 1.
    """
    _check_odd(size)

    def mean(plane: Plane) -> Plane:
        box: Plane = cv2.boxFilter(plane, -1, (size, size), borderType=cv2.BORDER_REFLECT)
        return box

    return map_planes(stack, mean, allowed=("float64",))


@contract(per_slice=True, working_planes=0.0, fixed_planes=2.0)
@numpy
def median_filter(
    stack: NDArray[Any], *, size: Annotated[int, Limits(ge=1, odd=True)] = 3
) -> NDArray[Any]:
    """Replace each pixel by the median of the square around it.

    Exactly `scipy.ndimage.median_filter` with ``mode="nearest"``. Sizes 3 and 5 of uint8,
    uint16 and float32, and any size of uint8, take milliseconds; the rest scipy's time.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    size : int
        Side of the square in pixels; odd.

    Raises
    ------
    ValueError
        If size is even or less than 1.
    """
    _check_odd(size)
    name = stack.dtype.name
    fast = name == "uint8" or (size <= 5 and name in ("uint16", "float32"))
    median = _median_cv2 if fast else _median_scipy
    return map_planes(stack, lambda plane: median(plane, size))


def _median_cv2(plane: Plane, size: int) -> Plane:
    result: Plane = cv2.medianBlur(np.ascontiguousarray(plane), size)
    return result


def _median_scipy(plane: Plane, size: int) -> Plane:
    from scipy import ndimage

    native = plane.astype(np.float32) if plane.dtype.name == "float16" else plane
    result: Plane = ndimage.median_filter(native, size=size, mode="nearest")
    return result


def _check_odd(size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size must be odd and at least 1, got {size}")
