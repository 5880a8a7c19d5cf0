"""Zarr 3 chunks and shards, streamed: encoded one by one, appended in call order.

A shard (``sharding_indexed``, Zarr extension spec v1.0) is its encoded inner chunks in any order,
then an index of (offset, nbytes) per inner chunk as little-endian uint64, row-major, with
2^64 - 1 for absent ones, then the CRC-32C of that index as little-endian uint32.

Nothing is buffered but one chunk, so memory does not depend on the array's size. The same calls
give the same bytes: encoders run on one thread (blosc's bytes depend on its threads), gzip
carries no time.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import google_crc32c
import numcodecs.blosc
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from hcsflow.errors import ContractError
from hcsflow.ngff.model import ArrayLayout, Codec

__all__ = ["ChunkWriter", "ShardWriter", "StoredObject", "checksum_of", "chunk_key", "open_writer"]

ABSENT = 2**64 - 1
"""Offset and size of an inner chunk that is not there."""

Encoder = Callable[[NDArray[Any]], bytes]


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


def chunk_key(index: tuple[int, ...]) -> str:
    """Return a chunk's key below its array (``default`` encoding, ``/`` as separator).

    Examples
    --------
    >>> chunk_key((0, 2, 1))
    'c/0/2/1'
    """
    return "/".join(("c", *map(str, index)))


def open_writer(folder: Path, array: ArrayLayout) -> ShardWriter | ChunkWriter:
    """Return the writer that an array's layout asks for; files go below ``folder``."""
    if array.shards is None:
        return ChunkWriter(folder, array)
    return ShardWriter(folder / chunk_key((0,) * len(array.shape)), array)


class ShardWriter:
    """Write one shard, a chunk at a time.

    Until `close`, the bytes lie in ``<name>.part``; `abort` removes it, so a failed writer
    leaves no object.

    Parameters
    ----------
    path : Path
        The object's file; its folders are made.
    array : ArrayLayout
        The array; ``shards`` says how many inner chunks the object holds.

    Raises
    ------
    OSError
        If the file cannot be made.
    """

    def __init__(self, path: Path, array: ArrayLayout) -> None:
        self.path = path
        self._array = array
        self._encode = _encoder(array)
        shards = array.shards or array.shape
        self._counts = tuple(-(-s // c) for s, c in zip(shards, array.chunks, strict=True))
        self._index = np.full((*self._counts, 2), ABSENT, "<u8")
        self._nbytes = 0
        self._crc = 0
        self._part = path.with_name(f"{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = self._part.open("wb")

    def append(self, index: tuple[int, ...], chunk: NDArray[Any]) -> None:
        """Encode a chunk and append it.

        Parameters
        ----------
        index : tuple of int
            Place in the array's chunk grid.
        chunk : ndarray
            Pixels; leading axes of length 1 may be left out. Smaller ones (at the array's
            edges) are padded with zeros to the whole chunk.

        Raises
        ------
        ContractError
            If the place is taken or the pixels do not fit; nothing was appended.
        """
        place = tuple(i % n for i, n in zip(index, self._counts, strict=True))
        if self._index[(*place, 0)] != ABSENT:
            raise _taken(self._array, index)
        encoded = self._encode(_whole(self._array, chunk))
        self._index[place] = self._nbytes, len(encoded)
        self._write(encoded)

    def close(self) -> tuple[StoredObject, ...]:
        """Append the index, flush, and give the file its name; return the one object."""
        index = self._index.tobytes()
        self._write(index)
        self._write(struct.pack("<I", google_crc32c.value(index)))
        self._file.close()
        self._part.replace(self.path)
        return (StoredObject(str(self.path), self._nbytes, f"crc32c:{self._crc:08x}"),)

    def abort(self) -> None:
        """Remove what was written; safe to call twice."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._nbytes += len(data)
        self._crc = google_crc32c.extend(self._crc, data)


class ChunkWriter:
    """Write an array's chunks as one file each.

    Parameters
    ----------
    folder : Path
        The array's folder.
    array : ArrayLayout
        An array without shards.
    """

    def __init__(self, folder: Path, array: ArrayLayout) -> None:
        self.folder = folder
        self._array = array
        self._encode = _encoder(array)
        self._stored: dict[tuple[int, ...], StoredObject] = {}

    def append(self, index: tuple[int, ...], chunk: NDArray[Any]) -> None:
        """Encode a chunk and write its file, whole or not at all.

        Parameters and errors as for `ShardWriter.append`.
        """
        if index in self._stored:
            raise _taken(self._array, index)
        encoded = self._encode(_whole(self._array, chunk))
        path = self.folder / chunk_key(index)
        part = path.with_name(f"{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(encoded)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        self._stored[index] = StoredObject(str(path), len(encoded), checksum_of(encoded))

    def close(self) -> tuple[StoredObject, ...]:
        """Return the objects written, in call order."""
        return tuple(self._stored.values())

    def abort(self) -> None:
        """Remove what was written; safe to call twice."""
        for stored in self._stored.values():
            Path(stored.path).unlink(missing_ok=True)


def _encoder(array: ArrayLayout) -> Encoder:
    codec = array.codec
    if codec.name == "blosc":
        return _blosc(codec)
    if codec.name == "zstd":
        zstd = Zstd(level=codec.level)
        return lambda chunk: bytes(zstd.encode(chunk))
    if codec.name == "gzip":
        # numcodecs' gzip would stamp the time into each chunk
        return lambda chunk: gzip.compress(chunk.tobytes(), codec.level, mtime=0)
    return lambda chunk: chunk.tobytes()


def _blosc(codec: Codec) -> Encoder:
    shuffle = numcodecs.blosc.SHUFFLE if codec.shuffle else numcodecs.blosc.NOSHUFFLE
    blosc = numcodecs.blosc.Blosc(
        cname=codec.cname, clevel=codec.level, shuffle=shuffle, blocksize=codec.block_bytes
    )

    def encode(chunk: NDArray[Any]) -> bytes:
        # process-wide, and others may set it: with inner threads the bytes vary from run to run
        numcodecs.blosc.use_threads = False
        return bytes(blosc.encode(chunk))

    return encode


def _whole(array: ArrayLayout, chunk: NDArray[Any]) -> NDArray[Any]:
    """Return a C-contiguous, little-endian chunk of full size; a copy only where it must be."""
    lead = len(array.chunks) - chunk.ndim
    size = array.chunks[lead:] if lead >= 0 else ()
    fits = chunk.ndim == len(size) and all(
        0 < s <= c for s, c in zip(chunk.shape, size, strict=True)
    )
    if chunk.dtype.name != array.dtype or not fits or prod(array.chunks[: max(lead, 0)]) != 1:
        raise ContractError(
            f"array {array.path!r} takes chunks {array.chunks} of {array.dtype}, "
            f"got {chunk.shape} of {chunk.dtype}"
        )
    if chunk.shape != size:
        padded = np.zeros(size, chunk.dtype)
        padded[tuple(slice(0, s) for s in chunk.shape)] = chunk
        chunk = padded
    return np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("<"))


def _taken(array: ArrayLayout, index: tuple[int, ...]) -> ContractError:
    return ContractError(
        f"array {array.path!r}: chunk {index} is written already",
        hint="two planes claim the same place: each may be written once",
    )
