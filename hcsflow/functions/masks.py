"""Masks to masks. What is not zero is foreground; results are uint8 of 0 and 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import cv2
import numpy as np

from hcsflow.arrays import numpy
from hcsflow.contracts import Limits, contract
from hcsflow.functions.components import component_areas, components
from hcsflow.functions.footprints import footprint
from hcsflow.functions.planes import Plane, as_mask, check_at_least, check_integers, map_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "binary_closing",
    "binary_dilation",
    "binary_erosion",
    "binary_opening",
    "fill_holes",
    "remove_small_objects",
]

Radius = Annotated[int, Limits(ge=0)]


def _morphology(stack: NDArray[Any], operation: int, radius: int, name: str) -> NDArray[np.uint8]:
    check_integers(stack, name)
    check_at_least(0, radius=radius)
    element = footprint(radius)

    def morphed(plane: Plane) -> Plane:
        result: Plane = cv2.morphologyEx(as_mask(plane), operation, element)
        return result

    return map_planes(stack, morphed, dtype="uint8")


@contract(per_slice=True, dtype="uint8", working_planes=0.0, fixed_planes=1.0)
@numpy
def binary_erosion(stack: NDArray[Any], *, radius: Radius = 1) -> NDArray[np.uint8]:
    """Shrink the foreground by a disk. Outside the image counts as foreground.

    Equal to `skimage.morphology.erosion` with ``disk(radius)``.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        A mask, or labels.
    radius : int
        In pixels.
    """
    return _morphology(stack, cv2.MORPH_ERODE, radius, "binary_erosion")


@contract(per_slice=True, dtype="uint8", working_planes=0.0, fixed_planes=1.0)
@numpy
def binary_dilation(stack: NDArray[Any], *, radius: Radius = 1) -> NDArray[np.uint8]:
    """Grow the foreground by a disk.

    Equal to `skimage.morphology.dilation` with ``disk(radius)``.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        A mask, or labels.
    radius : int
        In pixels.
    """
    return _morphology(stack, cv2.MORPH_DILATE, radius, "binary_dilation")


@contract(per_slice=True, dtype="uint8", working_planes=0.0, fixed_planes=1.0)
@numpy
def binary_opening(stack: NDArray[Any], *, radius: Radius = 1) -> NDArray[np.uint8]:
    """Remove foreground that a disk does not fit into.

    Equal to `skimage.morphology.opening` with ``disk(radius)``.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        A mask, or labels.
    radius : int
        In pixels.
    """
    return _morphology(stack, cv2.MORPH_OPEN, radius, "binary_opening")


@contract(per_slice=True, dtype="uint8", working_planes=0.0, fixed_planes=1.0)
@numpy
def binary_closing(stack: NDArray[Any], *, radius: Radius = 1) -> NDArray[np.uint8]:
    """Fill background that a disk does not fit into.

    Equal to `skimage.morphology.closing` with ``disk(radius)``.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        A mask, or labels.
    radius : int
        In pixels.
    """
    return _morphology(stack, cv2.MORPH_CLOSE, radius, "binary_closing")


@contract(per_slice=True, dtype="uint8", working_planes=0.0, fixed_planes=1.5)
@numpy
def fill_holes(stack: NDArray[Any]) -> NDArray[np.uint8]:
    """Fill background that does not reach the image's edge (neighbours by side).

    Equal to `scipy.ndimage.binary_fill_holes`.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        A mask, or labels.
    """
    check_integers(stack, "fill_holes")
    return map_planes(stack, _filled, dtype="uint8")


def _filled(plane: Plane) -> Plane:
    around = cv2.copyMakeBorder(as_mask(plane), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(around, None, (0, 0), 2, flags=4)
    return np.asarray(around[1:-1, 1:-1] != 2).view(np.uint8)


@contract(per_slice=True, dtype="uint8", working_planes=0.0, fixed_planes=5.0)
@numpy
def remove_small_objects(
    stack: NDArray[Any],
    *,
    min_area: Annotated[int, Limits(ge=0)] = 30,
    connectivity: Literal[1, 2] = 2,
) -> NDArray[np.uint8]:
    """Remove foreground regions with fewer pixels than ``min_area``.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        A mask.
    min_area : int
        In pixels; regions of this size stay.
    connectivity : 1 or 2
        Neighbours by side (1), or by side and corner (2).
    """
    check_integers(stack, "remove_small_objects")

    def kept(plane: Plane) -> Plane:
        regions = components(as_mask(plane), connectivity)
        large = component_areas(regions) >= min_area
        large[0] = False
        return np.take(large, regions).view(np.uint8)

    return map_planes(stack, kept, dtype="uint8")
