"""Names of wells, plate rows and columns, and single planes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from hcsflow.errors import PlateError

__all__ = [
    "STANDARD_PLATES",
    "PlaneName",
    "canonical_well",
    "column_label",
    "format_plane_name",
    "parse_plane_name",
    "parse_well",
    "plate_labels",
    "row_index",
    "row_label",
    "well_name",
]

STANDARD_PLATES = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
"""(rows, columns) of plates with 6, 12, 24, 48, 96, 384 and 1536 wells (ANSI/SLAS 4-2004)."""

MAX_ROWS, MAX_COLUMNS = STANDARD_PLATES[-1]

_WELL = re.compile(r"([A-Z]|A[A-F])0*([1-9]\d?)")
_PADDED = r"(\d{3}|[1-9]\d{3,8})"  # one spelling a number, so that a plane has one name
_PLANE = re.compile(
    rf"(?P<well>[A-Z]{{1,2}}\d{{2}})_s{_PADDED}_w([1-9]\d{{0,8}})_z{_PADDED}_t{_PADDED}", re.ASCII
)


class PlaneName(NamedTuple):
    """A single plane by well name and zero-based, dense indices."""

    well: str
    field: int
    channel: int
    z: int
    timepoint: int


def row_label(row: int) -> str:
    """Return a plate row's letters from its zero-based index.

    Examples
    --------
    >>> row_label(0), row_label(25), row_label(31)
    ('A', 'Z', 'AF')
    """
    if not 0 <= row < MAX_ROWS:
        raise PlateError(f"plate rows go from 0 (A) to {MAX_ROWS - 1} (AF), got {row}")
    return chr(65 + row) if row < 26 else "A" + chr(39 + row)


def row_index(label: str) -> int:
    """Return a plate row's zero-based index from its letters.

    Raises
    ------
    PlateError
        If no plate has such a row.
    """
    text = label.strip().upper()
    if len(text) == 1 and "A" <= text <= "Z":
        return ord(text) - 65
    if len(text) == 2 and text[0] == "A" and "A" <= text[1] <= "F":
        return ord(text[1]) - 39
    raise PlateError(f"expected a plate row from A to AF, found {label!r}")


def column_label(column: int) -> str:
    """Return a plate column's two digits from its zero-based index."""
    if not 0 <= column < MAX_COLUMNS:
        raise PlateError(f"plate columns go from 0 (01) to {MAX_COLUMNS - 1} (48), got {column}")
    return f"{column + 1:02d}"


def well_name(row: int, column: int) -> str:
    """Return the canonical name of a well from zero-based indices.

    Examples
    --------
    >>> well_name(1, 2)
    'B03'
    """
    return row_label(row) + column_label(column)


def parse_well(name: str) -> tuple[int, int]:
    """Return zero-based (row, column) of a well name, padded or not, in either case.

    Raises
    ------
    PlateError
        If it names no well of a plate with at most 1536 wells.

    Examples
    --------
    >>> parse_well("A1"), parse_well("AF48")
    ((0, 0), (31, 47))
    """
    match = _WELL.fullmatch(name.strip().upper())
    if match is None or int(match[2]) > MAX_COLUMNS:
        raise PlateError(
            f"expected a well name such as B03, found {name!r}",
            hint="rows go from A to AF, columns from 1 to 48",
        )
    return row_index(match[1]), int(match[2]) - 1


def canonical_well(name: str) -> str:
    """Return a well name as hcsflow writes it: ``"A01"`` for ``"a1"``."""
    return well_name(*parse_well(name))


def format_plane_name(plane: PlaneName) -> str:
    """Return the file name stem of a single plane; its numbers count from 1.

    Examples
    --------
    >>> format_plane_name(PlaneName("B03", field=0, channel=1, z=4, timepoint=0))
    'B03_s001_w2_z005_t001'
    """
    numbers = [index + 1 for index in plane[1:]]
    if min(numbers) < 1:
        raise PlateError(f"plane indices count from 0, got {tuple(plane)}")
    site, wave, z, timepoint = numbers
    return f"{canonical_well(plane.well)}_s{site:03d}_w{wave}_z{z:03d}_t{timepoint:03d}"


def parse_plane_name(text: str) -> PlaneName:
    """Return what a single plane's file name stem says; the reverse of `format_plane_name`.

    Raises
    ------
    PlateError
        If the text is not of that form.
    """
    match = _PLANE.fullmatch(text)
    numbers = [int(value) - 1 for value in match.groups()[1:]] if match else [-1]
    if match is None or min(numbers) < 0:
        raise PlateError(f"expected a plane name such as B03_s001_w1_z001_t001, found {text!r}")
    site, wave, z, timepoint = numbers
    return PlaneName(canonical_well(match["well"]), site, wave, z, timepoint)


def plate_labels(
    wells: Iterable[str], size: tuple[int, int] | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the labels of all physical rows and columns of a plate.

    Parameters
    ----------
    wells : iterable of str
        Wells that must lie on it.
    size : (rows, columns), optional
        What the instrument's index says; used where it holds all wells. Otherwise the smallest
        of the 96-, 384- and 1536-well plates that does.

    Examples
    --------
    >>> rows, columns = plate_labels(["E07", "E08"])
    >>> rows[-1], columns[-1]
    ('H', '12')
    """
    places = [parse_well(name) for name in wells]
    need = max((r + 1 for r, _ in places), default=1), max((c + 1 for _, c in places), default=1)
    given = [size] if size is not None and size[0] <= MAX_ROWS and size[1] <= MAX_COLUMNS else []
    rows, columns = next(
        shape
        for shape in (*given, *STANDARD_PLATES[-3:])
        if shape[0] >= need[0] and shape[1] >= need[1]
    )
    return tuple(map(row_label, range(rows))), tuple(map(column_label, range(columns)))
