"""CUDA streams of each thread, so that the steps of two threads run beside each other on a GPU.

A thread has one that computes and one that copies, on each device that it uses.

cupy and torch queue work on a current stream, by default one for all threads. jax and tensorflow
order their own work; OpenCL's copies wait. Imports nothing and touches no GPU that is not in use.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from hcsflow.arrays.families import lies_on_device
from hcsflow.arrays.libraries import find_memory_type

__all__ = ["copy_stream", "thread_streams", "wait_for"]


class _Streams(Protocol):
    """What is asked of a library's module ``cuda``."""

    def is_live(self, cuda: Any) -> bool: ...
    def device(self, cuda: Any) -> int: ...
    def open(self, cuda: Any) -> Any: ...
    def follow_default(self, cuda: Any, stream: Any) -> None: ...
    def enter(self, cuda: Any, stream: Any) -> Any: ...
    def wait(self, cuda: Any) -> None: ...


class _Cupy:
    def is_live(self, cuda: Any) -> bool:
        return bool(cuda.is_available())

    def device(self, cuda: Any) -> int:
        return int(cuda.runtime.getDevice())

    def open(self, cuda: Any) -> Any:
        return cuda.Stream(non_blocking=True)

    def follow_default(self, cuda: Any, stream: Any) -> None:
        stream.wait_event(cuda.Stream.null.record())

    def enter(self, cuda: Any, stream: Any) -> Any:
        del cuda
        return stream

    def wait(self, cuda: Any) -> None:
        cuda.get_current_stream().synchronize()


class _Torch:
    def is_live(self, cuda: Any) -> bool:
        return bool(cuda.is_initialized())  # asking more would start CUDA for CPU tensors

    def device(self, cuda: Any) -> int:
        return int(cuda.current_device())

    def open(self, cuda: Any) -> Any:
        return cuda.Stream()

    def follow_default(self, cuda: Any, stream: Any) -> None:
        stream.wait_stream(cuda.default_stream())

    def enter(self, cuda: Any, stream: Any) -> Any:
        return cuda.stream(stream)

    def wait(self, cuda: Any) -> None:
        cuda.current_stream().synchronize()


_LIBRARIES: dict[str, _Streams] = {"cupy": _Cupy(), "torch": _Torch()}


class _Local(threading.local):
    """A thread's streams by library, device and use; they go with the thread."""

    def __init__(self) -> None:
        self.streams: dict[tuple[str, int, str], Any] = {}


_local = _Local()


@contextmanager
def thread_streams() -> Iterator[None]:
    """Run the block on this thread's own streams of the current device; wait for them at its end.

    Work begins after what the default stream was given before. At the end, also after an error,
    all results are there: other threads, libraries and the host may read them. The device is the
    library's current one: a dask-cuda worker sees its own GPU as number 0. Without a GPU, and for
    libraries that are not loaded, nothing happens.

    Examples
    --------
    >>> with thread_streams():
    ...     1 + 1
    2
    """
    with ExitStack() as stack:
        for name, cuda in _live():
            library = _LIBRARIES[name]
            stream = _stream(name, cuda)
            library.follow_default(cuda, stream)
            stack.enter_context(library.enter(cuda, stream))
        try:
            yield
        finally:
            for name, cuda in _live():  # also one that the block imported
                _LIBRARIES[name].wait(cuda)


def wait_for(array: Any) -> None:
    """Wait until an array's values are there, if its library computes them later.

    Of jax, the array; of cupy and torch, the current stream where the array lies on a device. What
    fails on the way, as for want of memory, fails here. Anything else is left alone.
    """
    block = getattr(array, "block_until_ready", None)
    if block is not None:
        block()
    name = find_memory_type(array)
    if name in _LIBRARIES and lies_on_device(array):
        for other, cuda in _live():
            if other == name:
                _LIBRARIES[name].wait(cuda)


def _live() -> list[tuple[str, Any]]:
    # The attribute is missing while another thread is still importing the library.
    loaded = ((name, getattr(sys.modules.get(name), "cuda", None)) for name in _LIBRARIES)
    return [
        (name, cuda) for name, cuda in loaded if cuda is not None and _LIBRARIES[name].is_live(cuda)
    ]


def copy_stream(name: str) -> Any:
    """Return this thread's stream for copies of cupy's or torch's current device.

    Nothing waits for it: who gives it work says after what, and waits by an event.
    """
    return _stream(name, sys.modules[name].cuda, "copy")


def _stream(name: str, cuda: Any, use: str = "compute") -> Any:
    key = name, _LIBRARIES[name].device(cuda), use
    if key not in _local.streams:
        _local.streams[key] = _LIBRARIES[name].open(cuda)
    return _local.streams[key]
