"""Writing one Zarr 3 array in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numcodecs.blosc
import zarr
from zarr.codecs import BloscCodec, GzipCodec

from hcsflow.config import ZarrChunkStrategy, ZarrCompressor, ZarrConfig
from hcsflow.errors import PlanRefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["create_array"]


def create_array(
    folder: Path, array: NDArray[Any], config: ZarrConfig, attributes: dict[str, Any]
) -> None:
    """Write one array: a plane a chunk; under WELL all of them in one shard.

    Parameters
    ----------
    folder : Path
        Where; must not exist.
    array : ndarray
        Any number of axes; the last two are a plane.
    config : ZarrConfig
        Compressor and chunk strategy.
    attributes : dict
        Stored with it.

    Raises
    ------
    PlanRefusedError
        If the settings ask for Zarr 2 or adaptive chunks.
    """
    if config.ngff_version != "0.5" or config.chunk_strategy is ZarrChunkStrategy.ADAPTIVE:
        raise PlanRefusedError(
            "the zarr backend writes NGFF 0.5 with chunks by well or file",
            hint="set ngff_version to 0.5 and chunk_strategy to well or file",
        )
    numcodecs.blosc.use_threads = False  # threads make its bytes differ from run to run
    plane = tuple(max(size, 1) for size in array.shape[-2:])
    chunks = (1,) * (array.ndim - len(plane)) + plane
    is_file = config.chunk_strategy is ZarrChunkStrategy.FILE
    shards = array.shape if array.size and array.ndim and not is_file else None
    zarr.create_array(
        folder,
        data=array,
        chunks=chunks,
        shards=shards,
        compressors=_compressors(config),
        attributes=attributes,
        zarr_format=3,
        config={"write_empty_chunks": True},  # black is not missing
    )


def _compressors(config: ZarrConfig) -> tuple[Any, ...]:
    level = config.compression_level
    if config.compressor is ZarrCompressor.NONE:
        return ()
    if config.compressor in (ZarrCompressor.ZLIB, ZarrCompressor.GZIP):
        return (GzipCodec(level=level),)
    cname = "lz4" if config.compressor is ZarrCompressor.LZ4 else "zstd"
    shuffle = "shuffle" if config.shuffle else "noshuffle"
    return (BloscCodec(cname=cname, clevel=level, shuffle=shuffle),)
