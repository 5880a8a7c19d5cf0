"""Reading single chunks of Zarr arrays: one opened file an object, its index read once.

Arrays with the codecs that OME-Zarr writers use are read here; of others `open_chunks` returns
None, and zarr-python reads them. Both give the same pixels.
"""

from __future__ import annotations

import gzip
import lzma
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import google_crc32c
import numcodecs
import numpy as np

from hcsflow.errors import PlaneError
from hcsflow.storage.shards import ABSENT

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from hcsflow.storage.zarr_nodes import Node

__all__ = ["DAMAGE", "TOO_LARGE", "ChunkReader", "damaged", "native", "open_chunks"]

DAMAGE = (
    ValueError, RuntimeError, LookupError, TypeError, EOFError, struct.error, zlib.error,
    lzma.LZMAError, gzip.BadGzipFile,
)  # fmt: skip
"""What decoders raise on damaged data."""

TOO_LARGE = (ValueError, MemoryError, OverflowError)
"""What numpy raises on shapes that no memory holds."""

_CODECS = {"blosc", "gzip", "zstd"}
_CODECS_V2 = {*_CODECS, "zlib", "lz4", "bz2", "lzma"}
_INDEX_CODECS = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Form:
    """How an array is stored; ``grid`` is the shape of an object, ``chunks`` of a chunk."""

    shape: Shape
    grid: Shape
    chunks: Shape
    dtype: np.dtype[Any]
    codec: Any
    is_sharded: bool
    prefix: tuple[str, ...]
    separator: str


def damaged(file: Path, reason: object, path: str | None = None) -> PlaneError:
    """Return the error for stored data that cannot be read."""
    return PlaneError(
        f"{file}: cannot be read as Zarr: {reason}",
        hint="the data is damaged, or of a kind that this version cannot read",
        file=path or str(file),
    )


def open_chunks(node: Node) -> ChunkReader | None:
    """Return a reader of an array's chunks; None where only zarr-python can read it.

    Parameters
    ----------
    node : Node
        An array.

    Raises
    ------
    PlaneError
        If its document contradicts itself.
    """
    try:
        form = (_form_v3 if node.zarr_format == 3 else _form_v2)(node.document)
    except DAMAGE as error:
        raise damaged(node.file, f"{type(error).__name__}: {error}") from error
    return None if form is None else ChunkReader(node.folder, form)


def _sizes(values: Sequence[Any], least: int = 1) -> Shape:
    if not all(type(value) is int and value >= least for value in values):
        raise ValueError(f"not a shape: {values!r}")
    return tuple(values)


def _form_v3(document: Mapping[str, Any]) -> _Form | None:
    grid, keys, codecs = (document[k] for k in ("chunk_grid", "chunk_key_encoding", "codecs"))
    is_known = isinstance(document["data_type"], str) and not document.get("storage_transformers")
    if grid["name"] != "regular" or keys["name"] not in ("default", "v2") or not is_known:
        return None
    shape = _sizes(document["shape"], 0)
    size = chunks = _sizes(grid["configuration"]["chunk_shape"])
    is_sharded = len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed"
    if is_sharded:
        shard = codecs[0]["configuration"]
        chunks, codecs = _sizes(shard["chunk_shape"]), shard["codecs"]
        is_usual = shard["index_codecs"] == _INDEX_CODECS
        if not is_usual or shard.get("index_location", "end") != "end":
            return None
    decoding = _decoding_v3(document["data_type"], codecs)
    if decoding is None or not len(shape) == len(size) == len(chunks):
        return None
    default = "/" if keys["name"] == "default" else "."
    separator = keys.get("configuration", {}).get("separator", default)
    prefix = ("c",) if keys["name"] == "default" else ()
    return _Form(shape, size, chunks, *decoding, is_sharded, prefix, separator)


