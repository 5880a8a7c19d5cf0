"""Documents of Zarr arrays, in both formats, as plain dicts. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from hcsflow.ngff.model import ArrayLayout, Codec

__all__ = ["array_document"]

Document = dict[str, Any]


def array_document(array: ArrayLayout) -> Document:
    """Return an array's ``zarr.json``, or its ``.zarray`` where the layout is of Zarr 2."""
    return _array_v2(array) if array.zarr_format == 2 else _array_v3(array)


def _array_v2(array: ArrayLayout) -> Document:
    return {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": list(array.shards or array.chunks),
        "dtype": np.dtype(array.dtype).newbyteorder("<").str,
        "compressor": _compressor_v2(array.codec),
        "fill_value": _fill_value(array),
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }


def _compressor_v2(codec: Codec) -> Document | None:
    """Return a codec's configuration as numcodecs has it."""
    if codec.name == "none":
        return None
    if codec.name != "blosc":
        return {"id": codec.name, "level": codec.level}
    return {
        "id": "blosc",
        "cname": codec.cname,
        "clevel": codec.level,
        "shuffle": int(codec.shuffle),
        "blocksize": codec.block_bytes,
    }


def _fill_value(array: ArrayLayout) -> float:
    return 0.0 if np.dtype(array.dtype).kind == "f" else 0


def _array_v3(array: ArrayLayout) -> Document:
    """Return a ``zarr.json``, sharded where the layout has shards."""
    codecs = _codecs(array)
    if array.shards is not None:
        codecs = [_sharding(array.chunks, codecs)]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(array.shape),
        "data_type": array.dtype,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": list(array.shards or array.chunks)},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _fill_value(array),
        "codecs": codecs,
        "attributes": {},
        "dimension_names": list(array.axes),
    }


def _sharding(chunks: tuple[int, ...], codecs: list[Document]) -> Document:
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(chunks),
            "codecs": codecs,
            "index_codecs": [_BYTES, {"name": "crc32c"}],
            "index_location": "end",
        },
    }


_BYTES: Document = {"name": "bytes", "configuration": {"endian": "little"}}


def _codecs(array: ArrayLayout) -> list[Document]:
    compressor = _compressor(array.codec, np.dtype(array.dtype).itemsize)
    return [_BYTES] if compressor is None else [_BYTES, compressor]


def _compressor(codec: Codec, itemsize: int) -> Document | None:
    if codec.name == "none":
        return None
    configuration: Document = {"level": codec.level}
    if codec.name == "zstd":
        configuration["checksum"] = False
    elif codec.name == "blosc":
        configuration = {
            "typesize": itemsize,
            "cname": codec.cname,
            "clevel": codec.level,
            "shuffle": "shuffle" if codec.shuffle else "noshuffle",
            "blocksize": codec.block_bytes,
        }
    return {"name": codec.name, "configuration": configuration}
