"""Checksums around any backend: what is loaded is what was saved, or an error says that it is not.

The checksum is of the content that the backend gives back, so that it holds for formats that
turn tuples into lists; a saved array must come back with the very bytes that were given, unless
its format changes its type. Each object's checksum lies beside it, as a small array stored by
the same backend in a hidden folder: it survives processes, and goes with its folder.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import PurePath
from threading import RLock
from typing import TYPE_CHECKING, Any, cast

import google_crc32c
import numpy as np

from hcsflow.arrays import find_memory_type, to_numpy
from hcsflow.errors import ChecksumError, UsageError
from hcsflow.storage.abc import StorageBackend, VerifiableBackend, Verification
from hcsflow.storage.paths import StrPath, join, logical
from hcsflow.storage.text_formats import plain
from hcsflow.storage.wrappers import BackendWrapper

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ChecksumBackend", "content_checksum"]

HIDDEN = ".hcsflow-checksums"
_SUFFIX = ".npy"
_STRIPES = 64
_BLOCK = 1 << 20
_DAMAGE = (OSError, ValueError, RuntimeError, LookupError, TypeError, EOFError, zlib.error)
"""What backends and decoders raise on damaged objects."""


class ChecksumBackend(BackendWrapper, VerifiableBackend):
    """A backend that checks what it loads, and can verify all that it holds.

    Each save reads the object back once. Two processes must not replace one object at a time.
    After an error the object that was there before is there still; one whose replacement failed
    half-way has no checksum rather than a wrong one, and is loaded unchecked. So is what was
    stored without this wrapper.

    Parameters
    ----------
    inner : StorageBackend
        Any that stores arrays, and keeps no checksums yet.

    Raises
    ------
    UsageError
        If it is not one.

    Examples
    --------
    >>> from hcsflow.storage.memory import MemoryStorageBackend
    >>> checked = ChecksumBackend(MemoryStorageBackend())
    >>> checked.save([1, 2], "/a")
    >>> checked.inner.save([1, 3], "/a", overwrite=True)
    >>> checked.verify().damaged
    {'a': 'stored as crc32c:..., found crc32c:...'}
    """

    def __init__(self, inner: Any) -> None:
        if not isinstance(inner, StorageBackend):
            raise UsageError(
                f"checksums need a backend that stores and gives data, got {type(inner).__name__}"
            )
        if _keeps_checksums(inner):
            raise UsageError(
                "this backend keeps checksums already", hint="use it as it is, wrapped once"
            )
        super().__init__(inner)
        self._locks = [RLock() for _ in range(_STRIPES)]

    def __reduce__(self) -> tuple[Any, ...]:
        return ChecksumBackend, (self.inner,)

    def save(self, data: Any, path: StrPath, *, overwrite: bool = False, **options: Any) -> None:
        """Store an object and its checksum; see the inner backend's ``save``.

        Raises
        ------
        ChecksumError
            If an array does not come back as it was given; it is stored, without a checksum.
        """
        given = content_checksum(data)
        with self._lock(path):
            if overwrite:
                self._forget(path)
            self.inner.save(data, path, overwrite=overwrite, **options)
            self._record(data, given, path, options)

    def save_batch(
        self,
        data: Sequence[Any],
        paths: Sequence[StrPath],
        *,
        overwrite: bool = False,
        **options: Any,
    ) -> None:
        """Store several objects, each with its checksum; see the inner backend's."""
        given = [content_checksum(item) for item in data]
        with self._locked(*paths):
            for path in paths if overwrite else ():
                self._forget(path)
            self.inner.save_batch(data, paths, overwrite=overwrite, **options)
            for item, checksum, path in zip(data, given, paths, strict=True):
                self._record(item, checksum, path, {})

    def load(self, path: StrPath, **options: Any) -> Any:
        """Return an object.

        Raises
        ------
        ChecksumError
            If it is not what was stored.
        """
        with self._lock(path):
            data = self.inner.load(path, **options)
            stored = self._recorded(path)
        if stored is not None and (found := content_checksum(data)) != stored:
            raise ChecksumError(
                f"{path}: {_difference(stored, found)}",
                hint="restore it from a copy, or make it again",
            )
        return data

    def load_batch(self, paths: Sequence[StrPath], **options: Any) -> list[Any]:
        """Return several objects, each checked."""
        return [self.load(path, **options) for path in paths]

    def verify(self, directory: StrPath = "") -> Verification:
        """Check every object at and below a path that has a checksum; nothing is changed.

        Returns
        -------
        Verification
            Damaged, unreadable and missing objects by path, with what is wrong.

        Raises
        ------
        FileNotFoundError
            If there is nothing at the path.
        """
        if self.inner.is_dir(directory):
            listed = self.inner.list_files(directory, recursive=True)
            paths = [path for path in map(_described, listed) if path is not None]
        else:
            self.inner.stat(directory)
            paths = [str(directory)] if self._recorded(directory) is not None else []
        problems = {path: self._problem(path) for path in paths}
        return Verification(len(paths), {path: p for path, p in problems.items() if p})

    def list_files(self, directory: StrPath, **options: Any) -> list[str]:
        """List files; checksums are none."""
        listed = self.inner.list_files(directory, **options)
        return [path for path in listed if _described(path) is None]

    def list_dir(self, directory: StrPath) -> list[str]:
        """List names in a folder."""
        return [name for name in self.inner.list_dir(directory) if name != HIDDEN]

    def delete(self, path: StrPath) -> None:
        """Remove a file with its checksum, or a folder that holds nothing else."""
        with self._locked(path):
            if self.inner.is_dir(path) and not self.list_dir(path):
                self._remove(join(path, HIDDEN))
            self.inner.delete(path)
            self._forget(path)

    def delete_all(self, path: StrPath) -> None:
        """Remove a file or folder, checksums and all."""
        with self._locked(path):
            self.inner.delete_all(path)
            self._forget(path)

    def move(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Rename a file with its checksum, or a folder."""
        with self._locked(source, target):
            stored = self._recorded(source)
            if overwrite and logical(source) != logical(target):
                self._forget(target)
            self.inner.move(source, target, overwrite=overwrite)
            if logical(source) != logical(target):
                self._write(target, stored)
                self._forget(source)

    def copy(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Copy a file with its checksum, or a folder."""
        with self._locked(source, target):
            stored = self._recorded(source)
            if overwrite and logical(source) != logical(target):
                self._forget(target)
            self.inner.copy(source, target, overwrite=overwrite)
            self._write(target, stored)

    def mirror_directory(self, source: StrPath, target: StrPath, **options: Any) -> int:
        """Copy a folder's files to the same names below another; return how many."""
        me = cast("StorageBackend", self)
        return StorageBackend.mirror_directory(me, source, target, **options)

    def _lock(self, path: StrPath) -> RLock:
        return self._locks[hash(logical(path)) % _STRIPES]

    @contextmanager
    def _locked(self, *paths: StrPath) -> Iterator[None]:
        """Keep others from objects, and of folders from all, always in the same order."""
        if any(self.inner.is_dir(path) for path in paths):
            chosen = set(range(_STRIPES))
        else:
            chosen = {hash(logical(path)) % _STRIPES for path in paths}
        with ExitStack() as stack:
            for stripe in sorted(chosen):
                stack.enter_context(self._locks[stripe])
            yield

    def _record(self, data: Any, given: str, path: StrPath, options: Mapping[str, Any]) -> None:
        """Read an object back and store its checksum; pickles are read as they were written."""
        allowed = {name: options[name] for name in ("allow_pickle",) if name in options}
        back = self.inner.load(path, **allowed)
        found = content_checksum(back)
        if found != given and _is_alike(data, back):
            raise ChecksumError(f"{path} came back changed: {_difference(given, found)}")
        self._write(path, found)

    def _problem(self, path: str) -> str | None:
        try:
            self.load(path)
        except ChecksumError as error:
            return error.message.removeprefix(f"{path}: ")
        except FileNotFoundError:
            return "missing"
        except _DAMAGE as error:
            return f"unreadable: {error}"
        return None

    def _recorded(self, path: StrPath) -> str | None:
        try:
            return f"crc32c:{int(self.inner.load(_beside(path))[0]):08x}"
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, path: StrPath, checksum: str | None) -> None:
        if checksum is None:
            self._forget(path)
            return
        number = np.array([int(checksum.partition(":")[2], 16)], np.uint32)
        beside = _beside(path)
        self.inner.ensure_directory(beside.rpartition("/")[0])
        self.inner.save(number, beside, overwrite=True)

    def _forget(self, path: StrPath) -> None:
        self._remove(_beside(path))

    def _remove(self, path: str) -> None:
        try:
            self.inner.delete_all(path)
        except (FileNotFoundError, NotADirectoryError):
            return


