"""Packed objects as files whose arrays can be used where they lie, by mapping the file."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import struct
from pathlib import Path
from typing import Any

from hcsflow.errors import PlaneError
from hcsflow.storage.families import Weight
from hcsflow.storage.packing import Part, unpack, write_all

__all__ = ["read_mapped", "read_weight", "write_packed"]

_MAGIC = b"hcsobj1\n"
_HEADER = struct.Struct("<8s24sQQ")
_EXTENT = struct.Struct("<QQ")
_ALIGNMENT = 64


def write_packed(stream: int, parts: list[Part], weight: Weight) -> None:
    """Write an object to an open file: header, extents of its parts, parts aligned to 64 bytes.

    Raises
    ------
    OSError
        If it cannot be written whole.
    """
    sizes = [part.content.nbytes for part in parts]
    position = _HEADER.size + _EXTENT.size * len(parts)
    head = bytearray(_HEADER.pack(_MAGIC, weight.family.encode()[:24], weight.nbytes, len(parts)))
    offsets = []
    for nbytes in sizes:
        position += -position % _ALIGNMENT
        offsets.append(position)
        head += _EXTENT.pack(position, nbytes)
        position += nbytes
    write_all(stream, memoryview(head))
    for offset, part in zip(offsets, parts, strict=True):
        os.lseek(stream, offset, os.SEEK_SET)
        write_all(stream, part.content)
    os.ftruncate(stream, offsets[-1] + sizes[-1])  # an empty part may lie beyond the last byte


def read_mapped(file: Path) -> Any:
    """Return the object in a file; its arrays are read-only and lie in the file's own memory.

    They stay valid when the file is removed or replaced by another.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no file.
    PlaneError
        If the file is not what `write_packed` wrote.
    """
    stream = os.open(file, os.O_RDONLY)
    try:
        if stat.S_ISDIR(os.fstat(stream).st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder has this path", str(file))
        _weight(os.pread(stream, _HEADER.size, 0), file)
        whole = memoryview(mmap.mmap(stream, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(stream)
    return unpack([whole[start:end] for start, end in _extents(whole, file)])


def _extents(whole: memoryview, file: Path) -> list[tuple[int, int]]:
    """Return where each part begins and ends; all lie within the file."""
    count = _HEADER.unpack_from(whole)[3]
    table = whole[_HEADER.size : _HEADER.size + count * _EXTENT.size]
    if len(table) < count * _EXTENT.size:
        raise _foreign(file)
    extents = [(start, start + size) for start, size in _EXTENT.iter_unpack(table)]
    if not extents or max(end for _, end in extents) > len(whole):
        raise _foreign(file)
    return extents


def _foreign(file: Path) -> PlaneError:
    return PlaneError(f"{file}: not a whole object of a shared store", hint="remove the file")


def read_weight(file: Path) -> Weight:
    """Return the family and size in bytes of the object in a file.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    PlaneError
        If the file was not written by `write_packed`.
    """
    with file.open("rb", buffering=0) as stream:
        return _weight(stream.read(_HEADER.size), file)


def _weight(header: bytes, file: Path) -> Weight:
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise _foreign(file)
    _, family, nbytes, _ = _HEADER.unpack(header)
    return Weight(family.rstrip(b"\0").decode(), nbytes)
