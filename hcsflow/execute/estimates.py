"""Measured seconds and memory of a plan's units: ``estimates.json`` beside the journal.

Outside plan and fingerprint: figures say how long the rest may take, and change no result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import fmean, median_low
from typing import Any, Self

from hcsflow.journal import (
    ControlFolder,
    Outcome,
    entries_of_plan,
    read_entry,
    read_json,
    write_text_atomic,
)
from hcsflow.plan import Plan, Segment, StepPlan, WritePlan, stable_json
from hcsflow.recipes import counted

__all__ = [
    "SCHEMA",
    "Estimates",
    "Measurements",
    "StepEstimate",
    "UnitEstimate",
    "estimate",
    "measured_units",
    "read_estimates",
    "seconds_for",
    "seconds_left",
    "write_estimates",
]

SCHEMA = "hcsflow.estimates/1"


@dataclass(frozen=True, slots=True)
class StepEstimate:
    """What one step of one well took; ``"read"`` and ``"write"`` stand for input and output.

    Parameters
    ----------
    name : str
        Step name.
    seconds, longest_seconds : float
        Wall time of a typical well (the lower median) and of the longest.
    peak_bytes, projected_bytes : int
        Largest peak above an idle worker while the step ran, 0 where it was not measured, and
        what the plan projected.
    """

    name: str
    seconds: float
    longest_seconds: float
    peak_bytes: int
    projected_bytes: int


@dataclass(frozen=True, slots=True)
class UnitEstimate:
    """What one unit, an output of one well, took: all tasks since the checkpoint before it.

    Parameters
    ----------
    output, key : str
        Output ("" is the final one), and a hash of what its cost depends on.
    wells : int
        Wells measured.
    seconds, longest_seconds : float
        Wall time of its tasks, of a typical well (the lower median) and of the longest.
    peak_bytes, projected_bytes : int
        Largest peak above an idle worker, 0 where it was not measured, and the plan's.
    bytes_read, bytes_written : int
        Of a well, on average, so that wells add up: decoded input, stored output.
    steps : tuple of StepEstimate
        In plan order, reading first, writing last.
    """

    output: str
    key: str
    wells: int
    seconds: float
    longest_seconds: float
    peak_bytes: int
    projected_bytes: int
    bytes_read: int
    bytes_written: int
    steps: tuple[StepEstimate, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimates:
    """Measured figures of a plan.

    Parameters
    ----------
    source : str
        ``"run"`` or ``"probe"``.
    workers : int
        Workers at the time.
    units : tuple of UnitEstimate
        Those measured.
    """

    source: str
    workers: int
    units: tuple[UnitEstimate, ...]
    schema: str = SCHEMA

    def of(self, key: str) -> UnitEstimate | None:
        """Return the figures of a unit, None where it was not measured."""
        return next((unit for unit in self.units if unit.key == key), None)

    def of_plan(self, plan: Plan) -> dict[str, UnitEstimate]:
        """Return the figures of a plan's units by output; those not measured are left out."""
        found = {output: self.of(key) for output, key in keys_of(plan).items()}
        return {output: unit for output, unit in found.items() if unit is not None}

    def joined(self, earlier: Self | None) -> Self:
        """Return these figures, with those of units that were measured earlier only."""
        known = {unit.key for unit in self.units}
        kept = () if earlier is None else earlier.units
        return replace(self, units=self.units + tuple(u for u in kept if u.key not in known))

    def to_json(self) -> str:
        """Return the figures as text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)


def unit_keys(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return, by output, a hash of what a unit's cost depends on: steps, planes, what is stored.

    Parameters
    ----------
    plan : mapping
        What ``plan.json`` holds.
    """
    keys: dict[str, str] = {}
    before = -1
    for write in sorted(plan["writes"], key=lambda write: int(write["step"])):
        steps = plan["steps"][before + 1 : write["step"] + 1]
        work = [[s["fingerprint"], s["input"], s["output"], s["held_in"]] for s in steps]
        text = json.dumps([work, counted(write)], sort_keys=True)
        keys[write["output"]] = hashlib.sha256(text.encode()).hexdigest()[:16]
        before = write["step"]
    return keys