def _decoding_v3(
    name: str, codecs: Sequence[Mapping[str, Any]]
) -> tuple[np.dtype[Any], Any] | None:
    """Return the stored dtype and the compressor's decoder (None: none)."""
    try:
        dtype = np.dtype(name)
    except TypeError:
        return None
    names = [codec["name"] for codec in codecs]
    if dtype.kind not in "buifc" or dtype.name != name or names[:1] != ["bytes"]:
        return None
    if names[1:] and (len(names) > 2 or names[1] not in _CODECS):
        return None
    order = codecs[0].get("configuration", {}).get("endian", "little")
    codec = numcodecs.get_codec({"id": names[1]}) if names[1:] else None
    return dtype.newbyteorder(">" if order == "big" else "<"), codec


def _form_v2(document: Mapping[str, Any]) -> _Form | None:
    compressor, kind = document["compressor"], document["dtype"]
    if document.get("filters") or document.get("order", "C") != "C" or not isinstance(kind, str):
        return None
    dtype = np.dtype(kind)
    if dtype.kind not in "buifc" or (compressor and compressor["id"] not in _CODECS_V2):
        return None
    chunks = _sizes(document["chunks"])
    codec = numcodecs.get_codec(compressor) if compressor else None
    separator = document.get("dimension_separator", ".")
    shape = _sizes(document["shape"], 0)
    return _Form(shape, chunks, chunks, dtype, codec, False, (), separator)


