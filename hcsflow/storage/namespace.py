"""Folders and what lies in them, by logical path; what an entry stands for is not known here."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from math import inf
from typing import Generic, TypeAlias, TypeVar

from hcsflow.errors import StoreFullError
from hcsflow.storage.paths import StrPath, logical

__all__ = ["Namespace"]

Entry = TypeVar("Entry")
_TAKEN = "already in memory (overwrite=True replaces it)"

Listing: TypeAlias = dict[str, None]
"""The logical paths of what lies in one folder."""


class Namespace(Generic[Entry]):
    """A tree of folders with entries. Not safe for threads: its owner holds a lock.

    After an error everything is as it was before.

    Parameters
    ----------
    most : float
        Number of entries that there may be.

    Examples
    --------
    >>> names = Namespace()
    >>> names.put("a", 1, False, "/a")
    >>> names.find("/a")
    1
    """

    def __init__(self, most: float = inf) -> None:
        self._most = most
        self._folders: dict[str, Listing] = {"": {}}
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def values(self) -> list[Entry]:
        """Return all entries."""
        return list(self._entries.values())

    def has_entry(self, path: StrPath) -> bool:
        """Whether an entry has this path."""
        return logical(path) in self._entries

    def has_folder(self, path: StrPath) -> bool:
        """Whether a folder has this path; the root always does."""
        return logical(path) in self._folders

    def find(self, path: StrPath) -> Entry:
        """Return an entry.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            If there is none.
        """
        key = logical(path)
        try:
            return self._entries[key]
        except KeyError:
            pass
        if key in self._folders:
            raise IsADirectoryError(errno.EISDIR, "a folder in memory", str(path))
        raise FileNotFoundError(errno.ENOENT, "not in memory", str(path))

    def place(self, key: str, overwrite: bool, path: StrPath) -> Listing:
        """Return the folder where an entry can be put at a logical path; errors say ``path``.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        IsADirectoryError
            If a folder has that path.
        FileExistsError
            If an entry has it and ``overwrite`` is not set.
        StoreFullError
            If there may not be one more.
        """
        if key in self._entries:
            if not overwrite:
                raise FileExistsError(errno.EEXIST, _TAKEN, os.fspath(path))
        elif key in self._folders:
            message = "a folder in memory has this path" if key else "the root is no object's path"
            raise IsADirectoryError(errno.EISDIR, message, os.fspath(path))
        elif len(self._entries) >= self._most:
            self.require_room(1)
        return self._parent(key, path)

    def _parent(self, key: str, path: StrPath) -> Listing:
        try:
            return self._folders[key.rpartition("/")[0]]
        except KeyError:
            message = "no such folder in memory (ensure_directory makes it)"
            raise FileNotFoundError(errno.ENOENT, message, os.fspath(path)) from None

    def require_room(self, more: int) -> None:
        """Require that there may be some more entries.

        Raises
        ------
        StoreFullError
            Otherwise.
        """
        if len(self._entries) + more > self._most:
            raise StoreFullError(
                f"{len(self._entries):,} objects are in memory, max_objects is {self._most:,}",
                hint="delete what is no longer needed, or raise max_objects",
            )

    def put(self, key: str, entry: Entry, overwrite: bool, path: StrPath) -> Entry | None:
        """Set the entry at a logical path; return what it replaced; errors say ``path``.

        Raises
        ------
        FileNotFoundError, IsADirectoryError, FileExistsError, StoreFullError
            As `place`.
        """
        place = self.place(key, overwrite, path)
        old = self._entries.get(key)
        self._entries[key] = entry
        place[key] = None
        return old

    def names(self, directory: StrPath) -> list[str]:
        """Return the names in a folder."""
        return [key.rpartition("/")[2] for key in self._folders[self._folder(directory)]]

    def entries(self, directory: StrPath, *, recursive: bool) -> list[str]:
        """Return the paths of entries in a folder, relative to it."""
        start = self._folder(directory)
        skip = len(start) + 1 if start else 0
        return [key[skip:] for key in self._below(start, deep=recursive) if key in self._entries]

    def _folder(self, directory: StrPath) -> str:
        key = logical(directory)
        if key in self._entries:
            raise NotADirectoryError(errno.ENOTDIR, "an object in memory", str(directory))
        if key not in self._folders:
            raise FileNotFoundError(errno.ENOENT, "no such folder in memory", str(directory))
        return key

    def _below(self, folder: str, *, deep: bool) -> Iterator[str]:
        """Yield the paths of all that lies in a folder; of folders before what is in them."""
        for key in self._folders[folder]:
            yield key
            if deep and key in self._folders:
                yield from self._below(key, deep=True)

    def ensure_folder(self, directory: StrPath) -> None:
        """Make a folder and its parents.

        Raises
        ------
        NotADirectoryError
            If an entry has that path, or that of a parent.
        """
        key = logical(directory)
        if key in self._folders:
            return
        parts = [key[:end] for end, letter in enumerate(key) if letter == "/"] + [key]
        for part in parts:
            if part in self._entries:
                message = f"an object has the path {part!r}"
                raise NotADirectoryError(errno.ENOTDIR, message, os.fspath(directory))
        for part in parts:
            if part not in self._folders:
                self._folders[part] = {}
                self._parent(part, directory)[part] = None

    def remove(self, path: StrPath, *, whole: bool) -> list[Entry]:
        """Remove an entry or folder; return the entries that went. The root itself stays.

        Parameters
        ----------
        path : path
            What to remove.
        whole : bool
            A folder with all that is in it; otherwise only an empty one.

        Raises
        ------
        FileNotFoundError
            If there is nothing.
        OSError
            If a folder is not empty and ``whole`` is not set.
        """
        key = logical(path)
        if key not in self._folders:
            gone = self.find(path)
            del self._entries[key]
            del self._parent(key, path)[key]
            return [gone]
        if self._folders[key] and not whole:
            raise OSError(errno.ENOTEMPTY, "folder in memory is not empty", str(path))
        below = list(self._below(key, deep=True))
        for folder in below:
            self._folders.pop(folder, None)
        self._folders[key].clear()
        if key:
            del self._folders[key]
            del self._parent(key, path)[key]
        return [self._entries.pop(name) for name in below if name in self._entries]

    def pairs(self, source: StrPath, target: StrPath) -> list[tuple[str, str]]:
        """Pair every path at or below ``source`` with where it goes; folders first.

        Raises
        ------
        FileNotFoundError
            If there is no source, or no folder for the target.
        OSError
            If one lies within the other.
        """
        old, new = logical(source), logical(target)
        if old not in self._folders:
            self.find(source)
        self._parent(new, target)
        if not old or not new or new.startswith(f"{old}/") or old.startswith(f"{new}/"):
            raise OSError(errno.EINVAL, "one folder lies within the other", os.fspath(target))
        below = self._below(old, deep=True) if old in self._folders else ()
        return [(key, new + key[len(old) :]) for key in (old, *below)]

    def clear(self, target: StrPath, *, overwrite: bool) -> list[Entry]:
        """Remove what is in the way at ``target``; return the entries that went.

        Raises
        ------
        FileExistsError
            If something is there and ``overwrite`` is not set.
        """
        if not self.has_entry(target) and not self.has_folder(target):
            return []
        if not overwrite:
            raise FileExistsError(errno.EEXIST, _TAKEN, os.fspath(target))
        return self.remove(target, whole=True)

    def rename(self, source: StrPath, target: StrPath, *, overwrite: bool) -> list[Entry]:
        """Move an entry or folder; return the entries that were replaced.

        Raises
        ------
        FileNotFoundError, FileExistsError, OSError
            As `pairs` and `clear`.
        """
        pairs = self.pairs(source, target)
        if pairs[0][0] == pairs[0][1]:
            return []
        gone = self.clear(target, overwrite=overwrite)
        for start, end in pairs:
            del self._parent(start, source)[start]
            if start in self._folders:
                self._folders[end] = self._folders[start]
            else:
                self._entries[end] = self._entries.pop(start)
            self._parent(end, target)[end] = None
        for start, _ in pairs:
            self._folders.pop(start, None)
        return gone