def keys_of(plan: Plan) -> dict[str, str]:
    """Return the same of a plan."""
    return unit_keys(json.loads(stable_json({"steps": plan.steps, "writes": plan.writes})))


def _segments_of(plan: Plan, write: WritePlan) -> list[Segment]:
    """Return the segments since the output before, up to the one that writes this one."""
    before = max((w.step for w in plan.writes if w.step < write.step), default=-1)
    return [s for s in plan.segments if s.last > before and s.first <= write.step]


def _steps_of(plan: Plan, write: WritePlan) -> list[StepPlan]:
    segments = _segments_of(plan, write)
    return list(plan.steps[segments[0].first : segments[-1].last + 1])


def estimate(
    plan: Plan, measured: Mapping[str, Sequence[Outcome]], *, workers: int, source: str = "run"
) -> Estimates:
    """Sum up what finished units measured.

    Parameters
    ----------
    plan : Plan
        What was run.
    measured : mapping of str to sequence of Outcome
        By output, the outcome on record with each well's unit.
    workers : int
        Workers at the time.
    source : str
        ``"run"`` or ``"probe"``.
    """
    keys = keys_of(plan)
    units = (
        _unit(plan, write, keys[write.output], measured[write.output])
        for write in plan.writes
        if measured.get(write.output)
    )
    return Estimates(source, workers, tuple(units))


def _unit(plan: Plan, write: WritePlan, key: str, outcomes: Sequence[Outcome]) -> UnitEstimate:
    return UnitEstimate(
        output=write.output,
        key=key,
        wells=len(outcomes),
        seconds=median_low(o.seconds for o in outcomes),
        longest_seconds=max(o.seconds for o in outcomes),
        peak_bytes=max(o.peak_bytes for o in outcomes),
        projected_bytes=max(s.projected_bytes for s in _segments_of(plan, write)),
        bytes_read=round(fmean(o.bytes_read for o in outcomes)),
        bytes_written=round(fmean(o.bytes_written for o in outcomes)),
        steps=tuple(_steps(_steps_of(plan, write), outcomes)),
    )


def _steps(steps: Iterable[StepPlan], outcomes: Sequence[Outcome]) -> Iterator[StepEstimate]:
    projected = {"read": 0} | {step.name: step.projected_bytes for step in steps} | {"write": 0}
    seconds = [dict(outcome.step_seconds) for outcome in outcomes]
    peaks = [dict(outcome.step_peaks) for outcome in outcomes]
    for name, nbytes in projected.items():
        yield StepEstimate(
            name=name,
            seconds=median_low(spent.get(name, 0.0) for spent in seconds),
            longest_seconds=max(spent.get(name, 0.0) for spent in seconds),
            peak_bytes=max(peak.get(name, 0) for peak in peaks),
            projected_bytes=nbytes,
        )


def seconds_for(
    estimates: Estimates | None, plan: Plan, todo: Mapping[str, Sequence[str]], *, workers: int
) -> float | None:
    """Return the wall time of what is left, in seconds; None where part of it is unknown.

    Parameters
    ----------
    estimates : Estimates or None
        What was measured.
    plan : Plan
        What is to be done.
    todo : mapping of str to sequence of str
        Well name to the names of the segments to run.
    workers : int
        Workers that share the wells; each takes whole wells.

    Examples
    --------
    >>> seconds_for(None, None, {}, workers=2)  # nothing left
    0.0
    """
    wells = [set(names) for names in todo.values() if names]
    if not wells:
        return 0.0
    measured = {} if estimates is None else estimates.of_plan(plan)
    needs = [(w.output, {s.name for s in _segments_of(plan, w)}) for w in plan.writes]
    owed = [[output for output, names in needs if names & well] for well in wells]
    return _shared(measured, owed, workers)


