"""The mathematics of catalogue functions, over any namespace of arrays that speaks numpy's words.

What runs on a GPU with cupy runs here with numpy, line by line: that is how it is tested. Nothing
is written to what was given; whole blocks of planes are computed at once, since a GPU waits longer
for a call than for a plane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import isqrt
from typing import Any

import numpy as np

from hcsflow.arrays import cast
from hcsflow.functions.footprints import SHAPES, octagon_run
from hcsflow.functions.planes import check_at_least, check_integers, check_pixels
from hcsflow.functions.threshold import FLOAT_BINS, MAX_EXACT_BINS

__all__ = [
    "Namespace",
    "areas_of",
    "labelled",
    "opened",
    "otsu_of",
    "projected",
    "scaled",
    "smoothed",
    "summed",
    "without_background",
]

BLOCK = 8
"""Planes computed at once; a function's temporary memory is that of so many."""

Array = Any


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where functions are looked up.

    Parameters
    ----------
    xp : module
        `numpy`, or `cupy`.
    ndimage : module
        `scipy.ndimage`, or `cupyx.scipy.ndimage`.
    """

    xp: Any
    ndimage: Any


def by_blocks(
    space: Namespace, stack: Array, func: Callable[[Array], Array], dtype: Any = None
) -> Array:
    """Apply a function of stacks to a few planes at a time.

    Parameters
    ----------
    space : Namespace
        Of the stack.
    stack : array, (Z, Y, X)
        Bool, integer or float.
    func : callable
        From (z, Y, X) to (z, Y, X), each plane by itself.
    dtype : dtype-like, optional
        Of the result, rounded and saturated; None keeps the stack's.
    """
    check_pixels(stack)
    result = space.xp.empty(stack.shape, dtype or stack.dtype.newbyteorder("="))
    for start in range(0, len(stack), BLOCK):
        part = slice(start, start + BLOCK)
        result[part] = cast(func(stack[part]), result.dtype)
    return result


def smoothed(space: Namespace, stack: Array, sigma: float) -> Array:
    """Smooth each plane with a Gaussian; borders are reflected (d c b a | a b c d)."""
    check_at_least(0, sigma=sigma)
    is_narrow = stack.dtype.itemsize <= 2 or stack.dtype.name == "float32"
    wide = np.float32 if is_narrow else np.float64

    def smooth(block: Array) -> Array:
        pixels = space.xp.ascontiguousarray(block, dtype=wide)
        if sigma == 0:
            return pixels
        return space.ndimage.gaussian_filter(pixels, (0, sigma, sigma), mode="reflect")

    return by_blocks(space, stack, smooth)


def scaled(space: Namespace, stack: Array, factor: float, value: float) -> Array:
    """Return ``stack * factor + value``, computed in float64."""
    return by_blocks(space, stack, lambda block: block.astype(np.float64) * factor + value)


def without_background(space: Namespace, stack: Array, radius: int, shape: str) -> Array:
    """Return what an opening by a footprint leaves out of each plane; never negative."""

    def tophat(block: Array) -> Array:
        pixels = _computable(block)
        low = opened(space, pixels, radius, shape)
        # Signed integers may differ by more than their own dtype holds.
        return (pixels.astype(np.int64) if pixels.dtype.kind == "i" else pixels) - low

    check_at_least(0, radius=radius)
    return by_blocks(space, stack, tophat)


def _computable(block: Array) -> Array:
    """Return pixels of native byte order that can be compared and subtracted."""
    wider = {"bool": np.uint8, "float16": np.float32}
    return block.astype(wider.get(block.dtype.name, block.dtype.newbyteorder("=")))


def opened(space: Namespace, stack: Array, radius: int, shape: str) -> Array:
    """Open each plane by a footprint of `hcsflow.functions.footprints`; outside is ignored."""
    if shape not in SHAPES:
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}; got {shape!r}")
    info: Any = np.finfo(stack.dtype) if stack.dtype.kind == "f" else np.iinfo(stack.dtype)
    xp = space.xp
    low, high = stack.dtype.type(info.min), stack.dtype.type(info.max)
    eroded = _swept(xp, stack, (radius, shape), xp.minimum, high)
    return _swept(xp, eroded, (radius, shape), xp.maximum, low)


def _swept(xp: Any, stack: Array, element: tuple[int, str], extreme: Any, neutral: Any) -> Array:
    """Return the extreme under a footprint, as few extremes of two shifted stacks.

    A window of n pixels is one of n - k united with one of n - k that begins k later, so its cost
    grows with log n; windows that begin at a pixel are read from where they are to be centred.
    """
    radius, shape = element
    planes, height, width = stack.shape
    padded = xp.full((planes, height + 2 * radius, width + 2 * radius), neutral, stack.dtype)
    padded[:, radius : radius + height, radius : radius + width] = stack
    if shape == "disk":
        return _under_disk(extreme, padded, radius, (height, width))
    run = octagon_run(radius) if shape == "octagon" else 0
    side = 2 * (radius - 2 * run) + 1
    for length, direction in ((side, (0, 1)), (side, (1, 0))):
        padded = _extended(extreme, padded, (1, length), direction)
    for direction in ((1, 1), (1, -1)):
        padded = _extended(extreme, padded, (1, 2 * run + 1), direction)
    return padded[:, :height, 2 * run : 2 * run + width]


def _under_disk(extreme: Any, padded: Array, radius: int, shape_yx: tuple[int, int]) -> Array:
    """Unite the disk's rows, from the shortest to the longest, each grown out of the last."""
    height, width = shape_yx
    rows, length, result = padded, 1, None
    for offset in range(radius, -1, -1):
        half = isqrt(radius * radius - offset * offset)
        rows, length = _extended(extreme, rows, (length, 2 * half + 1), (0, 1)), 2 * half + 1
        for top in {radius - offset, radius + offset}:
            left = radius - half
            row = rows[:, top : top + height, left : left + width]
            result = row.copy() if result is None else extreme(result, row, out=result)
    return result