class ChunkReader:
    """Chunks of one array; a context manager that keeps the files it reads open.

    `ChunkReader.shape` and `ChunkReader.chunks` are those of the array.
    """

    def __init__(self, folder: Path, form: _Form) -> None:
        self.folder = folder
        self.shape, self.chunks = form.shape, form.chunks
        self._form = form
        self._open = ExitStack()
        self._objects: dict[Shape, _Object] = {}
        self._last: tuple[Shape, NDArray[Any]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._last = None
        self._objects.clear()
        self._open.close()

    def holds(self, start: Shape, box: Shape) -> bool:
        """Whether a box lies in the array and in one chunk."""
        if not len(start) == len(box) == len(self.shape):
            return False
        sides = zip(start, box, self.shape, self.chunks, strict=True)
        return all(s + n <= size and s % c + n <= c and n > 0 for s, n, size, c in sides)

    def read_all(self) -> NDArray[Any] | None:
        """Return the whole array; None if a chunk of it is absent. Errors as for `read`."""
        counts = [-(-size // one) for size, one in zip(self.shape, self.chunks, strict=True)]
        try:
            found = np.empty(self.shape, self._form.dtype.newbyteorder("="))
        except TOO_LARGE as error:
            raise damaged(self.folder, f"its shape is {list(self.shape)}: {error}") from error
        for chunk in np.ndindex(*counts):
            sides = zip(chunk, self.chunks, self.shape, strict=True)
            place = tuple(slice(i * n, min(i * n + n, size)) for i, n, size in sides)
            pixels = self._chunk(chunk)
            if pixels is None:
                return None
            if pixels.shape == self.shape:
                return pixels
            found[place] = pixels[tuple(slice(0, one.stop - one.start) for one in place)]
        return found

    def read(self, start: Shape, box: Shape) -> NDArray[Any] | None:
        """Return a box of one chunk, see `holds`; None where the chunk is absent.

        A chunk that holds more than the box stays decoded until another one is asked for.

        Raises
        ------
        PlaneError
            If what is stored is damaged.
        OSError
            If it cannot be read.
        """
        chunk = tuple(at // size for at, size in zip(start, self.chunks, strict=True))
        if self._last is None or self._last[0] != chunk:
            self._last = None
            pixels = self._chunk(chunk)
            if pixels is None or pixels.shape == box:
                return pixels
            self._last = chunk, pixels
        within = (at % size for at, size in zip(start, self.chunks, strict=True))
        cut = tuple(slice(at, at + n) for at, n in zip(within, box, strict=True))
        return self._last[1][cut].copy()

    def _chunk(self, chunk: Shape) -> NDArray[Any] | None:
        """Return a chunk's pixels, of full size also at the array's edges; None where absent.

        Raises
        ------
        PlaneError
            If what is stored is damaged.
        OSError
            If it cannot be read.
        """
        found = self._locate(chunk)
        if found is None:
            return None
        stored, offset, nbytes = found
        encoded = stored.read(offset, nbytes)
        try:
            return self._decode(encoded)
        except DAMAGE as error:
            raise damaged(stored.file, f"chunk {list(chunk)}: {error}") from error

    def nbytes(self, start: Shape, box: Shape) -> int:
        """Return what a box takes of its chunk's stored bytes; 0 where it is absent."""
        chunk = tuple(at // size for at, size in zip(start, self.chunks, strict=True))
        found = self._locate(chunk)
        return 0 if found is None else -(-found[2] * prod(box) // prod(self.chunks))

    def _locate(self, chunk: Shape) -> tuple[_Object, int, int] | None:
        """Return a chunk's object, and its offset and size in it."""
        form = self._form
        starts = [i * size for i, size in zip(chunk, form.chunks, strict=True)]
        place = tuple(at // size for at, size in zip(starts, form.grid, strict=True))
        stored = self._object(place)
        if stored is None or not form.is_sharded:
            return None if stored is None else (stored, 0, stored.nbytes)
        counts = tuple(g // c for g, c in zip(form.grid, form.chunks, strict=True))
        index = stored.index(counts)
        within = tuple(i % n for i, n in zip(chunk, counts, strict=True))
        offset, nbytes = (int(value) for value in index[within])
        if offset == nbytes == ABSENT:
            return None
        if offset + nbytes > stored.nbytes - index.nbytes - 4:
            raise damaged(stored.file, f"chunk {list(chunk)} lies outside of the object")
        return stored, offset, nbytes

    def _object(self, place: Shape) -> _Object | None:
        if place not in self._objects:
            form = self._form
            key = form.separator.join((*form.prefix, *map(str, place))) or "0"
            try:
                stream = self._open.enter_context((self.folder / key).open("rb"))
            except FileNotFoundError:
                return None
            self._objects[place] = _Object(self.folder / key, stream)
        return self._objects[place]

    def _decode(self, encoded: bytes) -> NDArray[Any]:
        form = self._form
        wanted = prod(form.chunks) * form.dtype.itemsize
        if isinstance(form.codec, numcodecs.Blosc):
            if len(encoded) < 16 or struct.unpack_from("<I", encoded, 4)[0] != wanted:
                raise ValueError(f"not {wanted} bytes encoded by blosc")
            numcodecs.blosc.use_threads = False
            pixels = np.empty(form.chunks, form.dtype)
            form.codec.decode(encoded, out=pixels)
            return native(pixels)
        data = encoded if form.codec is None else form.codec.decode(encoded)
        found = np.frombuffer(data, np.uint8)
        if found.nbytes != wanted:
            raise ValueError(f"{found.nbytes} bytes where {wanted} are expected")
        return native(found.copy().view(form.dtype).reshape(form.chunks))


def native(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels in this machine's byte order; the same array where they are already."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


class _Object:
    """One opened file of a store."""

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self.file = file
        self.nbytes = os.fstat(stream.fileno()).st_size
        self._stream = stream
        self._index: NDArray[np.uint64] | None = None

    def read(self, offset: int, nbytes: int) -> bytes:
        try:
            self._stream.seek(offset)
            data = self._stream.read(nbytes)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.file)) from error
        if len(data) != nbytes:
            raise damaged(self.file, f"ends {nbytes - len(data)} bytes early")
        return data

    def index(self, counts: Shape) -> NDArray[np.uint64]:
        """Return offset and size of each chunk, by its place in the shard; read once."""
        if self._index is None:
            nbytes = 16 * prod(counts)
            if self.nbytes < nbytes + 4:
                raise damaged(self.file, f"{self.nbytes} bytes are too few for a shard's index")
            data = self.read(self.nbytes - nbytes - 4, nbytes + 4)
            if struct.pack("<I", google_crc32c.value(data[:-4])) != data[-4:]:
                raise damaged(self.file, "the shard's index does not have its checksum")
            self._index = np.frombuffer(data[:-4], "<u8").reshape(*counts, 2)
        return self._index
