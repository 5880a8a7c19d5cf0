"""From masks to objects: splitting, labelling, choosing, counting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from hcsflow.arrays import numpy
from hcsflow.contracts import Limits, contract, special_outputs
from hcsflow.functions.components import component_areas, label_plane, renumbered
from hcsflow.functions.planes import as_mask, check_at_least, check_integers, map_planes
from hcsflow.functions.splitting import split_plane
from hcsflow.materialize import Labels, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["count_objects", "keep_labels", "label_objects", "split_touching"]

Area = Annotated[int, Limits(ge=0)]


@contract(per_slice=True, dtype="uint32", working_planes=0.0, fixed_planes=20.0)
@numpy
def split_touching(
    stack: NDArray[Any],
    *,
    min_distance: Annotated[int, Limits(ge=1)] = 5,
    smooth: Annotated[float, Limits(ge=0)] = 1.0,
) -> NDArray[np.uint32]:
    """Cut touching objects apart at their waists.

    Each connected region (neighbours by side or corner) is flooded by itself, from the peaks of
    its distance to the background (Euclidean, exact), as by `skimage.segmentation.watershed`.
    Outside the image is background.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        A mask.
    min_distance : int
        Least distance of two peaks in pixels; about the radius of a small object.
    smooth : float
        Sigma of a Gaussian on the distances, in pixels; keeps rough outlines from being cut.

    Returns
    -------
    ndarray, (Z, Y, X) uint32
        Labels 1 … n of each plane, in the order of their first pixels; 0 is background.

    Raises
    ------
    ValueError
        If min_distance is less than 1 or smooth negative.
    """
    check_integers(stack, "split_touching")
    check_at_least(1, min_distance=min_distance)
    check_at_least(0, smooth=smooth)
    return map_planes(
        stack, lambda plane: split_plane(as_mask(plane), min_distance, smooth), dtype="uint32"
    )


@special_outputs(("labels", Labels()))
@contract(dtype="uint32", working_planes=0.0, fixed_planes=6.0)
@numpy
def label_objects(
    stack: NDArray[Any], *, min_area: Area = 0, connectivity: Literal[1, 2] = 2
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Label the objects of a mask or a label image 1, 2, … .

    In a label image touching regions of different value stay apart, as in
    `skimage.measure.label`. Each plane is labelled alone; numbers run on through the stack.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X) of integers
        A mask, or labels.
    min_area : int
        In pixels; smaller objects are removed.
    connectivity : 1 or 2
        Neighbours by side (1), or by side and corner (2).

    Returns
    -------
    stack : ndarray, (Z, Y, X) uint32
        Labels without gaps; 0 is background.
    labels : ndarray, (Z, Y, X) uint32
        The same, as special output ``labels``.
    """
    check_integers(stack, "label_objects")
    result = np.empty(stack.shape, np.uint32)
    total = 0
    for index, plane in enumerate(stack):
        labels = label_plane(plane, connectivity)
        large = component_areas(labels) >= min_area
        result[index], count = renumbered(labels, large, first=total + 1)
        total += count
    return result, result


@contract(dtype="uint32", working_planes=0.0, fixed_planes=5.0)
@numpy
def keep_labels(
    stack: NDArray[Any],
    *,
    min_area: Area = 0,
    max_area: Annotated[int | None, Limits(ge=0)] = None,
    exclude_border: bool = False,
) -> NDArray[np.uint32]:
    """Keep objects by their size and place, and number them anew in their order.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X) of integers
        Labels; objects of one number in several planes are one.
    min_area, max_area : int, int or None
        In pixels, both inclusive.
    exclude_border : bool
        Remove objects that touch an edge of the image in y or x.

    Returns
    -------
    ndarray, (Z, Y, X) uint32
        Labels without gaps; 0 is background.
    """
    check_integers(stack, "keep_labels")
    areas = component_areas(stack)
    keep = (areas > 0) & (areas >= min_area)
    if max_area is not None:
        keep &= areas <= max_area
    if exclude_border:
        for edge in (stack[:, 0], stack[:, -1], stack[:, :, 0], stack[:, :, -1]):
            keep[edge.ravel()] = False
    return renumbered(stack, keep)[0]


@special_outputs(("counts", Table()))
@contract(working_planes=0.0, fixed_planes=4.0)
@numpy
def count_objects(stack: NDArray[Any]) -> tuple[NDArray[Any], dict[str, int]]:
    """Count the labels of a stack.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X) of integers
        Labels, returned as they are.

    Returns
    -------
    stack : ndarray
        The input itself.
    counts : dict
        ``{"count": number of different labels above 0}``, as special output ``counts``.
    """
    check_integers(stack, "count_objects")
    return stack, {"count": int((component_areas(stack)[1:] > 0).sum())}
