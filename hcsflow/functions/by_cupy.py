"""CuPy variants, for NVIDIA GPUs; equal to the numpy ones to rounding.

Each says which part of `hcsflow.functions.array_math` it is. CuPy is imported when one is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from hcsflow.arrays import cupy
from hcsflow.contracts import Limits, contract, special_outputs
from hcsflow.functions import array_math
from hcsflow.functions.planes import check_integers, check_pixels
from hcsflow.materialize import Labels, Table

if TYPE_CHECKING:
    from cupy import ndarray

__all__ = [
    "add_constant",
    "count_objects",
    "gaussian_filter",
    "label_objects",
    "max_projection",
    "mean_projection",
    "min_projection",
    "multiply_constant",
    "subtract_background",
    "subtract_constant",
    "sum_projection",
    "threshold_fixed",
    "threshold_otsu",
    "white_tophat",
]

Radius = Annotated[int, Limits(ge=0)]
Shape = Literal["disk", "octagon", "square"]


def _space() -> array_math.Namespace:
    import cupy as library
    from cupyx.scipy import ndimage

    return array_math.Namespace(library, ndimage)


@contract(per_slice=True, working_planes=1.0, fixed_planes=40.0)
@cupy
def gaussian_filter(stack: ndarray, *, sigma: Annotated[float, Limits(ge=0)] = 1.0) -> ndarray:
    """Smooth each plane with a Gaussian; borders are reflected (d c b a | a b c d).

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    sigma : float
        Standard deviation in pixels; 0 changes nothing.
    """
    return array_math.smoothed(_space(), stack, sigma)


@contract(per_slice=True, working_planes=1.0, fixed_planes=48.0)
@cupy
def white_tophat(stack: ndarray, *, radius: Radius = 15, shape: Shape = "disk") -> ndarray:
    """Keep what is brighter than its surroundings and smaller than the footprint.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    radius : int
        Of the footprint, in pixels; larger than the objects.
    shape : "disk", "octagon" or "square"
        The footprint. An octagon or square takes a tenth of a disk's time.
    """
    return array_math.without_background(_space(), stack, radius, shape)


@contract(per_slice=True, working_planes=1.0, fixed_planes=48.0)
@cupy
def subtract_background(
    stack: ndarray, *, radius: Radius = 25, shape: Shape = "octagon"
) -> ndarray:
    """Subtract the background: all that the footprint fits under (morphological opening).

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    radius : int
        In pixels; clearly larger than the largest object's radius, clumps included.
    shape : "octagon", "disk" or "square"
        The footprint.
    """
    return array_math.without_background(_space(), stack, radius, shape)


@contract(per_slice=True, dtype="uint8", working_planes=1.0, fixed_planes=16.0)
@cupy
def threshold_otsu(
    stack: ndarray,
    *,
    scale: Annotated[float, Limits(ge=0)] = 1.0,
    minimum: float | None = None,
) -> ndarray:
    """Separate objects from background, by Otsu's threshold of each plane.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    scale : float
        Factor on the threshold; below 1 takes in more.
    minimum : float or None
        Least threshold, in grey levels.
    """
    space = _space()
    limits = array_math.otsu_of(space, stack) * scale
    if minimum is not None:
        limits = space.xp.maximum(limits, minimum)
    return (stack > limits[:, None, None]).astype(np.uint8)


@contract(per_slice=True, dtype="uint8", working_planes=1.0, fixed_planes=2.0)
@cupy
def threshold_fixed(stack: ndarray, *, value: float) -> ndarray:
    """Mark what is brighter than a stated grey value.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    value : float
        In grey levels.
    """
    check_pixels(stack)
    # An array, so that integers are compared as float64 and not with a number of their own dtype.
    return (stack > _space().xp.asarray([value], np.float64)).astype(np.uint8)


@special_outputs(("labels", Labels()))
@contract(dtype="uint32", working_planes=14.0, fixed_planes=2.0)
@cupy
def label_objects(
    stack: ndarray, *, min_area: Annotated[int, Limits(ge=0)] = 0, connectivity: Literal[1, 2] = 2
) -> tuple[ndarray, ndarray]:
    """Label the objects of a mask or a label image 1, 2, … .

    Each plane is labelled alone; numbers run on through the stack.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X) of integers
        A mask, or labels: then touching regions of different value stay apart.
    min_area : int
        In pixels; smaller objects are removed.
    connectivity : 1 or 2
        Neighbours by side (1), or by side and corner (2).
    """
    result = array_math.labelled(_space(), stack, min_area, connectivity)
    return result, result


@special_outputs(("counts", Table()))
@contract(working_planes=3.0, fixed_planes=1.0)
@cupy
def count_objects(stack: ndarray) -> tuple[ndarray, dict[str, int]]:
    """Count the labels of a stack.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X) of integers
        Labels, returned as they are.
    """
    check_integers(stack, "count_objects")
    areas = array_math.areas_of(_space(), stack)
    return stack, {"count": int((areas > 0).sum())}


@contract(z_out="one", ragged=True, working_planes=0.0, fixed_planes=2.0)
@cupy
def max_projection(stack: ndarray) -> ndarray:
    """Take each pixel's largest value over the planes.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    """
    check_pixels(stack)
    return stack.max(axis=0, keepdims=True)


@contract(z_out="one", ragged=True, working_planes=0.0, fixed_planes=2.0)
@cupy
def min_projection(stack: ndarray) -> ndarray:
    """Take each pixel's smallest value over the planes.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    """
    check_pixels(stack)
    return stack.min(axis=0, keepdims=True)


@contract(z_out="one", ragged=True, working_planes=0.0, fixed_planes=10.0)
@cupy
def mean_projection(stack: ndarray) -> ndarray:
    """Take each pixel's mean over the planes, rounded half to even for integers.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    """
    return array_math.projected(stack, array_math.summed(stack) / stack.shape[0])


@contract(z_out="one", ragged=True, working_planes=0.0, fixed_planes=10.0)
@cupy
def sum_projection(stack: ndarray) -> ndarray:
    """Take each pixel's sum over the planes, saturating.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    """
    return array_math.projected(stack, array_math.summed(stack))


@contract(per_slice=True, working_planes=1.0, fixed_planes=64.0)
@cupy
def add_constant(stack: ndarray, *, value: float) -> ndarray:
    """Add a grey value, saturating.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    value : float
        In grey levels.
    """
    return array_math.scaled(_space(), stack, 1.0, value)


@contract(per_slice=True, working_planes=1.0, fixed_planes=64.0)
@cupy
def subtract_constant(stack: ndarray, *, value: float) -> ndarray:
    """Subtract a grey value, saturating.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    value : float
        In grey levels.
    """
    return array_math.scaled(_space(), stack, 1.0, -value)


@contract(per_slice=True, working_planes=1.0, fixed_planes=64.0)
@cupy
def multiply_constant(stack: ndarray, *, factor: float) -> ndarray:
    """Multiply by a factor; rounded, saturating.

    Parameters
    ----------
    stack : cupy.ndarray, (Z, Y, X)
        Any integer or float dtype.
    factor : float
        Without unit.
    """
    return array_math.scaled(_space(), stack, factor, 0.0)
