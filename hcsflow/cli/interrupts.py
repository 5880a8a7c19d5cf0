"""Ctrl-C, SIGTERM and SIGHUP, all as `KeyboardInterrupt`, and none of them ever lost.

Standard library only, so that it works before anything else is imported.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hcsflow.execute.signals import ending_signals

__all__ = ["interruptible", "raise_if_interrupted"]

_noted: list[int] = []


@contextmanager
def interruptible(*, ends_process: bool = False) -> Iterator[None]:
    """Let SIGTERM, and SIGHUP where it is not ignored, end the block as Ctrl-C does.

    Once one has come the block ends with `KeyboardInterrupt`, also where a half-done import
    turned it into another error, or nothing came of it. With ``ends_process`` another one is
    ignored after the block: the process is about to end, and shall say how.
    """
    _noted.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        _noted.append(number)
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in ending_signals()}
    try:
        yield
        raise_if_interrupted()
    except BaseException as error:
        if _noted:
            raise KeyboardInterrupt from error
        raise
    finally:
        is_ending = ends_process and bool(_noted)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if is_ending else handler)
        _noted.clear()


def raise_if_interrupted() -> None:
    """Raise `KeyboardInterrupt` again if one was raised before.

    Where an import is interrupted, a library's bare ``except:`` may have taken it for a missing
    module, and the run would go on.
    """
    if _noted:
        raise KeyboardInterrupt
