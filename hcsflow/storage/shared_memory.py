"""A store that several processes of one machine share: objects in files that lie in memory.

Every object is one file in a folder of ``/dev/shm``, mapped when it is loaded. Files are written
without a name and get one only when they are whole, so a killed process leaves nothing behind.
Locks of the system (``flock``), which end with the process that holds them, say who is alive.
Objects are pickles with the arrays beside them; the folder is this user's alone (mode 0700).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from hcsflow.errors import UsageError
from hcsflow.storage.abc import FileStat, StorageBackend
from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.storage.families import sizeof
from hcsflow.storage.mapped import read_mapped, read_weight, write_packed
from hcsflow.storage.packing import UNPACKABLE, pack
from hcsflow.storage.paths import StrPath, logical, naming
from hcsflow.storage.whole import copy_whole

__all__ = ["SharedMemoryStorageBackend"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_GONE = "the shared store is gone: the process that made it has closed it"
_TAKEN = "already in the store (overwrite=True replaces it)"
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})
"""Errors of systems that have no files without a name."""


class SharedMemoryStorageBackend(StorageBackend):
    """Objects that processes of this machine save and load under one name (POSIX systems).

    Pickling the backend gives the same store in the other process. A numpy array is loaded
    without a copy, read-only; so are arrays in containers and tables. Other arrays are copied
    into their memory type. Folders must exist, as on the memory backend.

    The process that made a store removes it, by `close` or at its end. If that process was
    killed, the store goes when all processes that use it are gone and the next store is made.
    What is loaded stays valid whatever becomes of the store.

    Parameters
    ----------
    name : str, optional
        Letters, digits and ``._-``; processes that give the same name (and parent) have the same
        store. None makes a new one.
    parent : path, optional
        Where its folder lies; ``/dev/shm`` (memory) where there is one, else the system's
        temporary folder.

    Raises
    ------
    UsageError
        If the name is none, or its folder belongs to somebody else or is open to others.

    Examples
    --------
    >>> import numpy as np
    >>> store = SharedMemoryStorageBackend()
    >>> store.save(np.arange(3), "numbers")
    >>> store.load("numbers").sum()
    np.int64(3)
    >>> store.close()
    """

    def __init__(self, name: str | None = None, *, parent: StrPath | None = None) -> None:
        self._open(name or uuid4().hex, _parent() if parent is None else Path(parent), new=True)

    def _open(self, name: str, parent: Path, *, new: bool) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name of a store", hint="use letters, digits, . _ -")
        self.name = name
        self._parent = parent
        self._root = parent / f"{_prefix()}{name}"
        if new:
            _sweep(parent)
        is_owner, alive = _enter(self._root, new=new)
        for part in ("files", "incoming"):
            (self._root / part).mkdir(mode=0o700, exist_ok=True)
        self._disk = DiskStorageBackend(self._root / "files", create_directories=False)
        self._leave = weakref.finalize(
            self, _leave, self._root, alive, owner=os.getpid() if is_owner else None
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (self.name, self._parent)

    def __repr__(self) -> str:
        state = "" if self._leave.alive else ", closed"
        return f"<{type(self).__name__}: {self.name}{state}>"

    @property
    def folder(self) -> Path:
        """The store's folder."""
        return self._root

    def close(self) -> None:
        """Leave the store; the process that made it removes it. Loaded arrays stay valid."""
        self._leave()

    def _file(self, path: StrPath) -> Path:
        if not self._leave.alive:
            raise FileNotFoundError(errno.ENOENT, "this shared store is closed", os.fspath(path))
        if not (self._root / "alive").exists():
            raise FileNotFoundError(errno.ENOENT, _GONE, os.fspath(path))
        return self._root / "files" / logical(path)

    def _require_folder(self, file: Path, path: StrPath) -> None:
        if not file.parent.is_dir():
            self._file(path)  # the store may have gone meanwhile
            message = "no such folder in the store (ensure_directory makes it)"
            raise FileNotFoundError(errno.ENOENT, message, os.fspath(path))

    def save(self, data: Any, path: StrPath, *, overwrite: bool = False) -> None:
        """Store an object: a copy, at once visible to all processes when it is whole.

        Parameters
        ----------
        data : object
            Anything that can be pickled, and arrays of any memory type.
        path : path
            Its folder must exist.
        overwrite : bool
            Replace what is there; who has it loaded keeps the old one.

        Raises
        ------
        FileNotFoundError
            If the folder does not exist, or the store is closed or gone.
        FileExistsError
            If something is there and ``overwrite`` is not set.
        UsageError
            If the object cannot be pickled.
        OSError
            If memory is full; nothing is stored then.
        """
        file = self._file(path)
        self._require_folder(file, path)
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder has this path", os.fspath(path))
        if not overwrite and file.exists():
            raise FileExistsError(errno.EEXIST, _TAKEN, os.fspath(path))
        try:
            parts = pack(data)
        except UNPACKABLE as error:
            raise UsageError(
                f"{type(data).__name__} cannot go to another process: {error}",
                hint="save arrays, tables or plain values",
            ) from error
        incoming = self._root / "incoming"
        with naming(path), _unnamed(incoming) as (stream, source):
            write_packed(stream, parts, sizeof(data))
            _link(source, file, incoming if overwrite else None)

    def load(self, path: StrPath) -> Any:
        """Return an object; numpy arrays are the shared memory itself, read-only.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            If there is no object, or the store is closed or gone.
        """
        return read_mapped(self._file(path))

    def is_file(self, path: StrPath) -> bool:
        """Whether an object has this path."""
        return self._file(path).is_file()

    def is_dir(self, path: StrPath) -> bool:
        """Whether a folder has this path."""
        return self._file(path).is_dir()

    def list_files(
        self,
        directory: StrPath,
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
    ) -> list[str]:
        """List objects in natural order; see `DataSource.list_files`."""
        self._file(directory)
        return self._disk.list_files(
            directory, pattern=pattern, extensions=extensions, recursive=recursive
        )

    def list_dir(self, directory: StrPath) -> list[str]:
        """List names in a folder, in natural order."""
        self._file(directory)
        return self._disk.list_dir(directory)

    def ensure_directory(self, directory: StrPath) -> str:
        """Make a folder and its parents; return its path as given."""
        self._file(directory)
        folder = self._root / "files"
        for name in logical(directory).split("/"):
            folder /= name
            with suppress(FileExistsError):
                folder.mkdir()  # alone: with its parents a store that is gone would come back
        if not folder.is_dir():
            raise FileExistsError(errno.EEXIST, "an object has this path", os.fspath(directory))
        return os.fspath(directory)

    def delete(self, path: StrPath) -> None:
        """Remove an object or an empty folder; see `StorageBackend.delete`."""
        self._file(path)
        self._disk.delete(path)

    def delete_all(self, path: StrPath) -> None:
        """Remove an object, or a folder and everything in it at once; of the root, its contents."""
        if not logical(path):
            for name in self.list_dir(path):
                self.delete_all(name)
            return
        gone = self._root / "incoming" / uuid4().hex
        self._file(path).rename(gone)
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink()

    def move(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Rename an object or folder; no data is touched.

        Raises
        ------
        FileNotFoundError
            If there is no source, or no folder for the target.
        FileExistsError
            If the target exists; with ``overwrite`` it is replaced.
        """
        end = self._file(target)
        with self._exclusive():
            self._require_folder(end, target)
            self._disk.move(source, target, overwrite=overwrite)

    def copy(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Copy an object or folder: both names stand for the same memory, which never changes.

        Raises
        ------
        FileNotFoundError, FileExistsError, OSError
            As `move`; also if source and target are the same.
        """
        start, end = self._file(source), self._file(target)
        start.stat()
        self._require_folder(end, target)
        if start in end.parents or end in start.parents:
            raise OSError(errno.EINVAL, "one folder lies within the other", os.fspath(target))
        if start == end or (end.exists() and not overwrite):
            message = "source and target are the same" if start == end else _TAKEN
            raise FileExistsError(errno.EEXIST, message, os.fspath(target))
        with self._exclusive():
            copy_whole(start, end, overwrite=overwrite, copy_file=os.link)

    def stat(self, path: StrPath) -> FileStat:
        """Return size and family of an object, without loading it."""
        file = self._file(path)
        if file.is_dir():
            return FileStat(os.fspath(path), is_dir=True, nbytes=0, kind="folder")
        family, nbytes = read_weight(file)
        return FileStat(os.fspath(path), is_dir=False, nbytes=nbytes, kind=family)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one thread of one process rearrange the store at a time."""
        lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _attach(name: str, parent: Path) -> SharedMemoryStorageBackend:
    """Return the store of another process."""
    store = SharedMemoryStorageBackend.__new__(SharedMemoryStorageBackend)
    store._open(name, parent, new=False)  # noqa: SLF001 - a second constructor
    return store


def _parent() -> Path:
    memory = Path("/dev/shm")  # noqa: S108 - our folder in it is private
    return memory if memory.is_dir() else Path(tempfile.gettempdir())


def _prefix() -> str:
    return f"hcsflow-shared-{os.geteuid()}-"


def _enter(root: Path, *, new: bool) -> tuple[bool, int]:
    """Return whether this process has made the store, and the open file that says it is alive."""
    while True:
        is_owner = False
        if new:
            with suppress(FileExistsError):
                root.mkdir(mode=0o700)
                is_owner = True
        try:
            _require_private(root)
            alive = os.open(root / "alive", os.O_RDWR | (os.O_CREAT if new else 0), 0o600)
        except FileNotFoundError:
            if new:  # it has just been removed
                continue
            raise FileNotFoundError(errno.ENOENT, _GONE, str(root)) from None
        fcntl.flock(alive, fcntl.LOCK_SH)
        if os.fstat(alive).st_nlink:
            return is_owner, alive
        os.close(alive)  # it was removed while we waited


def _require_private(root: Path) -> None:
    """Refuse a folder that another user may have written to: loading from it runs pickles."""
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise UsageError(
            f"{root} is not a folder of this user alone (mode 0700)",
            hint="choose another name or parent",
        )


def _leave(root: Path, alive: int, *, owner: int | None) -> None:
    if owner == os.getpid():  # not in a fork of the process that made it
        _remove(root)
    os.close(alive)


def _remove(root: Path) -> None:
    """Remove a store; under another name first, so that nobody enters it half removed."""
    dying = root.with_name(f"{_prefix()}removed-{uuid4().hex}")
    with suppress(FileNotFoundError):
        root.rename(dying)
    for part in ("files", "incoming"):
        shutil.rmtree(dying / part, ignore_errors=True)
    shutil.rmtree(dying, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove this user's stores whose processes are all gone."""
    for root in parent.glob(f"{_prefix()}*"):
        try:
            alive = os.open(root / "alive", os.O_RDWR)
        except OSError:  # just being made, or just removed
            continue
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(root)
        except BlockingIOError:
            pass
        finally:
            os.close(alive)


@contextmanager
def _unnamed(folder: Path) -> Iterator[tuple[int, Path]]:
    """Give an open file that vanishes unless it is linked, and the path to link it from."""
    named = None
    try:
        stream = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        source = Path(f"/proc/self/fd/{stream}")
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_UNNAMED:
            raise
        source = named = folder / uuid4().hex
        stream = os.open(named, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield stream, source
    finally:
        os.close(stream)
        if named is not None:
            named.unlink(missing_ok=True)


def _link(source: Path, target: Path, replacing: Path | None) -> None:
    """Give a file another name: at once, and refused if it is taken, unless ``replacing``."""
    place = target if replacing is None else replacing / uuid4().hex
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        # With a folder given, Python follows the link in /proc to the file itself.
        os.link(source, place.name, dst_dir_fd=folder)
    finally:
        os.close(folder)
    if replacing is not None:
        try:
            place.replace(target)
        finally:
            place.unlink(missing_ok=True)  # still there if both are the same file
