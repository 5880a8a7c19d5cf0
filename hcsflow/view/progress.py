"""Progress of a run: live bars in a terminal, HTML in a notebook, one line a minute elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hcsflow.journal import Event
from hcsflow.view.faults import reason_of
from hcsflow.view.tally import Tally, format_duration

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["NotebookProgress", "RunProgress", "Tally", "format_duration", "notebook_progress"]

BAR_WIDTH = 28
REDRAW_S = 0.25


class _Shown(AbstractContextManager["_Shown"]):
    """A run's counts behind a lock: events may come from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.tally = Tally()
        self._clock = clock
        self._lock = threading.RLock()

    def __call__(self, event: Event) -> None:
        """Take one event in and show it."""
        with self._lock:
            self.tally.add(event, self._clock())
            self._show(event)

    @abstractmethod
    def _show(self, event: Event) -> None:
        """Show one event that the tally has taken in."""


class RunProgress(_Shown):
    """Shows a run while it goes; give it to ``Plan.run(on_event=...)``.

    Parameters
    ----------
    console : rich.console.Console
        Where to; normally standard error. On a terminal a bar for the run and one for each step
        stay at the bottom; elsewhere a line is printed at times. Failures are printed at once.
    interval_s : float
        Seconds between lines where the console is no terminal.
    clock : callable
        Monotonic time in seconds.
    """

    def __init__(
        self,
        console: Console,
        *,
        interval_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock)
        self._console = console
        self._interval_s = interval_s
        self._next_line = clock() + interval_s
        self._live: Live | None = None
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._render,
                console=self._console,
                refresh_per_second=1 / REDRAW_S,
                transient=True,
            )
            self._live.start()
        else:
            self._ticker = threading.Thread(target=self._tick, name="hcsflow-lines", daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._live is not None:
            self._live.stop()
        if self._ticker is not None:
            self._ticker.join()

    def _show(self, event: Event) -> None:
        if event.kind == "well_failed":
            self._console.print(_failure_line(event), soft_wrap=True)
        if event.kind == "workers" and self.tally.is_waiting:
            self._next_line = self._clock()  # a queue may be long: said at once
        if self._live is None:
            self._print_line()

    def _tick(self) -> None:
        """Print the line when it is time, also where nothing happens for long."""
        while not self._stop.wait(min(1.0, self._interval_s)):
            with self._lock:
                self._print_line()

    def _print_line(self) -> None:
        now = self._clock()
        if now >= self._next_line and self.tally.started is not None:
            self._console.print(self.tally.line(now), soft_wrap=True)
            self._next_line = now + self._interval_s

    def _render(self) -> Group:
        with self._lock:
            tally, now = self.tally, self._clock()
            if tally.started is None:
                return Group(Text("starting …"))
            rows = Table.grid(padding=(0, 1))
            rows.add_row(_bar(tally.finished, tally.total), Text(tally.line(now)))
            for (_, step), line in zip(tally.steps.items(), tally.step_lines(), strict=True):
                rows.add_row(_bar(step.through, tally.total), Text(line, style="dim"))
            return Group(rows)


class Handle(Protocol):
    """What shows HTML and lets it be replaced, as ``IPython.display.display`` returns."""

    def update(self, html: Any) -> None:
        """Show something else in the same place."""


class NotebookProgress(_Shown):
    """Shows a run in a notebook, in one place that is updated.

    Parameters
    ----------
    show : callable
        Takes HTML for the first time and returns what updates it.
    wrap : callable
        Makes a displayable of HTML text.
    clock : callable
        Monotonic time in seconds.
    """

    def __init__(
        self,
        show: Callable[[Any], Handle],
        wrap: Callable[[str], Any] = str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock)
        self._wrap = wrap
        self._failures: list[str] = []
        self._handle = show(wrap(self.html()))
        self._shown = clock()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._handle.update(self._wrap(self.html()))

    def _show(self, event: Event) -> None:
        if event.kind == "well_failed":
            self._failures.append(_failure_line(event).plain)
        now = self._clock()
        if now - self._shown >= REDRAW_S or event.kind == "well_failed":
            self._shown = now
            self._handle.update(self._wrap(self.html()))

    def html(self) -> str:
        """Return the state as HTML; no script, nothing from elsewhere."""
        tally = self.tally
        if tally.started is None:
            return "<div>starting …</div>"
        rows = [_html_row(tally.finished, tally.total, tally.line(self._clock()))]
        for step, line in zip(tally.steps.values(), tally.step_lines(), strict=True):
            rows.append(_html_row(step.through, tally.total, line))
        failures = "".join(f"<div>{escape(line)}</div>" for line in self._failures)
        link = escape(tally.dashboard or "", quote=True)
        board = f'<div>dashboard: <a href="{link}">{link}</a></div>' if link else ""
        return f"<table>{''.join(rows)}</table>{board}{failures}"


def notebook_progress() -> NotebookProgress | None:
    """Return progress for the notebook that this process is the kernel of, None elsewhere."""
    ipython, display = sys.modules.get("IPython"), sys.modules.get("IPython.display")
    shell = ipython.get_ipython() if ipython is not None else None
    if display is None or not hasattr(shell, "kernel"):
        return None
    return NotebookProgress(lambda html: display.display(html, display_id=True), display.HTML)


def _bar(completed: int, total: int) -> ProgressBar:
    return ProgressBar(
        total=max(total, 1),
        completed=completed if total else 1,
        width=BAR_WIDTH,
        complete_style="cyan",
        finished_style="green",
    )


def _html_row(completed: int, total: int, line: str) -> str:
    bar = f'<progress value="{completed}" max="{max(total, 1)}"></progress>'
    return f'<tr><td>{bar}</td><td style="text-align:left">{escape(line)}</td></tr>'


def _failure_line(event: Event) -> Text:
    step = event.data.get("step")
    line = Text.assemble(("✗ ", "red"), (event.well or "?", "bold red"))
    line.append(f" failed at {step}: " if step else " failed: ")
    return line.append(reason_of(event.data).partition("\n")[0])
