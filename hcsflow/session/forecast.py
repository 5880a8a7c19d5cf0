"""How long what is left of a plan takes, and how much it stores, from what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hcsflow.execute.estimates import Estimates, StepEstimate, read_estimates, seconds_for
from hcsflow.execute.resume import Ledger
from hcsflow.plan import Plan
from hcsflow.session.plan import UNKNOWN_TIME
from hcsflow.view.words import format_time

__all__ = ["Forecast", "OutputForecast", "forecast_of", "known_forecast"]


@dataclass(frozen=True, slots=True)
class OutputForecast:
    """What one output will take on disk, by its wells measured.

    Parameters
    ----------
    output : str
        "" is the final one.
    wells_measured : int
        Wells of it that were measured.
    stored_bytes : int
        Of all the plan's wells.
    """

    output: str
    wells_measured: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run of a plan will come to.

    Parameters
    ----------
    source : str
        ``"probe"``, or ``"run"`` where wells of an earlier run on the output were measured.
    wells_measured, wells_left, workers : int
        Wells measured; wells to do and workers that share them.
    seconds_per_well : float
        Wall time of all of a well's tasks.
    seconds : float or None
        Wall time of what is left; None where part of it was not measured.
    stored_bytes, raw_bytes : int
        Of all the plan's wells: objects as they will be stored, and the same uncompressed.
    peak_bytes, projected_bytes : int
        Largest measured peak of a task, 0 where unknown, and what the plan projects.
    steps : tuple of StepEstimate
        Of a typical well.
    outputs : tuple of OutputForecast
        Those that were measured.
    """

    source: Literal["run", "probe"]
    wells_measured: int
    wells_left: int
    workers: int
    seconds_per_well: float
    seconds: float | None
    stored_bytes: int
    raw_bytes: int
    peak_bytes: int
    projected_bytes: int
    steps: tuple[StepEstimate, ...]
    outputs: tuple[OutputForecast, ...]

    def summary(self) -> dict[str, Any]:
        """Return the figures as a document's part."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Say it in words, line by line."""
        is_known = self.seconds is not None
        left = f"{self.wells_left} well{'' if self.wells_left == 1 else 's'} left"
        took = f"about {format_time(self.seconds)}" if self.seconds is not None else UNKNOWN_TIME
        yield f"{left} on {self.workers} worker{'' if self.workers == 1 else 's'}: {took}"
        if not is_known:
            yield "what was measured is only part of the work, the steps below:"
        measured = f"{self.wells_measured} well{'' if self.wells_measured == 1 else 's'}"
        how = "a probe" if self.source == "probe" else "an earlier run"
        yield f"{format_time(self.seconds_per_well)} a well, measured on {measured} of {how}"
        share = f", {100 * self.stored_bytes / self.raw_bytes:.0f} % of the pixels"
        yield f"stores about {_megabytes(self.stored_bytes)}{share if self.raw_bytes else ''}"
        if self.peak_bytes:
            yield (
                f"a task came to {_megabytes(self.peak_bytes)} of the "
                f"{_megabytes(self.projected_bytes)} projected"
            )
        for step in self.steps:
            peak = f", {_megabytes(step.peak_bytes)}" if step.peak_bytes else ""
            planned = f" of {_megabytes(step.projected_bytes)}" if step.projected_bytes else ""
            yield f"  {step.name}: {format_time(step.seconds)}{peak}{planned if peak else ''}"


def forecast_of(plan: Plan, estimates: Estimates, todo: dict[str, tuple[str, ...]]) -> Forecast:
    """Return what is to be expected of a plan.

    Parameters
    ----------
    plan : Plan
        What is to be run.
    estimates : Estimates
        What was measured.
    todo : mapping of str to tuple of str
        Well name to the names of the segments to run.
    """
    units = estimates.of_plan(plan)
    workers = max(1, plan.resources.workers)
    found = units.values()
    return Forecast(
        source="probe" if estimates.source == "probe" else "run",
        wells_measured=max((unit.wells for unit in found), default=0),
        wells_left=sum(map(bool, todo.values())),
        workers=workers,
        seconds_per_well=sum(unit.seconds for unit in found),
        seconds=seconds_for(estimates, plan, todo, workers=workers),
        stored_bytes=len(plan.wells) * sum(unit.bytes_written for unit in found),
        raw_bytes=len(plan.wells) * sum(w.raw_bytes_per_well for w in plan.writes),
        peak_bytes=max((unit.peak_bytes for unit in found), default=0),
        projected_bytes=plan.projected_bytes,
        steps=tuple(_joined(step for unit in found for step in unit.steps)),
        outputs=tuple(
            OutputForecast(name, unit.wells, len(plan.wells) * unit.bytes_written)
            for name, unit in units.items()
        ),
    )


def known_forecast(plan: Plan, output: Path) -> Forecast | None:
    """Return the forecast from what an output's ``estimates.json`` says, None where nothing fits.

    What is whole already is not counted as left.
    """
    estimates = read_estimates(output)
    if estimates is None or not estimates.of_plan(plan):
        return None
    ledger = Ledger(plan, output)
    return forecast_of(plan, estimates, {w: ledger.segments_to_run(w) for w in plan.wells})


def _joined(steps: Iterator[StepEstimate]) -> Iterator[StepEstimate]:
    """Add up reading and writing, which every unit has; the other steps occur once."""
    known: dict[str, StepEstimate] = {}
    for step in steps:
        other = known.get(step.name)
        known[step.name] = step if other is None else _sum(other, step)
    ends = [known.pop(name, None) for name in ("read", "write")]
    yield from filter(None, (ends[0], *known.values(), ends[1]))


def _sum(a: StepEstimate, b: StepEstimate) -> StepEstimate:
    return StepEstimate(
        name=a.name,
        seconds=a.seconds + b.seconds,
        longest_seconds=a.longest_seconds + b.longest_seconds,
        peak_bytes=max(a.peak_bytes, b.peak_bytes),
        projected_bytes=max(a.projected_bytes, b.projected_bytes),
    )


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"
