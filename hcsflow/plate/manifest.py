"""Which plane lies where: one row per plane, held as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hcsflow.errors import PlateError
from hcsflow.plate.model import PlaneKey, StoredProjection

__all__ = ["Manifest", "PlaneRow", "WellFault"]


class PlaneRow(NamedTuple):
    """One plane as a reader finds it, before it is packed into columns."""

    well: int
    field: int
    timepoint: int
    channel: int
    z: int
    folder: str
    name: str
    nbytes: int
    mtime_ns: int


class WellFault(NamedTuple):
    """A well that cannot be processed, known before any pixel is read."""

    well: str
    reason: str
    file: str | None


@dataclass(frozen=True)
class Manifest:
    """Every plane of one acquisition, sorted by (well, field, timepoint, channel, z).

    Parameters
    ----------
    root : str
        The plate's folder; all paths are relative to it.
    keys : ndarray, (n, 5) int32
        Well, field, timepoint, channel, z; rows sorted and unique.
    folder_ids : ndarray, (n,) int32
        Index into ``folders``.
    folders : tuple of str
        POSIX paths relative to ``root``; "" is the root itself.
    name_blob, name_offsets : bytes, ndarray (n + 1,) int64
        File names, UTF-8 with surrogate escapes, end to end.
    nbytes, mtime_ns : ndarray, (n,) int64
        File sizes and modification times.
    missing : ndarray, (m, 5) int32
        Planes expected and not there, same columns as ``keys``.
    absent : int
        Planes of the full grid that were never expected (uneven z).
    missing_wells : tuple of str
        Wells promised (HTD, index) without any file.
    projections : tuple of StoredProjection
        Stored projections beside a stack.
    ignored : tuple of (str, int)
        Reason (``"thumbnail"``) and number of files left aside.
    faults : tuple of WellFault
        Wells that fail by name, e.g. because of a duplicate plane.
    """

    root: str
    keys: NDArray[np.int32]
    folder_ids: NDArray[np.int32]
    folders: tuple[str, ...]
    name_blob: bytes
    name_offsets: NDArray[np.int64]
    nbytes: NDArray[np.int64]
    mtime_ns: NDArray[np.int64]
    missing: NDArray[np.int32]
    absent: int = 0
    missing_wells: tuple[str, ...] = ()
    projections: tuple[StoredProjection, ...] = ()
    ignored: tuple[tuple[str, int], ...] = ()
    faults: tuple[WellFault, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def _well_starts(self) -> NDArray[np.int64]:
        wells = int(self.keys[-1, 0]) + 2 if len(self) else 1
        return np.searchsorted(self.keys[:, 0], np.arange(wells))

    def rows_of(self, well: int) -> range:
        """Return the row numbers of one well's planes, by dense well index."""
        if well + 1 >= len(self._well_starts):
            return range(0)
        return range(int(self._well_starts[well]), int(self._well_starts[well + 1]))

    def name(self, row: int) -> str:
        """Return a plane's file name."""
        raw = self.name_blob[self.name_offsets[row] : self.name_offsets[row + 1]]
        return raw.decode("utf-8", "surrogateescape")

    def path(self, row: int) -> str:
        """Return a plane's POSIX path relative to ``root``."""
        folder = self.folders[self.folder_ids[row]]
        return f"{folder}/{self.name(row)}" if folder else self.name(row)

    def key(self, row: int) -> PlaneKey:
        """Return a plane's key."""
        well, fld, timepoint, channel, z = (int(v) for v in self.keys[row])
        return PlaneKey(0, well, fld, timepoint, channel, z)

    def well_planes(self, well: int) -> dict[PlaneKey, int]:
        """Map the keys of one well's planes to row numbers."""
        return {self.key(row): row for row in self.rows_of(well)}

    def missing_of(self, well: int) -> list[PlaneKey]:
        """List the planes that one well lacks."""
        rows = self.missing[self.missing[:, 0] == well]
        return [PlaneKey(0, *(int(v) for v in row)) for row in rows]

    def __iter__(self) -> Iterator[tuple[PlaneKey, str]]:
        for row in range(len(self)):
            yield self.key(row), self.path(row)

    @classmethod
    def from_rows(cls, root: str, rows: Iterable[PlaneRow], **facts: object) -> Manifest:
        """Pack rows into columns, sorted by key.

        Raises
        ------
        PlateError
            If two rows share a key; a reader reports those as `WellFault` before packing.
        """
        ordered = sorted(rows)
        folders = sorted({row.folder for row in ordered})
        folder_number = {folder: i for i, folder in enumerate(folders)}
        names = [row.name.encode("utf-8", "surrogateescape") for row in ordered]
        offsets = np.zeros(len(names) + 1, np.int64)
        np.cumsum([len(n) for n in names], out=offsets[1:])
        keys = np.array([row[:5] for row in ordered], np.int32).reshape(-1, 5)
        if len(keys) > 1 and not np.any(keys[1:] != keys[:-1], axis=1).all():
            raise PlateError("two files claim the same plane")
        return cls(
            root=root,
            keys=keys,
            folder_ids=np.array([folder_number[row.folder] for row in ordered], np.int32),
            folders=tuple(folders),
            name_blob=b"".join(names),
            name_offsets=offsets,
            nbytes=np.array([row.nbytes for row in ordered], np.int64),
            mtime_ns=np.array([row.mtime_ns for row in ordered], np.int64),
            missing=facts.pop("missing", np.zeros((0, 5), np.int32)),  # type: ignore[arg-type]
            **facts,  # type: ignore[arg-type]
        )
