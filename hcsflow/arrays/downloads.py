"""From a device to host memory, beside the device's next work.

A copy to pinned memory on a stream of its own needs neither the processor nor the stream that
computes. What already lies in host memory is handed on as it is: no thread, no copy, no wait.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.arrays.casting import CASTABLE
from hcsflow.arrays.convert import to_numpy
from hcsflow.arrays.counting import convert_planned, note_conversion
from hcsflow.arrays.families import lies_on_device, nbytes_of
from hcsflow.arrays.libraries import dtype_name, memory_type_of
from hcsflow.arrays.oom import is_out_of_memory
from hcsflow.arrays.streams import copy_stream
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PINNED", "Download", "PinnedPool", "start_download"]

PINNED_BYTES = 512 * 1024**2
"""What a process pins at most for results; beyond, they go to memory that can be paged."""


class Download:
    """An array on its way to host memory.

    Parameters
    ----------
    finish : callable
        Waits for the copy and returns it; holds what the copy reads until then.
    is_under_way : bool
        Whether there is something to wait for.

    Attributes
    ----------
    is_under_way : bool
        False once `result` has been asked for, and from the start for what lay in host memory.

    Examples
    --------
    >>> download = start_download(np.arange(3))
    >>> download.is_under_way, download.result().tolist()
    (False, [0, 1, 2])
    """

    def __init__(self, finish: Callable[[], NDArray[Any]], *, is_under_way: bool = True) -> None:
        self._finish = finish
        self.is_under_way = is_under_way

    def result(self) -> NDArray[Any]:
        """Return the array in host memory; waits for it the first time.

        Whatever failed on the way, as in work that the device had been given before, is raised.
        """
        host = self._finish()
        self.is_under_way = False
        self._finish = lambda: host  # lets go of what lies on the device
        return host

    def __del__(self) -> None:
        """Wait for a copy that nobody asked for: its memory would be another's already."""
        if self.is_under_way:
            with suppress(RuntimeError, MemoryConversionError):
                self._finish()


class PinnedPool:
    """Counts the pinned memory of arrays that are alive, up to a limit.

    The libraries keep what is given back for the next array of that size.

    Parameters
    ----------
    limit_bytes : int
        What all arrays together take at most.

    Examples
    --------
    >>> pool = PinnedPool(limit_bytes=1024)
    >>> first = pool.take(1000, lambda: np.zeros(1000, np.uint8))
    >>> pool.take(1, lambda: np.zeros(1, np.uint8)) is None, pool.used_bytes
    (True, 1024)
    >>> del first
    >>> pool.used_bytes
    0
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.RLock()  # arrays may die anywhere, also in here
        self.used_bytes = 0

    def take(self, nbytes: int, allocate: Callable[[], NDArray[Any]]) -> NDArray[Any] | None:
        """Return a new array of pinned memory; None where there is no room for it.

        Parameters
        ----------
        nbytes : int
            Its size.
        allocate : callable
            Makes it; what owns its memory is no array, so that views of it keep it alive.
        """
        taken = 1 << (nbytes - 1).bit_length()  # what cupy and torch make of it
        with self._lock:
            if self.used_bytes + taken > self._limit:
                return None
            self.used_bytes += taken
        array = None
        try:
            array = allocate()
            weakref.finalize(array, self._give_back, taken).atexit = False
        finally:
            if array is None:
                self._give_back(taken)
        return array

    def _give_back(self, nbytes: int) -> None:
        with self._lock:
            self.used_bytes -= nbytes


PINNED = PinnedPool(PINNED_BYTES)
"""This process's."""


def start_download(array: Any) -> Download:
    """Begin to copy an array to host memory, and count it as `convert_planned` does.

    Of cupy and torch on a GPU a copy on the device is what goes, on a stream of its own, after what
    this thread has given the device so far, to pinned memory while `PINNED` has room; jax copies in
    its own way. All other arrays are converted before this returns.

    Parameters
    ----------
    array : array
        Any memory type and shape. May be written to once this returns.

    Raises
    ------
    MemoryConversionError
        As `hcsflow.arrays.convert`.
    """
    begin = _BEGIN.get(memory_type_of(array))
    nbytes = nbytes_of(array) or 0
    finish = _begun(begin, array) if begin and nbytes and lies_on_device(array) else None
    if finish is None:
        host = convert_planned(array, "numpy")
        return Download(lambda: host, is_under_way=False)
    note_conversion("copy", nbytes)
    return Download(finish)


Finish = Callable[[], "NDArray[Any]"]
Begin = Callable[[Any], "Finish | None"]


def _begun(begin: Begin, array: Any) -> Finish | None:
    try:
        return begin(array)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _from_cupy(array: Any) -> Finish | None:
    cupy = sys.modules["cupy"]

    def pinned() -> NDArray[Any]:
        return np.frombuffer(cupy.cuda.alloc_pinned_memory(array.nbytes), np.uint8, array.nbytes)

    memory = PINNED.take(array.nbytes, pinned)
    if memory is None:
        return None
    host = memory.view(array.dtype).reshape(array.shape)
    with array.device:
        stream = copy_stream("cupy")
        stream.wait_event(cupy.cuda.get_current_stream().record())
        with stream:
            source = array.copy(order="C")
        stream.synchronize()  # from here on a function may use its buffer again
        source.get(stream=stream, out=host, blocking=False)
        event = cupy.cuda.Event(block=True, disable_timing=True)
        event.record(stream)
    return _Copy(event, source, host)


def _from_torch(array: Any) -> Finish | None:
    torch = sys.modules["torch"]
    if dtype_name(array) not in CASTABLE:  # numpy may not have it: the plain road says so
        return None

    def pinned() -> NDArray[Any]:
        memory: NDArray[Any] = torch.empty(array.shape, dtype=array.dtype, pin_memory=True).numpy()
        return memory

    host = PINNED.take(array.nbytes, pinned)
    if host is None:
        return None
    with torch.cuda.device(array.device):
        stream = copy_stream("torch")
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            source = array.detach().clone(memory_format=torch.contiguous_format)
            stream.synchronize()  # from here on a function may use its buffer again
            torch.from_numpy(host).copy_(source, non_blocking=True)
        event = torch.cuda.Event(blocking=True)
        event.record(stream)
    return _Copy(event, source, host)


class _Copy:
    """A copy under way: what to wait for, what it reads, what it fills."""

    def __init__(self, event: Any, source: Any, host: NDArray[Any]) -> None:
        self._event = event
        self._source = source
        self._host = host

    def __call__(self) -> NDArray[Any]:
        self._event.synchronize()
        return self._host


def _from_jax(array: Any) -> Finish:
    array.copy_to_host_async()
    return lambda: to_numpy(array)


_BEGIN: Mapping[str, Begin] = {
    "cupy": _from_cupy,
    "torch": _from_torch,
    "jax": _from_jax,
}
