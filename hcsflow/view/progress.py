"""Progress of a run on standard error: a live bar in a terminal, one line a minute elsewhere."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from hcsflow.journal import Event
from hcsflow.view.faults import reason_of

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["RunProgress", "Tally", "format_duration"]

WINDOW = 32
"""Finished wells over which the current rate is taken."""


def format_duration(seconds: float) -> str:
    """Render a time span as people say it.

    Examples
    --------
    >>> format_duration(7.2), format_duration(95), format_duration(7330)
    ('7.2 s', '1 min 35 s', '2 h 02 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@dataclass(slots=True)
class Tally:
    """Counts of one run, fed by events; times are seconds of a monotonic clock.

    Parameters
    ----------
    total, skipped : int
        Wells to do in this run; wells already whole.
    done, failed : int
        Wells finished so far.
    running : dict of str to str
        Well name to the step it is at.
    """

    total: int = 0
    skipped: int = 0
    done: int = 0
    failed: int = 0
    workers: int = 0
    running: dict[str, str] = field(default_factory=dict)
    started: float | None = None
    finishes: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def finished(self) -> int:
        """Wells done or failed."""
        return self.done + self.failed

    def add(self, event: Event, now: float) -> None:
        """Count one event."""
        well = event.well or ""
        if event.kind == "run_started":
            self.total = _count(event.data.get("wells", 0))
            self.skipped = _count(event.data.get("skipped", 0))
            self.workers = int(event.data.get("workers") or 0)
            self.started = now
        elif event.kind == "well_started":
            self.running[well] = ""
        elif event.kind == "step":
            self.running[well] = str(event.data.get("step", ""))
        elif event.kind in ("well_done", "well_failed"):
            self.running.pop(well, None)
            self.done += event.kind == "well_done"
            self.failed += event.kind == "well_failed"
            self.finishes.append(now)

    def rate(self, now: float) -> float | None:
        """Return wells per second over the last finished wells, None before the first."""
        if not self.finishes or self.started is None:
            return None
        full = self.finished > len(self.finishes)
        since = self.finishes[0] if full else self.started
        count = len(self.finishes) - full
        return count / (now - since) if now > since and count else None

    def seconds_left(self, now: float) -> float | None:
        """Return the projected time until the last well, None while unknown."""
        rate = self.rate(now)
        return (self.total - self.finished) / rate if rate else None

    def line(self, now: float) -> str:
        """Return the state as one line of text."""
        if not self.total:
            return f"nothing to do: {self.skipped} {_noun(self.skipped)} done already"
        percent = 100 * self.finished / self.total
        parts = [f"{self.done}/{self.total} {_noun(self.total)} done ({percent:.0f} %)"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.running:
            parts.append(f"{len(self.running)} running")
        if self.skipped:
            parts.append(f"{self.skipped} done already")
        rate, left = self.rate(now), self.seconds_left(now)
        if rate and left and self.finished < self.total:
            parts += [f"{60 * rate:.3g} wells/min", f"about {format_duration(left)} left"]
        return " · ".join(parts)


def _noun(wells: int) -> str:
    return "well" if wells == 1 else "wells"


def _count(value: object) -> int:
    """Events carry a number of wells or their names."""
    return len(value) if isinstance(value, (list, tuple, set, frozenset)) else int(str(value))


class RunProgress:
    """Shows a run while it goes; give it to ``Plan.run(on_event=...)``.

    Parameters
    ----------
    console : rich.console.Console
        Where to; normally standard error.
    interval_s : float
        Seconds between lines where the console is no terminal.
    clock : callable
        Monotonic time in seconds.

    Notes
    -----
    Events may come from any thread.
    """

    def __init__(
        self,
        console: Console,
        *,
        interval_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = Tally()
        self._console = console
        self._clock = clock
        self._interval_s = interval_s
        self._next_line = clock() + interval_s
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                BarColumn(bar_width=28, complete_style="cyan", finished_style="green"),
                TextColumn("{task.description}", markup=False),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting workers …", total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Take one event in and show it."""
        with self._lock:
            now = self._clock()
            self.tally.add(event, now)
            if event.kind == "well_failed":
                self._console.print(_failure_line(event), soft_wrap=True)
            if self._bar is not None and self._task is not None:
                self._bar.update(
                    self._task,
                    description=self.tally.line(now),
                    completed=self.tally.finished,
                    total=self.tally.total or None,
                )
            elif now >= self._next_line:
                self._console.print(self.tally.line(now), soft_wrap=True)
                self._next_line = now + self._interval_s


def _failure_line(event: Event) -> Text:
    step = event.data.get("step")
    line = Text.assemble(("✗ ", "red"), (event.well or "?", "bold red"))
    line.append(f" failed at {step}: " if step else " failed: ")
    return line.append(reason_of(event.data).partition("\n")[0])
