"""The zarr backend: arrays as Zarr 3, a well's planes as one OME-Zarr image.

The registry loads this module, and with it zarr, on first use.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import zarr

from hcsflow.config import ZarrConfig
from hcsflow.errors import UsageError
from hcsflow.storage.abc import FileStat, StorageBackend, require_equal
from hcsflow.storage.incoming import as_numbers
from hcsflow.storage.paths import StrPath, join, located, matches, natural
from hcsflow.storage.well_batches import (
    describe,
    find_plane,
    iter_planes,
    node,
    plane_set,
    stacked,
    well_folder,
    write_well,
)
from hcsflow.storage.zarr_arrays import create_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ZarrStorageBackend"]

_PART = ".hcsflow-part"


class ZarrStorageBackend(StorageBackend):
    """Arrays by path, each a Zarr 3 array that appears when it is complete.

    Parameters
    ----------
    base_path : path, optional
        Root of all paths; none may lead out of it. Without it paths are the system's own.
    config : ZarrConfig, optional
        Compressor and chunks; each call may give its own as ``zarr_config``.

    Examples
    --------
    >>> import tempfile
    >>> backend = ZarrStorageBackend(tempfile.mkdtemp())
    >>> backend.save(np.eye(2), "results/matrix", attributes={"unit": "um"})
    >>> backend.load("results/matrix").tolist(), backend.read_attributes("results/matrix")
    ([[1.0, 0.0], [0.0, 1.0]], {'unit': 'um'})
    """

    def __init__(
        self, base_path: StrPath | None = None, *, config: ZarrConfig | None = None
    ) -> None:
        self._base = None if base_path is None else Path(base_path)
        self._config = ZarrConfig() if config is None else config

    def _path(self, path: StrPath) -> Path:
        return located(self._base, path)

    def save(
        self,
        data: Any,
        path: StrPath,
        *,
        overwrite: bool = False,
        attributes: Mapping[str, Any] | None = None,
        zarr_config: ZarrConfig | None = None,
    ) -> None:
        """Write an array of any memory type; its folders are made.

        Parameters
        ----------
        data : array
            Numbers or booleans.
        path : path
            Folder of the array.
        overwrite : bool
            Replace what is there.
        attributes : mapping, optional
            Stored with it, as JSON.
        zarr_config : ZarrConfig, optional
            Settings for this array.

        Raises
        ------
        FileExistsError
            If something is there and ``overwrite`` is not set.
        UsageError
            If ``data`` is not an array of numbers.
        PlanRefusedError
            If the settings cannot be written.
        """
        array = _numbers(data, path)
        with self._replacing(self._path(path), overwrite=overwrite) as folder:
            create_array(folder, array, zarr_config or self._config, dict(attributes or {}))

    def save_batch(
        self,
        data: Sequence[Any],
        paths: Sequence[StrPath],
        *,
        overwrite: bool = False,
        chunk_name: str | None = None,
        zarr_config: ZarrConfig | None = None,
    ) -> None:
        """Write planes together, each to be loaded by its own path.

        With ``chunk_name``, all paths lie in one folder, the store. Names such as
        ``B03_s001_w1_z001_t001.tif`` that are one well's full set of planes make the well's
        OME-Zarr image ``<store>/B/03/0``; other names make one array ``<store>/<chunk_name>``.
        Without it each path is an array of its own.

        Parameters
        ----------
        data, paths : sequence
            Planes, (y, x), of one size and dtype; as many paths.
        overwrite : bool
            Replace the batch that is there.
        chunk_name : str, optional
            What the batch is called, e.g. the well.
        zarr_config : ZarrConfig, optional
            Settings: WELL stores the batch as one object, FILE one per plane.

        Raises
        ------
        UsageError
            If numbers of planes and paths, sizes or dtypes differ, or names repeat.
        FileExistsError
            If the batch is there and ``overwrite`` is not set.
        """
        require_equal(data, paths)
        if chunk_name is None:
            for item, path in zip(data, paths, strict=True):
                self.save(item, path, overwrite=overwrite, zarr_config=zarr_config)
            return
        store, names = _store_and_names(paths)
        planes = [_numbers(item, path) for item, path in zip(data, paths, strict=True)]
        stack = stacked(planes)
        config = zarr_config or self._config
        well = plane_set(names, planes[0])
        place = chunk_name if well is None else well_folder(well[0][0].well)
        target = self._path(os.path.join(store, place))  # noqa: PTH118 - not yet a path here
        with self._replacing(target, overwrite=overwrite) as folder:
            if well is not None:
                write_well(folder, planes, names, keys=well[0], planes=well[1], config=config)
            else:
                chunks = {name: (index, 0, 0) for index, name in enumerate(names)}
                shape_yx = (stack.shape[1], stack.shape[2])
                create_array(folder, stack, config, describe("", chunks, shape_yx))

    def load(self, path: StrPath) -> NDArray[Any]:
        """Return an array, or a plane of a batch by its name.

        Raises
        ------
        FileNotFoundError
            If there is neither.
        """
        folder = self._path(path)
        if _is_array(folder):
            return np.asarray(zarr.open_array(folder, mode="r")[...])
        plane = find_plane(folder.parent, folder.name)
        if plane is None:
            raise FileNotFoundError(errno.ENOENT, "no array or plane", os.fspath(path))
        array = zarr.open_array(plane.array, mode="r")
        index = [i * size for i, size in zip(plane.chunk, array.chunks, strict=True)]
        tile = [slice(at, at + size) for at, size in zip(index[-2:], plane.shape_yx, strict=True)]
        return np.asarray(array[(*index[:-2], *tile)])

    def open_array(self, path: StrPath) -> Any:
        """Return a lazy, read-only `zarr.Array`.

        Raises
        ------
        FileNotFoundError
            If there is no array.
        """
        return zarr.open_array(self._array(path), mode="r")

    def read_attributes(self, path: StrPath) -> dict[str, Any]:
        """Return the attributes of an array or group.

        Raises
        ------
        FileNotFoundError
            If there is neither.
        """
        found = node(self._path(path))
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no array or group", os.fspath(path))
        return dict(found.get("attributes", {}))

    def write_attributes(self, path: StrPath, attributes: Mapping[str, Any]) -> None:
        """Add attributes to an array; those of the same name are replaced."""
        zarr.open_array(self._array(path), mode="r+").update_attributes(dict(attributes))

    def is_file(self, path: StrPath) -> bool:
        """Whether there is an array or a plane of a batch."""
        folder = self._path(path)
        return _is_array(folder) or find_plane(folder.parent, folder.name) is not None

    def is_dir(self, path: StrPath) -> bool:
        """Whether there is a folder that is not an array."""
        folder = self._path(path)
        return folder.is_dir() and not _is_array(folder)

    def list_files(
        self,
        directory: StrPath,
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
    ) -> list[str]:
        """List arrays, and planes of batches by name; see `DataSource.list_files`."""
        wanted = None if extensions is None else tuple(extensions)
        folder = self._folder(directory)
        found = {*_arrays(folder, "", recursive=recursive), *iter_planes(folder)}
        chosen = (n for n in found if matches(n.rpartition("/")[2], pattern, wanted))
        return [join(directory, name) for name in natural(chosen)]

    def list_dir(self, directory: StrPath) -> list[str]:
        """List the names of arrays and folders in a folder, in natural order."""
        entries = self._folder(directory).iterdir()
        return natural(e.name for e in entries if e.is_dir() and not e.name.endswith(_PART))

    def ensure_directory(self, directory: StrPath) -> str:
        """Make a folder and its parents; return its path as given."""
        self._path(directory).mkdir(parents=True, exist_ok=True)
        return os.fspath(directory)

    def delete(self, path: StrPath) -> None:
        """Remove an array or an empty folder; see `StorageBackend.delete`."""
        folder = self._stored(path)
        if _is_array(folder):
            shutil.rmtree(folder)
        else:
            folder.rmdir()

    def delete_all(self, path: StrPath) -> None:
        """Remove an array, or a folder and everything in it."""
        shutil.rmtree(self._stored(path))

    def move(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Rename an array or folder."""
        start, end = self._pair(source, target)
        if start != end:
            _clear(end, overwrite=overwrite)
            end.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(start, end)

    def copy(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Copy an array or folder, as it is stored."""
        start, end = self._pair(source, target)
        if start == end:
            raise FileExistsError(errno.EEXIST, "source and target are the same", str(end))
        with self._replacing(end, overwrite=overwrite) as folder:
            shutil.copytree(start, folder)

    def stat(self, path: StrPath) -> FileStat:
        """Return an array's stored size."""
        folder = self._stored(path)
        if not _is_array(folder):
            return FileStat(os.fspath(path), is_dir=True, nbytes=0, kind="folder")
        nbytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return FileStat(os.fspath(path), is_dir=False, nbytes=nbytes, kind="zarr")

    @contextmanager
    def _replacing(self, target: Path, *, overwrite: bool) -> Iterator[Path]:
        """Give a name in the same folder that becomes ``target`` at the end."""
        if not overwrite:
            _clear(target, overwrite=False)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = target.with_name(f".{uuid4().hex}{_PART}")
        try:
            yield folder
            _clear(target, overwrite=overwrite)
            _rename(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _array(self, path: StrPath) -> Path:
        folder = self._path(path)
        if not _is_array(folder):
            raise FileNotFoundError(errno.ENOENT, "no array", os.fspath(path))
        return folder

    def _folder(self, path: StrPath) -> Path:
        folder = self._path(path)
        if not folder.exists():
            raise FileNotFoundError(errno.ENOENT, "no such folder", os.fspath(path))
        if not self.is_dir(path):
            raise NotADirectoryError(errno.ENOTDIR, "an array", os.fspath(path))
        return folder

    def _stored(self, path: StrPath) -> Path:
        """Return an array's or folder's place; a plane of a batch has none of its own."""
        folder = self._path(path)
        if folder.is_dir():
            return folder
        if find_plane(folder.parent, folder.name) is not None:
            raise UsageError(
                f"{os.fspath(path)} is a plane of a stored image, not an array of its own",
                hint="load it, or rearrange the folder of the whole image",
            )
        raise FileNotFoundError(errno.ENOENT, "no array or folder", os.fspath(path))

    def _pair(self, source: StrPath, target: StrPath) -> tuple[Path, Path]:
        start, end = self._stored(source), self._path(target)
        if start in end.parents or end in start.parents:
            raise OSError(errno.EINVAL, "one folder lies within the other", str(end))
        return start, end


def _is_array(folder: Path) -> bool:
    return node(folder).get("node_type") == "array"


def _arrays(folder: Path, below: str, *, recursive: bool) -> Iterator[str]:
    for entry in folder.iterdir():
        if not entry.is_dir() or entry.name.endswith(_PART):
            continue
        if _is_array(entry):
            yield below + entry.name
        elif recursive:
            yield from _arrays(entry, f"{below}{entry.name}/", recursive=True)


def _clear(target: Path, *, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(errno.EEXIST, "exists (overwrite=True replaces it)", str(target))
    old = target.with_name(f".{uuid4().hex}{_PART}")
    target.rename(old)  # at once: a reader never meets a half-removed array
    shutil.rmtree(old)


def _rename(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise FileExistsError(errno.EEXIST, "written by another meanwhile", str(target)) from error


def _numbers(data: Any, path: StrPath) -> NDArray[Any]:
    try:
        return as_numbers(data)
    except TypeError as error:
        raise UsageError(
            f"{os.fspath(path)}: zarr stores arrays of numbers: {error}",
            hint="use the disk backend for tables and text",
        ) from error


def _store_and_names(paths: Sequence[StrPath]) -> tuple[str, list[str]]:
    folders = {os.path.dirname(os.fspath(path)) for path in paths}  # noqa: PTH120 - as given
    names = [os.path.basename(os.fspath(path)) for path in paths]  # noqa: PTH119 - as given
    if len(folders) != 1:
        raise UsageError(f"a batch lies in one folder, got {len(folders)}: {sorted(folders)[:3]}")
    if len(set(names)) != len(names):
        raise UsageError("a batch names each plane once")
    return folders.pop(), names
