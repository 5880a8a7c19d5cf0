"""Encoding chunks as bytes, on one thread or several.

The same pixels give the same bytes: each chunk is encoded on one thread (blosc's bytes depend on
its threads), gzip carries no time.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numcodecs.blosc
import numpy as np
from numcodecs.zstd import Zstd

from hcsflow.errors import ContractError, PlanRefusedError
from hcsflow.ngff.model import ArrayLayout, Codec
from hcsflow.ngff.objects import encodes_at_most

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["Encoder", "Encoders", "available_cores", "encoder_of", "whole_chunk"]

Encoder = Callable[["NDArray[Any]"], bytes]


class Encoders:
    r"""Threads that encode chunks, shared by any number of writers; a context manager.

    The codecs release the interpreter's lock, so chunks are encoded side by side. With one
    there is no thread: callers encode themselves.

    Parameters
    ----------
    count : int
        How many chunks are encoded at a time.

    Examples
    --------
    >>> with Encoders(2) as encoders:
    ...     encoders.submit(bytes, np.arange(3, dtype="uint8")).result()
    b'\x00\x01\x02'
    """

    def __init__(self, count: int = 1) -> None:
        self.count = max(count, 1)
        self._threads = ThreadPoolExecutor(self.count, thread_name_prefix="hcsflow-encode")

    def submit(self, encode: Encoder, pixels: NDArray[Any]) -> Future[bytes]:
        """Encode pixels on a free thread; they must not change until the result is there."""
        return self._threads.submit(encode, pixels)

    def close(self) -> None:
        """End the threads, after what they are at; safe to call twice."""
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def encoder_of(array: ArrayLayout, shape: tuple[int, ...]) -> Encoder:
    """Return the function that encodes ``shape`` pixels of an array, C-contiguous, at once.

    Raises
    ------
    PlanRefusedError
        If its codec cannot encode that many bytes.
    """
    codec = array.codec
    nbytes, limit = prod(shape) * np.dtype(array.dtype).itemsize, encodes_at_most(codec)
    if limit is not None and nbytes > limit:
        raise PlanRefusedError(
            f"array {array.path!r}: {shape} pixels of {array.dtype} are {nbytes} bytes, "
            f"{codec.name} encodes at most {limit} at once",
            hint="store the array as several objects: chunk_strategy adaptive or file",
        )
    if codec.name == "blosc":
        return _blosc(codec)
    if codec.name == "zstd":
        return _zstd(codec)
    if codec.name == "gzip":
        # numcodecs' gzip would stamp the time into each chunk
        return lambda pixels: gzip.compress(_bytes_of(pixels), codec.level, mtime=0)
    if codec.name == "zlib":
        return lambda pixels: zlib.compress(_bytes_of(pixels), codec.level)
    return lambda pixels: pixels.tobytes()


def _bytes_of(pixels: NDArray[Any]) -> memoryview:
    return pixels.reshape(-1).view("u1").data


def _zstd(codec: Codec) -> Encoder:
    zstd = Zstd(level=codec.level)
    return lambda pixels: bytes(zstd.encode(pixels))


def _blosc(codec: Codec) -> Encoder:
    shuffle = numcodecs.blosc.SHUFFLE if codec.shuffle else numcodecs.blosc.NOSHUFFLE
    blosc = numcodecs.blosc.Blosc(
        cname=codec.cname, clevel=codec.level, shuffle=shuffle, blocksize=codec.block_bytes
    )

    def encode(pixels: NDArray[Any]) -> bytes:
        # process-wide, and others may set it: with inner threads the bytes vary from run to run
        numcodecs.blosc.use_threads = False
        return bytes(blosc.encode(pixels))

    return encode


def whole_chunk(array: ArrayLayout, chunk: NDArray[Any]) -> NDArray[Any]:
    """Return a C-contiguous, little-endian chunk of full size; a copy only where it must be.

    Parameters
    ----------
    array : ArrayLayout
        Whose chunk it is.
    chunk : ndarray
        Pixels; leading axes of length 1 may be left out. Smaller ones (at the array's edges)
        are padded with zeros.

    Raises
    ------
    ContractError
        If shape or dtype do not fit.
    """
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
