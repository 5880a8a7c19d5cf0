"""A plate's planes as flat files, by name: nothing is copied, linked or written.

The names are made from the manifest's columns and looked up in them; no table of a plate's
345,600 paths is ever made.
"""

from __future__ import annotations

import errno
import os
from collections.abc import ItemsView, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.errors import MissingPlaneError, PlateError
from hcsflow.plate import COMPONENTS, Manifest, PlaneKey, Plate
from hcsflow.plate.names import PlaneName, canonical_well, format_plane_name, parse_plane_name
from hcsflow.storage.abc import FileStat, VirtualBackend
from hcsflow.storage.paths import StrPath, contained, join, logical, matches
from hcsflow.storage.tiff import read_plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VirtualWorkspaceBackend", "WorkspaceMapping"]

SUFFIX = ".tif"


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
        return read_plane(
            contained(self.root, file),
            shape_yx=self.plate.shape_yx,
            dtype=self.plate.dtype,
            file=file,
        )

    def real_path(self, path: StrPath) -> Path:
        """Return where a plane's file really lies.

        Raises
        ------
        FileNotFoundError
            If the plate has no such plane.
        PathError
            If the file lies outside the plate.
        """
        row = self.row(path)
        if row is None:
            raise FileNotFoundError(errno.ENOENT, "the plate has no such plane", os.fspath(path))
        return contained(self.root, self.manifest.path(row))

    def is_file(self, path: StrPath) -> bool:
        """Whether the manifest lists this plane."""
        return self.row(path) is not None

    def is_dir(self, path: StrPath) -> bool:
        """Whether ``path`` is the one folder there is: the root."""
        return not logical(path)

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
        wanted = None if extensions is None else tuple(extensions)
        found = (name for name in self.names() if matches(name, pattern, wanted))
        return [join(directory, name) for name in found]

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
            what a mapping leaves out is 0.
        """
        found = metadata._asdict() if isinstance(metadata, PlaneKey) else metadata
        well = found["well"]
        name = canonical_well(well) if isinstance(well, str) else self.plate.wells[int(well)]
        numbers = {component: int(found.get(component, 0)) for component in COMPONENTS}
        return format_plane_name(PlaneName(well=name, **numbers)) + SUFFIX

    def names(self) -> Iterator[str]:
        """Iterate over the names of all planes, in the order of `list_files`."""
        return (name for name, _ in self.planes())

    def planes(self) -> Iterator[tuple[str, str]]:
        """Iterate over names and paths relative to the plate, in the order of `list_files`."""
        for row in self._order:
            yield self.generate_filename(self.manifest.key(row)), self.manifest.path(row)

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
        name = PurePosixPath(logical(path))
        if len(name.parts) != 1 or name.suffix != SUFFIX:
            return None
        try:
            plane = parse_plane_name(name.stem)
        except PlateError:
            return None
        well = self._wells.get(plane.well)
        if well is None:
            return None
        rank = 0
        key = (well, plane.field, plane.timepoint, plane.channel, plane.z)
        for value, size in zip(key, self._sizes, strict=True):
            if value >= size:
                return None
            rank = rank * size + value
        row = int(np.searchsorted(self._ranks, rank))
        return row if row < len(self._ranks) and self._ranks[row] == rank else None

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        """One more than the largest index of each key column."""
        keys = self.manifest.keys
        return tuple(int(n) + 1 for n in keys.max(axis=0)) if len(keys) else (1,) * 5

    @cached_property
    def _ranks(self) -> NDArray[np.int64]:
        """Each row's key as one number; ascending, as the rows are sorted."""
        ranks: NDArray[np.int64] = np.ravel_multi_index(tuple(self.manifest.keys.T), self._sizes)
        return ranks

    @cached_property
    def _order(self) -> list[int]:
        """Row numbers by well, field, channel, z, timepoint: the order of the names."""
        well, fld, timepoint, channel, z = self.manifest.keys.T
        order: list[int] = np.lexsort((timepoint, z, channel, fld, well)).tolist()
        return order


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
