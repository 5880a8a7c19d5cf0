"""Pieces of HTML: the plate as SVG cells, a colour scale, the template environment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = [
    "Cell",
    "PlateDrawing",
    "colour_of",
    "draw_plate",
    "environment",
    "format_number",
    "ink_on",
]

VIRIDIS = (
    "#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c",
    "#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725",
)  # fmt: skip
"""Eleven even stops of matplotlib's viridis (CC0): readable without colour vision."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One well position of a plate drawing; lengths in SVG units."""

    well: str
    status: str
    x: int
    y: int
    title: str


@dataclass(frozen=True, slots=True)
class PlateDrawing:
    """A plate laid out for SVG: cells and headings with their places."""

    width: int
    height: int
    size: int
    cells: tuple[Cell, ...]
    rows: tuple[tuple[str, int], ...]
    columns: tuple[tuple[str, int], ...]


def environment() -> Environment:
    """Return the template environment; everything put into a page is escaped."""
    made = Environment(
        loader=PackageLoader("hcsflow.view", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["ink"] = ink_on
    return made


def ink_on(colour: str) -> str:
    """Return the text colour that can be read on a background."""
    red, green, blue = _rgb(colour)
    return "#fff" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "#1c2430"


def colour_of(value: float, low: float, high: float) -> str:
    """Map a value to viridis between ``low`` and ``high``; a single value maps to the middle.

    Examples
    --------
    >>> colour_of(0, 0, 10), colour_of(10, 0, 10), colour_of(3, 3, 3)
    ('#440154', '#fde725', '#21918c')
    """
    if not math.isfinite(value):
        return "#d9dce1"
    share = (value - low) / (high - low) if high > low else 0.5
    place = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    first = min(int(place), len(VIRIDIS) - 2)
    mixed = (
        round(a + (b - a) * (place - first))
        for a, b in zip(_rgb(VIRIDIS[first]), _rgb(VIRIDIS[first + 1]), strict=True)
    )
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def format_number(value: float) -> str:
    """Render a measured value with three or more significant digits.

    Examples
    --------
    >>> [format_number(v) for v in (812, 0.012345, 1234.5, 2.0e7)]
    ['812', '0.0123', '1234', '2e+07']
    """
    if not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e6:
        return str(int(value))
    if 1000 <= abs(value) < 1e6:
        return str(round(value))
    return f"{value:.3g}"


def draw_plate(
    rows: Sequence[str],
    columns: Sequence[str],
    status: Mapping[str, str],
    titles: Mapping[str, str],
) -> PlateDrawing:
    """Lay a plate out: every physical position, ``"empty"`` where ``status`` has no well.

    Parameters
    ----------
    rows, columns : sequence of str
        Labels (``"A"``, ``"01"``).
    status, titles : mapping
        Well name to its status and its tooltip.
    """
    size = min(max(760 // max(len(columns), 1), 10), 46)
    margin = 26
    cells = tuple(
        Cell(
            well=row + column,
            status=status.get(row + column, "empty"),
            x=margin + j * size,
            y=margin + i * size,
            title=titles.get(row + column, f"{row + column}: not acquired"),
        )
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    )
    return PlateDrawing(
        width=margin + size * len(columns) + 2,
        height=margin + size * len(rows) + 2,
        size=size,
        cells=cells,
        rows=tuple((row, margin + i * size + size // 2) for i, row in enumerate(rows)),
        columns=tuple(
            (column.lstrip("0") or column, margin + j * size + size // 2)
            for j, column in enumerate(columns)
        ),
    )
