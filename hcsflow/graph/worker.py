"""What a worker measures of its tasks, and what it says meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any, Self

import psutil
from distributed import get_worker

from hcsflow.graph.process import trim_allocator

if TYPE_CHECKING:
    from distributed import Worker

__all__ = [
    "MemoryReturn",
    "PeakMeter",
    "emit",
    "emit_no_more",
    "heard_by",
    "idle_bytes",
    "measure_idle",
    "topic_of",
]

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
STATUS_BYTES = 1 << 13

_idle: dict[int, int] = {}

_listener: ContextVar[Callable[[dict[str, Any]], None] | None] = ContextVar(
    "hcsflow_listener", default=None
)


def measure_idle() -> int:
    """Note this process's resident size as that of an idle worker, in bytes."""
    _idle[os.getpid()] = psutil.Process().memory_info().rss
    return _idle[os.getpid()]


def idle_bytes() -> int:
    """Return the resident size noted by `measure_idle`, noting it now if it never was."""
    return _idle.get(os.getpid()) or measure_idle()


TELL_S = 0.2
"""Events go out so far apart: waking Dask for each would cost more than a small well itself."""

_telling = Lock()
_untold: list[tuple[Worker, str, dict[str, Any]]] = []
_teller: Timer | None = None
_told = float("-inf")

_open = 0
_opened = 0
_lock = Lock()


class PeakMeter:
    """Measure the peak resident size of a block above an idle worker's.

    Attributes
    ----------
    peak_bytes : int
        Peak above the idle size, after the block. 0 where it cannot be told: the kernel offers no
        high-water mark that can be set back (other systems than Linux), or other tasks ran in the
        process meanwhile.
    step_peaks : dict of str to int
        The same by step, as `begin` named them.

    Examples
    --------
    >>> with PeakMeter() as meter:
    ...     meter.begin("smooth")
    ...     block = bytearray(1 << 20)
    >>> meter.peak_bytes == max(meter.step_peaks.values())
    True
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.step_peaks: dict[str, int] = {}
        self._step = "read"
        self._is_told = False
        self._serial = 0

    def __enter__(self) -> Self:
        global _open, _opened  # noqa: PLW0603 - the mark is the process's
        idle_bytes()
        with _lock:
            self._is_told = _open == 0 and _reset_high_water()
            _open += 1
            _opened += 1
            self._serial = _opened
        return self

    def begin(self, step: str) -> None:
        """Note the peak of the step so far, and start on another; again is free."""
        if step != self._step:  # a step may be told plane by plane, and each note takes 0.1 ms
            self._note()
            self._step = step

    def __exit__(self, *error: object) -> None:
        global _open  # noqa: PLW0603 - the mark is the process's
        self._note()
        with _lock:
            _open -= 1
        self.peak_bytes = max(self.step_peaks.values(), default=0)

    def _note(self) -> None:
        """Add what the mark says to the step at work, and set the mark back."""
        with _lock:
            self._is_told &= _opened == self._serial
            if self._is_told:
                peak = max(0, _high_water() - idle_bytes())
                self.step_peaks[self._step] = max(peak, self.step_peaks.get(self._step, 0))
                _reset_high_water()
            else:
                self.step_peaks.clear()


class MemoryReturn:
    """Give unused memory back to the system at times, so that it does not grow with the well.

    Blocks of many sizes leave gaps between them, and from plane to plane the allocator's memory
    gets no smaller. Each return takes under 2 % of the time between two, for faulting it in anew.

    Parameters
    ----------
    held_bytes : int
        What the task holds at its worst.
    """

    READS = 4
    """Times that much is read between two returns."""

    LEAST_BYTES = 64 << 20
    """What a task counts as holding at least: returns for a few small planes would gain nothing."""

    def __init__(self, held_bytes: int) -> None:
        self._every = self._due = self.READS * max(held_bytes, self.LEAST_BYTES)

    def after(self, bytes_read: int) -> None:
        """Be told what the task has read so far; give memory back if it is time."""
        if bytes_read > self._due:
            self._due = bytes_read + self._every
            trim_allocator()


def topic_of(plan_id: str) -> str:
    """Return the topic of a run's worker events: runs may share a scheduler."""
    return f"hcsflow-{plan_id}"


@contextmanager
def heard_by(listener: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Hand what tasks of this thread emit in the block to a listener: they run on no worker."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def emit(kind: str, well: str, *, plan_id: str, **data: str | float) -> None:
    """Tell the client that something happened (``"well_started"``, ``"step"``).

    On a worker fire and forget: nothing waits for it. It goes out at once, or within `TELL_S`
    after others did; not at all if the task ends before (`emit_no_more`). Under `heard_by` the
    listener is called at once. Elsewhere nothing happens.
    """
    message: dict[str, Any] = {"kind": kind, "well": well, "data": {**data}}
    listener = _listener.get()
    if listener is not None:
        listener(message)
        return
    try:
        worker = get_worker()
    except ValueError:
        return
    _tell_soon(worker, topic_of(plan_id), message)


def emit_no_more(well: str, *, plan_id: str) -> None:
    """Drop what was not told yet of a well: its task has ended, and its outcome says the rest."""
    topic = topic_of(plan_id)
    with _telling:
        _untold[:] = [one for one in _untold if (one[1], one[2]["well"]) != (topic, well)]


def _tell_soon(worker: Worker, topic: str, message: dict[str, Any]) -> None:
    global _teller  # noqa: PLW0603 - one for the process
    with _telling:
        _untold.append((worker, topic, message))
        if _teller is None:
            if time.monotonic() - _told > TELL_S:
                _tell()
            else:
                _teller = Timer(TELL_S, _tell_now)
                _teller.daemon = True
                _teller.start()


def _tell_now() -> None:
    global _teller  # noqa: PLW0603 - as above
    with _telling:  # to the end: what a task says must not come after its result
        _teller = None
        _tell()


def _tell() -> None:
    global _told  # noqa: PLW0603 - as above
    _told = time.monotonic()
    for worker, topic, message in _untold:
        with suppress(RuntimeError):  # the worker is closing
            worker.log_event(topic, message)
    _untold.clear()


def _reset_high_water() -> bool:
    """Set VmHWM back to the present size (``proc(5)``: write 5 to clear_refs)."""
    try:
        handle = os.open(CLEAR_REFS, os.O_WRONLY)  # several times a task: without ceremony
    except OSError:
        return False
    try:
        os.write(handle, b"5")
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _high_water() -> int:
    """Return the process's peak resident size in bytes, since the mark was set back."""
    handle = os.open(STATUS, os.O_RDONLY)
    try:
        text = os.read(handle, STATUS_BYTES)
    finally:
        os.close(handle)
    return int(text.partition(b"VmHWM:")[2].split(maxsplit=1)[0]) * 1024