def _keeps_checksums(backend: object) -> bool:
    if isinstance(backend, ChecksumBackend):
        return True
    return isinstance(backend, BackendWrapper) and _keeps_checksums(backend.inner)


def content_checksum(value: Any) -> str:
    """Return the CRC-32C of an object's content, the same for equal content in any process.

    Arrays of any library count by shape, dtype and elements; other values by their plain form, in
    which a tuple is a list.

    Raises
    ------
    UsageError
        If the value has no such form.

    Examples
    --------
    >>> content_checksum((1, 2)) == content_checksum([1, 2])
    True
    >>> content_checksum(np.zeros(2, np.uint8)) == content_checksum(np.zeros(2, np.uint16))
    False
    """
    crc = 0
    for part in _parts(value):
        view = memoryview(part).cast("B")
        for start in range(0, len(view), _BLOCK):
            crc = google_crc32c.extend(crc, bytes(view[start : start + _BLOCK]))
    return f"crc32c:{crc:08x}"


def _parts(value: Any) -> Iterator[bytes | memoryview]:
    """Give a value's content piece by piece, each piece behind what it is."""
    if isinstance(value, (str, bytes)):
        yield f"{type(value).__name__} {len(value)} ".encode()
        yield value if isinstance(value, bytes) else value.encode()
    elif find_memory_type(value) is not None:
        yield from _parts_of_array(to_numpy(value))
    elif hasattr(value, "columns"):
        yield f"table {len(value.columns)} ".encode()
        for name in value.columns:
            yield from _parts([str(name), np.asarray(value[name])])
        if hasattr(getattr(value, "index", None), "names"):
            yield from _parts_of_index(value.index)
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)} ".encode()
        for name, item in value.items():
            yield from _parts([str(name), item])
    elif isinstance(value, (list, tuple)):
        yield f"list {len(value)} ".encode()
        for item in value:
            yield from _parts(item)
    else:
        yield _plain_text(value)


