"""The memory backend: any object by path, byte-counted, from device to host memory to disk."""

from __future__ import annotations

import copy as copying
import errno
import os
import pickle
from collections.abc import Iterable
from math import inf
from numbers import Real
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy import ndarray

from hcsflow.errors import ConfigError, UsageError
from hcsflow.storage.abc import FileStat, StorageBackend
from hcsflow.storage.families import duplicate, sizeof
from hcsflow.storage.namespace import Namespace
from hcsflow.storage.paths import StrPath, endings, join, logical, matches, natural
from hcsflow.storage.spill import SpillFolder
from hcsflow.storage.tiers import MemoryUsage, Tiers

__all__ = ["MemoryStorageBackend", "MemoryUsage"]

_UNCOPYABLE = (
    pickle.PicklingError, copying.Error, TypeError, AttributeError, NotImplementedError,
)  # fmt: skip
"""What objects that cannot be copied raise: a lock, an open file."""


class MemoryStorageBackend(StorageBackend):
    """Objects of this process by logical path, in folders that must exist.

    A caller cannot change what is stored by the arrays that it holds. A numpy array that owns its
    data is stored without a copy and made read-only, so that changing it raises, also through
    views made from then on; ``load`` gives read-only views. Anything else is copied when it is
    saved and when it is loaded, arrays of jax and tensorflow too. What
    numpy cannot prevent is writing through a writable view, tensor or memoryview of an owning
    array that was made *before* it was saved: give ``copy=True`` where one may be in use. Nor can
    it prevent what is done on purpose: ``setflags(write=True)`` on the array that was saved or is
    a loaded one's ``base``, and ``resize(refcheck=False)`` of it, change what is stored.

    Safe to use from several threads; saving and loading what is in memory does not wait for
    another thread's reading or writing of files.

    Parameters
    ----------
    limit_bytes : int or None
        Host memory to stay under; past it the least recently used objects, of every kind, go to
        disk, and come back when they are loaded. None is no limit.
    spill_dir : path or None
        Where they go, in a new folder; None is the system's temporary folder.
    device_limit_bytes : int or None
        The same for arrays on devices (all together), which go to host memory. Those never count
        against the host's limit while they are on a device.
    disk_limit_bytes : int or None
        Bytes of files to stay under. Past it a save that needs room fails.
    max_objects : int or None
        Number of objects that may be stored. A save beyond it is refused: nothing is forgotten to
        make place.
    cleanup_threshold : float
        Fraction of the limits, above 0 and at most 1, past which moving down begins, and down to
        which it goes on. Below 1, saves seldom find memory full.
    enable_compression : bool
        Compress what goes to disk (blosc, lz4, shuffled); `usage` tells what it saves.

    Raises
    ------
    ConfigError
        If a setting has an impossible value.

    Examples
    --------
    >>> memory = MemoryStorageBackend()
    >>> memory.save({"count": 3}, "/result")
    >>> memory.load("/result")
    {'count': 3}
    """

    def __init__(  # noqa: PLR0913 - one setting each
        self,
        limit_bytes: int | None = None,
        spill_dir: StrPath | None = None,
        *,
        device_limit_bytes: int | None = None,
        disk_limit_bytes: int | None = None,
        max_objects: int | None = None,
        cleanup_threshold: float = 1.0,
        enable_compression: bool = False,
    ) -> None:
        limits = {
            "limit_bytes": limit_bytes,
            "device_limit_bytes": device_limit_bytes,
            "disk_limit_bytes": disk_limit_bytes,
            "max_objects": max_objects,
        }
        _check(limits, cleanup_threshold)
        self._most = inf if max_objects is None else max_objects
        self._names: Namespace[int] = Namespace(self._most)
        self._copies: dict[int, int] = {}
        self._tiers = Tiers(
            SpillFolder(
                None if spill_dir is None else Path(spill_dir),
                limit_bytes=disk_limit_bytes,
                compress=enable_compression,
            ),
            host_bytes=inf if limit_bytes is None else limit_bytes * cleanup_threshold,
            device_bytes=(
                inf if device_limit_bytes is None else device_limit_bytes * cleanup_threshold
            ),
        )
        self._lock = self._tiers.lock  # names and places are known together

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a memory backend belongs to one process; SharedMemoryStorageBackend is for several"
        )

    def __repr__(self) -> str:
        usage = self.usage()
        nbytes = sum(usage.host.values()) + sum(usage.device.values()) + usage.spilled_uncompressed
        return f"<{type(self).__name__}: {usage.objects:,} objects, {_decimal(nbytes)}>"

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
        FileNotFoundError, FileExistsError
            If the folder does not exist; if something is there and ``overwrite`` is not set.
        UsageError
            If the object cannot be copied.
        StoreFullError, OSError
            If ``max_objects`` are stored, or the disk tier is full. After any error everything
            stored before still loads, and ``data`` is as it was.
        """
        key = logical(path)
        if type(data) is not ndarray or data.dtype.hasobject:
            if not isinstance(data, np.memmap):
                value = data if copy is False else _duplicate(data, path, "save")
                self._save(value, key, overwrite, path)
                return
            data, copy = np.array(data), False
        flags = data.flags
        shares = flags.owndata if copy is None else not copy
        if not shares:
            data = data.copy(order="K")
            flags = data.flags
        was_writeable = flags.writeable
        data.setflags(False)  # not writeable; by keyword it would cost twice as much
        try:
            # a view, so that whoever loads it cannot make it writeable
            self._save(data.view(), key, overwrite, path)
        except BaseException:
            data.setflags(write=was_writeable)
            raise

    def _save(self, value: Any, key: str, overwrite: bool, path: StrPath) -> None:
        """Store what nobody else can change."""
        tiers = self._tiers
        weight = None if type(value) is ndarray else sizeof(value)
        is_bounded = tiers.is_bounded
        with self._lock:
            if is_bounded:
                self._names.place(key, overwrite, path)  # before anything is moved for it
            number = tiers.add(value, weight)
            is_over = is_bounded and tiers.is_over
            try:
                old = None if is_over else self._names.put(key, number, overwrite, path)
            except BaseException:
                tiers.forget(number)
                raise
        if is_over:
            old = self._make_room_and_put(key, number, overwrite, path)
        if old is not None:
            self._release(old)

    def _make_room_and_put(
        self, key: str, number: int, overwrite: bool, path: StrPath
    ) -> int | None:
        try:
            self._tiers.make_room()
            with self._lock:  # others may have changed things while files were written
                return self._names.put(key, number, overwrite, path)
        except BaseException:
            self._tiers.drop(number)
            raise

    def load(self, path: StrPath, *, copy: bool = True) -> Any:
        """Return an object; with ``copy=False`` the stored one itself, whatever it is.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            If there is no object.
        UsageError
            If it cannot be copied.
        OSError
            If it cannot be read back from disk.
        """
        value = self._stored(path)
        if type(value) is ndarray and not value.dtype.hasobject:
            return value.view()
        return _duplicate(value, path, "load") if copy else value

    def _stored(self, path: StrPath) -> Any:
        number = None
        while True:
            before, number = number, self._names.find(path)
            try:
                return self._tiers.get(number)
            except KeyError:
                # Another thread has replaced or removed it: look again; or closed the backend.
                if number == before:
                    raise FileNotFoundError(errno.ENOENT, "not in memory", str(path)) from None

    def is_file(self, path: StrPath) -> bool:
        """Whether an object has this path."""
        return self._names.has_entry(path)

    def is_dir(self, path: StrPath) -> bool:
        """Whether a folder has this path; the root always does."""
        return self._names.has_folder(path)

    def list_files(
        self,
        directory: StrPath,
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
    ) -> list[str]:
        """List objects in natural order; see `DataSource.list_files`."""
        wanted = endings(extensions)
        with self._lock:
            found = self._names.entries(directory, recursive=recursive)
        chosen = (name for name in found if matches(name.rpartition("/")[2], pattern, wanted))
        return [join(directory, name) for name in natural(chosen)]

    def list_dir(self, directory: StrPath) -> list[str]:
        """List names in a folder, in natural order."""
        with self._lock:
            return natural(self._names.names(directory))

    def ensure_directory(self, directory: StrPath) -> str:
        """Make a folder and its parents; return its path as given.

        Raises
        ------
        NotADirectoryError
            If an object has that path, or that of a parent.
        """
        with self._lock:
            self._names.ensure_folder(directory)
        return os.fspath(directory)

    def delete(self, path: StrPath) -> None:
        """Remove an object or an empty folder; see `StorageBackend.delete`."""
        with self._lock:
            gone = self._names.remove(path, whole=False)
        self._release(*gone)

    def delete_all(self, path: StrPath) -> None:
        """Remove an object, or a folder and everything in it; of the root, its contents."""
        with self._lock:
            gone = self._names.remove(path, whole=True)
        self._release(*gone)

    def move(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Rename an object or folder; no data is touched.

        Raises
        ------
        FileNotFoundError
            If there is no source, or no folder for the target.
        FileExistsError
            If the target exists; with ``overwrite`` it is replaced.
        """
        with self._lock:
            gone = self._names.rename(source, target, overwrite=overwrite)
        self._release(*gone)

    def copy(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Copy an object or folder: both paths stand for the same data, which never changes.

        Raises
        ------
        FileNotFoundError, FileExistsError, OSError
            As `move`; also if source and target are the same.
        StoreFullError
            If there would be more than ``max_objects``.
        """
        with self._lock:
            pairs = self._names.pairs(source, target)
            if pairs[0][0] == pairs[0][1]:
                raise FileExistsError(errno.EEXIST, "source and target are the same", str(target))
            entries = [pair for pair in pairs if self._names.has_entry(pair[0])]
            self._names.require_room(len(entries) - self._names.has_entry(target))
            gone = self._names.clear(target, overwrite=overwrite)
            for start, end in pairs:
                if self._names.has_folder(start):
                    self._names.ensure_folder(end)
                else:
                    number = self._names.find(start)
                    self._names.put(end, number, False, target)
                    self._copies[number] = self._copies.get(number, 0) + 1
        self._release(*gone)

    def stat(self, path: StrPath) -> FileStat:
        """Return size and family of an object, without loading it."""
        with self._lock:
            if self._names.has_folder(path):
                return FileStat(os.fspath(path), is_dir=True, nbytes=0, kind="folder")
            weight = self._tiers.weight(self._names.find(path))
        return FileStat(os.fspath(path), is_dir=False, nbytes=weight.nbytes, kind=weight.family)

    def usage(self) -> MemoryUsage:
        """Return what is held, by place and family, and what is on disk."""
        return self._tiers.usage(len(self._names))

    def close(self) -> None:
        """Forget everything and remove what was spilled."""
        with self._lock:
            self._names = Namespace(self._most)
            self._copies.clear()
        self._tiers.close()

    def _release(self, *numbers: int) -> None:
        """Forget data whose last path is gone."""
        for number in numbers:
            with self._lock:
                others = self._copies.pop(number, 0)
                if others > 1:
                    self._copies[number] = others - 1
            if not others:
                self._tiers.drop(number)


def _duplicate(value: Any, path: StrPath, operation: str) -> Any:
    try:
        return duplicate(value)
    except _UNCOPYABLE as error:
        raise UsageError(
            f"{os.fspath(path)}: {type(value).__name__} cannot be copied: {error}",
            hint=f"{operation} with copy=False, which takes the object itself",
        ) from error


def _decimal(nbytes: float) -> str:
    """Return bytes as people read them: ``3.2 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} bytes" if unit == "bytes" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.1f} TB"


def _check(limits: dict[str, int | None], cleanup_threshold: float) -> None:
    for name, limit in limits.items():
        if limit is not None and not (_is_number(limit) and limit >= 0):
            raise ConfigError(
                f"{name} must be a number, 0 or more, got {limit!r}",
                hint="None is no limit; 4 GiB are 4 * 2**30",
            )
    if not (_is_number(cleanup_threshold) and 0 < cleanup_threshold <= 1):
        raise ConfigError(
            f"cleanup_threshold must be above 0 and at most 1, got {cleanup_threshold!r}",
            hint="it is a fraction of the limit, such as 0.8",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
