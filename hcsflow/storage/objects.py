"""Stored objects: files that appear whole under their name, with size and checksum."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import google_crc32c

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ObjectFile", "StoredObject", "checksum_of", "file_checksum", "write_new"]

_BLOCK_BYTES = 1 << 22


class StoredObject(NamedTuple):
    """One file of a store: path relative to the writer's root, size, ``crc32c:<8 hex>``."""

    path: str
    nbytes: int
    checksum: str


def checksum_of(*parts: bytes) -> str:
    """Return the checksum of bytes end to end, as `StoredObject` states it.

    Examples
    --------
    >>> checksum_of(b"1234", b"56789")
    'crc32c:e3069283'
    """
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return f"crc32c:{crc:08x}"


def file_checksum(path: Path) -> str:
    """Return the checksum of a file's bytes, as `checksum_of` does.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            crc = google_crc32c.extend(crc, block)
    return f"crc32c:{crc:08x}"


def write_new(path: Path, data: bytes) -> None:
    """Write a whole file; its folders are made where there are none.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    try:
        path.write_bytes(data)
    except FileNotFoundError:  # rare: asking first would cost every file a call
        os.makedirs(path.parent, exist_ok=True)  # noqa: PTH103 - several times faster
        path.write_bytes(data)


class ObjectFile:
    """A file in the making: its bytes lie in ``<name>.part`` until `commit`.

    Parameters
    ----------
    path : Path
        The object's file; its folders are made.

    Attributes
    ----------
    nbytes : int
        Written so far.

    Raises
    ------
    FileExistsError
        If another writer is at work on this object (or one that was killed left its part).
    OSError
        If the file cannot be made.

    Examples
    --------
    >>> file = ObjectFile(getfixture("tmp_path") / "c" / "0")
    >>> file.write(b"123456789")
    >>> file.commit().checksum
    'crc32c:e3069283'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nbytes = 0
        self._crc = 0
        self._part = path.with_name(f"{path.name}.part")
        self._file = self._begin()

    def _begin(self) -> IO[bytes]:
        try:
            return self._part.open("xb", buffering=0)
        except FileNotFoundError:
            os.makedirs(self.path.parent, exist_ok=True)  # noqa: PTH103 - several times faster
            return self._part.open("xb", buffering=0)

    def write(self, data: bytes | NDArray[np.uint8]) -> None:
        """Append bytes, or the memory of a flat array.

        Raises
        ------
        OSError
            If the system refuses, e.g. on a full disk; names the file. Discard the object then.
        """
        if self._file.closed:
            self._file = self._part.open("ab", buffering=0)
        rest = memoryview(data if isinstance(data, bytes) else data.data)
        try:
            while rest:  # the system may take less than it is given
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            # the system does not say which file
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.nbytes += len(data)
        self._crc = google_crc32c.extend(self._crc, data)

    def rest(self) -> None:
        """Give the file handle back until the next `write`."""
        self._file.close()

    def commit(self) -> StoredObject:
        """Give the file its name."""
        self._file.close()
        self._part.replace(self.path)
        return StoredObject(str(self.path), self.nbytes, f"crc32c:{self._crc:08x}")

    def discard(self) -> None:
        """Remove what was written, unless committed; safe to call twice."""
        self._file.close()
        self._part.unlink(missing_ok=True)
