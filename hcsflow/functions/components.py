"""Connected regions of a plane, and their renumbering."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["component_areas", "components", "label_plane", "renumbered"]


def components(mask: NDArray[np.uint8], connectivity: int = 2) -> NDArray[np.int32]:
    """Label the connected regions of a mask 1, 2, … as `skimage.measure.label` does.

    Parameters
    ----------
    mask : ndarray, (Y, X) uint8
        0 and 1.
    connectivity : 1 or 2
        Neighbours by side (1), or by side and corner (2).

    Raises
    ------
    ValueError
        For another connectivity.
    """
    if connectivity not in (1, 2):
        raise ValueError(f"connectivity must be 1 or 2, got {connectivity}")
    # Of OpenCV's algorithms, Wu's numbers regions in the order of their first pixels.
    _, labels = cv2.connectedComponentsWithAlgorithm(
        mask, 8 if connectivity == 2 else 4, cv2.CV_32S, cv2.CCL_WU
    )
    return np.asarray(labels)


def label_plane(plane: NDArray[Any], connectivity: int = 2) -> NDArray[np.int32]:
    """Label the connected regions of equal value, as `skimage.measure.label` does.

    Parameters
    ----------
    plane : ndarray, (Y, X)
        A mask (any value), or labels, where touching regions of different value stay apart.
    connectivity : 1 or 2
        Neighbours by side (1), or by side and corner (2).
    """
    top = plane.max()
    if ((plane == 0) | (plane == top)).all():
        return components(np.asarray(plane != 0).view(np.uint8), connectivity)
    from skimage.measure import label

    return np.asarray(label(plane, background=0, connectivity=connectivity), np.int32)


def component_areas(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Count the pixels of each label of a plane or stack; index 0, the background, counts as 0."""
    areas = np.zeros(int(labels.max()) + 1, np.int64)
    for plane in labels if labels.ndim == 3 else [labels]:
        foreground = np.flatnonzero(plane != 0)
        areas += np.bincount(plane.ravel()[foreground], minlength=len(areas))
    return areas


def renumbered(
    labels: NDArray[Any], keep: NDArray[np.bool_], *, first: int = 1
) -> tuple[NDArray[np.uint32], int]:
    """Keep some labels and number them from ``first`` in their order; the rest becomes 0.

    Parameters
    ----------
    labels : ndarray of integers
        Labels.
    keep : ndarray of bool
        By label; index 0 is ignored.
    first : int
        Number of the first label kept.

    Returns
    -------
    tuple of (ndarray uint32, int)
        The labels, and how many were kept.
    """
    chosen = keep.copy()
    chosen[0] = False
    count = int(chosen.sum())
    table = np.zeros(len(keep), np.uint32)
    table[chosen] = np.arange(first, first + count, dtype=np.uint32)
    result = np.empty(labels.shape, np.uint32)
    planes = [(labels, result)] if labels.ndim == 2 else zip(labels, result, strict=True)
    for plane, target in planes:
        np.take(table, plane, out=target, mode="clip")  # clip: unbuffered; all are in range
    return result, count
