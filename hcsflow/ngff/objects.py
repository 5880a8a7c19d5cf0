"""How the pixels of an array are shared out among stored objects. Pure.

An object is a shard in Zarr 3, whose chunks are encoded one by one, and a chunk in Zarr 2, which
is encoded as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from hcsflow.errors import PlanRefusedError
from hcsflow.ngff.model import ArrayLayout, Codec, ImageLayout

__all__ = [
    "MAX_OBJECT_BYTES",
    "encodes_at_most",
    "held_bytes",
    "object_shape",
    "objects_of",
    "require_encodable",
]

MAX_OBJECT_BYTES = 2**31
"""Pixels of an object under ADAPTIVE, in bytes."""

_ENCODED_BYTES = {"blosc": 2**31 - 17, "zstd": 0x7E000000}
"""Largest buffer of blosc (2^31 - 1 bytes less its header), and of zstd in numcodecs."""

Shape = tuple[int, ...]


def encodes_at_most(codec: Codec) -> int | None:
    """Return how many bytes of pixels a codec encodes at once; None: as many as memory holds.

    Examples
    --------
    >>> encodes_at_most(Codec("blosc")), encodes_at_most(Codec("none"))
    (2147483631, None)
    """
    return _ENCODED_BYTES.get(codec.name)


def object_shape(shape: Shape, chunks: Shape, *, itemsize: int, limit: int) -> Shape:
    """Cut an array regularly, along its first axes first, until an object fits a size.

    Parameters
    ----------
    shape, chunks : tuple of int
        The array and its chunks, which may stick out at its ends. Of an image, with axes t, c, z,
        y, x or some of them, a chunk is one field's plane: cuts along y lie between rows of
        fields.
    itemsize : int
        Bytes of a pixel.
    limit : int
        Bytes that an object may have.

    Returns
    -------
    tuple of int
        Pixels of one object, a multiple of ``chunks``; of at most ``limit`` bytes, or one chunk.
        Along each axis objects are as alike as they can be; the last may hold fewer chunks.

    Examples
    --------
    Four channels of five planes of 2 × 3 fields, then the same under half the size:

    >>> shape, chunks = (4, 5, 200, 300), (1, 1, 100, 100)
    >>> object_shape(shape, chunks, itemsize=2, limit=10_000_000)
    (4, 5, 200, 300)
    >>> object_shape(shape, chunks, itemsize=2, limit=1_200_000)
    (2, 5, 200, 300)
    >>> object_shape(shape, chunks, itemsize=2, limit=400_000)
    (1, 3, 200, 300)
    >>> object_shape(shape, chunks, itemsize=2, limit=100_000)
    (1, 1, 100, 300)
    """
    counts = [-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)]
    for axis, count in enumerate(counts):
        rest = prod(counts[axis + 1 :]) * prod(chunks) * itemsize
        fitting = min(max(limit // rest, 1), count)
        pieces = -(-count // fitting)
        counts[axis] = -(-count // pieces)
    return tuple(count * chunk for count, chunk in zip(counts, chunks, strict=True))


def require_encodable(array: ArrayLayout) -> None:
    """Refuse an array of Zarr 2 with objects that its codec cannot encode at once.

    Raises
    ------
    PlanRefusedError
        Naming the array and both sizes.
    """
    limit = encodes_at_most(array.codec)
    if array.zarr_format == 3 or limit is None or _object_bytes(array) <= limit:
        return
    raise PlanRefusedError(
        f"array {array.path!r}: an object of {array.shards or array.chunks} {array.dtype} has "
        f"{_object_bytes(array)} bytes, in NGFF 0.4 {array.codec.name} encodes {limit} at most",
        hint="choose chunk_strategy (--chunks) adaptive, or NGFF 0.5 (--ngff 0.5)",
    )


def objects_of(layout: ImageLayout) -> int:
    """Return the stored objects (shards or chunks) of a well's image, all levels.

    Objects without any plane, where slots or fields are absent, do not count.
    """
    images = len(layout.fields) if layout.is_per_field else 1
    return images * sum(_objects_in(layout, array) for array in layout.levels)


def _objects_in(layout: ImageLayout, array: ArrayLayout) -> int:
    count = dict.fromkeys("tcz", 1) | dict(zip(array.axes, _chunk_counts(array), strict=True))
    times = {t // count["t"] for t in range(len(layout.timepoints))}
    stacks = {
        (c // count["c"], z // count["z"]) for c, slots in enumerate(layout.slots) for z in slots
    }
    cells = {(row // count["y"], column // count["x"]) for row, column in layout.cells}
    return len(times) * len(stacks) * len(cells)


def held_bytes(layout: ImageLayout, chunks: Iterable[Shape], *, may_lack: bool = False) -> int:
    """Return the bytes that writing an image holds: objects that are encoded as a whole.

    Parameters
    ----------
    layout : ImageLayout
        The image.
    chunks : iterable of tuple of int
        Place of each plane in the chunk grid, in the order in which planes are written; see
        `hcsflow.ngff.layout.region_of`. Where each field is an image, the field goes first.
    may_lack : bool
        Planes may be left out: then no object is known to be complete before the end.

    Returns
    -------
    int
        The most that is under way at a time, all levels, and the largest object once more for
        its encoded bytes. 0 in Zarr 3, where planes are encoded as they come.
    """
    blocks = [a for a in layout.levels if a.zarr_format == 2 and a.shards is not None]
    if not blocks:
        return 0
    order = list(chunks)
    under_way = sum(
        _most_open(array, order, may_lack=may_lack) * _object_bytes(array) for array in blocks
    )
    return under_way + max(_object_bytes(array) for array in blocks)


def _most_open(array: ArrayLayout, order: list[Shape], *, may_lack: bool) -> int:
    """Return how many objects are begun and not complete at a time."""
    counts = _chunk_counts(array)
    grid = [size // chunk for size, chunk in zip(array.shape, array.chunks, strict=True)]
    missing: dict[Shape, int] = {}
    most = 0
    for place in order:
        image, chunk = place[: -len(grid)], place[-len(grid) :]
        within = tuple(i // n for i, n in zip(chunk, counts, strict=True))
        at = (*image, *within)
        if at not in missing:
            sides = zip(within, counts, grid, strict=True)
            missing[at] = prod(min(n, total - i * n) for i, n, total in sides)
            most = max(most, len(missing))
        missing[at] -= 1
        if not missing[at] and not may_lack:
            del missing[at]
    return most


def _chunk_counts(array: ArrayLayout) -> Shape:
    """Return the chunks of an object along each axis."""
    stored = array.shards or array.chunks
    return tuple(size // chunk for size, chunk in zip(stored, array.chunks, strict=True))


def _object_bytes(array: ArrayLayout) -> int:
    return prod(array.shards or array.chunks) * np.dtype(array.dtype).itemsize
