"""Which plane lies where: one row per plane, held as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hcsflow.errors import PlateError
from hcsflow.plate.model import PlaneKey, StoredProjection

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Manifest", "PlaneColumns", "PlaneRow", "WellFault"]


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


class PlaneColumns(NamedTuple):
    """Planes as a reader collects them, in any order, one entry of each column per plane.

    ``keys`` is (n, 5): well, field, timepoint, channel, z; ``folder_ids`` index ``folders``.
    """

    keys: ArrayLike
    folder_ids: ArrayLike
    folders: Sequence[str]
    names: Sequence[str]
    nbytes: ArrayLike
    mtime_ns: ArrayLike


class WellFault(NamedTuple):
    """A well that cannot be processed, known before any pixel is read."""

    well: str
    reason: str
    file: str | None


@dataclass(frozen=True, eq=False)
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def _well_starts(self) -> NDArray[np.int64]:
        wells = int(self.keys[-1, 0]) + 2 if len(self) else 1
        return np.searchsorted(self.keys[:, 0], np.arange(wells))

    def rows_of(self, well: int) -> range:
        """Return the row numbers of one well's planes, by dense well index."""
        if well < 0 or well + 1 >= len(self._well_starts):
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

    def paths(self, rows: NDArray[np.intp]) -> list[str]:
        """Return the POSIX paths of many planes, in the order of ``rows``."""
        text = self._ascii_names
        if text is None:
            return [self.path(row) for row in rows.tolist()]
        starts, stops = self.name_offsets[rows].tolist(), self.name_offsets[rows + 1].tolist()
        parents = [f"{folder}/" if folder else "" for folder in self.folders]
        folders = self.folder_ids[rows].tolist()
        return [
            parents[folder] + text[start:stop]
            for folder, start, stop in zip(folders, starts, stops, strict=True)
        ]

    @cached_property
    def _ascii_names(self) -> str | None:
        """All names end to end, if each byte of them is a character."""
        return self.name_blob.decode("ascii") if self.name_blob.isascii() else None

    def key(self, row: int) -> PlaneKey:
        """Return a plane's key."""
        well, fld, timepoint, channel, z = self.keys[row].tolist()
        return PlaneKey(0, well, fld, timepoint, channel, z)

    def well_planes(self, well: int) -> dict[PlaneKey, int]:
        """Map the keys of one well's planes to row numbers."""
        return {self.key(row): row for row in self.rows_of(well)}

    def missing_of(self, well: int) -> list[PlaneKey]:
        """List the planes that one well lacks."""
        rows = self.missing[self.missing[:, 0] == well]
        return [PlaneKey(0, *row) for row in rows.tolist()]

    def __iter__(self) -> Iterator[tuple[PlaneKey, str]]:
        for row in range(len(self)):
            yield self.key(row), self.path(row)

    @classmethod
    def from_columns(cls, root: str, columns: PlaneColumns, **facts: object) -> Manifest:
        """Sort planes by key and pack them; seconds and tens of MB for 345,600 planes.

        Parameters
        ----------
        root : str
            The plate's folder.
        columns : PlaneColumns
            The planes, in any order.
        **facts : object
            ``missing``, ``absent`` and the other fields that are not columns.

        Raises
        ------
        PlateError
            If two planes share a key; a reader reports those as `WellFault` before packing.
        """
        keys = np.asarray(columns.keys, np.int32).reshape(-1, 5)
        order = np.lexsort(keys.T[::-1])
        keys = keys[order]
        if len(keys) > 1 and not np.any(keys[1:] != keys[:-1], axis=1).all():
            raise PlateError("two files claim the same plane")
        names = [columns.names[i].encode("utf-8", "surrogateescape") for i in order.tolist()]
        offsets = np.zeros(len(names) + 1, np.int64)
        np.cumsum([len(name) for name in names], out=offsets[1:])
        facts.setdefault("missing", np.zeros((0, 5), np.int32))
        return cls(
            root=root,
            keys=_frozen(keys),
            folder_ids=_frozen(np.asarray(columns.folder_ids, np.int32)[order]),
            folders=tuple(columns.folders),
            name_blob=b"".join(names),
            name_offsets=_frozen(offsets),
            nbytes=_frozen(np.asarray(columns.nbytes, np.int64)[order]),
            mtime_ns=_frozen(np.asarray(columns.mtime_ns, np.int64)[order]),
            **facts,  # type: ignore[arg-type]
        )

    @classmethod
    def from_rows(cls, root: str, rows: Iterable[PlaneRow], **facts: object) -> Manifest:
        """Pack single rows into columns, sorted by key; for few planes.

        Raises
        ------
        PlateError
            If two rows share a key; a reader reports those as `WellFault` before packing.
        """
        found = list(rows)
        folders = sorted({row.folder for row in found})
        number = {folder: i for i, folder in enumerate(folders)}
        columns = PlaneColumns(
            keys=[row[:5] for row in found],
            folder_ids=[number[row.folder] for row in found],
            folders=folders,
            names=[row.name for row in found],
            nbytes=[row.nbytes for row in found],
            mtime_ns=[row.mtime_ns for row in found],
        )
        return cls.from_columns(root, columns, **facts)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    return one == other
