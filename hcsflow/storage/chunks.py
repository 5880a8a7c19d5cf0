"""Writers of an array's chunks, one by one: what all have in common, and those without shards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from operator import floordiv, mod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from hcsflow.errors import ContractError
from hcsflow.ngff.model import ArrayLayout
from hcsflow.storage.encoding import Encoded, Encoder, Encoders, encoder_of, whole_chunk
from hcsflow.storage.objects import ObjectFile, StoredObject

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["ArrayWriter", "BlockWriter", "ChunkWriter", "Objects", "chunk_key"]

Index = tuple[int, ...]


def chunk_key(index: Index, zarr_format: int = 3) -> str:
    """Return an object's key below its array, with ``/`` as separator.

    Examples
    --------
    >>> chunk_key((0, 2, 1)), chunk_key((0, 2, 1), zarr_format=2), chunk_key(()), chunk_key((), 2)
    ('c/0/2/1', '0/2/1', 'c', '0')
    """
    if zarr_format == 2:
        return "/".join(map(str, index)) or "0"
    return "/".join(("c", *map(str, index)))


class Objects:
    """The grid of an array's objects over that of its chunks.

    Parameters
    ----------
    array : ArrayLayout
        With ``shards``; without, each chunk is an object.

    Attributes
    ----------
    grid : tuple of int
        The array's chunks along each axis.
    counts : tuple of int
        Chunks in an object along each axis.
    """

    def __init__(self, array: ArrayLayout) -> None:
        self.grid = _ceil(array.shape, array.chunks)
        self.counts = _ceil(array.shards or array.chunks, array.chunks)

    def split(self, index: Index) -> tuple[Index, Index]:
        """Return the object that a chunk belongs to, and its place there."""
        return tuple(map(floordiv, index, self.counts)), tuple(map(mod, index, self.counts))

    def chunks_of(self, at: Index) -> int:
        """Return how many chunks of the array lie in an object; fewer at the edges."""
        sides = zip(at, self.counts, self.grid, strict=True)
        return prod(min(n, total - i * n) for i, n, total in sides)


def _ceil(sizes: Sequence[int], steps: Sequence[int]) -> Index:
    return tuple(-(-size // step) for size, step in zip(sizes, steps, strict=True))


class ArrayWriter(ABC):
    """Write an array chunk by chunk; a context manager: leaving it by an error aborts.

    Objects take chunks in the order of the calls, whatever the number of encoders, so the same
    calls give the same bytes. After an error in writing nothing is left and the writer is
    closed.

    Parameters
    ----------
    folder : Path
        The array's folder.
    array : ArrayLayout
        The array.
    encoders : int or Encoders
        How many chunks are encoded at a time: up to so many, and one, are held in memory by
        this writer. `Encoders` are shared, and outlive it.

    Raises
    ------
    PlanRefusedError
        If the codec cannot encode a chunk of this size.
    """

    def __init__(self, folder: Path, array: ArrayLayout, encoders: int | Encoders = 1) -> None:
        self.folder = folder
        self._array = array
        self._objects = Objects(array)
        self._encode = encoder_of(array, self._unit(array))
        self._taken = np.zeros(self._objects.grid, bool)
        self._stored: list[StoredObject] = []
        self._is_owner = isinstance(encoders, int)
        self._encoders = encoders if isinstance(encoders, Encoders) else Encoders(encoders)
        self._is_closed = False

    def append(self, index: Index, chunk: NDArray[Any]) -> None:
        """Encode a chunk and append it.

        Parameters
        ----------
        index : tuple of int
            Place in the array's chunk grid.
        chunk : ndarray
            Pixels; leading axes of length 1 may be left out. Smaller ones (at the array's
            edges) are padded with zeros to the whole chunk. With several encoders a writable
            chunk is copied; a read-only one is not, and must not change until `close`.

        Raises
        ------
        ContractError
            If there is no such place or it is taken, the pixels do not fit, or the writer is
            closed; nothing was appended.
        OSError
            If this chunk or one before it cannot be written; all is removed.
        """
        self._check(index)
        pixels = whole_chunk(self._array, chunk)
        self._taken[index] = True
        try:
            self._place(index, pixels)
        except BaseException:
            self.abort()
            raise

    def claim(self, index: Index) -> None:
        """Take a place for what `put` will bring.

        Raises
        ------
        ContractError
            If there is no such place or it is taken, or the writer is closed.
        """
        self._check(index)
        self._taken[index] = True

    def maker(self) -> Callable[[NDArray[Any]], Any]:
        """Return what makes of a chunk what `put` takes; it knows nothing of this writer.

        Any thread may call it.
        """
        return partial(_encoded, self._array, self._encode)

    def put(self, index: Index, made: Any) -> None:
        """Append what `maker` made of the chunk of a claimed place.

        Raises
        ------
        OSError
            If it cannot be written; all is removed.
        """
        try:
            self._take(index, made)
        except BaseException:
            self.abort()
            raise

    def close(self) -> tuple[StoredObject, ...]:
        """Finish all objects and return them, in the order in which they were finished.

        Places that no chunk came for read as 0; objects without any chunk are absent.

        Raises
        ------
        OSError
            If something cannot be written; all is removed.
        """
        self._require_open()
        try:
            self._finish()
            self._encoders.settle(self)
            self._finish_objects()
        except BaseException:
            self.abort()
            raise
        self._end()
        return tuple(self._stored)

    def abort(self) -> None:
        """Remove what was written, finished objects too; safe to call twice."""
        self._encoders.drop(self)
        self._end()
        self._discard()
        for stored in self._stored:
            Path(stored.path).unlink(missing_ok=True)
        self._stored.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abort()

    def _unit(self, array: ArrayLayout) -> tuple[int, ...]:
        """Return the shape that is encoded at once."""
        return array.chunks

    @abstractmethod
    def _store(self, index: Index, encoded: Encoded) -> None:
        """Write what was encoded."""

    def _take(self, index: Index, made: Any) -> None:
        """Append what was made of a chunk."""
        self._store(index, made)

    def _place(self, index: Index, pixels: NDArray[Any]) -> None:
        self._submit(index, pixels)

    def _finish(self) -> None:  # noqa: B027 - most hold nothing back
        """Submit what is still held back."""

    def _finish_objects(self) -> None:  # noqa: B027 - a chunk is an object at once
        """Finish objects that not all chunks came for."""

    def _discard(self) -> None:  # noqa: B027 - as above
        """Remove unfinished objects."""

    def _submit(self, index: Index, pixels: NDArray[Any]) -> None:
        """Encode now, or on a thread and store when it is this one's turn."""
        is_free = self._encoders.is_inline or not pixels.flags.writeable
        kept = pixels if is_free else pixels.copy()
        make = partial(_one_encoded, self._encode, kept)
        self._encoders.submit(self, make, partial(self._store_or_abort, index))

    def _store_or_abort(self, index: Index, encoded: Encoded) -> None:
        """Store what may have had its turn in a call to another writer."""
        try:
            self._store(index, encoded)
        except BaseException:
            self.abort()
            raise

    def _end(self) -> None:
        self._is_closed = True
        if self._is_owner:
            self._encoders.close()

    def _check(self, index: Index) -> None:
        self._require_open()
        grid = self._objects.grid
        if len(index) != len(grid) or not all(0 <= i < n for i, n in zip(index, grid, strict=True)):
            raise ContractError(f"array {self._array.path!r} has {grid} chunks, none at {index}")
        if self._taken[index]:
            raise ContractError(
                f"array {self._array.path!r}: chunk {index} is written already",
                hint="two planes claim the same place: each may be written once",
            )

    def _require_open(self) -> None:
        if self._is_closed:
            raise ContractError(f"array {self._array.path!r}: the writer is closed")

    def _path(self, at: Index) -> Path:
        return self.folder / chunk_key(at, self._array.zarr_format)


