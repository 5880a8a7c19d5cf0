"""Process-wide settings for the time of a run: environment, and where Dask's log lines go."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType

from hcsflow.execute.signals import ending_signals
from hcsflow.journal import ControlFolder, append_log

__all__ = [
    "ctrl_c_withheld",
    "dask_logs_to",
    "dask_silenced",
    "environment",
    "interrupts_deferred",
]

PACKAGES = ("distributed", "dask_jobqueue", "dask_cuda", "bokeh", "tornado", "asyncio")


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, for processes started inside the block, and set them back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def ctrl_c_withheld() -> Iterator[None]:
    """Let processes started inside the block, and all they start, never hear of Ctrl-C.

    A terminal sends it to every process of a command; this one alone shall end the others. Here
    it waits until the block is through. Python's resource tracker must be running already:
    starting it would lift the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold Ctrl-C, SIGTERM and SIGHUP back until the block is through; a second one comes in.

    An error of the block after one of them is its doing: the processes being started got it too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    before = {number: signal.signal(number, note) for number in ending_signals()}
    try:
        yield
    except Exception as error:
        if seen:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for held in seen:
        signal.raise_signal(held)


class _LogFile(logging.Handler):
    """Puts log records into the run's log."""

    def __init__(self, control: ControlFolder) -> None:
        super().__init__(logging.WARNING)
        self._control = control

    def emit(self, record: logging.LogRecord) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "kind": "log",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        append_log(self._control, line)


@contextmanager
def dask_logs_to(control: ControlFolder) -> Iterator[None]:
    """Send what Dask logs in this process to ``log.jsonl`` instead of the terminal."""
    with _dask_logs(_LogFile(control)):
        yield


@contextmanager
def dask_silenced() -> Iterator[None]:
    """Drop what Dask logs in this process: the caller says what matters."""
    with _dask_logs(logging.NullHandler()):
        yield


@contextmanager
def _dask_logs(handler: logging.Handler) -> Iterator[None]:
    names = [n for n in logging.root.manager.loggerDict if n.partition(".")[0] in PACKAGES]
    found = [logging.getLogger(name) for name in {*PACKAGES, *names}]
    loggers = [logger for logger in found if logger.handlers or logger.name in PACKAGES]
    before = [(list(logger.handlers), logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
