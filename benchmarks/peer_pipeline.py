"""The pipeline that OpenHCS 0.8.6 is compared with: smooth, project, count cells in both channels.

    hcsflow run benchmarks/peer_pipeline.py PLATE -o OUT --workers 2

For plates of two channels. The mathematics are those of OpenHCS's ``gaussian_blur``,
``create_projection`` and ``count_cells_simple`` (the settings of a nuclear stain: 40 to 4,000 px,
regions above 400 px split by a watershed), so that every count is the same; what scipy and
scikit-image need many passes for is done here once for all regions of a plane. Equal they are
because

- smoothing is in double precision, with the border's pixels repeated, and cut off to whole grey
  levels (the catalogue's ``gaussian_filter`` reflects the border and rounds);
- Otsu's variance is weighted in single precision, as scikit-image weights it;
- squared distances are whole numbers, so ties are ties in either;
- the watershed floods pixels of equal height in the order in which they were reached, which does
  not depend on other regions.

Stored are the smoothed projections, one label image per channel, and a table of counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import hcsflow as hf
from hcsflow.arrays import numpy
from hcsflow.contracts import contract, special_inputs, special_outputs
from hcsflow.functions.components import components
from hcsflow.functions.filters import gaussian_kernel
from hcsflow.materialize import Labels, Table

SIGMA = 1.5
MIN_AREA, MAX_AREA = 40, 4000
SPLIT_ABOVE = 400
PEAK_DISTANCE = 5
SIDE_BY_SIDE = 1
"""Connectivity: neighbours by side, not by corner."""


@contract(per_slice=True, working_planes=0.0, fixed_planes=2.0)
@numpy
def smooth(stack: NDArray[Any], *, sigma: float = SIGMA) -> NDArray[Any]:
    """Smooth each plane with a Gaussian; fractions of grey levels are cut off."""
    kernel = gaussian_kernel(sigma)
    result = np.empty(stack.shape, stack.dtype)
    exact = np.empty(stack.shape[1:])
    for plane, target in zip(stack, result, strict=True):
        cv2.sepFilter2D(
            plane, cv2.CV_64F, kernel, kernel, dst=exact, borderType=cv2.BORDER_REPLICATE
        )
        target[...] = exact
    return result


@special_inputs("channel_names")
@special_outputs(("w1", Labels()), ("w2", Labels()), ("counts", Table()))
@contract(working_planes=0.0, fixed_planes=20.0)
@numpy
def count_cells(
    stack: NDArray[np.uint16], *, channel_names: Sequence[str]
) -> tuple[NDArray[np.uint16], NDArray[np.uint32], NDArray[np.uint32], dict[str, list[Any]]]:
    """Label the cells of both channels of a field and count them.

    Parameters
    ----------
    stack : ndarray, (2, Y, X) uint16
        One plane per channel; returned as it is.
    channel_names : sequence of str
        Two.
    """
    (first, in_first), (second, in_second) = (segment(plane) for plane in stack)
    counts: dict[str, list[Any]] = {
        "channel": list(channel_names),
        "cell_count": [in_first, in_second],
    }
    return stack, first, second, counts


def segment(plane: NDArray[np.uint16]) -> tuple[NDArray[np.uint32], int]:
    """Return the labels of a plane (Y, X), 1 … n, and n."""
    mask = np.asarray(plane > otsu(plane))
    at = np.flatnonzero(mask)
    region = components(mask.view(np.uint8), SIDE_BY_SIDE).ravel()[at]
    region = split(at, region, plane.shape[1])
    areas = np.bincount(region)
    keep = (areas >= MIN_AREA) & (areas <= MAX_AREA)
    number = np.cumsum(keep, dtype=np.uint32) * keep
    labels = np.zeros(plane.shape, np.uint32)
    labels.ravel()[at] = number[region]
    return labels, int(keep.sum())


def otsu(plane: NDArray[np.uint16]) -> int:
    """Return Otsu's threshold with a bin per grey level; weights in single precision."""
    top = int(plane.max()) + 1
    counts = cv2.calcHist([np.ascontiguousarray(plane)], [0], None, [top], [0, top]).ravel()
    low = int(np.argmax(counts > 0))
    counts = counts[low:]
    if len(counts) == 1:
        return low
    moments = np.cumsum(counts * np.arange(low, top))
    below = np.cumsum(counts)
    above = below[-1] - below[:-1]
    below = below[:-1]
    apart = moments[:-1] / below - (moments[-1] - moments[:-1]) / above
    return low + int(np.argmax(below * above * apart**2))