def _parts_of_index(index: Any) -> Iterator[bytes | memoryview]:
    """Give a table's index, if it is more than the numbers of the rows."""
    names, values = list(index.names), np.asarray(index)
    if names != [None] or not np.array_equal(values, np.arange(len(values))):
        yield b"index"
        yield from _parts([list(map(str, names)), values])


def _parts_of_array(array: NDArray[Any]) -> Iterator[bytes | memoryview]:
    dtype = array.dtype.newbyteorder("<")
    yield f"array {dtype.str} {array.shape}".encode()
    if dtype.hasobject:
        yield _plain_text([str(item) for item in array.ravel()])
    elif array.size:
        yield np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data


def _plain_text(value: Any) -> bytes:
    try:
        return json.dumps(plain(value), sort_keys=True).encode()
    except TypeError as error:
        raise UsageError(
            f"a {type(value).__name__} has no content that a checksum could be taken of: {error}",
            hint="store arrays, tables, text or plain values, or use the backend without checksums",
        ) from error


def _is_alike(given: Any, back: Any) -> bool:
    """Whether both are arrays of one shape and dtype, so that every byte must be equal."""
    if find_memory_type(given) is None or find_memory_type(back) is None:
        return False
    host, stored = to_numpy(given), to_numpy(back)
    return host.shape == stored.shape and host.dtype == stored.dtype


def _difference(stored: str, found: str) -> str:
    return f"stored as {stored}, found {found}"


def _beside(path: StrPath) -> str:
    """Return where the checksum of an object lies."""
    text = path.as_posix() if isinstance(path, PurePath) else os.fspath(path)
    folder, slash, name = text.rstrip("/").rpartition("/")
    return f"{folder}{slash}{HIDDEN}/{name}{_SUFFIX}"


def _described(path: str) -> str | None:
    """Return which object a listed path is the checksum of; None for anything else."""
    folder, found, name = path.rpartition(f"{HIDDEN}/")
    return folder + name.removesuffix(_SUFFIX) if found else None
