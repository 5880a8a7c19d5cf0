"""From grey values to masks: uint8, 1 where the pixel is brighter than the threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import cv2
import numpy as np

from hcsflow.arrays import numpy
from hcsflow.contracts import Limits, contract
from hcsflow.functions.filters import gaussian_plane
from hcsflow.functions.planes import Plane, map_planes, widened

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["otsu", "threshold_fixed", "threshold_local", "threshold_otsu"]

FLOAT_BINS = 256
MAX_EXACT_BINS = 1 << 20
"""Widest span of integers with a histogram bin for each; beyond, integers count as floats."""


def otsu(plane: NDArray[Any]) -> float:
    """Return the threshold that separates two classes of grey values best (Otsu 1979).

    As `skimage.filters.threshold_otsu`: integers with a bin for each value, floats with 256 bins
    from minimum to maximum. Computed in float64.

    Parameters
    ----------
    plane : ndarray, (Y, X)
        Any integer or float dtype, without NaN.

    Returns
    -------
    float
        In grey levels; foreground is above it. The value itself where there is only one.

    Examples
    --------
    >>> import numpy as np
    >>> otsu(np.array([[1, 1, 2, 9, 9, 10]], np.uint8))
    2.0
    """
    low, high = plane.min(), plane.max()
    if low == high:
        return float(low)
    counts, centers = _histogram(plane, low.item(), high.item())
    below = np.cumsum(counts)[:-1]
    above = below[-1] + counts[-1] - below
    moment = np.cumsum(counts * centers)
    mean_below = moment[:-1] / below
    mean_above = (moment[-1] - moment[:-1]) / above
    between = below * above * (mean_below - mean_above) ** 2
    return float(centers[np.argmax(between)])


def _histogram(
    plane: NDArray[Any], low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return counts (the first and last never 0) and bin centres."""
    if plane.dtype.kind in "iu" and int(high) - int(low) < MAX_EXACT_BINS:
        if plane.dtype.name in ("uint8", "uint16"):
            top = int(high) + 1
            counts = cv2.calcHist([np.ascontiguousarray(plane)], [0], None, [top], [0, top])
            counts = counts.ravel()[int(low) :]
        else:
            counts = np.bincount((plane.astype(np.int64) - int(low)).ravel())
        return counts.astype(np.float64), np.arange(low, high + 1, dtype=np.float64)
    counts, edges = np.histogram(plane, bins=FLOAT_BINS, range=(low, high))
    return counts.astype(np.float64), (edges[:-1] + edges[1:]) / 2


@contract(per_slice=True, dtype="uint8", working_planes=0.0, fixed_planes=2.0)
@numpy
def threshold_otsu(
    stack: NDArray[Any],
    *,
    scale: Annotated[float, Limits(ge=0)] = 1.0,
    minimum: float | None = None,
) -> NDArray[np.uint8]:
    """Separate objects from background, by Otsu's threshold of each plane.

    Otsu finds two classes even in an empty field; ``minimum`` keeps noise from becoming objects
    there.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    scale : float
        Factor on the threshold; below 1 takes in more.
    minimum : float or None
        Least threshold, in grey levels.

    Returns
    -------
    ndarray, (Z, Y, X) uint8
        1 where a pixel is above the threshold, else 0.
    """

    def above(plane: Plane) -> Plane:
        threshold = otsu(plane) * scale
        if minimum is not None:
            threshold = max(threshold, minimum)
        return _above(plane, threshold)

    return map_planes(stack, above, dtype="uint8")


def _above(plane: Plane, threshold: float) -> Plane:
    """Compare with a threshold; integers exactly, in their own dtype."""
    limit: Any = threshold
    if plane.dtype.kind in "iu":
        info = np.iinfo(plane.dtype)
        limit = int(np.floor(np.clip(threshold, -(2.0**64), 2.0**64)))
        if limit >= info.max or limit < info.min:
            return np.full(plane.shape, limit < info.min, np.uint8)
    elif plane.dtype.kind == "f":
        limit = np.float64(threshold)  # not rounded to the plane's own precision
    return np.asarray(plane > limit).view(np.uint8)


@contract(per_slice=True, dtype="uint8", working_planes=0.0, fixed_planes=2.0)
@numpy
def threshold_fixed(stack: NDArray[Any], *, value: float) -> NDArray[np.uint8]:
    """Mark what is brighter than a stated grey value.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    value : float
        In grey levels.

    Returns
    -------
    ndarray, (Z, Y, X) uint8
        1 where a pixel is above the value, else 0.
    """
    return map_planes(stack, lambda plane: _above(plane, value), dtype="uint8")


@contract(per_slice=True, dtype="uint8", working_planes=0.0, fixed_planes=6.0)
@numpy
def threshold_local(
    stack: NDArray[Any],
    *,
    block_size: Annotated[int, Limits(ge=3, odd=True)] = 51,
    offset: float = 0.0,
    method: Literal["gaussian", "mean"] = "gaussian",
) -> NDArray[np.uint8]:
    """Mark what is brighter than the mean around it.

    As ``plane > skimage.filters.threshold_local(plane, block_size, method, offset)``, up to
    pixels that lie within 1e-5 of the threshold.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    block_size : int
        Side of the neighbourhood in pixels; odd. A Gaussian's sigma is (block_size - 1) / 6.
    offset : float
        Subtracted from the local mean, in grey levels; negative asks for more contrast.
    method : "gaussian" or "mean"
        How neighbours are weighted.

    Returns
    -------
    ndarray, (Z, Y, X) uint8
        1 where a pixel is above the threshold, else 0.

    Raises
    ------
    ValueError
        If block_size is even or the method unknown.
    """
    if block_size < 3 or block_size % 2 == 0:
        raise ValueError(f"block_size must be odd and at least 3, got {block_size}")
    if method not in ("gaussian", "mean"):
        raise ValueError(f"method must be 'gaussian' or 'mean', got {method!r}")

    def above(plane: Plane) -> Plane:
        pixels = widened(plane, ("float32", "float64"))
        if method == "gaussian":
            local = gaussian_plane(pixels, (block_size - 1) / 6)
        else:
            box = (block_size, block_size)
            local = cv2.boxFilter(pixels, -1, box, borderType=cv2.BORDER_REFLECT)
        return np.asarray(pixels > local - offset).view(np.uint8)

    return map_planes(stack, above, dtype="uint8")