def split(at: NDArray[np.intp], region: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """Cut regions of more than `SPLIT_ABOVE` px into one part per peak of the distance.

    Parameters
    ----------
    at : ndarray of int
        Flat places of the foreground in the plane, in reading order.
    region : ndarray of int32
        The region of each.
    width : int
        Of the plane.

    Returns
    -------
    ndarray of int32
        The part of each; regions that stay whole keep their number.
    """
    areas = np.bincount(region, minlength=1)
    large = np.flatnonzero((areas > SPLIT_ABOVE)[region])
    if not len(large):
        return region
    canvas = spread(at[large], region[large], width)
    height = squared_distance(canvas)
    peaks = seeds(canvas, height, areas)
    owner = canvas.region[peaks]
    several = np.bincount(owner, minlength=len(areas)) > 1
    peaks = peaks[several[owner]]
    if not len(peaks):
        return region
    marks = np.zeros(len(large), np.int32)
    marks[peaks] = np.arange(len(areas), len(areas) + len(peaks))
    cut = np.flatnonzero(several[canvas.region])
    result = region.copy()
    result[large[cut]] = flood(canvas, height, marks, cut)
    return result


class Canvas(NamedTuple):
    """Pixels of the large regions, in reading order, moved apart onto a small image."""

    region: NDArray[np.int32]
    """Of each pixel."""
    place: NDArray[np.intp]
    """Flat places on the canvas."""
    shape: tuple[int, int]
    boxes: NDArray[np.intp]
    """By region: top, left, height and width of its bounding box on the canvas."""

    def image(self, dtype: Any, values: Any, chosen: Any = slice(None)) -> NDArray[Any]:
        """Return an image of the canvas with values at (chosen) pixels; 0 elsewhere."""
        empty = np.zeros(self.shape, dtype)
        empty.ravel()[self.place[chosen]] = values
        return empty


def spread(at: NDArray[np.intp], region: NDArray[np.int32], width: int) -> Canvas:
    """Move regions next to each other, far enough apart that peaks do not meet."""
    y = at // width
    x = at - y * width
    regions = int(region.max()) + 1
    top, bottom, right = (np.zeros(regions, np.intp) for _ in range(3))
    left = np.full(regions, width)
    bottom[region] = y  # in reading order: the last one stays
    top[region[::-1]] = y[::-1]
    np.minimum.at(left, region, x)
    np.maximum.at(right, region, x)
    high, wide = bottom - top + 1, right - left + 1
    members = np.flatnonzero(np.bincount(region))
    members = members[np.argsort(-high[members], kind="stable")]
    down, along, shape = shelves(high, wide, members.tolist())
    shift = (down - top) * shape[1] + along - left
    place = y * shape[1] + x + shift[region]
    return Canvas(region, place, shape, np.stack([down, along, high, wide], axis=1))


def shelves(
    high: NDArray[np.intp], wide: NDArray[np.intp], members: list[int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], tuple[int, int]]:
    """Place boxes on shelves, highest first; return their tops, lefts, and the canvas's shape."""
    gap = PEAK_DISTANCE
    area = int(((high[members] + gap) * (wide[members] + gap)).sum())
    across = max(int(area**0.5), int(wide[members].max())) + 2 * gap
    down, along = np.zeros_like(high), np.zeros_like(wide)
    y, x, shelf = gap, gap, 0
    for member in members:
        if x + int(wide[member]) + gap > across:
            y, x, shelf = y + shelf + gap, gap, 0
        down[member], along[member] = y, x
        shelf = max(shelf, int(high[member]))
        x += int(wide[member]) + gap
    return down, along, (y + shelf + gap, across)


def squared_distance(canvas: Canvas) -> NDArray[np.float32]:
    """Return each pixel's squared distance to the next pixel outside of its region: whole."""
    inside = canvas.image(np.uint8, 1)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    found = distance.ravel()[canvas.place].astype(np.float64)
    return np.asarray(np.rint(found * found), np.float32)


def seeds(canvas: Canvas, height: NDArray[np.float32], areas: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the peaks to flood from: indices of pixels, by region, the highest first.

    A peak is what no neighbour exceeds; of peaks closer than `PEAK_DISTANCE` rows and columns
    the higher one stays, or the first in reading order.
    """
    surface = canvas.image(np.float32, height)
    summit = cv2.dilate(surface, np.ones((3, 3), np.uint8)).ravel()[canvas.place] == height
    left = np.flatnonzero(summit)
    # In a region that is its own box, pixels at the edge are no peaks.
    is_box = canvas.boxes[:, 2] * canvas.boxes[:, 3] == areas[: len(canvas.boxes)]
    left = left[(height[left] > 1) | ~is_box[canvas.region[left]]]
    left = left[np.argsort(-height[left], kind="stable")]
    window = np.ones((2 * PEAK_DISTANCE - 1,) * 2, np.uint8)
    chosen = []
    while len(left):
        rank = np.arange(len(left), 0, -1, dtype=np.float32)
        best = cv2.dilate(canvas.image(np.float32, rank, left), window)
        new = best.ravel()[canvas.place[left]] == rank
        chosen.append(left[new])
        near = cv2.dilate(canvas.image(np.uint8, 1, left[new]), window)
        left = left[near.ravel()[canvas.place[left]] == 0]
    found = np.sort(np.concatenate(chosen))
    return found[np.lexsort((-height[found], canvas.region[found]))]


def flood(
    canvas: Canvas, height: NDArray[np.float32], marks: NDArray[np.int32], cut: NDArray[np.intp]
) -> NDArray[np.int32]:
    """Return the mark that each pixel of the regions to cut is flooded from.

    All regions in one go; but one by one where seeds of a region are equally high, because their
    order in the queue depends on what else is in it.
    """
    from skimage.segmentation import watershed  # a third of a second, which plans do without

    depth = canvas.image(np.float64, -height[cut], cut)
    marked = canvas.image(np.int32, marks[cut], cut)
    inside = canvas.image(bool, True, cut)
    flooded = np.zeros(canvas.shape, np.int32)
    for region in tied(canvas.region, height, np.flatnonzero(marks)):
        top, left, high, wide = canvas.boxes[region]
        box = np.s_[top : top + high, left : left + wide]
        flooded[box] = watershed(depth[box], marked[box], mask=inside[box])
        inside[box] = False
    rows = slice(0, int(np.flatnonzero(inside.any(axis=1)).max(initial=0)) + 1)
    flooded[rows] += watershed(depth[rows], marked[rows], mask=inside[rows])
    return np.asarray(flooded.ravel()[canvas.place[cut]])


def tied(
    region: NDArray[np.int32], height: NDArray[np.float32], seeded: NDArray[np.intp]
) -> list[int]:
    """Return the regions with seeds of one height."""
    keys = np.sort(region[seeded].astype(np.int64) << 32 | height[seeded].astype(np.int64))
    return [int(key) for key in np.unique(keys[1:][keys[1:] == keys[:-1]] >> 32)]


pipeline = hf.Pipeline(
    [
        hf.FunctionStep(smooth, sigma=SIGMA),
        hf.FunctionStep("max_projection", name="project"),
        hf.FunctionStep(count_cells, name="count", variable_components=["channel"]),
    ]
)
