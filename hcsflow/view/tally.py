"""Counting a run from its events: wells, steps, workers, rate; while it goes or from its log."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hcsflow.journal import Event

__all__ = ["StepTally", "Tally", "format_duration", "tally_of"]

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
class StepTally:
    """One step: wells that are through with it in this run, and their time in it in seconds."""

    through: int = 0
    seconds: float = 0.0

    @property
    def seconds_per_well(self) -> float | None:
        """Mean measured time, None before the first well."""
        return self.seconds / self.through if self.through else None


@dataclass(slots=True)
class Tally:
    """Counts of one run, fed by events; times are seconds of one clock.

    Parameters
    ----------
    total, skipped : int
        Wells to do in this run; wells already whole.
    done, failed : int
        Wells finished so far.
    workers : int or None
        Workers there are, None where nothing has been heard of them; 0 while they are waited for.
    running : dict of str to str
        Well name to the step it is at.
    steps : dict of str to StepTally
        Steps in the order in which they were first begun.
    started : float or None
        When the run began.
    dashboard, tunnel : str or None
        Dask's dashboard, and the command that makes it seen from elsewhere.
    refusal : str or None
        What the batch system said of the last job it did not take; None once a worker is there.
    """

    total: int = 0
    skipped: int = 0
    done: int = 0
    failed: int = 0
    workers: int | None = None
    running: dict[str, str] = field(default_factory=dict)
    steps: dict[str, StepTally] = field(default_factory=dict)
    started: float | None = None
    is_over: bool = False
    dashboard: str | None = None
    tunnel: str | None = None
    refusal: str | None = None
    finishes: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _counted: set[tuple[str, str]] = field(default_factory=set)

    @property
    def finished(self) -> int:
        """Wells done or failed."""
        return self.done + self.failed

    @property
    def is_waiting(self) -> bool:
        """Whether there are wells to do and no worker yet."""
        return self.workers == 0 and self.finished < self.total

    def add(self, event: Event, now: float) -> None:
        """Count one event."""
        well, data = event.well or "", event.data
        if event.kind == "run_started":
            self._begin(data, now)
        elif event.kind == "workers":
            self.workers = int(data["count"])
            self.refusal = None if self.workers else self.refusal
        elif event.kind == "job_refused":
            self.refusal = str(data.get("message"))
        elif event.kind == "cluster_started":
            self.dashboard, self.tunnel = data.get("dashboard"), data.get("tunnel")
        elif event.kind in ("well_started", "step", "step_done"):
            self._follow(event.kind, well, data)
        elif event.kind in ("well_done", "well_failed"):
            self.running.pop(well, None)
            for step, seconds in data.get("steps", {}).items():
                self._count(step, well, float(seconds))
            self.done += event.kind == "well_done"
            self.failed += event.kind == "well_failed"
            self.finishes.append(now)
        elif event.kind in ("run_finished", "run_stopped"):
            self.is_over = True

    def _begin(self, data: Mapping[str, Any], now: float) -> None:
        self.total = _count(data.get("wells", 0))
        self.skipped = _count(data.get("skipped", 0))
        self.workers = int(data["workers"]) if data.get("workers") else None
        self.started = now

    def _follow(self, kind: str, well: str, data: Mapping[str, Any]) -> None:
        """Follow a well through its steps."""
        step = str(data.get("step", ""))
        if kind == "step_done":
            self._count(step, well, float(data.get("seconds", 0.0)))
            return
        if step:
            self.steps.setdefault(step, StepTally())
        self.running[well] = step

    def _count(self, step: str, well: str, seconds: float) -> None:
        """Count a well as through with a step, once; workers need not tell each as it happens."""
        if step in ("read", "write") or (well, step) in self._counted:
            return
        self._counted.add((well, step))
        counted = self.steps.setdefault(step, StepTally())
        counted.through += 1
        counted.seconds += seconds

    def at_step(self, step: str) -> int:
        """Return how many wells are at a step."""
        return sum(at == step for at in self.running.values())

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
            return f"nothing to do: {self.skipped} {_noun(self.skipped, 'well')} done already"
        percent = 100 * self.finished / self.total
        parts = [f"{self.done}/{self.total} {_noun(self.total, 'well')} done ({percent:.0f} %)"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.running:
            parts.append(f"{len(self.running)} running")
        if self.refusal:
            parts.append(f"a job was refused: {self.refusal}")
        if self.is_waiting:
            parts.append("waiting for workers")
        elif self.workers:
            parts.append(f"{self.workers} {_noun(self.workers, 'worker')}")
        if self.skipped:
            parts.append(f"{self.skipped} done already")
        rate, left = self.rate(now), self.seconds_left(now)
        if rate and left and self.finished < self.total:
            parts += [f"{60 * rate:.3g} wells/min", f"about {format_duration(left)} left"]
        return " · ".join(parts)

    def step_lines(self) -> list[str]:
        """Return a line of text for each step."""
        width = max((len(name) for name in self.steps), default=0)
        return [
            f"{name:<{width}}  {self._step_line(name, step)}" for name, step in self.steps.items()
        ]

    def _step_line(self, name: str, step: StepTally) -> str:
        parts = [f"{step.through}/{self.total} through"]
        if at := self.at_step(name):
            parts.append(f"{at} at it")
        if (mean := step.seconds_per_well) is not None:
            parts.append(f"{mean:.3g} s/well")
        return " · ".join(parts)


def tally_of(lines: Iterable[Mapping[str, Any]]) -> tuple[Tally, dict[str, Any]]:
    """Count the latest run of a log.

    Parameters
    ----------
    lines : iterable of mapping
        Of ``log.jsonl``; times become seconds since 1970.

    Returns
    -------
    tuple of Tally and dict
        The counts, and what the run said of itself as it began; empty where none did.
    """
    tally, begun = Tally(), dict[str, Any]()
    for line in lines:
        kind = str(line.get("kind"))
        if kind == "run_started":
            tally, begun = Tally(), dict(line)
        tally.add(Event(kind, line.get("well"), dict(line)), _seconds(line.get("time")))
    return tally, begun


def _seconds(time: object) -> float:
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except ValueError:
        return 0.0


def _noun(number: int, noun: str) -> str:
    return noun if number == 1 else f"{noun}s"


def _count(value: object) -> int:
    """Events carry a number of wells or their names."""
    return len(value) if isinstance(value, (list, tuple, set, frozenset)) else int(str(value))
