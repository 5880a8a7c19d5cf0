"""The memory backend: any object by path, byte-counted, spilling to disk past a limit."""

from __future__ import annotations

import copy as copying
import errno
import os
from collections.abc import Iterable, Iterator, MutableMapping
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
import zict

from hcsflow.storage.abc import FileStat, StorageBackend
from hcsflow.storage.families import Weight, sizeof
from hcsflow.storage.paths import StrPath, join, logical, matches, natural
from hcsflow.storage.spill import SpillFolder

__all__ = ["MemoryStorageBackend", "MemoryUsage"]

_SPILLABLE = frozenset({"numpy", "torch", "pandas"})


class MemoryUsage(NamedTuple):
    """Bytes held in memory by family, bytes spilled to disk, and number of objects."""

    host: dict[str, int]
    spilled: int
    objects: int


class _Entry(NamedTuple):
    """A stored object: its number in the tier that holds it, and its size."""

    number: int
    weight: Weight
    is_pinned: bool


class MemoryStorageBackend(StorageBackend):
    """Objects of this process by logical path, in folders that must exist.

    A numpy array that owns its data is stored as it is and made read-only, so that changing it
    raises; a view and any other object is copied. ``load`` returns such arrays themselves and
    copies of other objects. Safe to use from several threads.

    Parameters
    ----------
    limit_bytes : int or None
        Host memory to stay under; past it, the least recently used numpy arrays, CPU tensors
        and data frames go to disk, and come back when they are loaded.
    spill_dir : path or None
        Where spilled data goes, in a new folder; None is the system's temporary folder.
    cleanup_threshold : float
        Fraction of the limit at which spilling begins.

    Examples
    --------
    >>> memory = MemoryStorageBackend()
    >>> memory.save({"count": 3}, "/result")
    >>> memory.load("/result")
    {'count': 3}
    """

    def __init__(
        self,
        limit_bytes: int | None = None,
        spill_dir: StrPath | None = None,
        *,
        cleanup_threshold: float = 1.0,
    ) -> None:
        self._lock = RLock()
        self._numbers = count()
        self._folders: dict[str, dict[str, None]] = {"": {}}
        self._entries: dict[str, _Entry] = {}
        self._pinned: dict[int, Any] = {}
        self._disk = SpillFolder(None if spill_dir is None else Path(spill_dir))
        self._fast: dict[int, Any] = {}
        self._sizes: dict[int, int] = {}
        self._held: MutableMapping[int, Any] = self._fast
        self._buffer: Any = None
        if limit_bytes is not None:
            limit = limit_bytes * cleanup_threshold
            self._buffer = zict.Buffer(self._fast, self._disk, limit, weight=self._weigh)
            self._held = self._buffer

    def _weigh(self, number: int, _value: Any) -> int:
        return self._sizes[number]

    def save(
        self,
        data: Any,
        path: StrPath,
        *,
        overwrite: bool = False,
        copy: bool | None = None,
    ) -> None:
        """Store an object.

        Parameters
        ----------
        data : object
            Anything.
        path : path
            Its folder must exist.
        overwrite : bool
            Replace what is there.
        copy : bool, optional
            True copies always; False takes ``data`` itself: the caller must not change it.

        Raises
        ------
        FileNotFoundError
            If the folder does not exist.
        FileExistsError
            If something is there and ``overwrite`` is not set.
        OSError
            If the disk tier cannot be written; nothing is stored then.
        """
        key = logical(path)
        value = _isolated(data, copy=copy)
        with self._lock:
            self._require_parent(key, path)
            old = self._entries.get(key)
            if key in self._folders:
                raise IsADirectoryError(errno.EISDIR, "a folder in memory has this path", str(path))
            if old is not None and not overwrite:
                raise FileExistsError(errno.EEXIST, "already in memory", str(path))
            entry = self._put(value)
            if old is not None:
                self._drop(old)
            self._entries[key] = entry
            self._listing(key)[_name(key)] = None

    def load(self, path: StrPath, *, copy: bool = True) -> Any:
        """Return an object; with ``copy=False`` the stored one itself, whatever it is."""
        with self._lock:
            entry = self._entry(path)
            value = (self._pinned if entry.is_pinned else self._held)[entry.number]
        return _duplicate(value) if copy else value

    def is_file(self, path: StrPath) -> bool:
        """Whether an object has this path."""
        return logical(path) in self._entries

    def is_dir(self, path: StrPath) -> bool:
        """Whether a folder has this path; the root always does."""
        return logical(path) in self._folders

    def list_files(
        self,
        directory: StrPath,
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
    ) -> list[str]:
        """List objects in natural order; see `DataSource.list_files`."""
        wanted = None if extensions is None else tuple(extensions)
        with self._lock:
            start = self._folder(directory)
            found = [
                key[len(start) :].lstrip("/")
                for key in self._walk(start, recursive=recursive)
                if matches(_name(key), pattern, wanted)
            ]
        return [join(directory, name) for name in natural(found)]

    def list_dir(self, directory: StrPath) -> list[str]:
        """List names in a folder, in natural order."""
        with self._lock:
            return natural(self._folders[self._folder(directory)])

    def ensure_directory(self, directory: StrPath) -> str:
        """Make a folder and its parents; return its path as given.

        Raises
        ------
        NotADirectoryError
            If an object has that path, or that of a parent.
        """
        key = logical(directory)
        with self._lock:
            for end in [i for i, c in enumerate(key) if c == "/"] + [len(key)]:
                part = key[:end]
                if part in self._entries:
                    raise NotADirectoryError(errno.ENOTDIR, "an object has this path", part)
                if part not in self._folders:
                    self._folders[part] = {}
                    self._listing(part)[_name(part)] = None
        return os.fspath(directory)

    def delete(self, path: StrPath) -> None:
        """Remove an object or an empty folder; see `StorageBackend.delete`."""
        key = logical(path)
        with self._lock:
            if self._folders.get(key):
                raise OSError(errno.ENOTEMPTY, "folder in memory is not empty", str(path))
            self.delete_all(path)

    def delete_all(self, path: StrPath) -> None:
        """Remove an object, or a folder and everything in it; of the root, its contents."""
        key = logical(path)
        with self._lock:
            if key in self._folders:
                for name in list(self._folders[key]):
                    self.delete_all(f"{key}/{name}")
                if key:
                    del self._folders[key]
            else:
                self._drop(self._entry(path))
                del self._entries[key]
            if key:
                self._listing(key).pop(_name(key))

    def move(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Rename an object or folder; no data is touched.

        Raises
        ------
        FileNotFoundError
            If there is no source, or no folder for the target.
        FileExistsError
            If the target exists; with ``overwrite`` it is replaced.
        """
        old, new = logical(source), logical(target)
        with self._lock:
            pairs = self._subtree(source, new, target)
            if old == new:
                return
            self._clear(new, target, overwrite=overwrite)
            for start, end in pairs:
                if start in self._folders:
                    self._folders[end] = self._folders.pop(start)
                else:
                    self._entries[end] = self._entries.pop(start)
            self._listing(old).pop(_name(old))
            self._listing(new)[_name(new)] = None

    def copy(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Copy an object or folder; read-only arrays are shared, not copied."""
        new = logical(target)
        with self._lock:
            pairs = self._subtree(source, new, target)
            if logical(source) == new:
                raise FileExistsError(errno.EEXIST, "source and target are the same", str(target))
            self._clear(new, target, overwrite=overwrite)
            for start, end in pairs:
                if start in self._folders:
                    self.ensure_directory(end)
                else:
                    self.save(self.load(start), end, copy=False)

    def stat(self, path: StrPath) -> FileStat:
        """Return size and family of an object, without loading it."""
        key = logical(path)
        with self._lock:
            if key in self._folders:
                return FileStat(os.fspath(path), is_dir=True, nbytes=0, kind="folder")
            weight = self._entry(path).weight
            return FileStat(os.fspath(path), is_dir=False, nbytes=weight.nbytes, kind=weight.family)

    def usage(self) -> MemoryUsage:
        """Return what is held, by family, and what is on disk."""
        host: dict[str, int] = {}
        with self._lock:
            for entry in self._entries.values():
                if entry.is_pinned or entry.number in self._fast:
                    family, nbytes = entry.weight
                    host[family] = host.get(family, 0) + nbytes
            return MemoryUsage(host, self._disk.nbytes, len(self._entries))

    def close(self) -> None:
        """Forget everything and remove what was spilled."""
        with self._lock:
            self.delete_all("/")
            self._disk.close()

    def _put(self, value: Any) -> _Entry:
        number, weight = next(self._numbers), sizeof(value)
        is_pinned = weight.family not in _SPILLABLE or (
            isinstance(value, np.ndarray) and value.dtype.hasobject
        )
        entry = _Entry(number, weight, is_pinned)
        self._sizes[number] = weight.nbytes
        try:
            if is_pinned:
                self._pinned[number] = value
                self._reserve(weight.nbytes)
            else:
                self._held[number] = value
        except OSError:
            self._drop(entry)
            raise
        return entry

    def _reserve(self, nbytes: int) -> None:
        """Count bytes that cannot be spilled against the limit."""
        if self._buffer is not None:
            self._buffer.offset += nbytes
            if nbytes > 0:
                self._buffer.evict_until_below_target()

    def _drop(self, entry: _Entry) -> None:
        if entry.is_pinned:
            if self._pinned.pop(entry.number, self) is not self:
                self._reserve(-entry.weight.nbytes)
        else:
            self._held.pop(entry.number, None)
        del self._sizes[entry.number]

    def _entry(self, path: StrPath) -> _Entry:
        key = logical(path)
        if key in self._folders:
            raise IsADirectoryError(errno.EISDIR, "a folder in memory", str(path))
        if key not in self._entries:
            raise FileNotFoundError(errno.ENOENT, "not in memory", str(path))
        return self._entries[key]

    def _folder(self, directory: StrPath) -> str:
        key = logical(directory)
        if key in self._entries:
            raise NotADirectoryError(errno.ENOTDIR, "an object in memory", str(directory))
        if key not in self._folders:
            raise FileNotFoundError(errno.ENOENT, "no such folder in memory", str(directory))
        return key

    def _listing(self, key: str) -> dict[str, None]:
        return self._folders[key.rpartition("/")[0]]

    def _require_parent(self, key: str, path: StrPath) -> None:
        if key.rpartition("/")[0] not in self._folders:
            raise FileNotFoundError(
                errno.ENOENT, "no such folder in memory (ensure_directory makes it)", str(path)
            )

    def _walk(self, folder: str, *, recursive: bool) -> Iterator[str]:
        for name in self._folders[folder]:
            key = f"{folder}/{name}" if folder else name
            if key in self._entries:
                yield key
            elif recursive:
                yield from self._walk(key, recursive=True)

    def _subtree(self, source: StrPath, new: str, target: StrPath) -> list[tuple[str, str]]:
        """Pair every path at or below ``source`` with where it goes; folders first."""
        old = logical(source)
        if old not in self._folders:
            self._entry(source)
        self._require_parent(new, target)
        if not old or new.startswith(f"{old}/") or old.startswith(f"{new}/"):
            raise OSError(errno.EINVAL, "one folder lies within the other", str(target))
        below = [k for k in (*self._folders, *self._entries) if k == old or k.startswith(f"{old}/")]
        return [(key, new + key[len(old) :]) for key in below]

    def _clear(self, key: str, target: StrPath, *, overwrite: bool) -> None:
        if key in self._folders or key in self._entries:
            if not overwrite:
                raise FileExistsError(errno.EEXIST, "already in memory", str(target))
            self.delete_all(target)


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _is_frozen(value: Any) -> bool:
    return type(value) is np.ndarray and not value.flags.writeable and not value.dtype.hasobject


def _isolated(data: Any, *, copy: bool | None) -> Any:
    """Return what may be stored: nothing that the caller can change unnoticed."""
    owns = type(data) is np.ndarray and data.flags.owndata
    if copy is False or (owns and not copy):
        value = data
    else:
        value = np.array(data) if isinstance(data, np.memmap) else copying.deepcopy(data)
    if type(value) is np.ndarray:
        value.flags.writeable = False
    return value


def _duplicate(value: Any) -> Any:
    return value if _is_frozen(value) else copying.deepcopy(value)
