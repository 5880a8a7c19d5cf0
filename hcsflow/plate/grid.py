"""Laying a well's fields out as a mosaic: from a grid, from stage positions, or by number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

from hcsflow.plate.model import FieldGrid

__all__ = ["cluster_axis", "grid_by_number", "grid_from_positions", "overlap_px"]

MAX_EMPTINESS = 2
"""A grid with more cells than this per field is no grid: scattered positions."""


def grid_by_number(fields: int) -> FieldGrid:
    """Lay fields out near-square, row by row, in the order of their numbers.

    Examples
    --------
    >>> grid_by_number(3).cells
    ((0, 0), (0, 1), (1, 0))
    """
    columns = math.isqrt(max(fields - 1, 0)) + 1
    rows = -(-fields // columns)
    cells = tuple(divmod(i, columns) for i in range(fields))
    return FieldGrid(max(rows, 1), columns, cells, "field number")


def cluster_axis(values: Sequence[float], tolerance: float) -> list[int]:
    """Return for each value the rank of its cluster; jitter below ``tolerance`` is ignored.

    Examples
    --------
    >>> cluster_axis([100.0, 0.1, 99.9, 0.0], tolerance=10)
    [1, 0, 1, 0]
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0] * len(values)
    rank = 0
    for before, after in pairwise(order):
        rank += values[after] - values[before] > tolerance
        ranks[after] = rank
    return ranks


def grid_from_positions(
    positions_um: Sequence[tuple[float, float]],
    *,
    field_um: tuple[float, float] | None,
    origin: str,
) -> FieldGrid | None:
    """Find the grid that stage positions lie on; None where they lie on none.

    Parameters
    ----------
    positions_um : sequence of (y, x)
        Centre of each field, y growing downward, in µm.
    field_um : (y, x) or None
        Size of a field in µm; positions closer than a tenth of it are one row or column. Where
        unknown, a tenth of the widest gap is taken.
    origin : str
        Where the positions were found.

    Examples
    --------
    >>> grid_from_positions([(0, 700.1), (0.3, 0)], field_um=(700, 700), origin="test").cells
    ((0, 1), (0, 0))
    """
    axes = list(zip(*positions_um, strict=True))
    if len(axes) != 2:
        return None
    sizes = field_um or tuple(map(_widest_gap, axes))
    ranks = [cluster_axis(axis, size / 10) for axis, size in zip(axes, sizes, strict=True)]
    cells = tuple(zip(*ranks, strict=True))
    rows, columns = (max(axis) + 1 for axis in ranks)
    is_grid = len(set(cells)) == len(cells) and rows * columns <= MAX_EMPTINESS * len(cells)
    return FieldGrid(rows, columns, cells, origin) if is_grid else None


def _widest_gap(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return max((b - a for a, b in pairwise(ordered)), default=0.0)


def overlap_px(
    grid: FieldGrid,
    positions_um: Sequence[tuple[float, float]],
    *,
    shape_yx: tuple[int, int],
    pixel_size_um: float,
) -> float | None:
    """Return how far neighbouring fields overlap, in pixels to a tenth; None for one field.

    Half a pixel or less, and gaps between fields, count as no overlap.
    """
    overlaps = []
    for axis, size in enumerate(shape_yx):
        at: dict[int, list[float]] = {}
        for cell, position in zip(grid.cells, positions_um, strict=True):
            at.setdefault(cell[axis], []).append(position[axis])
        centres = [(rank, fmean(values)) for rank, values in sorted(at.items())]
        pitches = [(after - before) / (b - a) for (a, before), (b, after) in pairwise(centres)]
        if pitches:
            overlaps.append(size - median(pitches) / pixel_size_um)
    if not overlaps:
        return None
    widest = max(overlaps)
    return round(widest, 1) if widest > 0.5 else 0.0
