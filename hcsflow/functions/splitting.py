"""Watershed of every region of a mask by itself, on as few pixels as possible.

Regions are moved next to each other onto a small canvas, with gaps so wide that none feels
another; then distances, peaks and floods cost the objects' area, not the image's. (On a plane of
1024² with 100 to 400 nuclei: a fifth to a half of the time of working in place.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from hcsflow.functions.components import components
from hcsflow.functions.filters import gaussian_plane, gaussian_radius

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hcsflow.functions.planes import Plane

__all__ = ["flood", "mark_peaks", "split_plane"]


class _Pixels(NamedTuple):
    """Foreground pixels in reading order: place in the plane, and region."""

    y: NDArray[np.int32]
    x: NDArray[np.int32]
    region: NDArray[np.int32]


def split_plane(mask: NDArray[np.uint8], min_distance: int, smooth: float) -> NDArray[np.uint32]:
    """Split the regions of a mask at their waists; see `hcsflow.functions.objects`.

    Parameters
    ----------
    mask : ndarray, (Y, X) uint8
        0 and 1.
    min_distance : int
        Least distance of two peaks, in pixels.
    smooth : float
        Sigma of a Gaussian on the distances, in pixels.

    Returns
    -------
    ndarray, (Y, X) uint32
        Labels in the order of their first pixels.
    """
    where = np.flatnonzero(mask.view(bool)).astype(np.int32)
    result = np.zeros(mask.shape, np.uint32)
    if len(where) == 0:
        return result
    y, x = np.divmod(where, np.int32(mask.shape[1]))
    pixels = _Pixels(y, x, components(mask).ravel()[where])
    labels = pixels.region.copy()
    gap = max(min_distance, gaussian_radius(smooth), 1)
    for chosen, flat, shape in _canvases(pixels, gap, mask.size):
        parts = _split_canvas(flat, pixels.region[chosen], shape, (min_distance, smooth))
        labels[chosen] = np.where(parts > 0, parts + labels.max(), labels[chosen])
    result.ravel()[where] = _in_reading_order(labels)
    return result


def _canvases(
    pixels: _Pixels, gap: int, limit: int
) -> Iterator[tuple[Any, NDArray[np.int32], tuple[int, int]]]:
    """Yield canvases: which pixels, their flat places there, and the canvas's shape.

    One canvas as a rule; more where the regions' boxes together are larger than the plane
    (rings inside rings), so that memory stays that of the plane.
    """
    top, left, height, width = _boxes(pixels)
    order = np.argsort(-height[1:], kind="stable") + 1
    areas = np.cumsum((height[order] + gap) * (width[order] + gap))
    batch = np.zeros(len(height), np.intp)
    batch[order] = areas // (limit + 1)
    for number in np.unique(batch[1:]):
        members = order[batch[order] == number]
        down, right, shape = _shelves(height, width, members, gap)
        chosen: Any = slice(None) if len(members) == len(order) else batch[pixels.region] == number
        region = pixels.region[chosen]
        row = pixels.y[chosen] + (down - top)[region]
        column = pixels.x[chosen] + (right - left)[region]
        yield chosen, row * shape[1] + column, shape


def _boxes(pixels: _Pixels) -> tuple[Any, Any, Any, Any]:
    """Return top, left, height and width of each region's box, by region."""
    regions = int(pixels.region.max()) + 1
    top, bottom, right = (np.zeros(regions, np.int32) for _ in range(3))
    left = np.full(regions, np.iinfo(np.int32).max, np.int32)
    bottom[pixels.region] = pixels.y  # in reading order: the last one stays
    top[pixels.region[::-1]] = pixels.y[::-1]
    np.minimum.at(left, pixels.region, pixels.x)
    np.maximum.at(right, pixels.region, pixels.x)
    return top, left, bottom - top + 1, right - left + 1


def _shelves(
    height: NDArray[np.int32], width: NDArray[np.int32], members: NDArray[np.int32], gap: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], tuple[int, int]]:
    """Place boxes, highest first, on shelves of a nearly square canvas."""
    area = int(((height[members] + gap) * (width[members] + gap)).sum())
    across = max(int(area**0.5), int(width[members].max())) + 2 * gap
    down, right = np.zeros_like(height), np.zeros_like(width)
    y, x, shelf = gap, gap, 0
    for member in members.tolist():
        if x + int(width[member]) + gap > across:
            y, x, shelf = y + shelf + gap, gap, 0
        down[member], right[member] = y, x
        shelf = max(shelf, int(height[member]))
        x += int(width[member]) + gap
    return down, right, (y + shelf + gap, across)


def _split_canvas(
    flat: NDArray[np.int32],
    region: NDArray[np.int32],
    shape: tuple[int, int],
    settings: tuple[int, float],
) -> NDArray[np.int32]:
    """Return each pixel's part, from 1; 0 in regions that stay whole."""
    mask = np.zeros(shape, np.uint8)
    mask.ravel()[flat] = 1
    height, marks = mark_peaks(mask, *settings)
    marks_here = marks.ravel()[flat]
    owner = np.zeros(int(marks.max()) + 1, np.intp)  # region of each mark
    owner[marks_here] = region
    # Flooding a region from a single peak fills it: only the others need the watershed.
    several = np.bincount(owner[1:], minlength=int(region.max()) + 1) > 1
    inside = np.zeros(shape, bool)
    inside.ravel()[flat] = several[region]
    if not inside.any():
        return np.zeros(len(flat), np.int32)
    return np.asarray(flood(height, marks, inside).ravel()[flat], np.int32)


def mark_peaks(
    mask: NDArray[np.uint8], min_distance: int, smooth: float
) -> tuple[Plane, NDArray[np.int32]]:
    """Return smoothed distances to the background in 1/1024 px, and numbered marks on peaks.

    A mark is what is highest within ``min_distance`` (a square), grown by half of that, so that
    equally high pixels close to each other become one.
    """
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # To 1/1024 px: what is equally high stays so, whatever the processor rounds.
    height = np.rint(gaussian_plane(distance, smooth) * np.float32(1024))
    peaks = (height == cv2.dilate(height, _square(min_distance))).view(np.uint8) & mask
    grown = cv2.dilate(peaks, _square((min_distance - 1) // 2)) & mask
    return height, components(np.asarray(grown))


def _square(reach: int) -> NDArray[np.uint8]:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


def flood(height: Plane, marks: NDArray[np.int32], inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Flood from the marks downhill, inside a mask (`skimage.segmentation.watershed`).

    Marked pixels go first, in reading order: scikit-image leaves the order of equally high marks
    to its heap, where other regions could change it.
    """
    from skimage.segmentation import watershed

    depth = -height.astype(np.float64)
    first = np.flatnonzero(inside & (marks != 0))
    depth.ravel()[first] = depth.min() + np.arange(-len(first), 0)
    parts = watershed(depth, np.where(inside, marks, 0), connectivity=2, mask=inside)
    return np.asarray(parts, np.int32)


def _in_reading_order(labels: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Renumber labels 1, 2, … in the order in which they first occur."""
    first = np.full(int(labels.max()) + 1, len(labels), np.intp)
    first[labels[::-1]] = np.arange(len(labels) - 1, -1, -1)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.uint32)
    rank[order] = np.arange(1, len(order) + 1, dtype=np.uint32)
    return rank[labels]
