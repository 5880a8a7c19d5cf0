"""From a stack to one plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from hcsflow.arrays import cast, numpy
from hcsflow.contracts import contract
from hcsflow.functions.planes import check_pixels, widened

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "best_focus",
    "laplacian_variance",
    "max_projection",
    "mean_projection",
    "median_projection",
    "min_projection",
    "sum_projection",
]


@contract(z_out="one", ragged=True, working_planes=0.0)
@numpy
def max_projection(stack: NDArray[Any]) -> NDArray[Any]:
    """Take each pixel's largest value over the planes.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.

    Returns
    -------
    ndarray, (1, Y, X)
        Of the same dtype; exactly numpy's maximum.

    Examples
    --------
    >>> import numpy as np
    >>> max_projection(np.arange(8).reshape(2, 2, 2)).tolist()
    [[[4, 5], [6, 7]]]
    """
    check_pixels(stack)
    return _native(stack.max(axis=0, keepdims=True))


@contract(z_out="one", ragged=True, working_planes=0.0)
@numpy
def min_projection(stack: NDArray[Any]) -> NDArray[Any]:
    """Take each pixel's smallest value over the planes.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    """
    check_pixels(stack)
    return _native(stack.min(axis=0, keepdims=True))


@contract(z_out="one", ragged=True, working_planes=0.0, fixed_planes=4.5)
@numpy
def mean_projection(stack: NDArray[Any]) -> NDArray[Any]:
    """Take each pixel's mean over the planes, rounded half to even for integers.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype; summed exactly (integers) or in float64.
    """
    check_pixels(stack)
    mean = _total(stack) / stack.shape[0]
    return np.asarray(cast(mean, stack.dtype.newbyteorder("=")))[None]


@contract(z_out="one", ragged=True, working_planes=0.0, fixed_planes=4.5)
@numpy
def sum_projection(stack: NDArray[Any]) -> NDArray[Any]:
    """Take each pixel's sum over the planes, saturating.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype; summed exactly (integers) or in float64.
    """
    check_pixels(stack)
    return np.asarray(cast(_total(stack), stack.dtype.newbyteorder("=")))[None]


def _native(stack: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(stack, dtype=stack.dtype.newbyteorder("="))


def _total(stack: NDArray[Any]) -> NDArray[Any]:
    """Sum planes in int64 (float64 for floats and 64-bit integers, which could overflow)."""
    exact = stack.dtype.kind in "biu" and stack.dtype.itemsize <= 4
    total = np.zeros(stack.shape[1:], np.int64 if exact else np.float64)
    for plane in stack:
        np.add(total, plane, out=total)
    return total


@contract(z_out="one", ragged=True, working_planes=0.0, fixed_planes=4.0)
@numpy
def median_projection(stack: NDArray[Any]) -> NDArray[Any]:
    """Take each pixel's median over the planes, rounded half to even for integers.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.
    """
    check_pixels(stack)
    result = np.empty((1, *stack.shape[1:]), stack.dtype.newbyteorder("="))
    rows = max(1, stack.shape[1] // stack.shape[0])  # of all planes: about one plane's memory
    for start in range(0, stack.shape[1], rows):
        part = slice(start, start + rows)
        result[0, part] = cast(np.median(stack[:, part], axis=0), result.dtype)
    return result


@contract(z_out="one", ragged=True, working_planes=0.0, fixed_planes=4.0)
@numpy
def best_focus(stack: NDArray[Any]) -> NDArray[Any]:
    """Take the sharpest plane: the one whose Laplacian varies most.

    After Pech-Pacheco et al. (2000), "Diatom autofocusing in brightfield microscopy".

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype.

    Returns
    -------
    ndarray, (1, Y, X)
        A copy of one plane; the first of several equally sharp ones.
    """
    check_pixels(stack)
    sharpness = [laplacian_variance(plane) for plane in stack]
    best = int(np.argmax(sharpness))
    return _native(stack[best : best + 1].copy())


def laplacian_variance(plane: NDArray[Any]) -> float:
    """Return how sharp a plane (Y, X) is: the variance of its Laplacian, in squared grey levels.

    Examples
    --------
    >>> laplacian_variance(np.ones((4, 4), np.uint8))
    0.0
    """
    pixels = widened(plane, ("float32", "float64"))
    edges = cv2.Laplacian(pixels, -1, borderType=cv2.BORDER_REFLECT)
    _, deviation = cv2.meanStdDev(edges)
    return float(deviation[0, 0]) ** 2
