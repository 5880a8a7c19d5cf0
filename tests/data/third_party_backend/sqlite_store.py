"""Arrays in one SQLite file: what somebody else's backend for hcsflow looks like."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from hcsflow.errors import MemoryConversionError, UsageError
from hcsflow.storage.abc import FileStat, StorageBackend
from hcsflow.storage.incoming import as_numbers
from hcsflow.storage.paths import StrPath, join, logical, matches, natural

_TABLE = "CREATE TABLE IF NOT EXISTS entries (path TEXT PRIMARY KEY, content BLOB)"
_BELOW = "substr(path, 1, length(?) + 1) = ? || '/'"


class SqliteStorageBackend(StorageBackend):
    """Arrays of numbers by path; a folder is an entry without content.

    ``file`` is the database; the default is that of the environment variable SQLITE_STORE.
    """

    def __init__(self, file: StrPath | None = None) -> None:
        self.file = os.fspath(os.environ["SQLITE_STORE"] if file is None else file)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Give a connection in a transaction that no other writer shares."""
        with closing(sqlite3.connect(self.file, timeout=60, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_TABLE)
            connection.execute("INSERT OR IGNORE INTO entries VALUES ('', NULL)")
            with connection:
                yield connection

    def save(self, data: Any, path: StrPath, *, overwrite: bool = False) -> None:
        key, stream = logical(path), io.BytesIO()
        try:
            np.save(stream, as_numbers(data))
        except (TypeError, MemoryConversionError) as error:
            raise UsageError(f"{path}: SQLite stores arrays of numbers: {error}") from error
        with self._open() as entries:
            _make_folders(entries, key.rpartition("/")[0])
            _clear(entries, key, overwrite=overwrite, folder=False)
            entries.execute("INSERT INTO entries VALUES (?, ?)", (key, stream.getvalue()))

    def load(self, path: StrPath) -> Any:
        with self._open() as entries:
            content = _content(entries, logical(path))
        if content is None:
            raise IsADirectoryError(errno.EISDIR, "a folder", str(path))
        return np.load(io.BytesIO(content), allow_pickle=False)

    def is_file(self, path: StrPath) -> bool:
        key = logical(path)
        with self._open() as entries:
            return _exists(entries, key) and _content(entries, key) is not None

    def is_dir(self, path: StrPath) -> bool:
        key = logical(path)
        with self._open() as entries:
            return _exists(entries, key) and _content(entries, key) is None

    def list_files(
        self,
        directory: StrPath,
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
    ) -> list[str]:
        wanted = None if extensions is None else tuple(extensions)
        found = [name for name, is_file in self._below(directory) if is_file]
        if not recursive:
            found = [name for name in found if "/" not in name]
        chosen = (n for n in found if matches(n.rpartition("/")[2], pattern, wanted))
        return [join(directory, name) for name in natural(chosen)]

    def list_dir(self, directory: StrPath) -> list[str]:
        return natural(name for name, _ in self._below(directory) if "/" not in name)

    def ensure_directory(self, directory: StrPath) -> str:
        with self._open() as entries:
            _make_folders(entries, logical(directory))
        return os.fspath(directory)

    def delete(self, path: StrPath) -> None:
        if self.is_dir(path) and self.list_dir(path):
            raise OSError(errno.ENOTEMPTY, "the folder is not empty", str(path))
        self.delete_all(path)

    def delete_all(self, path: StrPath) -> None:
        with self._open() as entries:
            _content(entries, logical(path))
            _remove(entries, logical(path))

    def move(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        if logical(source) != logical(target):
            with self._open() as entries:
                _copy(entries, logical(source), logical(target), overwrite=overwrite)
                _remove(entries, logical(source))

    def copy(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        with self._open() as entries:
            _copy(entries, logical(source), logical(target), overwrite=overwrite)

    def stat(self, path: StrPath) -> FileStat:
        with self._open() as entries:
            content = _content(entries, logical(path))
        is_dir = content is None
        kind = "folder" if content is None else "sqlite"
        return FileStat(os.fspath(path), is_dir, 0 if content is None else len(content), kind)

    def _below(self, directory: StrPath) -> list[tuple[str, bool]]:
        key = logical(directory)
        with self._open() as entries:
            if _content(entries, key) is not None:
                raise NotADirectoryError(errno.ENOTDIR, "an array", str(directory))
            start = len(key) + 1 if key else 0
            rows = entries.execute("SELECT path, content IS NOT NULL FROM entries").fetchall()
        prefix = f"{key}/" if key else ""
        return [(p[start:], bool(is_file)) for p, is_file in rows if p and p.startswith(prefix)]


def _exists(entries: sqlite3.Connection, key: str) -> bool:
    return entries.execute("SELECT 1 FROM entries WHERE path = ?", (key,)).fetchone() is not None


def _content(entries: sqlite3.Connection, key: str) -> bytes | None:
    row = entries.execute("SELECT content FROM entries WHERE path = ?", (key,)).fetchone()
    if row is None:
        parent = key.rpartition("/")[0]
        if key and _exists(entries, parent) and _content(entries, parent) is not None:
            raise NotADirectoryError(errno.ENOTDIR, "an array", parent)
        raise FileNotFoundError(errno.ENOENT, "not in the database", key)
    content: bytes | None = row[0]
    return content


def _make_folders(entries: sqlite3.Connection, key: str) -> None:
    parts = key.split("/") if key else []
    for number in range(1, len(parts) + 1):
        folder = "/".join(parts[:number])
        if not _exists(entries, folder):
            entries.execute("INSERT INTO entries VALUES (?, NULL)", (folder,))
        elif _content(entries, folder) is not None:
            raise NotADirectoryError(errno.ENOTDIR, "an array", folder)


def _remove(entries: sqlite3.Connection, key: str) -> None:
    entries.execute(f"DELETE FROM entries WHERE path = ? OR {_BELOW}", (key, key, key))


def _clear(entries: sqlite3.Connection, key: str, *, overwrite: bool, folder: bool) -> None:
    if not _exists(entries, key):
        return
    if not folder and _content(entries, key) is None:
        raise IsADirectoryError(errno.EISDIR, "a folder", key)
    if not overwrite:
        raise FileExistsError(errno.EEXIST, "already in the database", key)
    _remove(entries, key)


def _copy(entries: sqlite3.Connection, old: str, new: str, *, overwrite: bool) -> None:
    _content(entries, old)
    if f"{new}/".startswith(f"{old}/"):
        raise OSError(errno.EINVAL, "one folder lies within the other", new)
    _make_folders(entries, new.rpartition("/")[0])
    _clear(entries, new, overwrite=overwrite, folder=True)
    entries.execute(
        f"INSERT INTO entries SELECT ? || substr(path, length(?) + 1), content FROM entries "
        f"WHERE path = ? OR {_BELOW}",
        (new, old, old, old, old),
    )
