"""A plate's planes by the names that a metadata document gives them, each path checked.

``hcsflow_metadata.json`` and OpenHCS's ``openhcs_metadata.json`` hold ``subdirectories`` with
``main`` and ``available_backends``, and a ``workspace_mapping`` of names to files of the plate.
"""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hcsflow.config import Backend
from hcsflow.errors import (
    MissingPlaneError,
    PathError,
    PlaneError,
    PlateError,
)
from hcsflow.storage.abc import FileStat, VirtualBackend
from hcsflow.storage.paths import StrPath, endings, join, matches, natural, portable
from hcsflow.storage.tiff import read_header, read_plane
from hcsflow.storage.virtual_workspace import (
    counted,
    find_file,
    plane_file_name,
    relative_to_root,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ListedWorkspaceBackend",
    "WorkspaceDocument",
    "preferred_backend",
    "read_workspace_document",
]

MAX_PX = 1 << 29
"""Larger than any camera; a damaged header must not fill the memory."""

PREFERENCE = (Backend.ZARR, Backend.VIRTUAL_WORKSPACE, Backend.DISK)
"""Where a plate's planes are read from, best first."""


class ListedWorkspaceBackend(VirtualBackend):
    """Read-only files by the names of a mapping; the files are TIFFs of one plane each.

    Parameters
    ----------
    root : path
        The plate's folder. Never written to.
    mapping : mapping of str to str
        Names, which may lie in folders, to files; both relative to ``root``.

    Raises
    ------
    PathError
        If a name or a file's path leads out of the folder on any system, two names mean the same
        path, or a name is another's folder. No file is opened.
    """

    def __init__(self, root: StrPath, mapping: Mapping[str, str]) -> None:
        self.root = Path(root)
        self._files = {portable(name): portable(file) for name, file in mapping.items()}
        if len(self._files) < len(mapping):
            raise PathError("a workspace mapping gives a file to one name twice")
        if "" in self._files or "" in self._files.values():
            raise PathError("a workspace mapping names its own folder as a plane")
        self._sorted: dict[str, list[str]] = {}
        self._folders: dict[str, dict[str, None]] = {"": {}}
        for name in self._files:
            self._enter(name)
        for name in self._files.keys() & self._folders.keys():
            raise PathError(f"{name!r} is a file and a folder of the workspace mapping")

    def _enter(self, path: str) -> None:
        """List a path in its folder, and that in its own, up to the root."""
        is_known = False
        while not is_known:
            path, _, name = path.rpartition("/")
            is_known = path in self._folders
            self._folders.setdefault(path, {})[name] = None  # a set that keeps the order

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self.root), (self._files,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {counted(len(self._files), 'plane')} in {self.root}>"

    def load(self, path: StrPath) -> NDArray[Any]:
        """Read a plane, (y, x), of the dtype that its file has.

        Raises
        ------
        MissingPlaneError
            If the mapping has no such name, or the file is gone.
        PlaneError
            If the file is no whole TIFF of one grey plane, or no regular file.
        PathError
            If a symlink leads out of the plate.
        """
        file = self._file(path)
        place, _ = find_file(self.root, file)
        header = read_header(place, file=file)
        if len(header.shape) != 2 or header.dtype.endswith("-bit") or prod(header.shape) > MAX_PX:
            shape = " × ".join(map(str, header.shape))
            raise PlaneError(
                f"{file}: expected a grey plane of 8 to 64 bits and at most {MAX_PX:,} pixels, "
                f"found {shape} {header.dtype}",
                hint="export single fields and channels as grey images",
                file=file,
            )
        rows, columns = header.shape
        return read_plane(place, shape_yx=(rows, columns), dtype=header.dtype, file=file)

    def _file(self, path: StrPath) -> str:
        file = self._files.get(relative_to_root(self.root, path))
        if file is None:
            name = os.fspath(path)
            raise MissingPlaneError(f"{name}: the plate has no such plane", file=name)
        return file

    def is_file(self, path: StrPath) -> bool:
        """Whether the mapping has this name."""
        return relative_to_root(self.root, path) in self._files

    def is_dir(self, path: StrPath) -> bool:
        """Whether names of the mapping lie below ``path``."""
        return relative_to_root(self.root, path) in self._folders

    def list_files(
        self,
        directory: StrPath = "",
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
    ) -> list[str]:
        """List names in natural order, as paths beginning with ``directory`` as given."""
        folder = self._folder(directory)
        found = self._below(folder) if recursive else self._listed(folder)
        if pattern is not None or extensions is not None:
            wanted = endings(extensions)
            found = [n for n in found if matches(n.rpartition("/")[2], pattern, wanted)]
        start, given = f"{folder}/" if folder else "", join(directory, "")
        return [given + name for name in found if start + name in self._files]

    def list_dir(self, directory: StrPath = "") -> list[str]:
        """List the names of files and folders in a folder, in natural order."""
        return list(self._listed(self._folder(directory)))

    def _listed(self, folder: str) -> list[str]:
        """Return a folder's names, sorted when they are first asked for."""
        if folder not in self._sorted:
            self._sorted[folder] = natural(self._folders[folder])
        return self._sorted[folder]

    def _below(self, folder: str) -> list[str]:
        start = f"{folder}/" if folder else ""
        return natural(n.removeprefix(start) for n in self._files if n.startswith(start))

    def _folder(self, directory: StrPath) -> str:
        folder = relative_to_root(self.root, directory)
        if folder in self._files:
            raise NotADirectoryError(errno.ENOTDIR, "a plane, not a folder", os.fspath(directory))
        if folder not in self._folders:
            raise FileNotFoundError(errno.ENOENT, "no such folder", os.fspath(directory))
        return folder

    def stat(self, path: StrPath) -> FileStat:
        """Return the size that a plane's file has now.

        Raises
        ------
        MissingPlaneError
            If the mapping has no such name, or the file is gone.
        PlaneError
            If it is no regular file.
        PathError
            If a symlink leads out of the plate.
        """
        if self.is_dir(path):
            return FileStat(os.fspath(path), is_dir=True, nbytes=0, kind="folder")
        _, nbytes = find_file(self.root, self._file(path))
        return FileStat(os.fspath(path), is_dir=False, nbytes=nbytes, kind="tif")

    def generate_filename(self, metadata: Mapping[str, Any]) -> str:
        """Return the name that hcsflow gives a plane: ``well`` by name, the rest dense indices.

        A document of another program may list the plane under another name.
        """
        return plane_file_name(metadata.get("well"), metadata)

    def workspace_mapping(self) -> Mapping[str, str]:
        """Return a copy of the mapping of names to files."""
        return dict(self._files)


class WorkspaceDocument(NamedTuple):
    """What a metadata document says about where a plate's planes are.

    Parameters
    ----------
    main : str or None
        The subdirectory that holds the plate's images.
    backends : dict of str to dict
        Of each subdirectory, whether its images can be read by a backend.
    mapping : dict of str to str
        Names of planes to files, relative to the plate; not yet checked.
    """

    main: str | None
    backends: dict[str, dict[str, bool]]
    mapping: dict[str, str]


def read_workspace_document(path: Path) -> WorkspaceDocument:
    """Read ``hcsflow_metadata.json`` or OpenHCS's ``openhcs_metadata.json``.

    Raises
    ------
    PlateError
        If it cannot be read, is no such document, names something twice, or contradicts itself.
    """
    try:
        found = json.loads(path.read_bytes(), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise PlateError(f"{path}: cannot be read: {error}") from error
    document = _mapping_of(found, path, "the document")
    parts = {
        name: _mapping_of(part, path, f"subdirectory {name!r}")
        for name, part in _part(document, "subdirectories", path).items()
    }
    mains = [name for name, part in parts.items() if _is_main(part, path, name)]
    if len(mains) > 1:
        raise PlateError(f"{path}: several subdirectories are 'main': {', '.join(mains)}")
    mapping: dict[str, str] = {}
    for part in (document, *parts.values()):
        for name, target in _part(part, "workspace_mapping", path).items():
            file = _target(target, path, name)
            if mapping.setdefault(name, file) != file:
                raise PlateError(f"{path}: {name} is mapped to {mapping[name]} and to {file}")
    backends = {
        name: {
            key: _flag(value, path, f"{key!r} of {name!r}")
            for key, value in _part(part, "available_backends", path).items()
        }
        for name, part in parts.items()
    }
    return WorkspaceDocument(mains[0] if mains else None, backends, mapping)


def _mapping_of(value: object, path: Path, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PlateError(f"{path}: expected {what} to be an object, found {value!r:.60}")
    return value


def _part(document: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    """Return an object of a document; null is one that was left out."""
    value = document.get(name)
    return {} if value is None else _mapping_of(value, path, repr(name))


def _is_main(part: dict[str, Any], path: Path, name: str) -> bool:
    value = part.get("main")
    return False if value is None else _flag(value, path, f"'main' of {name!r}")


def _flag(value: object, path: Path, what: str) -> bool:
    if not isinstance(value, bool):
        raise PlateError(f"{path}: expected {what} to be true or false, found {value!r:.60}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its names and values; JSON's own reader takes the last of equal names."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, count),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"one object names {name!r} {count} times")
    return found


def _target(value: object, path: Path, name: str) -> str:
    """Return the file that an entry leads to: a path, or a reference to a file on disk."""
    if isinstance(value, str):
        return value
    reference = _mapping_of(value, path, f"the file of {name}")
    file, backend = reference.get("backend_address"), reference.get("backend")
    if not isinstance(file, str) or backend != "disk" or reference.get("source_axis_indices"):
        raise PlateError(
            f"{path}: {name} leads to {reference!r:.120}, expected one plane in a file",
            hint="stacks and stores of other programs are not read as planes of a plate",
        )
    return file


def preferred_backend(available: Mapping[str, bool]) -> Backend | None:
    """Return where to read planes from: zarr ▸ virtual workspace ▸ disk; None if from none.

    Parameters
    ----------
    available : mapping of str to bool
        As ``available_backends`` of a metadata document; other names are passed over.

    Examples
    --------
    >>> preferred_backend({"disk": True, "virtual_workspace": True, "zarr": False}).value
    'virtual_workspace'
    """
    return next((backend for backend in PREFERENCE if available.get(backend.value)), None)