def seconds_left(output: Path, wells: Iterable[str]) -> float | None:
    """Return the wall time that an output's open wells will take, in seconds, from its files.

    Parameters
    ----------
    output : Path
        The output folder.
    wells : iterable of str
        Wells that are not done.

    Returns
    -------
    float or None
        With as many workers as measured it; None where part of it is unknown.
    """
    control, estimates = ControlFolder(output), read_estimates(output)
    plan = read_json(control.plan)
    if estimates is None or not isinstance(plan, dict):
        return None
    found = {name: estimates.of(key) for name, key in unit_keys(plan).items()}
    measured = {name: unit for name, unit in found.items() if unit is not None}
    made = {name: entries_of_plan(control, plan, name) for name in found}
    owed = [[name for name in found if well not in made[name]] for well in wells]
    return _shared(measured, [each for each in owed if each], estimates.workers)


def measured_units(output: Path) -> tuple[UnitEstimate, ...]:
    """Return what was measured of the units of an output's latest plan, in the plan's order."""
    estimates, plan = read_estimates(output), read_json(ControlFolder(output).plan)
    if estimates is None or not isinstance(plan, dict):
        return ()
    found = (estimates.of(key) for key in unit_keys(plan).values())
    return tuple(unit for unit in found if unit is not None)


def _shared(
    measured: Mapping[str, UnitEstimate], owed: Sequence[Sequence[str]], workers: int
) -> float | None:
    """Return the wall time of some wells' outputs; None where one was not measured."""
    if not owed:
        return 0.0
    if not {output for each in owed for output in each} <= measured.keys():
        return None
    seconds = [sum(measured[output].seconds for output in each) for each in owed]
    return max(sum(seconds) / max(1, workers), *seconds)


class Measurements:
    """What the wells of a run measure, kept in ``estimates.json`` as they come in.

    The file is written after the first well, the second, the fourth and so on, and at the end.

    Parameters
    ----------
    plan : Plan
        What is run.
    output : Path
        The output folder.
    workers : int
        Workers that share the wells.
    """

    def __init__(self, plan: Plan, output: Path, *, workers: int) -> None:
        self._plan = plan
        self._output = output
        self._workers = workers
        self._measured: dict[str, list[Outcome]] = {}
        self._wells = self._saved = 0
        self._due = 1

    def add(self, well: str) -> dict[str, Any] | None:
        """Take what the journal says of a well that is done.

        Returns
        -------
        dict or None
            ``step``, ``peak_bytes`` and ``projected_bytes`` where the well's measured peak is
            above the projected one.
        """
        found: list[Outcome] = []
        for write in self._plan.writes:
            entry = read_entry(ControlFolder(self._output), write.output, well)
            if entry is not None:
                self._measured.setdefault(write.output, []).append(entry.outcome)
                found.append(entry.outcome)
        self._wells += 1
        if self._wells == self._due:
            self._due *= 2
            self.save()
        peaks = {step: peak for outcome in found for step, peak in outcome.step_peaks}
        worst = max(peaks, key=lambda step: peaks[step], default="")
        if not peaks or peaks[worst] <= self._plan.projected_bytes:
            return None
        projected = self._plan.projected_bytes
        return {"step": worst, "peak_bytes": peaks[worst], "projected_bytes": projected}

    def save(self) -> None:
        """Write what is known so far; a full disk must not stop a run, so it is given up then."""
        if self._wells > self._saved:
            self._saved = self._wells
            with suppress(OSError):
                found = estimate(self._plan, self._measured, workers=self._workers)
                write_estimates(self._output, found)


def write_estimates(output: Path, estimates: Estimates) -> None:
    """Write ``.hcsflow/estimates.json``, keeping figures of units not measured anew.

    Raises
    ------
    OSError
        If it cannot be written; the earlier file stands.
    """
    joined = estimates.joined(read_estimates(output))
    write_text_atomic(ControlFolder(output).estimates, joined.to_json())


def read_estimates(output: Path) -> Estimates | None:
    """Return what was measured on an output, None where nothing readable is there."""
    found = read_json(ControlFolder(output).estimates)
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return None
    try:
        units = tuple(
            UnitEstimate(
                **_known(UnitEstimate, part)
                | {"steps": tuple(StepEstimate(**_known(StepEstimate, s)) for s in part["steps"])}
            )
            for part in found["units"]
        )
        return Estimates(str(found["source"]), int(found["workers"]), units)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _known(kind: type, part: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the fields that a record has; those of a later version are left aside."""
    return {f.name: part[f.name] for f in fields(kind) if f.name in part}
