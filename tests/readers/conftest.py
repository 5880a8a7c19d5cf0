"""A shard reader written from the Zarr 3 specification alone, for tests of any kind."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

ABSENT = (2**64 - 1, 2**64 - 1)


@dataclass(frozen=True)
class ByHand:
    """An array as the specification reads it.

    Parameters
    ----------
    pixels : ndarray
        The whole array.
    stored : set of tuple of int
        Places of the chunks that some object holds.
    objects : set of str
        Keys of the objects that are there.
    """

    pixels: np.ndarray
    stored: set[tuple[int, ...]]
    objects: set[str]


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum, bit by bit (RFC 3720, polynomial 0x1EDC6F41 reflected)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def decode(data: bytes, codecs: list[dict[str, Any]]) -> bytes:
    """Undo the codecs behind ``bytes``, the last first."""
    assert codecs[0] == {"name": "bytes", "configuration": {"endian": "little"}}
    for codec in reversed(codecs[1:]):
        if codec["name"] == "gzip":
            data = gzip.decompress(data)
        else:
            data = bytes(numcodecs.get_codec({"id": codec["name"]}).decode(data))
    return data


def entries_of(data: bytes, counts: tuple[int, ...]) -> dict[tuple[int, ...], tuple[int, int]]:
    """Return offset and size of each chunk of a shard by its place there; absent ones are left out.

    The index stands at the end: row-major pairs of little-endian uint64, then their checksum.
    """
    size = 16 * int(np.prod(counts))
    index, (checksum,) = data[-size - 4 : -4], struct.unpack("<I", data[-4:])
    assert len(index) == size, "the file is shorter than its index"
    assert crc32c(index) == checksum, "the index and its checksum differ"
    pairs = dict(zip(np.ndindex(*counts), struct.iter_unpack("<QQ", index), strict=True))
    found = {place: pair for place, pair in pairs.items() if pair != ABSENT}
    # every byte before the index belongs to one chunk: no overlap, no gap, nothing beyond
    spans = sorted((offset, offset + nbytes) for offset, nbytes in found.values())
    edges = [(0, 0), *spans, (len(data) - size - 4, 0)]
    assert all(end == start for (_, end), (start, _) in pairwise(edges)), (spans, len(data))
    return found


def read_by_hand(folder: Path) -> ByHand:
    """Read a Zarr 3 array of shards or chunks, and hold its index to the specification."""
    document = json.loads((folder / "zarr.json").read_text("utf-8"))
    dtype = np.dtype(document["data_type"]).newbyteorder("<")
    unit = chunk = document["chunk_grid"]["configuration"]["chunk_shape"]
    codecs = document["codecs"]
    is_sharded = codecs[0]["name"] == "sharding_indexed"
    if is_sharded:
        sharding = codecs[0]["configuration"]
        assert sharding["index_location"] == "end"
        assert [codec["name"] for codec in sharding["index_codecs"]] == ["bytes", "crc32c"]
        chunk, codecs = sharding["chunk_shape"], sharding["codecs"]
    counts = tuple(u // c for u, c in zip(unit, chunk, strict=True))
    grid = tuple(-(-s // c) for s, c in zip(document["shape"], chunk, strict=True))
    fill = np.array(document["fill_value"]).astype(dtype)  # "NaN" and "Infinity" are texts
    padded = np.full([n * c for n, c in zip(grid, chunk, strict=True)], fill, dtype)
    stored, objects = set(), set()
    for file in (p for p in (folder / "c").rglob("*") if p.is_file()):
        objects.add(file.relative_to(folder).as_posix())
        at = tuple(int(part) for part in file.relative_to(folder / "c").parts)
        data = file.read_bytes()
        inside = entries_of(data, counts) if is_sharded else {(0,) * len(at): (0, len(data))}
        for place, (offset, nbytes) in inside.items():
            index = tuple(a * n + p for a, n, p in zip(at, counts, place, strict=True))
            assert all(i < n for i, n in zip(index, grid, strict=True)), "a chunk beyond the array"
            pixels = np.frombuffer(decode(data[offset : offset + nbytes], codecs), dtype)
            cut = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunk, strict=True))
            padded[cut] = pixels.reshape(chunk)
            stored.add(index)
    return ByHand(padded[tuple(slice(0, s) for s in document["shape"])], stored, objects)


@pytest.fixture(scope="session")
def by_hand() -> Callable[[Path], ByHand]:
    """Read an array as the specification says, with no library but for the inner codecs."""
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    return read_by_hand
