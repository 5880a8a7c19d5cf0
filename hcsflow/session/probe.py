"""Measuring a plan on a few wells before it is run; the output folder is not touched."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from hcsflow.errors import OutputError, PlanRefusedError
from hcsflow.execute import RunOptions, run_plan
from hcsflow.execute.estimates import Estimates, read_estimates
from hcsflow.execute.resume import Ledger
from hcsflow.execute.tempfolder import run_folder
from hcsflow.plan import Plan
from hcsflow.plate import Manifest
from hcsflow.session.forecast import Forecast, forecast_of

__all__ = ["Probe", "probe_plan"]

SMALL_WELL_BYTES = 500_000_000
"""Input and output of a well up to which a second and third one are measured: the first also
waits for libraries to be loaded."""

ROOM = 1.2
"""Free space wanted in the temporary folder, over the uncompressed output."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a few wells measured, and what the whole plan comes to by it.

    Parameters
    ----------
    wells : tuple of str
        Wells measured.
    seconds : float
        Wall time of the probe itself, the worker's start included.
    estimates : Estimates
        The figures measured.
    forecast : Forecast
        Time, stored bytes and memory of the plan.
    """

    wells: tuple[str, ...]
    seconds: float
    estimates: Estimates
    forecast: Forecast

    def __str__(self) -> str:
        head = f"probe of {', '.join(self.wells)} on one local worker, {self.seconds:.1f} s"
        return "\n".join([head, *(f"  {line}" for line in self.forecast.lines())])

    def summary(self) -> dict[str, Any]:
        """Return the figures as a document's part."""
        return self.forecast.summary() | {"wells": list(self.wells)}


def probe_plan(plan: Plan, manifest: Manifest, plate_root: Path, output: Path) -> Probe:
    """Run a plan on one to three whole wells, on one local worker, into a temporary folder.

    Parameters
    ----------
    plan, manifest : Plan, Manifest
        What would be run.
    plate_root, output : Path
        The plate's folder; the output folder, which is read only, to see what is done already.

    Raises
    ------
    PlanRefusedError
        The plan has no well whose planes are all there, or needs GPUs that a local worker does
        not have.
    OutputError
        The temporary folder is too small for the wells' output.
    HcsflowError
        A probed well fails, as it would in a run.
    """
    wells = _wells(plan, manifest)
    trial = plan.replace(wells=wells, failed_wells=(), resources=replace(plan.resources, workers=1))
    started = time.monotonic()
    with run_folder() as folder:
        _check_room(trial, folder)
        place = Path(folder) / "probe"
        result = run_plan(
            trial, manifest, plate_root, place, options=RunOptions(cluster="local", workers=1)
        )
        for outcome in result.failures:
            raise PlanRefusedError(
                f"the probe failed at step {outcome.step!r} of well {outcome.well}: "
                f"{outcome.error}: {outcome.message}",
                hint=outcome.hint or "mend the step, then probe again",
            )
        estimates = read_estimates(place)
    if estimates is None:
        raise PlanRefusedError("the probe measured nothing", hint="run two wells with --wells")
    estimates = replace(estimates, source="probe")
    ledger = Ledger(plan, output)
    todo = {well: ledger.segments_to_run(well) for well in plan.wells}
    return Probe(
        wells=wells,
        seconds=time.monotonic() - started,
        estimates=estimates,
        forecast=forecast_of(plan, estimates, todo),
    )


def _wells(plan: Plan, manifest: Manifest) -> tuple[str, ...]:
    """Choose wells from the middle of the plan, where plates are rarely empty."""
    numbers = {well: i for i, well in enumerate(plan.plate.wells)}
    whole = [w for w in plan.wells if not manifest.missing_of(numbers[w])]
    if not whole:
        raise PlanRefusedError(
            "there is nothing to probe: no well of the plan has all its planes",
            hint="choose other wells with --wells, or complete the plate",
        )
    count = 3 if _well_bytes(plan) <= SMALL_WELL_BYTES else 1
    first = max(0, (len(whole) - count) // 2)
    return tuple(whole[first : first + count])


def _well_bytes(plan: Plan) -> int:
    """Return the pixels that a well reads and stores, in bytes."""
    source = plan.source
    plane = prod(source.shape_yx) * np.dtype(source.dtype).itemsize
    return source.num_planes * plane + _stored_bytes(plan)


def _stored_bytes(plan: Plan) -> int:
    return sum(write.raw_bytes_per_well for write in plan.writes)


def _check_room(trial: Plan, folder: str) -> None:
    needed = int(ROOM * len(trial.wells) * _stored_bytes(trial))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"a probe may store {needed / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB",
            hint="set TMPDIR to a folder with more room",
        )
