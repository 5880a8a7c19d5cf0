"""Count grey values as planes stream by, for a display range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.ngff.metadata import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GreyHistogram"]

LOW, HIGH = 0.001, 0.999
"""Fractions of pixels at black and white."""


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
        self._is_exact = dtype.kind in "iu" and dtype.itemsize <= 2
        self._offset = 0 if dtype.kind == "u" else 1 << (8 * dtype.itemsize - 1)
        self._counts = np.zeros(1 << 16, np.int64)
        self._used = 0
        self._min, self._max = np.inf, -np.inf

    def add(self, plane: NDArray[Any]) -> None:
        """Count a plane's pixels; the plane is neither kept nor changed."""
        if self._is_exact:
            flat = plane.ravel()
            self._count(flat if not self._offset else flat.astype(np.intp) + self._offset)
        else:
            with np.errstate(over="ignore"):  # beyond float32 is not finite there
                values = plane[np.isfinite(plane)].astype(np.float32)
            values = values[np.isfinite(values)]
            if not values.size:
                return
            self._min = min(self._min, float(values.min()))
            self._max = max(self._max, float(values.max()))
            self._count((_ordered_bits(values) >> np.uint32(16)).astype(np.intp))

    def _count(self, bins: NDArray[Any]) -> None:
        found = np.bincount(bins)
        self._counts[: found.size] += found
        self._used = max(self._used, found.size)  # bins beyond are empty: most planes are dim

    def window(self) -> Window:
        """Return the display range: 0.1 % of pixels below ``start``, 0.1 % above ``end``."""
        lowest, highest = self._range()
        passed = np.cumsum(self._counts[: self._used])
        total = int(passed[-1]) if self._used else 0
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


def _ordered_bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Map float32 to uint32 so that order is kept."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    sign = np.uint32(1 << 31)
    return np.where(bits & sign, ~bits, bits | sign)
