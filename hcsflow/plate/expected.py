"""Which planes a plate should hold, and which of them are not there. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Expectation", "repeated_rows"]

Keys = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Expectation:
    """The planes expected of every well: fields × timepoints × each channel's own heights.

    Parameters
    ----------
    wells, fields, timepoints : int
        How many there are.
    heights : tuple of tuple of int
        Dense z indices of each channel, ascending.
    z : int
        Heights of the plate, over all channels.
    """

    wells: int
    fields: int
    timepoints: int
    heights: tuple[tuple[int, ...], ...]
    z: int

    @property
    def planes_per_well(self) -> int:
        """Planes expected of one well."""
        return self.fields * self.timepoints * sum(map(len, self.heights))

    @property
    def absent(self) -> int:
        """Planes of the full grid that are not expected."""
        full = self.fields * self.timepoints * len(self.heights) * self.z
        return self.wells * (full - self.planes_per_well)

    def missing(self, keys: Keys) -> Keys:
        """Return the planes expected that ``keys`` lacks, sorted.

        Parameters
        ----------
        keys : ndarray, (n, 5) int32
            Well, field, timepoint, channel, z of the planes there are; each one expected.
        """
        slots = self._slots()
        position = np.full((len(self.heights), max(self.z, 1)), -1, np.int32)
        position[slots[:, 0], slots[:, 1]] = np.arange(len(slots))
        shape = (self.wells, self.fields, self.timepoints, len(slots))
        is_there = np.zeros(shape, bool)
        well, fld, timepoint, channel, z = keys.T
        is_there[well, fld, timepoint, position[channel, z]] = True
        holes = np.argwhere(~is_there).astype(np.int32)
        return np.concatenate([holes[:, :3], slots[holes[:, 3]]], axis=1)

    def _slots(self) -> Keys:
        """(channel, z) of every plane expected per field and timepoint."""
        pairs = [(c, z) for c, heights in enumerate(self.heights) for z in heights]
        return np.array(pairs, np.int32).reshape(-1, 2)


def repeated_rows(keys: Keys) -> list[tuple[int, int]]:
    """Return (first, later) row numbers wherever a key occurs again; first is the lowest.

    Examples
    --------
    >>> repeated_rows(np.array([[0, 0], [1, 0], [0, 0]], np.int32))
    [(0, 2)]
    """
    order = np.lexsort(keys.T[::-1])  # stable: equal keys stay in row order
    ranked = keys[order]
    is_repeat = np.all(ranked[1:] == ranked[:-1], axis=1)
    first_of_run = np.arange(len(keys))
    first_of_run[1:][is_repeat] = 0
    np.maximum.accumulate(first_of_run, out=first_of_run)
    later = np.flatnonzero(is_repeat) + 1
    return [(int(order[first_of_run[i]]), int(order[i])) for i in later]
