"""A plan as one `dask.delayed` value: to look at, to teach with, to build into other graphs."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dask.delayed import Delayed

from hcsflow.execute.finalise import finalise
from hcsflow.execute.lock import locked
from hcsflow.execute.output import check_output, clear_scratch, prepare_output
from hcsflow.execute.resume import Ledger, failed_before, planned_wells
from hcsflow.graph.build import Key, build_graph, final_keys
from hcsflow.graph.commit import fenced
from hcsflow.graph.handover import Handover, outcome_of
from hcsflow.graph.plugin import Bundle, PackedBundle, packed
from hcsflow.graph.tasks import run_segment
from hcsflow.journal import ControlFolder, Outcome, clear_failure, read_epoch, write_failure
from hcsflow.plan import Plan
from hcsflow.plate import Manifest

__all__ = ["delayed_plan"]


def delayed_plan(plan: Plan, manifest: Manifest, plate_root: Path, output: Path) -> Delayed:
    """Return what a run would do as a graph that any Dask scheduler computes.

    Parameters
    ----------
    plan, manifest : Plan, Manifest
        What to do, and where the planes lie.
    plate_root, output : Path
        As for `run_plan`.

    Returns
    -------
    Delayed
        Computes to a tuple of `Outcome`, one for each well in plate order, after the plate's
        documents and joined tables are written. Its tasks are those of a run: one per well and
        segment; wells that are whole now have none.

    Raises
    ------
    OutputError
        As `run_plan`.

    Notes
    -----
    The output is prepared, and the number of the run taken, here and not when it is computed. A
    run that is started on the output afterwards takes it over: what is computed then commits
    nothing, and finishing raises FencedError. It may be computed again as long as none was.
    Retries, time limits and worker death are the scheduler's business.
    """
    output, plate_root = Path(output).resolve(), Path(plate_root).resolve()
    check_output(plan, plate_root, output)
    with locked(output):
        check_output(plan, plate_root, output)
        prepare_output(plan, output)
    bundle = Bundle(
        plan,
        manifest,
        str(plate_root),
        str(output),
        epoch=read_epoch(ControlFolder(output)),
        memory_bytes=plan.resources.memory_bytes,
    )
    ledger = Ledger(plan, output)
    left = {well: ledger.segments_to_run(well) for well in plan.wells}
    todo = {well: names for well, names in left.items() if names}
    plan_id = uuid.uuid4().hex[:12]
    shipped, finished = f"plan-{plan_id}", f"finish-{plan_id}"
    label = f"{plan.plate.name} ({plan_id})"
    keys: list[Key] = list(final_keys(plan, todo, attempt=0, label=label).values())
    graph: dict[Any, Any] = {shipped: packed(plan_id, bundle), finished: (_finish, shipped, keys)}
    # Dask puts the value of a key in place of its name
    graph |= build_graph(shipped, plan, todo, attempt=0, label=label, task=_run)
    return Delayed(finished, graph)


def _run(
    shipped: PackedBundle, segment: str, well: str, attempt: int, *upstream: Outcome | Handover
) -> Outcome | Handover:
    with shipped.held():
        return run_segment(shipped.plan_id, segment, well, attempt, *upstream)


def _finish(shipped: PackedBundle, results: Sequence[Outcome | Handover]) -> tuple[Outcome, ...]:
    """Write what is of the whole plate; return every well's outcome."""
    bundle = shipped.bundle()
    plan, output = bundle.plan, Path(bundle.output)
    control = ControlFolder(output)
    failed = [failed_before(*fault) for fault in plan.failed_wells]
    found = {outcome.well: outcome for outcome in (*failed, *map(outcome_of, results))}
    with fenced(bundle):
        for outcome in found.values():
            if outcome.status == "done":
                clear_failure(control, outcome.well)
            elif outcome.status == "failed":
                write_failure(control, outcome)
        ledger = Ledger(plan, output)
        finalise(plan, bundle.manifest, output, ledger)
        clear_scratch(output)
    return tuple(found.get(well) or ledger.skipped(well) for well in planned_wells(plan))
