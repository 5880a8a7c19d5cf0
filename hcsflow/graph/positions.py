"""Where a well's fields lay on the stage, told by the files that its planes are read from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock

from hcsflow.errors import PlaneError
from hcsflow.microscopes import Position, PositionTeller, position_teller, read_stage_positions
from hcsflow.plate import Manifest, Plate
from hcsflow.storage.tiff import PlaneFile
from hcsflow.storage.tiff_header import HeaderMemory

__all__ = ["StagePositions"]

MAX_KEPT_OPEN = 256
"""Files opened for what they tell of a field, and not yet read; beyond that some are opened twice.
A process may have 1024 files open as a rule."""


@dataclass(slots=True)
class _FirstPlane:
    """A field's first plane: the one that tells where the field lay."""

    number: int
    row: int
    lock: Lock = field(default_factory=Lock)
    text: str | None = None
    opened: PlaneFile | None = None


class StagePositions:
    """Stage positions of a well's fields, and its planes' files, each opened once for both.

    What a file tells is noted when its plane is read. Where it is asked for before that, the file
    is opened, and stays open until the plane is read.

    Parameters
    ----------
    plate, manifest : Plate, Manifest
        The run's.
    root : Path
        The plate's folder.
    well : int
        Dense well index.
    known : iterable of (int, (y, x) or None)
        Fields and positions that an earlier task has found.
    """

    def __init__(
        self,
        plate: Plate,
        manifest: Manifest,
        root: Path,
        well: int,
        *,
        known: Iterable[tuple[int, Position]] = (),
    ) -> None:
        self._plate = plate
        self._manifest = manifest
        self._root = root
        self._well = well
        self._found = dict(known)
        self._by_field: dict[int, _FirstPlane] = {}
        for row in manifest.rows_of(well):
            number = int(manifest.keys[row, 1])
            if number not in self._by_field:
                self._by_field[number] = _FirstPlane(number, row)
        self._by_row = {first.row: first for first in self._by_field.values()}
        self._memory = HeaderMemory()
        self._expected: Collection[int] = ()
        self._kept_open = 0

    def expect(self, rows: Collection[int]) -> None:
        """Be told which of the manifest's rows will be read: their files may stay open."""
        self._expected = rows

    def close(self) -> None:
        """Close the files that wait to be read."""
        self._expected = ()
        for first in self._by_row.values():
            if first.opened is not None:
                first.opened.close()
                first.opened = None
        self._kept_open = 0

    @contextmanager
    def open_plane(self, row: int) -> Iterator[PlaneFile]:
        """Open a plane's file to read its pixels, and note what it tells of its field.

        Raises
        ------
        PlaneError
            If it cannot be opened.
        """
        first = self._by_row.get(row)
        if first is None:
            with self._open(row) as opened:
                yield opened
            return
        with first.lock, self._taken(first) as opened:
            yield opened
            if first.text is None and self._tell is not None:
                first.text = _description(opened)

    def of_field(self, number: int) -> Position:
        """Return (y, x) of a field's centre in µm; None where it is unknown.

        Raises
        ------
        PlateError
            If a file's description is none that can be trusted.
        """
        if self._tell is None:
            return self.of_all[number]
        if number not in self._found:
            first = self._by_field.get(number)
            self._found[number] = None if first is None else self._told(first, self._tell)
        return self._found[number]

    @cached_property
    def of_all(self) -> list[Position]:
        """Positions by dense field index.

        Raises
        ------
        PlateError
            If a file's description is none that can be trusted.
        """
        if self._tell is None:
            return read_stage_positions(self._plate, self._manifest, self._well)
        return [self.of_field(number) for number in range(len(self._plate.fields))]

    def found(self) -> tuple[tuple[int, Position], ...]:
        """Return the fields whose files have told their positions, with these."""
        if self._tell is None:
            return ()
        told = [n for n, first in self._by_field.items() if first.text is not None]
        return tuple((n, self.of_field(n)) for n in sorted({*told, *self._found}))

    @cached_property
    def _tell(self) -> PositionTeller | None:
        return position_teller(self._plate)

    def _told(self, first: _FirstPlane, tell: PositionTeller) -> Position:
        with first.lock:
            if first.text is None:
                first.text = self._look_up(first)
        return tell(first.text, file=self._manifest.path(first.row))

    def _look_up(self, first: _FirstPlane) -> str:
        """Open a file for its description, and keep it open if it is still to be read."""
        try:
            opened = self._open(first.row)
        except PlaneError:
            return ""  # who reads the plane reports it
        text = _description(opened)
        if first.row in self._expected and self._kept_open < MAX_KEPT_OPEN:
            self._kept_open += 1
            first.opened = opened
        else:
            opened.close()
        return text

    def _taken(self, first: _FirstPlane) -> PlaneFile:
        """Return a field's first file: as it was left open, or opened now."""
        if first.opened is None:
            return self._open(first.row)
        opened, first.opened = first.opened, None
        self._kept_open -= 1
        return opened

    def _open(self, row: int) -> PlaneFile:
        file = self._manifest.path(row)
        return PlaneFile(self._root / file, file=file, memory=self._memory)


def _description(opened: PlaneFile) -> str:
    try:
        return opened.description()
    except PlaneError:
        return ""  # who reads the plane reports it
