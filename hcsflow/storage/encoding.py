"""Encoding chunks as bytes, on one thread or several.

The same pixels give the same bytes: each chunk is encoded on one thread (blosc's bytes depend on
its threads), gzip carries no time.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, Union

import numcodecs.blosc
import numpy as np
from numcodecs.zstd import Zstd

from hcsflow.errors import ContractError, PlanRefusedError
from hcsflow.ngff.model import ArrayLayout, Codec
from hcsflow.ngff.objects import encodes_at_most

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["Encoded", "Encoder", "Encoders", "available_cores", "encoder_of", "whole_chunk"]

T = TypeVar("T")
Encoded = Union[bytes, "NDArray[np.uint8]"]
"""Bytes; without a codec those of the pixels themselves, flat."""

Encoder = Callable[["NDArray[Any]"], Encoded]


class _Job(NamedTuple):
    owner: object
    pieces: Future[list[Any]]
    take: Callable[[Any], object]


class Encoders:
    r"""Threads that encode chunks, shared by any number of writers; a context manager.

    What is made side by side is taken one by one, by the thread that submits, in the order of
    submission: the order does not depend on how many threads there are. The codecs release the
    interpreter's lock. With one encoder there is no thread: all is made and taken at once.

    Parameters
    ----------
    count : int
        How much is made at a time. As much, and one, is held of what was submitted.

    Examples
    --------
    >>> from functools import partial
    >>> taken = []
    >>> with Encoders(2) as encoders:
    ...     for text in ("ab", "c"):
    ...         encoders.submit("a writer", partial(str.upper, text), taken.append)
    ...     encoders.settle("a writer")
    >>> taken
    ['A', 'B', 'C']
    """

    def __init__(self, count: int = 1) -> None:
        self.count = max(count, 1)
        self._pending: deque[_Job] = deque()
        self._threads = (
            ThreadPoolExecutor(self.count, thread_name_prefix="hcsflow-encode")
            if self.count > 1
            else None
        )

    @property
    def is_inline(self) -> bool:
        """Whether all is made by the thread that submits, before `submit` returns."""
        return self._threads is None

    def submit(
        self, owner: object, make: Callable[[], Iterable[T]], take: Callable[[T], object]
    ) -> None:
        """Let pieces be made, and taken when it is their turn: now or in a later call.

        Parameters
        ----------
        owner : object
            Whose they are, for `settle` and `drop`.
        make : callable
            Returns the pieces. On another thread: what it reads must not change meanwhile.
        take : callable
            Called with each piece. An error goes to whoever called; the owner must remember it.
        """
        if self._threads is None:
            for piece in make():
                take(piece)
            return
        self._pending.append(_Job(owner, self._threads.submit(_listed, make), take))
        while len(self._pending) > self.count:
            self._settle()

    def settle(self, owner: object) -> None:
        """Wait for all that an owner has submitted, and for what came before it."""
        while any(job.owner is owner for job in self._pending):
            self._settle()

    def drop(self, owner: object) -> None:
        """Forget what an owner has submitted and nobody has taken; nothing of it is at work."""
        dropped = [job for job in self._pending if job.owner is owner]
        for job in dropped:
            self._pending.remove(job)
            job.pieces.cancel()
        wait([job.pieces for job in dropped if not job.pieces.cancelled()])

    def close(self) -> None:
        """End the threads, after what they are at; safe to call twice."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)

    def _settle(self) -> None:
        pieces = self._pending[0].pieces.result()  # after an error it stays, for its owner to meet
        take = self._pending.popleft().take
        for piece in pieces:
            take(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _listed(make: Callable[[], Iterable[T]]) -> list[T]:
    return list(make())


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, and its container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(cores, _quota_cores(Path("/")) or cores)


def _quota_cores(root: Path) -> int | None:
    """Return the cores that this process's control groups (version 2) have time for, rounded up.

    None where there is no such limit.
    """
    found = []
    try:
        group = Path((root / "proc/self/cgroup").read_text().rpartition("::")[2].strip())
    except OSError:
        return None
    for each in (group, *group.parents):
        with suppress(OSError, ValueError):  # "max" is no number
            quota, period = (root / f"sys/fs/cgroup{each}/cpu.max").read_text().split()
            found.append(-(-int(quota) // int(period)))
    return min(found, default=None)


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
        return lambda pixels: gzip.compress(_bytes_of(pixels).data, codec.level, mtime=0)
    if codec.name == "zlib":
        return lambda pixels: zlib.compress(_bytes_of(pixels).data, codec.level)
    return _bytes_of


def _bytes_of(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return pixels.reshape(-1).view(np.uint8)


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
    lead = max(len(array.chunks) - chunk.ndim, 0)
    size = array.chunks[lead:]
    is_one = prod(array.chunks[:lead]) == 1
    little = _little_endian(array.dtype)
    if is_one and chunk.shape == size != () and chunk.dtype == little and chunk.flags.c_contiguous:
        return chunk  # the rule, and asked for each level of each plane
    fits = chunk.ndim == len(size) and all(
        0 < s <= c for s, c in zip(chunk.shape, size, strict=True)
    )
    if not (is_one and fits and chunk.dtype.newbyteorder("<") == little):
        raise ContractError(
            f"array {array.path!r} takes chunks {array.chunks} of {array.dtype}, "
            f"got {chunk.shape} of {chunk.dtype}"
        )
    if chunk.shape != size:
        padded = np.zeros(size, chunk.dtype)
        padded[tuple(slice(0, s) for s in chunk.shape)] = chunk
        chunk = padded
    return np.ascontiguousarray(chunk, little)


@lru_cache(maxsize=16)
def _little_endian(dtype: str) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("<")
