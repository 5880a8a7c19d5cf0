"""Writing one Zarr array in one go."""

from __future__ import annotations

import shutil
import sys
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec, GzipCodec

from hcsflow.config import ZarrChunkStrategy, ZarrCompressor, ZarrConfig
from hcsflow.ngff.model import ArrayLayout, Codec
from hcsflow.ngff.objects import MAX_OBJECT_BYTES, encodes_at_most, object_shape
from hcsflow.storage.chunks import Objects
from hcsflow.storage.encoding import available_cores
from hcsflow.storage.shards import open_writer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["create_array"]

Shape = tuple[int, ...]


def create_array(
    folder: Path,
    array: NDArray[Any],
    config: ZarrConfig,
    attributes: dict[str, Any],
    *,
    encoders: int | None = None,
) -> None:
    """Write one array; its metadata comes last, so it is there when it is complete.

    In Zarr 3 a chunk is a plane: the last two axes. WELL puts all of them into one shard,
    ADAPTIVE cuts along the leading axes into shards of at most
    `hcsflow.ngff.objects.MAX_OBJECT_BYTES`, FILE makes each an object. In Zarr 2 these objects are
    the chunks, and as large as the codec encodes.

    Parameters
    ----------
    folder : Path
        Where; must not exist. After an error it does not.
    array : ndarray
        Any number of axes, also none, and any numbers or booleans; not copied.
    config : ZarrConfig
        Compressor, chunk strategy and format (``ngff_version`` 0.4 is Zarr 2).
    attributes : dict
        Stored with it, as JSON.
    encoders : int, optional
        How many chunks are encoded at a time; all cores by default. The bytes are the same.

    Raises
    ------
    PlanRefusedError
        If the settings cannot be written: an object too large for the codec.
    OSError
        If the system refuses to write; names the file.

    Examples
    --------
    >>> folder = getfixture("tmp_path") / "array"
    >>> create_array(folder, np.arange(12).reshape(3, 2, 2), ZarrConfig(), {"unit": "um"})
    >>> zarr.open_array(folder, mode="r")[2].tolist()
    [[8, 9], [10, 11]]
    """
    layout = _layout(array, config)
    cores = available_cores() if encoders is None else encoders
    try:
        _write(folder, layout, array, encoders=min(cores, prod(Objects(layout).grid)))
        _write_metadata(folder, layout, attributes)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _layout(array: NDArray[Any], config: ZarrConfig) -> ArrayLayout:
    zarr_format: Literal[2, 3] = 2 if config.ngff_version == "0.4" else 3
    codec = _codec(config)
    encoded = encodes_at_most(codec) or MAX_OBJECT_BYTES
    chunks = _chunks(array, encoded)
    limit = MAX_OBJECT_BYTES if zarr_format == 3 else min(MAX_OBJECT_BYTES, encoded)
    shards = _shards(array, chunks, config, limit) if array.size and array.ndim else None
    if zarr_format == 2:  # objects are cut from the array as it lies: nothing to gather
        chunks, shards = shards or chunks, None
    return ArrayLayout(
        path="",
        axes=(),
        shape=array.shape,
        chunks=chunks,
        shards=shards,
        dtype=array.dtype.name,
        codec=codec,
        scale=(),
        zarr_format=zarr_format,
    )


def _chunks(array: NDArray[Any], limit: int) -> Shape:
    """Return a plane, or as many of its rows as the codec takes."""
    plane = tuple(max(size, 1) for size in array.shape[-2:])
    box = object_shape(plane, (1,) * len(plane), itemsize=array.itemsize, limit=limit)
    return (1,) * (array.ndim - len(plane)) + box


def _shards(array: NDArray[Any], chunks: Shape, config: ZarrConfig, limit: int) -> Shape | None:
    if config.chunk_strategy is ZarrChunkStrategy.FILE:
        return None
    if config.chunk_strategy is ZarrChunkStrategy.WELL:
        limit = sys.maxsize
    return object_shape(array.shape, chunks, itemsize=array.itemsize, limit=limit)


def _write(folder: Path, layout: ArrayLayout, array: NDArray[Any], encoders: int) -> None:
    frozen = array.view()
    frozen.flags.writeable = False  # the call lasts as long as the writer: no copy
    with open_writer(folder, layout, encoders=encoders) as writer:
        for index in np.ndindex(Objects(layout).grid):
            sides = zip(index, layout.chunks, strict=True)
            writer.append(index, frozen[tuple(slice(i * n, (i + 1) * n) for i, n in sides)])
        writer.close()


def _write_metadata(folder: Path, layout: ArrayLayout, attributes: dict[str, Any]) -> None:
    is_v2 = layout.zarr_format == 2
    zarr.create_array(
        folder,
        shape=layout.shape,
        dtype=np.dtype(layout.dtype).newbyteorder("<"),
        chunks=layout.chunks,
        shards=layout.shards,
        compressors=_compressor_v2(layout.codec) if is_v2 else _compressor(layout),
        chunk_key_encoding={"name": "v2" if is_v2 else "default", "separator": "/"},
        attributes=attributes,
        zarr_format=layout.zarr_format,
    )


def _codec(config: ZarrConfig) -> Codec:
    level = config.compression_level
    if config.compressor is ZarrCompressor.NONE:
        return Codec("none", cname="", level=0, shuffle=False)
    if config.compressor in (ZarrCompressor.ZLIB, ZarrCompressor.GZIP):
        return Codec("gzip", cname="", level=level, shuffle=False)
    cname = "lz4" if config.compressor is ZarrCompressor.LZ4 else "zstd"
    return Codec("blosc", cname=cname, level=level, shuffle=config.shuffle)


def _compressor(layout: ArrayLayout) -> BloscCodec | GzipCodec | None:
    codec = layout.codec
    if codec.name == "none":
        return None
    if codec.name == "gzip":
        return GzipCodec(level=codec.level)
    return BloscCodec(
        typesize=np.dtype(layout.dtype).itemsize,
        cname=codec.cname,
        clevel=codec.level,
        shuffle="shuffle" if codec.shuffle else "noshuffle",
        blocksize=codec.block_bytes,
    )


def _compressor_v2(codec: Codec) -> numcodecs.abc.Codec | None:
    if codec.name == "none":
        return None
    if codec.name == "gzip":
        return numcodecs.GZip(level=codec.level)
    shuffle = numcodecs.Blosc.SHUFFLE if codec.shuffle else numcodecs.Blosc.NOSHUFFLE
    return numcodecs.Blosc(codec.cname, codec.level, shuffle, codec.block_bytes)
