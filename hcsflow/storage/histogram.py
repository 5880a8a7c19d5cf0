"""Count grey values as planes stream by, for a display range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from hcsflow.ngff.metadata import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GreyCounts", "GreyHistogram", "grey_counts"]

LOW, HIGH = 0.001, 0.999
"""Fractions of pixels at black and white."""

_EXACT_IN_FLOAT32 = 1 << 24
"""Pixels that cv2 counts at a time: it states counts as float32."""

_NEGATIVE = 1 << 15
"""First of the upper 16 bits of a float32 with a sign."""

_NOT_FINITE = slice(0x7F80, 0x8000), slice(0xFF80, 0x10000)
"""Upper 16 bits of infinities and of what is no number."""


class GreyCounts(NamedTuple):
    """What a plane adds to a histogram: pixels by bin, and its finite range where binned."""

    bins: NDArray[np.intp]
    lowest: float = np.inf
    highest: float = -np.inf


class GreyHistogram:
    """A histogram with 2^16 bins, whatever the dtype; the order of planes does not matter.

    8 and 16 bit values have a bin each. Others are binned by the upper 16 bits of their float32
    pattern (sign, exponent and 7 bits of mantissa), which keeps their order and is right to 1 %;
    values that are not finite are left out.

    Parameters
    ----------
    dtype : numpy.dtype
        Pixel dtype.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._is_exact = _is_exact(dtype)
        self._offset = 0 if dtype.kind == "u" else 1 << (8 * dtype.itemsize - 1)
        self._counts = np.zeros(1 << 16, np.int64)
        self._min, self._max = np.inf, -np.inf

    def take(self, counts: GreyCounts) -> None:
        """Add what `grey_counts` counted."""
        found = counts.bins
        self._counts[: found.size] += found
        self._min = min(self._min, counts.lowest)
        self._max = max(self._max, counts.highest)

    def window(self) -> Window:
        """Return the display range: 0.1 % of pixels below ``start``, 0.1 % above ``end``."""
        lowest, highest = self._range()
        passed = np.cumsum(self._counts)
        total = int(passed[-1])
        if not total:
            return Window(lowest, highest, lowest, highest)
        start, end = (
            self._value(int(np.searchsorted(passed, fraction * total))) for fraction in (LOW, HIGH)
        )
        start, end = max(start, lowest), min(end, highest)
        if end <= start:
            start, end = (start, start + 1) if start < highest else (start - 1, start)
        return Window(lowest, highest, start, end)

    def _range(self) -> tuple[float, float]:
        if self._is_exact:
            info = np.iinfo(self._dtype)
            return int(info.min), int(info.max)
        if self._min >= self._max:
            lowest = self._min if np.isfinite(self._min) else 0.0
            return lowest, lowest + 1.0
        return self._min, self._max

    def _value(self, index: int) -> float:
        """Return a bin's value: exact, or its lower edge."""
        if self._is_exact:
            return index - self._offset
        ordered = np.uint32(index << 16)
        sign = np.uint32(1 << 31)
        bits = ordered ^ sign if ordered & sign else ~ordered
        return float(np.array(bits, np.uint32).view(np.float32))


def _is_exact(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and dtype.itemsize <= 2


def grey_counts(plane: NDArray[Any]) -> GreyCounts:
    """Return what `GreyHistogram.take` adds of a plane; it is neither kept nor changed."""
    if not _is_exact(plane.dtype):
        return _float_counts(plane)
    if plane.dtype.kind == "u":
        return GreyCounts(_counted(plane))
    unsigned = np.dtype(f"u{plane.dtype.itemsize}")
    top = unsigned.type(1 << (8 * plane.dtype.itemsize - 1))  # flips the sign: order is kept
    return GreyCounts(_counted(plane.view(unsigned) ^ top))


def _counted(plane: NDArray[Any]) -> NDArray[np.intp]:
    """Count a plane's values, of 8 or 16 bits; numpy would make integers of 64 bits of them."""
    size = int(plane.max(initial=0)) + 1  # most planes are dim, and few bins are fast
    rows = max(1, _EXACT_IN_FLOAT32 // plane.shape[1])
    counts = np.zeros(size, np.intp)
    for start in range(0, len(plane), rows):
        part = np.ascontiguousarray(plane[start : start + rows])
        counts += cv2.calcHist([part], [0], None, [size], [0, size]).ravel().astype(np.intp)
    return counts


def _float_counts(plane: NDArray[Any]) -> GreyCounts:
    with np.errstate(over="ignore"):  # beyond float32 is not finite there
        values = np.ascontiguousarray(plane, np.float32)
    bins = _counted((values.view(np.uint32) >> np.uint32(16)).astype(np.uint16))
    if any(bins[part].any() for part in _NOT_FINITE):
        for part in _NOT_FINITE:
            bins[part] = 0
        values = values[np.isfinite(values)]
    if not values.size:
        return GreyCounts(bins[:0])
    # By value: negative patterns grow away from 0.
    negative = np.zeros(_NEGATIVE, np.intp)
    negative[: max(0, bins.size - _NEGATIVE)] = bins[_NEGATIVE:]
    ordered = np.concatenate([negative[::-1], bins[:_NEGATIVE]])
    return GreyCounts(ordered, float(values.min()), float(values.max()))
