"""What a worker measures of its tasks, and what it says meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

import psutil
from distributed import get_worker

__all__ = [
    "PeakMeter",
    "emit",
    "heard_by",
    "idle_bytes",
    "measure_idle",
    "topic_of",
]

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")

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


class PeakMeter:
    """Measure the peak resident size of a block above an idle worker's.

    Attributes
    ----------
    peak_bytes : int
        Peak above the idle size, after the block; of the whole process, so it belongs to one task
        only where a process runs one task at a time.
    is_exact : bool
        Whether the kernel's high-water mark could be set back at the start (Linux). Otherwise the
        peak is that of the process so far, an upper bound; on systems without a high-water mark,
        the size at the end, a lower one.

    Examples
    --------
    >>> with PeakMeter() as meter:
    ...     block = bytearray(1 << 20)
    >>> meter.peak_bytes >= 0
    True
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.is_exact = False

    def __enter__(self) -> Self:
        idle_bytes()
        self.is_exact = _reset_high_water()
        return self

    def __exit__(self, *error: object) -> None:
        self.peak_bytes = max(0, _high_water() - idle_bytes())


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

    On a worker fire and forget: nothing waits for it. Under `heard_by` the listener is called.
    Elsewhere nothing happens.
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
    worker.log_event(topic_of(plan_id), message)


def _reset_high_water() -> bool:
    """Set VmHWM back to the present size (``proc(5)``: write 5 to clear_refs)."""
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _high_water() -> int:
    """Return the process's peak resident size in bytes."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return int(psutil.Process().memory_info().rss)
    marks = [line.split() for line in lines if line.startswith("VmHWM:")]
    return int(marks[0][1]) * 1024 if marks else int(psutil.Process().memory_info().rss)
