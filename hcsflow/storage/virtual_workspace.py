"""A plate's planes as flat files, by name: nothing is copied, linked or written.

The names are made from the manifest's columns and looked up in them; no table of a plate's
345,600 paths is ever made.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left
from collections.abc import ItemsView, Iterable, Iterator, Mapping
from functools import cached_property, partial
from math import prod
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.errors import MissingPlaneError, PlaneError, PlateError, UsageError, nearest
from hcsflow.plate import COMPONENTS, Manifest, PlaneKey, Plate
from hcsflow.plate.names import PlaneName, canonical_well, format_plane_name, parse_plane_name
from hcsflow.storage.abc import FileStat, VirtualBackend
from hcsflow.storage.paths import StrPath, contained, endings, join, logical, matches
from hcsflow.storage.tiff import read_plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "VirtualWorkspaceBackend",
    "WorkspaceMapping",
    "counted",
    "find_file",
    "plane_file_name",
    "relative_to_root",
]

_PLACE = ("acquisition", "well", *COMPONENTS)
SUFFIX = ".tif"
BLOCK_ROWS = 1 << 14
"""Names are made for so many planes at a time, not for a whole large plate."""


def plane_file_name(well: str | None, numbers: Mapping[str, Any]) -> str:
    """Return a plane's name from a well's name and dense indices; those left out are 0.

    Raises
    ------
    UsageError
        If the well is left out, or there is a number of something else.

    Examples
    --------
    >>> plane_file_name("b2", {"field": 2})
    'B02_s003_w1_z001_t001.tif'
    """
    for name in numbers:
        if name not in _PLACE:
            near = nearest(name, _PLACE)
            advice = f"did you mean {near}?" if near else f"there are {', '.join(COMPONENTS)}"
            raise UsageError(f"a plane's place has no {name!r}", hint=advice)
    if well is None:
        raise UsageError("a plane's place names its well", hint="say well='B03'")
    indices = {component: int(numbers.get(component, 0)) for component in COMPONENTS}
    return format_plane_name(PlaneName(well=canonical_well(well), **indices)) + SUFFIX


def relative_to_root(root: Path, path: StrPath) -> str:
    """Return a path's logical form below ``root``; it may begin with an absolute root's own path.

    Raises
    ------
    PathError
        If a part is ``..``.
    """
    text, start = os.fspath(path), root.as_posix()
    is_below = text.startswith(start) and text[len(start) : len(start) + 1] in ("", "/")
    return logical(text[len(start) :] if is_below and root.is_absolute() else text)


def counted(number: int, noun: str) -> str:
    """Return a number of things as text.

    Examples
    --------
    >>> counted(1, "well"), counted(3456, "plane")
    ('1 well', '3,456 planes')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def find_file(root: Path, file: str) -> tuple[Path, int]:
    """Return where a plane's file lies and its size in bytes.

    Raises
    ------
    MissingPlaneError
        If there is no such file.
    PlaneError
        If it is a folder, a pipe or a device, or the system refuses to say.
    PathError
        If it lies outside the plate.
    """
    place = contained(root, file)
    try:
        facts = place.stat()
    except FileNotFoundError as error:
        hint = "restore the file, or open the plate again if it was renamed"
        raise MissingPlaneError(f"{file}: no such file", hint=hint, file=file) from error
    except OSError as error:
        reason, hint = error.strerror or str(error), "check the file and its permissions"
        raise PlaneError(f"{file}: cannot be read: {reason}", hint=hint, file=file) from error
    if not S_ISREG(facts.st_mode):  # to open a pipe would wait for who writes into it
        kind = "a folder" if S_ISDIR(facts.st_mode) else "no regular file"
        hint = "a plane lies in a file of its own"
        raise PlaneError(f"{file}: cannot be read: it is {kind}", hint=hint, file=file)
    return place, facts.st_size