def _extended(
    extreme: Any, windows: Array, lengths: tuple[int, int], direction: tuple[int, int]
) -> Array:
    """Lengthen windows along a direction (y ≥ 0, x); beyond the array there is nothing."""
    have, wanted = lengths
    while have < wanted:
        step = min(have, wanted - have)
        here, there = _shifted(direction[0] * step, direction[1] * step)
        longer = windows.copy()
        extreme(windows[here], windows[there], out=longer[here])
        windows, have = longer, have + step
    return windows


Slices = tuple[slice, slice, slice]


def _shifted(y: int, x: int) -> tuple[Slices, Slices]:
    """Return where pixels have a neighbour (y ≥ 0, x) further on, and where these lie."""
    here = slice(None), slice(0, -y or None), slice(max(-x, 0), -x if x > 0 else None)
    there = slice(None), slice(y, None), slice(max(x, 0), x if x < 0 else None)
    return here, there


def otsu_of(space: Namespace, stack: Array) -> Array:
    """Return each plane's threshold, (Z,) float64, as `hcsflow.functions.threshold.otsu` does."""
    check_pixels(stack)
    return space.xp.stack([_otsu(space.xp, plane) for plane in stack])


def _otsu(xp: Any, plane: Array) -> Array:
    low, high = plane.min().item(), plane.max().item()
    if low == high:
        return xp.asarray(float(low))
    counts, centers = _histogram(xp, plane, low, high)
    below = xp.cumsum(counts)[:-1]
    above = counts.sum() - below
    moment = xp.cumsum(counts * centers)
    apart = moment[:-1] / below - (moment[-1] - moment[:-1]) / above
    return centers.take(xp.argmax(below * above * (apart * apart)))


def _histogram(xp: Any, plane: Array, low: float, high: float) -> tuple[Array, Array]:
    """Return counts (the first and last never 0) and bin centres."""
    if plane.dtype.kind in "iu" and int(high) - int(low) < MAX_EXACT_BINS:
        counts = xp.bincount(_offset(xp, plane, int(low)).ravel())
        return counts.astype(np.float64), xp.arange(low, high + 1, dtype=np.float64)
    pixels = plane.astype(np.float64).ravel()
    counts, edges = xp.histogram(pixels, bins=FLOAT_BINS, range=(float(low), float(high)))
    return counts.astype(np.float64), (edges[:-1] + edges[1:]) / 2


