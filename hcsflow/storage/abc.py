"""What storage can do, by type. An ability that a backend lacks is absent from its type.

Paths are logical: POSIX, with or without a leading slash (``/a`` is ``a``), the root ``""`` or
``"/"``; where a backend has a root, a part ``..`` is a `PathError` (a ValueError).

`DataSink` takes data; `DataSource` gives it back by name; a `StorageBackend` does both and
manages a tree of files; a `VirtualBackend` presents planes that lie elsewhere under generated
names; a `StreamingBackend` sends to a viewer and forgets; a `VerifiableBackend` knows what was
stored in it.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hcsflow.errors import UsageError
from hcsflow.storage.paths import StrPath, join

__all__ = [
    "DataSink",
    "DataSource",
    "FileStat",
    "StorageBackend",
    "StreamingBackend",
    "VerifiableBackend",
    "Verification",
    "VirtualBackend",
]


class FileStat(NamedTuple):
    """What is known about a path without loading it; ``nbytes`` is 0 for a folder."""

    path: str
    is_dir: bool
    nbytes: int
    kind: str


class DataSink(ABC):
    """A destination for data."""

    @abstractmethod
    def save(self, data: Any, path: StrPath, *, overwrite: bool = False) -> None:
        """Store ``data`` at ``path``, whole or not at all.

        What the caller does to ``data`` afterwards does not change what is stored.

        Raises
        ------
        FileExistsError
            If something is there and ``overwrite`` is not set; it is left as it was.
        ValueError
            If the backend cannot hold such data (`UsageError`), or the path leads upwards
            (`PathError`); nothing is stored, and what was there is as before.
        OSError
            If the path is a folder, or lies below what is none; if its folder is not there and
            the backend makes none.
        """

    def save_batch(
        self, data: Sequence[Any], paths: Sequence[StrPath], *, overwrite: bool = False
    ) -> None:
        """Store several objects, in order; after an error the earlier ones stay.

        Raises
        ------
        UsageError
            If there are not as many paths as objects; nothing is stored.
        """
        require_equal(data, paths)
        for item, path in zip(data, paths, strict=True):
            self.save(item, path, overwrite=overwrite)


class DataSource(ABC):
    """Data by name, in folders."""

    @abstractmethod
    def load(self, path: StrPath) -> Any:
        """Return what is stored at ``path``; arrays as numpy.

        Changing what is returned does not change what is stored; it may be read-only.

        Raises
        ------
        FileNotFoundError
            If there is nothing; its text names the path.
        IsADirectoryError
            If it is a folder.
        ValueError
            If what is stored is damaged; its text names the path.
        """

    def load_batch(self, paths: Sequence[StrPath]) -> list[Any]:
        """Return what is stored at each path, in order."""
        return [self.load(path) for path in paths]

    @abstractmethod
    def is_file(self, path: StrPath) -> bool:
        """Whether ``path`` can be loaded."""

    @abstractmethod
    def is_dir(self, path: StrPath) -> bool:
        """Whether ``path`` is a folder."""

    def exists(self, path: StrPath) -> bool:
        """Whether ``path`` is a file or folder."""
        return self.is_file(path) or self.is_dir(path)

    @abstractmethod
    def list_files(
        self,
        directory: StrPath,
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
    ) -> list[str]:
        """List files in natural order, as paths beginning with ``directory`` as given.

        Parameters
        ----------
        directory : path
            Where to look.
        pattern : str, optional
            Shell pattern for the file's name.
        extensions : iterable of str or str, optional
            Endings such as ``".tif"``, in any case, with or without the dot; a str is one.
        recursive : bool
            Also in folders below.

        Raises
        ------
        FileNotFoundError, NotADirectoryError
            If ``directory`` is no folder.
        """

    @abstractmethod
    def list_dir(self, directory: StrPath) -> list[str]:
        """List the names of files and folders in a folder, in natural order."""


class StorageBackend(DataSink, DataSource):
    """A tree of files that can be written, read and rearranged.

    What `hcsflow.testing.backends.BackendTests` demands of one:

    - ``/a`` and ``a`` are one path; ``..`` raises a ValueError (`PathError`), and leads nowhere.
    - Nothing is replaced unasked, a save is whole or not at all, of two writers one succeeds.
    - Isolation: no caller's array shares changeable memory with what is stored, saved or loaded.
    - What it cannot hold is a ValueError (`UsageError`) that leaves no trace.
    - A backend whose pickled copy would not be the same store refuses to be pickled (TypeError).
    - Any number of threads may use it at once.

    Examples
    --------
    A whole backend: arrays of numbers in the memory of one process.

    >>> import threading
    >>> from hcsflow.storage.incoming import as_numbers
    >>> from hcsflow.storage.namespace import Namespace
    >>> from hcsflow.storage.paths import join, logical, matches, natural
    >>> class DictBackend(StorageBackend):
    ...     def __init__(self):
    ...         self.names, self.lock = Namespace(), threading.Lock()  # a lock is never pickled
    ...     def save(self, data, path, *, overwrite=False):
    ...         try:
    ...             array = as_numbers(data).copy()
    ...         except TypeError as error:
    ...             raise ValueError(f"{path}: {error}") from error
    ...         with self.lock:
    ...             self.names.put(logical(path), array, overwrite, path)
    ...     def load(self, path):
    ...         return self.names.find(path).copy()
    ...     def is_file(self, path):
    ...         return self.names.has_entry(path)
    ...     def is_dir(self, path):
    ...         return self.names.has_folder(path)
    ...     def list_files(self, directory, *, pattern=None, extensions=None, recursive=False):
    ...         found = self.names.entries(directory, recursive=recursive)
    ...         fits = [n for n in found if matches(n.rpartition("/")[2], pattern, extensions)]
    ...         return [join(directory, name) for name in natural(fits)]
    ...     def list_dir(self, directory):
    ...         return natural(self.names.names(directory))
    ...     def ensure_directory(self, directory):
    ...         self.names.ensure_folder(directory)
    ...         return directory
    ...     def delete(self, path):
    ...         self.names.remove(path, whole=False)
    ...     def delete_all(self, path):
    ...         self.names.remove(path, whole=True)
    ...     def move(self, source, target, *, overwrite=False):
    ...         self.names.rename(source, target, overwrite=overwrite)
    ...     def copy(self, source, target, *, overwrite=False):
    ...         pairs = self.names.pairs(source, target)
    ...         self.names.clear(target, overwrite=overwrite and pairs[0][0] != pairs[0][1])
    ...         for start, end in pairs:
    ...             if self.is_dir(start):
    ...                 self.names.ensure_folder(end)
    ...             else:
    ...                 self.save(self.load(start), end)
    ...     def stat(self, path):
    ...         if self.is_dir(path):
    ...             return FileStat(path, True, 0, "folder")
    ...         return FileStat(path, False, self.names.find(path).nbytes, "numpy")
    """

    @abstractmethod
    def ensure_directory(self, directory: StrPath) -> str:
        """Make a folder and its parents where they are not there; return its path."""

    @abstractmethod
    def delete(self, path: StrPath) -> None:
        """Remove a file or an empty folder.

        Raises
        ------
        FileNotFoundError
            If there is nothing.
        OSError
            If it is a folder with something in it (`delete_all` removes those).
        """

    @abstractmethod
    def delete_all(self, path: StrPath) -> None:
        """Remove a file, or a folder and everything in it; of the root, its contents.

        Raises
        ------
        FileNotFoundError
            If there is nothing.
        """

    @abstractmethod
    def move(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Rename a file or folder; onto itself, nothing happens.

        Raises
        ------
        FileNotFoundError
            If there is no source.
        FileExistsError
            If the target is there and ``overwrite`` is not set.
        OSError
            If one lies within the other.
        """

    @abstractmethod
    def copy(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Copy a file or folder; errors as of `move`, and FileExistsError onto itself."""

    @abstractmethod
    def stat(self, path: StrPath) -> FileStat:
        """Return what is known about a path without loading it."""

    def mirror_directory(
        self, source: StrPath, target: StrPath, *, recursive: bool = True, overwrite: bool = False
    ) -> int:
        """Copy a folder's files to the same names below ``target``; return how many.

        Real copies: no symlinks are made.
        """
        files = self.list_files(source, recursive=recursive)
        self.ensure_directory(target)
        for file in files:
            copy = join(target, os.path.relpath(file, source))
            self.ensure_directory(os.path.dirname(copy))  # noqa: PTH120 - not of this machine
            self.copy(file, copy, overwrite=overwrite)
        return len(files)


class VirtualBackend(DataSource):
    """Files that exist by name only: listed from metadata, read from where they really lie."""

    @abstractmethod
    def generate_filename(self, metadata: Mapping[str, Any]) -> str:
        """Return the name under which a plane with this metadata is listed."""


class StreamingBackend(DataSink):
    """A viewer or another program that takes data and does not give it back."""

    @abstractmethod
    def close(self) -> None:
        """End the connection; further calls fail."""


class Verification(NamedTuple):
    """How many stored objects were checked, and what is wrong with which of them by path."""

    checked: int
    damaged: dict[str, str]

    @property
    def is_sound(self) -> bool:
        """Whether all that was stored is there as it was stored."""
        return not self.damaged


class VerifiableBackend(ABC):
    """A backend that can tell whether what it holds is what was stored."""

    @abstractmethod
    def verify(self, directory: StrPath = "") -> Verification:
        """Check every object at and below a path against what was stored."""


ABILITIES: Mapping[type, str] = {
    DataSink: "take data",
    DataSource: "give data",
    StorageBackend: "rearrange files",
    VerifiableBackend: "verify what it holds",
}
"""What a backend of each type can do, for messages."""


def require_equal(data: Sequence[Any], paths: Sequence[StrPath]) -> None:
    """Refuse a batch whose objects and paths differ in number."""
    if len(data) != len(paths):
        raise UsageError(f"a batch of {len(data)} objects was given {len(paths)} paths")
