"""ImageXpress file names and folders: what each image file says about itself by its name.

``[<plate>_]<well>[_s<site>][_w<wave>][_z<z>][_t<time>][_thumb][<UUID>].tif``, the UUID joined
without a separator, below ``[<date>/<id>/][TimePoint_<t>/][ZStep_<z>/]``.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hcsflow.errors import PlateError
from hcsflow.microscopes.walk import Entry, Folder, iter_folders
from hcsflow.plate.names import parse_well

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "IMAGE",
    "NO_Z",
    "WELL_COLUMNS",
    "ZSTEP_0",
    "Acquisition",
    "Images",
    "Place",
    "is_plate_file",
    "parse_place",
    "scan",
]

IMAGE = re.compile(
    r"(?:(?P<plate>.+)_)?(?P<well>[A-Z]{1,2}\d{1,2})(?:_s(?P<site>\d{1,6}))?(?:_w(?P<wave>\d{1,3}))?"
    r"(?P<thumb>_thumb)?(?:_z(?P<z>\d{1,6}))?(?:_t(?P<t>\d{1,6}))?"
    r"(?P<uuid>[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12})?\.(?:[tT][iI][fF]{1,2})"
)

NO_Z = -1
"""Neither folder nor name says which plane: beside a stack, a projection."""
ZSTEP_0 = -2
"""The folder of projections in the exported layout."""

WELL_COLUMNS = 64

_TIMEPOINT = re.compile(r"TimePoint[_-]?(\d{1,6})", re.IGNORECASE)
_ZSTEP = re.compile(r"ZStep[_-]?(\d{1,6})", re.IGNORECASE)


def is_plate_file(name: str) -> bool:
    """Say whether a file name is one that only an ImageXpress plate holds."""
    match = IMAGE.fullmatch(name)
    is_image = match is not None and _well_code(match["well"]) is not None
    return is_image or name.lower().endswith(".htd")


class Place(NamedTuple):
    """What a folder says: its acquisition's folder, timepoint and plane (None where silent)."""

    acquisition: str
    timepoint: int | None
    z: int | None


def parse_place(path: str) -> Place:
    """Parse a folder's path relative to the plate.

    Examples
    --------
    >>> parse_place("2023-02-21/1334/TimePoint_2/ZStep_10")
    Place(acquisition='2023-02-21/1334', timepoint=2, z=10)
    """
    parts = list(PurePosixPath(path).parts)
    z = _take(parts, _ZSTEP)
    timepoint = _take(parts, _TIMEPOINT)
    return Place("/".join(parts), timepoint, z)


def _take(parts: list[str], pattern: re.Pattern[str]) -> int | None:
    match = pattern.fullmatch(parts[-1]) if parts else None
    if match is None:
        return None
    parts.pop()
    return int(match[1])


@cache
def _well_code(well: str) -> int | None:
    """Return row × 64 + column, or None if no plate has such a well."""
    try:
        row, column = parse_well(well)
    except PlateError:
        return None
    return row * WELL_COLUMNS + column


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Image files as columns, one entry per file; numbers as the instrument gives them.

    ``well`` is row × 64 + column; ``z`` may be `NO_Z` or `ZSTEP_0`; ``folder`` indexes
    ``folders``.
    """

    well: NDArray[np.int32]
    site: NDArray[np.int32]
    wave: NDArray[np.int32]
    timepoint: NDArray[np.int32]
    z: NDArray[np.int32]
    folder: NDArray[np.int32]
    nbytes: NDArray[np.int64]
    mtime_ns: NDArray[np.int64]
    names: list[str]
    folders: list[str]

    def path(self, row: int) -> str:
        """Return a file's POSIX path relative to the plate."""
        folder = self.folders[self.folder[row]]
        return f"{folder}/{self.names[row]}" if folder else self.names[row]