class VirtualWorkspaceBackend(VirtualBackend):
    """Read-only files ``{well}_s{field}_w{channel}_z{z}_t{timepoint}.tif`` in one flat folder.

    Numbers count from 1 along the plate's labels. A file can be loaded only if the manifest lists
    the plane; where the plate's own file lies, its folders and name, does not matter.

    Parameters
    ----------
    manifest : Manifest
        Which plane lies where.
    plate : Plate
        The plate it belongs to.
    root : path, optional
        The plate's folder; the default is the manifest's.
    """

    def __init__(self, manifest: Manifest, plate: Plate, *, root: StrPath | None = None) -> None:
        self.manifest = manifest
        self.plate = plate
        self.root = Path(manifest.root if root is None else root)
        self._wells = {name: number for number, name in enumerate(plate.wells)}

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), root=self.root), (self.manifest, self.plate)

    def __repr__(self) -> str:
        planes = counted(len(self.manifest), "plane")
        wells = counted(len(self.plate.wells), "well")
        return f"<{type(self).__name__}: {planes} of {wells} in {self.root}>"

    def load(self, path: StrPath) -> NDArray[Any]:
        """Read a plane, (y, x), of the plate's dtype.

        Raises
        ------
        MissingPlaneError
            If the plate has no such plane, or its file is gone.
        PlaneError
            If the file is damaged, or not of the plate's size and type.
        PathError
            If the file lies outside the plate.
        """
        row = self.row(path)
        if row is None:
            name = os.fspath(path)
            raise MissingPlaneError(f"{name}: the plate has no such plane", file=name)
        file = self.manifest.path(row)
        place, _ = find_file(self.root, file)
        return read_plane(
            place,
            shape_yx=self.plate.shape_yx,
            dtype=self.plate.dtype,
            file=file,
        )

    def is_file(self, path: StrPath) -> bool:
        """Whether the manifest lists this plane."""
        return self.row(path) is not None

    def is_dir(self, path: StrPath) -> bool:
        """Whether ``path`` is the one folder there is: the root."""
        return not relative_to_root(self.root, path)

    def list_files(
        self,
        directory: StrPath = "",
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,  # noqa: ARG002 - there are no folders below
    ) -> list[str]:
        """List planes, wells in plate order and names in natural order within."""
        self._require_root(directory)
        wanted = endings(extensions)
        is_all = pattern is None and wanted is None
        names = (n for n in self.names() if is_all or matches(n, pattern, wanted))
        start = join(directory, "")
        return [start + name for name in names]

    def list_dir(self, directory: StrPath = "") -> list[str]:
        """List the names of all planes."""
        self._require_root(directory)
        return list(self.names())

    def stat(self, path: StrPath) -> FileStat:
        """Return the size of a plane's file, as it was when the plate was indexed."""
        name = os.fspath(path)
        if self.is_dir(path):
            return FileStat(name, is_dir=True, nbytes=0, kind="folder")
        row = self.row(path)
        if row is None:
            raise FileNotFoundError(errno.ENOENT, "the plate has no such plane", name)
        return FileStat(name, is_dir=False, nbytes=int(self.manifest.nbytes[row]), kind="tif")

    def generate_filename(self, metadata: Mapping[str, Any] | PlaneKey) -> str:
        """Return the name of a plane.

        Parameters
        ----------
        metadata : mapping or PlaneKey
            ``well`` (name or dense index) and dense ``field``, ``timepoint``, ``channel``, ``z``;
            what a mapping leaves out beside the well is 0. Whether the plate has such a plane is
            not asked.

        Raises
        ------
        UsageError
            If the well is left out, or there is a number of something else.
        """
        found = metadata._asdict() if isinstance(metadata, PlaneKey) else metadata
        well = found.get("well")
        return plane_file_name(self.plate.wells[well] if isinstance(well, int) else well, found)

    def names(self) -> Iterator[str]:
        """Iterate over the names of all planes, in the order of `list_files`."""
        for rows in self._blocks():
            yield from self._names_of(rows)

    def planes(self) -> Iterator[tuple[str, str]]:
        """Iterate over names and paths relative to the plate, in the order of `list_files`."""
        for rows in self._blocks():
            yield from zip(self._names_of(rows), self.manifest.paths(rows), strict=True)

    def _blocks(self) -> Iterator[NDArray[np.intp]]:
        """Row numbers in the order of the names, some thousands at a time."""
        for start in range(0, len(self._order), BLOCK_ROWS):
            yield self._order[start : start + BLOCK_ROWS]

    def _names_of(self, rows: NDArray[np.intp]) -> list[str]:
        """Names of planes; what follows the well is made once for all wells that share it."""
        well, *numbers = self.manifest.keys[rows].T.astype(np.int64)
        codes = np.ravel_multi_index(tuple(numbers), self._sizes[1:])
        found, first, place = np.unique(codes, return_index=True, return_inverse=True)
        ends = np.empty(len(found), object)
        for end, row in enumerate(rows[first].tolist()):
            ends[end] = self.generate_filename(self.manifest.key(row)).partition("_")[2]
        starts = np.array([f"{name}_" for name in self.plate.wells], object)
        names: list[str] = (starts[well] + ends[place]).tolist()
        return names

    def workspace_mapping(self) -> WorkspaceMapping:
        """Return a mapping of every name to the plane's path in the plate: a view, not a copy."""
        return WorkspaceMapping(self)

    def _require_root(self, directory: StrPath) -> None:
        if not self.is_dir(directory):
            raise FileNotFoundError(
                errno.ENOENT, "a virtual workspace has one flat folder", os.fspath(directory)
            )

    def row(self, path: StrPath) -> int | None:
        """Return the manifest's row of a plane by name; None where there is none."""
        name = relative_to_root(self.root, path)
        if not name.endswith(SUFFIX):
            return None
        try:
            plane = parse_plane_name(name.removesuffix(SUFFIX))
        except PlateError:
            return None
        well = self._wells.get(plane.well)
        if well is None:
            return None
        wells, fields, timepoints, channels, heights = self._sizes
        if not (
            well < wells
            and plane.field < fields
            and plane.timepoint < timepoints
            and plane.channel < channels
            and plane.z < heights
        ):
            return None
        rank = (well * fields + plane.field) * timepoints + plane.timepoint
        rank = (rank * channels + plane.channel) * heights + plane.z
        if self._is_full:
            return rank
        row = bisect_left(self._ranks, rank)
        return row if row < len(self._ranks) and self._ranks[row] == rank else None

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        """One more than the largest index of each key column."""
        keys = self.manifest.keys
        return tuple(int(n) + 1 for n in keys.max(axis=0)) if len(keys) else (1,) * 5

    @cached_property
    def _is_full(self) -> bool:
        """Whether no plane is missing, so that a plane's rank is its row."""
        return len(self.manifest) == prod(self._sizes)

    @cached_property
    def _ranks(self) -> memoryview[int]:
        """Each row's key as one number; ascending, as the rows are sorted."""
        keys = self.manifest.keys.T.astype(np.int64)
        view: memoryview[int] = np.ravel_multi_index(tuple(keys), self._sizes).data
        return view

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        """Row numbers by well, field, channel, z, timepoint: the order of the names."""
        well, fld, timepoint, channel, z = self.manifest.keys.T
        return np.lexsort((timepoint, z, channel, fld, well))


class WorkspaceMapping(Mapping[str, str]):
    """Names of planes to paths relative to the plate, computed when asked for."""

    def __init__(self, workspace: VirtualWorkspaceBackend) -> None:
        self.workspace = workspace

    def __getitem__(self, name: str) -> str:
        row = self.workspace.row(name)
        if row is None:
            raise KeyError(name)
        return self.workspace.manifest.path(row)

    def __iter__(self) -> Iterator[str]:
        return self.workspace.names()

    def __len__(self) -> int:
        return len(self.workspace.manifest)

    def items(self) -> ItemsView[str, str]:
        """Return names and paths together, without looking each name up."""
        return _Items(self)


class _Items(ItemsView[str, str]):
    _mapping: WorkspaceMapping

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return self._mapping.workspace.planes()
