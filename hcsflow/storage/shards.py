"""Zarr arrays on disk, streamed: chunks encoded one by one, appended in call order.

A shard (``sharding_indexed``, Zarr extension spec v1.0) is its encoded inner chunks in any order,
then an index of (offset, nbytes) per inner chunk as little-endian uint64, row-major, with
2^64 - 1 for absent ones, then the CRC-32C of that index as little-endian uint32.

A shard's chunks go to its file as they are encoded, so memory does not depend on the array's
size: as many chunks are held as are encoded at a time, and one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from hcsflow.ngff.model import ArrayLayout
from hcsflow.storage.chunks import ArrayWriter, BlockWriter, ChunkWriter, Index
from hcsflow.storage.encoding import Encoded, Encoders
from hcsflow.storage.objects import ObjectFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ABSENT", "MAX_OPEN_FILES", "ShardWriter", "open_writer"]

ABSENT = 2**64 - 1
"""Offset and size of an inner chunk that is not there."""

MAX_OPEN_FILES = 32
"""File handles that one `ShardWriter` keeps; shards beyond are reopened when their turn comes."""


def open_writer(folder: Path, array: ArrayLayout, *, encoders: int | Encoders = 1) -> ArrayWriter:
    """Return the writer that an array's layout asks for.

    Parameters
    ----------
    folder : Path
        The array's folder; its objects go below it, its metadata is the caller's.
    array : ArrayLayout
        With ``shards``: Zarr 3 shards, or Zarr 2 chunks of that size. Without: chunks.
    encoders : int or Encoders
        How many chunks are encoded at a time, or threads that writers share.

    Raises
    ------
    PlanRefusedError
        If the codec cannot encode an object of this size.

    Examples
    --------
    >>> from hcsflow.ngff.model import Codec
    >>> array = ArrayLayout("0", ("c", "y", "x"), (2, 8, 8), chunks=(1, 8, 8), shards=(2, 8, 8),
    ...                     dtype="uint16", codec=Codec(), scale=(1.0, 1.0, 1.0))
    >>> with open_writer(getfixture("tmp_path"), array) as writer:
    ...     writer.append((0, 0, 0), np.ones((8, 8), "uint16"))
    ...     writer.append((1, 0, 0), np.zeros((8, 8), "uint16"))
    ...     (stored,) = writer.close()
    >>> Path(stored.path).name, stored.nbytes == Path(stored.path).stat().st_size
    ('0', True)
    """
    if array.shards is None:
        return ChunkWriter(folder, array, encoders)
    kind = BlockWriter if array.zarr_format == 2 else ShardWriter
    return kind(folder, array, encoders)


@dataclass(slots=True)
class _Shard:
    """A shard under way; ``missing`` chunks are still to come."""

    file: ObjectFile
    index: NDArray[Any]
    missing: int


class ShardWriter(ArrayWriter):
    """Write shards, a chunk at a time; see `ArrayWriter`.

    A shard gets its name as soon as all its chunks are there, others at `close`.
    """

    def __init__(self, folder: Path, array: ArrayLayout, encoders: int | Encoders = 1) -> None:
        super().__init__(folder, array, encoders)
        self._shards: dict[Index, _Shard] = {}
        self._open: dict[Index, ObjectFile] = {}

    def rest(self) -> None:
        """Give the file handles of unfinished shards back until the next chunk."""
        for file in self._open.values():
            file.rest()
        self._open.clear()

    def _store(self, index: Index, encoded: Encoded) -> None:
        at, place = self._objects.split(index)
        shard = self._shards.get(at) or self._begin(at)
        self._keep_open(at, shard.file)
        shard.index[place] = shard.file.nbytes, len(encoded)
        shard.file.write(encoded)
        shard.missing -= 1
        if not shard.missing:
            self._complete(at)

    def _begin(self, at: Index) -> _Shard:
        index = np.full((*self._objects.counts, 2), ABSENT, "<u8")
        shard = _Shard(ObjectFile(self._path(at)), index, self._objects.chunks_of(at))
        self._shards[at] = shard
        return shard

    def _keep_open(self, at: Index, file: ObjectFile) -> None:
        """Count a file as the last used; beyond the limit the first gives its handle back."""
        self._open.pop(at, None)
        self._open[at] = file
        if len(self._open) > MAX_OPEN_FILES:
            self._open.pop(next(iter(self._open))).rest()

    def _complete(self, at: Index) -> None:
        """Append the index and its checksum, and give the file its name."""
        shard = self._shards[at]
        index = shard.index.tobytes()
        shard.file.write(index + struct.pack("<I", google_crc32c.value(index)))
        self._stored.append(shard.file.commit())
        del self._shards[at]
        self._open.pop(at, None)

    def _finish_objects(self) -> None:
        for at in tuple(self._shards):
            self._complete(at)

    def _discard(self) -> None:
        for shard in self._shards.values():
            shard.file.discard()
        self._shards.clear()
        self._open.clear()
