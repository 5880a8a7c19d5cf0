"""The HTD file of an exported ImageXpress plate: what was planned.

Text, one ``"Key", value, value…`` a line, CRLF, from ``"HTSInfoFile"`` to ``"EndFile"``; operators'
descriptions may hold bytes of any code page, so it is read as latin-1.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hcsflow.errors import PlateError
from hcsflow.plate.names import MAX_COLUMNS, MAX_ROWS, well_name

__all__ = ["Htd", "parse_htd", "read_htd"]

MAX_BYTES = 4 << 20

_LINE = re.compile(r'\s*"?(?P<key>[A-Za-z][A-Za-z0-9 ]*?)"?\s*[,=]\s*(?P<values>.*)')

Lines = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Htd:
    """What an HTD file promises.

    Parameters
    ----------
    file : str
        Name for messages.
    size : (rows, columns) or None
        The plate's.
    wells : tuple of str
        Canonical names of the wells selected.
    timepoints, z_steps : int
        Planned numbers; ``z_steps`` is 1 without a z series.
    sites : tuple of (row, column)
        Grid cell of site 1, 2, …
    grid : (rows, columns)
        The site grid.
    waves : dict of int to str
        Number and name of each wavelength collected.
    pixel_size_um : float or None
        ``PixelSizeUM``, which few instruments write.
    uuid : str or None
        ``UniquePlateIdentifier``.
    """

    file: str
    size: tuple[int, int] | None
    wells: tuple[str, ...]
    timepoints: int
    z_steps: int
    sites: tuple[tuple[int, int], ...]
    grid: tuple[int, int]
    waves: dict[int, str]
    pixel_size_um: float | None
    uuid: str | None


def read_htd(path: Path, *, file: str) -> Htd:
    """Read an HTD file.

    Raises
    ------
    PlateError
        If it cannot be read or is no HTD.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES)
    except OSError as error:
        raise PlateError(f"{file}: cannot be read: {error.strerror}") from error
    return parse_htd(raw.decode("latin-1"), file=file)


def parse_htd(text: str, *, file: str) -> Htd:
    """Parse an HTD file's text.

    Raises
    ------
    PlateError
        If it has none of the keys of an HTD, or a value that is none.
    """
    lines = _lines(text)
    if not lines.keys() & {"HTSInfoFile", "XWells", "WellsSelection1", "XSites", "NWavelengths"}:
        raise PlateError(
            f"{file}: expected an ImageXpress HTD file (keys such as XWells), found none of them",
            hint="restore the file, or remove it to open the plate by its file names alone",
        )
    columns, rows = _integer(lines, "XWells", file), _integer(lines, "YWells", file)
    sites, grid = _sites(lines, file)
    is_series = _is_true(lines.get("ZSeries", ["FALSE"])[0])
    return Htd(
        file=file,
        size=(rows, columns) if rows and columns else None,
        wells=_selected_wells(lines),
        timepoints=_integer(lines, "TimePoints", file) or 1,
        z_steps=(_integer(lines, "ZSteps", file) or 1) if is_series else 1,
        sites=sites,
        grid=grid,
        waves=_waves(lines, file),
        pixel_size_um=_positive(lines, "PixelSizeUM", file),
        uuid=next(iter(lines.get("UniquePlateIdentifier", [])), None),
    )


def _lines(text: str) -> dict[str, list[str]]:
    """Split into keys and values; a later line of the same key does not count."""
    found: dict[str, list[str]] = {}
    for line in text.split("\n"):  # not splitlines: latin-1 text may hold U+0085
        match = _LINE.match(line.rstrip("\r"))
        if match is not None:
            row = next(csv.reader([match["values"]], skipinitialspace=True), [])
            values = [value.strip() for value in row]
            found.setdefault(match["key"], values or [""])
    return found


def _is_true(value: str) -> bool:
    return value.upper() in {"TRUE", "1"}


def _integer(lines: Lines, key: str, file: str) -> int | None:
    value = _number(lines, key, file)
    return None if value is None else int(value)


def _positive(lines: Lines, key: str, file: str) -> float | None:
    value = _number(lines, key, file)
    return value if value is not None and value > 0 else None


def _number(lines: Lines, key: str, file: str) -> float | None:
    if key not in lines:
        return None
    value = lines[key][0]
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not 0 <= number < 100_000:
        raise PlateError(f"{file}: expected a number for {key}, found {value!r}")
    return number


def _selected_wells(lines: Lines) -> tuple[str, ...]:
    return tuple(
        well_name(row, column)
        for row in range(MAX_ROWS)
        for column, value in enumerate(lines.get(f"WellsSelection{row + 1}", [])[:MAX_COLUMNS])
        if _is_true(value)
    )


def _sites(lines: Lines, file: str) -> tuple[tuple[tuple[int, int], ...], tuple[int, int]]:
    """Return the grid cell of each site, and the grid's size.

    Sites are numbered over the cells selected only, row by row, as Bio-Formats' CellWorxReader
    counts them. Old exports have no selection: then every cell of the grid is a site.
    """
    columns = _integer(lines, "XSites", file) or _integer(lines, "SiteColumns", file) or 1
    rows = _integer(lines, "YSites", file) or _integer(lines, "SiteRows", file) or 1
    if not _is_true(lines.get("Sites", ["TRUE"])[0]):
        return ((0, 0),), (1, 1)
    full = ["TRUE"] * columns
    selections = [lines.get(f"SiteSelection{row + 1}") for row in range(rows)]
    if not any(selections):
        selections = [full] * rows
    cells = tuple(
        (row, column)
        for row, values in enumerate(selections)
        for column, value in enumerate((values or [])[:columns])
        if _is_true(value)
    )
    return cells or ((0, 0),), (rows, columns)


def _waves(lines: Lines, file: str) -> dict[int, str]:
    count = _integer(lines, "NWavelengths", file) or 0
    return {
        n: lines.get(f"WaveName{n}", [""])[0]
        for n in range(1, min(count, 99) + 1)
        if _number(lines, f"WaveCollect{n}", file) != 0
    }
