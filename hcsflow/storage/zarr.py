"""The zarr backend: arrays as Zarr 3 or 2, a well's planes as one OME-Zarr image."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcsflow.config import ZarrConfig
from hcsflow.storage.abc import (
    FileStat,
    StorageBackend,
    VerifiableBackend,
    Verification,
    require_equal,
)
from hcsflow.storage.paths import (
    StrPath,
    endings,
    join,
    located,
    matches,
    named,
    natural,
    removable,
)
from hcsflow.storage.well_index import StoredPlane, find_plane
from hcsflow.storage.well_plates import finish_plate
from hcsflow.storage.whole import move_whole
from hcsflow.storage.zarr_arrays import create_array
from hcsflow.storage.zarr_commit import (
    copy_folder,
    refuse_existing,
    remove,
    remove_empty,
    replacing,
)
from hcsflow.storage.zarr_nodes import WHOLE, is_array, node_of, share_attributes
from hcsflow.storage.zarr_reading import find_array, open_lazily, read_all, stored_nbytes
from hcsflow.storage.zarr_tree import folders, mirror, nbytes_below, update_plates, verify, walk
from hcsflow.storage.zarr_writing import (
    checked_attributes,
    checked_config,
    numbers,
    plane_error,
    refuse_hidden,
    refuse_place,
    refuse_shadow,
    save_planes,
    store_and_names,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ZarrStorageBackend"]


class ZarrStorageBackend(StorageBackend, VerifiableBackend):
    """Arrays by path, each a Zarr array that appears when it is complete; wells as OME-Zarr.

    Arrays of other programs are read too, Zarr 2 and 3, whatever codec zarr-python knows. Of
    something that is replaced while it is loaded, the old or the new one is returned.

    Parameters
    ----------
    base_path : path, optional
        Root of all paths; none may lead out of it, nor may a plane's array, by a link. Without it
        paths are the system's own.
    config : ZarrConfig, optional
        Compressor, chunks and format; each call may give its own as ``zarr_config``.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> backend = ZarrStorageBackend(tempfile.mkdtemp())
    >>> backend.save(np.eye(2), "results/matrix", attributes={"unit": "um"})
    >>> backend.load("results/matrix").tolist(), backend.read_attributes("results/matrix")
    ([[1.0, 0.0], [0.0, 1.0]], {'unit': 'um'})
    """

    def __init__(
        self, base_path: StrPath | None = None, *, config: ZarrConfig | None = None
    ) -> None:
        self._base = None if base_path is None else Path(base_path)
        self._config = checked_config(config, ZarrConfig())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._base or 'paths of the system'}>"

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
            Replace the array that is there.
        attributes : mapping, optional
            Stored with it, as JSON.
        zarr_config : ZarrConfig, optional
            Settings for this array.

        Raises
        ------
        FileExistsError
            If something is there, be it a plane, and ``overwrite`` is not set, or it is a file.
        IsADirectoryError, NotADirectoryError
            If a folder of other things is there, or a folder above is an array.
        UsageError
            If ``data`` is not an array of numbers, ``attributes`` cannot be JSON (NaN cannot), a
            plane of a batch would be replaced, or ``zarr_config`` is no `ZarrConfig`.
        PathError, PlanRefusedError, OSError
            If the path names no array, the settings cannot be written, or the system refuses to.
            After any error what was there is there still.
        """
        array, config = numbers(data, path), checked_config(zarr_config, self._config)
        kept = checked_attributes(attributes, path)
        target = named(self._base, path)
        refuse_place(target, overwrite=overwrite)
        with replacing(target, overwrite=overwrite) as folder:
            create_array(folder, array, config, {**kept, WHOLE: True})

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
        OME-Zarr image ``<store>/B/03/0``, and the store a plate that lists the well (unless
        ``write_plate_metadata`` is off); names that are no planes' make one array
        ``<store>/<chunk_name>``, and an empty file in the store tells that it holds such arrays.
        Without it each path is an array of its own. Processes may write wells of one store at the
        same time.

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
            If numbers of planes and paths, sizes or dtypes differ, names repeat or differ only in
            case, are of a well but not of a whole one, or of another than ``chunk_name``, or the
            store is a plate of another format.
        FileExistsError
            If the batch is there and ``overwrite`` is not set, or an array or another batch of
            the store has one of the names.
        OSError
            If the system refuses to write. After any error what was there is there still.
        """
        require_equal(data, paths)
        if chunk_name is None:
            for item, path in zip(data, paths, strict=True):
                self.save(item, path, overwrite=overwrite, zarr_config=zarr_config)
            return
        store, names = store_and_names(paths)
        save_planes(
            lambda below: self._path(join(store, below)),
            names,
            [numbers(item, path) for item, path in zip(data, paths, strict=True)],
            chunk_name=chunk_name,
            config=checked_config(zarr_config, self._config),
            overwrite=overwrite,
        )

    def finish_plate(self, store: StrPath) -> tuple[str, ...]:
        """Make a store's metadata list exactly the wells in it; return their names.

        Needed only where a process was killed between writing a well and listing it, or wells
        were saved with ``write_plate_metadata=False``. A plate of another program, with wells
        elsewhere than in ``<row>/<column>``, is refused (`UsageError`).
        """
        return finish_plate(self._folder(store))

    def load(self, path: StrPath) -> NDArray[Any]:
        """Return an array, or a plane of a batch by its name.

        Raises
        ------
        FileNotFoundError
            If there is neither.
        IsADirectoryError
            If it is a folder, or a group: the message says of which kind and what to load.
        PlaneError
            If it is damaged, or has a codec or dtype that cannot be read.
        """
        return self.load_batch([path])[0]

    def load_batch(self, paths: Sequence[StrPath]) -> list[NDArray[Any]]:
        """Return what is stored at each path, in order; errors as for `load`.

        Planes of one array are read together: its object is opened, and its index read, once.
        """
        return read_all([*map(self._path, paths)], [os.fspath(path) for path in paths], self._base)

    def open_array(self, path: StrPath) -> Any:
        """Return a lazy, read-only `zarr.Array`; errors as for `load`, but a missing chunk is 0.

        `verify` finds one that is missing in an array that was written whole.
        """
        return open_lazily(find_array(self._path(path), os.fspath(path)))

    def read_attributes(self, path: StrPath) -> dict[str, Any]:
        """Return the attributes of an array or group.

        Raises
        ------
        FileNotFoundError
            If there is neither.
        PlaneError
            If its document is damaged.
        """
        found = node_of(self._path(path))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "no array or group", os.fspath(path))
        return copy.deepcopy({k: v for k, v in found.attributes.items() if k != WHOLE})

    def write_attributes(self, path: StrPath, attributes: Mapping[str, Any]) -> None:
        """Add attributes to an array; those of the same name are replaced.

        Those of several writers at once are all kept; what JSON cannot hold is a `UsageError`.
        """
        kept = checked_attributes(attributes, path)
        share_attributes(find_array(self._path(path), os.fspath(path)), kept)

    def is_file(self, path: StrPath) -> bool:
        """Whether there is an array or a plane of a batch."""
        return is_array(self._path(path)) or self._plane(path) is not None

    def is_dir(self, path: StrPath) -> bool:
        """Whether there is a folder that is not an array."""
        folder = self._path(path)
        return folder.is_dir() and not is_array(folder)

    def list_files(
        self,
        directory: StrPath,
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
    ) -> list[str]:
        """List arrays, and planes of batches by name; see `DataSource.list_files`.

        A well that was saved as a batch is listed as its planes; its arrays only below itself.
        Links are not followed.
        """
        found, wanted = set(walk(self._folder(directory), recursive=recursive)), endings(extensions)
        chosen = (n for n in found if matches(n.rpartition("/")[2], pattern, wanted))
        return [join(directory, name) for name in natural(chosen)]

    def list_dir(self, directory: StrPath) -> list[str]:
        """List the names of arrays and folders in a folder, in natural order."""
        return natural(folders(self._folder(directory)))

    def ensure_directory(self, directory: StrPath) -> str:
        """Make a folder and its parents, none of which is an array; return its path as given."""
        folder = self._path(directory)
        refuse_place(folder, overwrite=False)
        if is_array(folder):
            raise FileExistsError(errno.EEXIST, "an array, not a folder", os.fspath(directory))
        folder.mkdir(parents=True, exist_ok=True)
        return os.fspath(directory)

    def delete(self, path: StrPath) -> None:
        """Remove an array or an empty folder; see `StorageBackend.delete`."""
        folder = self._removable(path)
        if is_array(folder):
            self.delete_all(path)
        else:
            remove_empty(folder)

    def delete_all(self, path: StrPath) -> None:
        """Remove an array, or a folder with all in it (of the root, that); plates follow."""
        folder = self._removable(path)
        for each in folder.iterdir() if folder == self._base else (folder,):
            remove(each)
        update_plates(folder)

    def move(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Rename an array or folder; after an error it is where it was."""
        start, end = self._pair(source, target, overwrite=overwrite)
        if start != end:
            removable(self._base, source)
            refuse_existing(end, overwrite=overwrite)
            move_whole(start, end, overwrite=overwrite)
            update_plates(start)
            update_plates(end)

    def copy(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Copy an array or folder, as it is stored; a plane becomes an array."""
        if self._is_plane(source):
            self.save(self.load(source), target, overwrite=overwrite)
            return
        start, end = self._pair(source, target, overwrite=overwrite)
        if start == end:
            raise FileExistsError(errno.EEXIST, "source and target are the same", str(end))
        copy_folder(start, end, overwrite=overwrite)
        update_plates(end)

    def mirror_directory(
        self, source: StrPath, target: StrPath, *, recursive: bool = True, overwrite: bool = False
    ) -> int:
        """Copy a folder's arrays and batches, as they are stored; count arrays and planes."""
        count = len(self.list_files(source, recursive=recursive))
        mirror(self._path(source), self._path(target), recursive=recursive, overwrite=overwrite)
        return count

    def stat(self, path: StrPath) -> FileStat:
        """Return what an array or plane takes: 0 for folders, and where only zarr-python reads."""
        folder, name = self._path(path), os.fspath(path)
        if is_array(folder):
            return FileStat(name, is_dir=False, nbytes=nbytes_below(folder), kind="zarr")
        plane = self._plane(path)
        if plane is not None:
            return FileStat(name, is_dir=False, nbytes=stored_nbytes(plane), kind="zarr")
        self._stored(path)
        return FileStat(name, is_dir=True, nbytes=0, kind="folder")

    def verify(self, directory: StrPath = "") -> Verification:
        """Check every stored object at and below a path.

        Objects of wells that were saved as batches are held against the checksums that were
        taken when they were written; other arrays are read, which finds what is cut short, has a
        damaged index, cannot be decoded, or is gone, but not every changed pixel. Arrays of other
        programs may lack chunks, which stand for their fill value. Names begin as ``directory``.
        """
        folder = self._path(directory)
        if not folder.exists():
            raise FileNotFoundError(errno.ENOENT, "no array or folder", os.fspath(directory))
        return verify(folder, os.fspath(directory))

    def _folder(self, path: StrPath) -> Path:
        folder = self._path(path)
        if not folder.exists():
            raise FileNotFoundError(errno.ENOENT, "no such folder", os.fspath(path))
        if not self.is_dir(path):
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", os.fspath(path))
        return folder

    def _plane(self, path: StrPath) -> StoredPlane | None:
        folder = self._path(path)
        return find_plane(folder.parent, folder.name, self._base)

    def _is_plane(self, path: StrPath) -> bool:
        return not self._path(path).is_dir() and self._plane(path) is not None

    def _stored(self, path: StrPath) -> Path:
        """Return an array's or folder's place; a plane of a batch has none of its own."""
        folder = self._path(path)
        if folder.is_dir():
            return folder
        if self._is_plane(path):
            raise plane_error(path)
        raise FileNotFoundError(errno.ENOENT, "no array or folder", os.fspath(path))

    def _removable(self, path: StrPath) -> Path:
        removable(self._base, path)
        return self._stored(path)

    def _pair(self, source: StrPath, target: StrPath, *, overwrite: bool) -> tuple[Path, Path]:
        start, end = self._stored(source), removable(self._base, target)
        refuse_shadow(end, overwrite=overwrite)
        if start in end.parents or end in start.parents:
            raise OSError(errno.EINVAL, "one folder lies within the other", str(end))
        refuse_hidden(start, end)
        return start, end