def _encoded(array: ArrayLayout, encode: Encoder, chunk: NDArray[Any]) -> Encoded:
    return encode(whole_chunk(array, chunk))


def _one_encoded(encode: Encoder, pixels: NDArray[Any]) -> tuple[Encoded]:
    return (encode(pixels),)


class ChunkWriter(ArrayWriter):
    """Write each chunk as an object, when it is appended; see `ArrayWriter`."""

    def _store(self, index: Index, encoded: Encoded) -> None:
        file = ObjectFile(self._path(index))
        try:
            file.write(encoded)
            self._stored.append(file.commit())
        finally:
            file.discard()


class _Block(NamedTuple):
    """An object's pixels; ``missing`` counts down the chunks still to come."""

    pixels: NDArray[Any]
    missing: list[int]


class BlockWriter(ChunkWriter):
    """Write objects of ``shards`` pixels that are encoded as a whole, for Zarr 2.

    The pixels of an object are held until all its chunks came: memory is that of the objects
    under way, and twice the largest while it is encoded. Others as `ArrayWriter`.
    """

    def __init__(self, folder: Path, array: ArrayLayout, encoders: int | Encoders = 1) -> None:
        super().__init__(folder, array, encoders)
        self._blocks: dict[Index, _Block] = {}

    def maker(self) -> Callable[[NDArray[Any]], Any]:
        """Return what makes a whole chunk of one; it is encoded with its object."""
        return partial(whole_chunk, self._array)

    def _unit(self, array: ArrayLayout) -> tuple[int, ...]:
        return array.shards or array.chunks

    def _take(self, index: Index, made: Any) -> None:
        self._place(index, made)

    def _place(self, index: Index, pixels: NDArray[Any]) -> None:
        at, place = self._objects.split(index)
        if at not in self._blocks:
            empty = np.zeros(self._unit(self._array), pixels.dtype)
            self._blocks[at] = _Block(empty, [self._objects.chunks_of(at)])
        block, missing = self._blocks[at]
        sides = zip(place, self._array.chunks, strict=True)
        block[tuple(slice(i * size, (i + 1) * size) for i, size in sides)] = pixels
        missing[0] -= 1
        if not missing[0]:
            self._submit_block(at)

    def _submit_block(self, at: Index) -> None:
        pixels = self._blocks.pop(at).pixels
        pixels.flags.writeable = False  # nobody else has it: no copy
        self._submit(at, pixels)

    def _finish(self) -> None:
        for at in tuple(self._blocks):
            self._submit_block(at)

    def _discard(self) -> None:
        self._blocks.clear()