def _offset(xp: Any, plane: Array, low: int) -> Array:
    """Return a plane less its minimum; subtracted first, for uint64 is wider than int64."""
    if plane.dtype.kind == "u":
        return (plane - xp.asarray(low, plane.dtype)).astype(np.int64)
    return plane.astype(np.int64) - low


def summed(stack: Array) -> Array:
    """Return the sum of all planes, (1, Y, X): exact for integers of up to 32 bits."""
    check_pixels(stack)
    is_exact = stack.dtype.kind in "biu" and stack.dtype.itemsize <= 4
    return stack.sum(axis=0, dtype=np.int64 if is_exact else np.float64, keepdims=True)


def projected(stack: Array, total: Array) -> Array:
    """Return a projection in its stack's dtype, rounded and saturated."""
    return cast(total, stack.dtype.newbyteorder("="))


def areas_of(space: Namespace, labels: Array) -> Array:
    """Count the pixels of each label of a stack; index 0, the background, counts as 0."""
    areas = space.xp.bincount(labels.ravel().astype(np.int64))
    areas[0] = 0
    return areas


def labelled(space: Namespace, stack: Array, min_area: int, connectivity: int) -> Array:
    """Label the connected regions of equal value of each plane 1, 2, … through the stack.

    Parameters
    ----------
    space : Namespace
        Of the stack.
    stack : array, (Z, Y, X) of integers
        A mask, or labels: then touching regions of different value stay apart.
    min_area : int
        In pixels; smaller regions are removed.
    connectivity : 1 or 2
        Neighbours by side (1), or by side and corner (2).

    Returns
    -------
    array, (Z, Y, X) uint32
        Labels without gaps, in the order of their first pixels.
    """
    check_integers(stack, "label_objects")
    if connectivity not in (1, 2):
        raise ValueError(f"connectivity must be 1 or 2, got {connectivity}")
    tops = stack.max(axis=(1, 2), keepdims=True)
    is_mask = bool(((stack == 0) | (stack == tops)).all())
    regions = _regions(space, stack, connectivity) if is_mask else None
    if regions is None:
        regions = _regions_by_value(space.xp, stack, connectivity)
    keep = areas_of(space, regions) >= max(min_area, 1)
    numbers = space.xp.where(keep, space.xp.cumsum(keep.astype(np.int64)), 0).astype(np.uint32)
    return numbers.take(regions)


def _regions(space: Namespace, stack: Array, connectivity: int) -> Array:
    """Label a mask: neighbours lie in one plane, so planes are numbered one after the other."""
    neighbours = np.zeros((3, 3, 3), bool)
    neighbours[1] = True if connectivity == 2 else [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    return space.ndimage.label(stack != 0, structure=neighbours)[0]


def _regions_by_value(xp: Any, stack: Array, connectivity: int) -> Array:
    """Label regions of equal value: each pixel takes the least number of its like.

    Numbers are places in the stack, so a pixel may ask the pixel that its number names for its
    own; that halves what is left of the way, and the fewest rounds are as many as bits of it.
    """
    places = xp.arange(1, stack.size + 1).reshape(stack.shape)
    regions = xp.where(stack != 0, places, 0)
    pairs = list(_like_neighbours(stack, connectivity))
    while True:
        before = regions.copy()
        for here, there, alike in pairs:
            for to, of in ((here, there), (there, here)):
                least = xp.minimum(regions[to], regions[of])
                regions[to] = xp.where(alike, least, regions[to])
        for _ in range(2):
            regions = xp.concatenate([xp.zeros(1, regions.dtype), regions.ravel()]).take(regions)
        if bool((regions == before).all()):
            break
    is_first = (regions == places).ravel()
    numbers = xp.concatenate([xp.zeros(1, np.int64), xp.cumsum(is_first.astype(np.int64))])
    return numbers.take(regions)


def _like_neighbours(stack: Array, connectivity: int) -> Iterator[tuple[Slices, Slices, Array]]:
    """Yield pairs of neighbours' places, and where both are foreground of one value."""
    for y, x in product((0, 1), (-1, 0, 1)):
        if (y, x) > (0, 0) and y + abs(x) <= connectivity:
            here, there = _shifted(y, x)
            yield here, there, (stack[here] == stack[there]) & (stack[here] != 0)