@dataclass(slots=True)
class Acquisition:
    """What one acquisition's folders hold, as it is collected."""

    label: str
    numbers: array[int] = field(default_factory=lambda: array("i"))
    stats: array[int] = field(default_factory=lambda: array("q"))
    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    htds: list[str] = field(default_factory=list)
    plate_name: str | None = None
    has_uuid: bool = False
    has_step_folders: bool = False
    has_z_names: bool = False

    def add_folder(self, folder: Folder, place: Place, ignored: Counter[str]) -> None:
        """Take one folder's files."""
        number = len(self.folders)
        before = len(self.names)
        for entry in folder.files:
            self._add(entry, number, place, ignored)
        if any(entry.name.lower().endswith(".htd") for entry in folder.files):
            htds = [e.name for e in folder.files if e.name.lower().endswith(".htd")]
            self.htds += [f"{folder.path}/{name}" if folder.path else name for name in htds]
        if len(self.names) > before:
            self.folders.append(folder.path)
            self.has_step_folders |= place.timepoint is not None or place.z is not None

    def _add(self, entry: Entry, folder: int, place: Place, ignored: Counter[str]) -> None:
        match = IMAGE.fullmatch(entry.name)
        if match is None:
            ignored.update(_why_no_image(entry.name))
            return
        plate, well, site, wave, thumb, z, timepoint, uuid = match.groups()
        code = _well_code(well)
        if thumb is not None or code is None:
            ignored["thumbnail" if thumb else "file of another kind"] += 1
            return
        try:
            stat = entry.item.stat()
        except OSError:
            ignored["file that cannot be read"] += 1
            return
        if not S_ISREG(stat.st_mode):  # opening a pipe would wait for its writer
            ignored["file of another kind"] += 1
            return
        step = ZSTEP_0 if place.z == 0 else NO_Z if place.z is None else place.z
        self.numbers.extend(
            (
                code,
                int(site or 1),
                int(wave or 1),
                int(timepoint or place.timepoint or 1),
                step if z is None else int(z),
                folder,
            )
        )
        self.stats.extend((stat.st_size, stat.st_mtime_ns))
        self.names.append(entry.name)
        self.plate_name = self.plate_name or plate
        self.has_uuid |= uuid is not None
        self.has_z_names |= z is not None or timepoint is not None

    @property
    def layout(self) -> str:
        """``"database"``, ``"exported"`` or ``"flat"``."""
        if self.has_uuid:
            return "database"
        is_flat = self.has_z_names or not (self.htds or self.has_step_folders)
        return "flat" if is_flat and not self.has_step_folders else "exported"

    def images(self) -> Images:
        """Return the files as columns."""
        numbers = np.array(self.numbers, np.int32).reshape(-1, 6)
        stats = np.array(self.stats, np.int64).reshape(-1, 2)
        well, site, wave, timepoint, z, folder = np.ascontiguousarray(numbers.T)
        nbytes, mtime_ns = np.ascontiguousarray(stats.T)
        return Images(
            well=well,
            site=site,
            wave=wave,
            timepoint=timepoint,
            z=z,
            folder=folder,
            nbytes=nbytes,
            mtime_ns=mtime_ns,
            names=self.names,
            folders=self.folders,
        )


def _why_no_image(name: str) -> Iterable[str]:
    """Say why a file is left aside; nothing for HTDs, which are read."""
    if name.lower().endswith(".htd"):
        return ()
    return ("file of another kind",)


def scan(root: Path, ignored: Counter[str]) -> list[Acquisition]:
    """Walk a plate; return its acquisitions in natural order, those with images first.

    Raises
    ------
    PlateError
        If a folder cannot be read.
    """
    found: dict[str, Acquisition] = {}
    for folder in iter_folders(root, ignored):
        place = parse_place(folder.path)
        acquisition = found.setdefault(place.acquisition, Acquisition(place.acquisition))
        acquisition.add_folder(folder, place, ignored)
    return sorted(found.values(), key=lambda acquisition: not acquisition.names)
