"""The disk tier of the memory backend: a folder private to one process and removed with it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from hcsflow.errors import StoreFullError
from hcsflow.storage.lazy import load_object
from hcsflow.storage.packing import Part, unpack, write_all
from hcsflow.storage.paths import naming

__all__ = ["SpillFolder"]

_PIECE = 16 << 20
"""Bytes compressed at once: bounds the memory that spilling itself takes."""


class _Record(NamedTuple):
    """One part in a file: its bytes, whether they may be changed, and its pieces' bytes there."""

    nbytes: int
    is_readonly: bool
    pieces: tuple[int, ...]


class _Folder(NamedTuple):
    """A folder and the process that made it, and alone removes files from it."""

    path: Path
    owner: int

    @property
    def is_ours(self) -> bool:
        return self.owner == os.getpid()


class _Stored(NamedTuple):
    """An object's file, and the parts in it."""

    folder: _Folder
    records: tuple[_Record, ...]

    @property
    def nbytes(self) -> int:
        return sum(sum(record.pieces) for record in self.records)


class SpillFolder:
    """Objects in files of a new private folder, by number; safe to use from several threads.

    A forked process reads what was written before it began, and writes to a folder of its own.

    An object that could not be written (disk full) is not kept, and its file is gone.

    Parameters
    ----------
    parent : Path or None
        Where the folder is made, at the first write; None is the system's temporary folder.
    limit_bytes : int or None
        Bytes of files to stay under.
    compress : bool
        Write arrays through blosc (lz4, shuffled), in pieces of 16 MiB.
    """

    def __init__(
        self, parent: Path | None = None, *, limit_bytes: int | None = None, compress: bool = False
    ) -> None:
        self._parent = parent
        self._limit = limit_bytes
        self._codec: Any = None
        if compress:
            self._codec = load_object("numcodecs.blosc:Blosc")(cname="lz4", clevel=5, shuffle=1)
        self._lock = Lock()
        self._folder: _Folder | None = None
        self._stored: dict[int, _Stored] = {}
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return self._nbytes

    def _own_folder(self) -> _Folder:
        with self._lock:
            if self._folder is None or not self._folder.is_ours:
                if self._parent is not None:
                    self._parent.mkdir(parents=True, exist_ok=True)
                made = Path(tempfile.mkdtemp(prefix="hcsflow-spill-", dir=self._parent))
                self._folder = _Folder(made, os.getpid())
                weakref.finalize(self, _remove, self._folder)
            return self._folder

    def put(self, number: int, parts: list[Part]) -> None:
        """Write an object, packed.

        Raises
        ------
        OSError
            If the disk or the tier is full; nothing is kept then.
        """
        folder = self._own_folder()
        file = folder.path / str(number)
        try:
            stream = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                with naming(file):
                    records = self._write(stream, parts)
            finally:
                os.close(stream)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        stored = _Stored(folder, records)
        with self._lock:
            self._stored[number] = stored
            self._nbytes += stored.nbytes

    def _write(self, stream: int, parts: list[Part]) -> tuple[_Record, ...]:
        records, total = [], self._nbytes
        for part in parts:
            pieces = []
            for piece in self._pieces(part):
                total += piece.nbytes
                self._require_room(total)
                write_all(stream, piece)
                pieces.append(piece.nbytes)
            content = part.content
            records.append(_Record(content.nbytes, content.readonly, tuple(pieces)))
        return tuple(records)

    def _pieces(self, part: Part) -> Iterator[memoryview]:
        if self._codec is None:
            yield part.content
            return
        dtype = np.dtype(f"u{part.itemsize}" if part.itemsize in {2, 4, 8} else "u1")
        for start in range(0, part.content.nbytes, _PIECE):
            elements = np.frombuffer(part.content[start : start + _PIECE], dtype)
            yield memoryview(self._codec.encode(elements))

    def _require_room(self, nbytes: int) -> None:
        if self._limit is not None and nbytes > self._limit:
            raise StoreFullError(
                f"spilling needs {nbytes:,} bytes on disk, the limit is {self._limit:,}",
                hint="raise disk_limit_bytes, or delete what is no longer needed",
            )

    def get(self, number: int) -> Any:
        """Return an object, in new memory.

        Raises
        ------
        KeyError
            If there is none of this number, or it was discarded meanwhile.
        """
        folder, records = self._stored[number]
        try:
            with (folder.path / str(number)).open("rb", buffering=0) as stream:
                contents = [self._read(stream, record) for record in records]
        except FileNotFoundError:
            if number not in self._stored:
                raise KeyError(number) from None
            raise
        return unpack(contents)

    def _read(self, stream: Any, record: _Record) -> memoryview:
        whole = np.empty(record.nbytes, np.uint8).data
        if self._codec is None:
            _read_all(stream, whole)
        else:
            for start, nbytes in zip(range(0, record.nbytes, _PIECE), record.pieces, strict=True):
                piece = np.empty(nbytes, np.uint8).data
                _read_all(stream, piece)
                self._codec.decode(piece, out=np.frombuffer(whole[start : start + _PIECE], "u1"))
        return whole.toreadonly() if record.is_readonly else whole

    def discard(self, number: int) -> None:
        """Remove an object, if it is there."""
        with self._lock:
            stored = self._stored.pop(number, None)
            if stored is None:
                return
            self._nbytes -= stored.nbytes
        if stored.folder.is_ours:
            (stored.folder.path / str(number)).unlink(missing_ok=True)

    def __contains__(self, number: object) -> bool:
        return number in self._stored

    def close(self) -> None:
        """Remove the folder and everything in it."""
        with self._lock:
            folder, self._folder = self._folder, None
            self._stored.clear()
            self._nbytes = 0
        if folder is not None:
            _remove(folder)


def _read_all(stream: Any, target: memoryview) -> None:
    rest = target
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise OSError(errno.EIO, "spilled data is cut short", str(stream.name))
        rest = rest[count:]


def _remove(folder: _Folder) -> None:
    if folder.is_ours:  # not in a fork of the process that made it
        shutil.rmtree(folder.path, ignore_errors=True)
