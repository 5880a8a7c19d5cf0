"""The signals that end a run. Standard library only: the command line asks before all else."""

from __future__ import annotations

import signal

__all__ = ["ending_signals"]


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return Ctrl-C, SIGTERM, and SIGHUP where the system has it and nobody ignores it.

    A connection that drops sends SIGHUP; ``nohup`` has it ignored, and so it stays.

    Examples
    --------
    >>> signal.SIGTERM in ending_signals()
    True
    """
    found = [signal.SIGINT, signal.SIGTERM]
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)  # there is none on Windows
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        found.append(hangup)
    return tuple(found)
