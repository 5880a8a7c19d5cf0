"""A plan as one `dask.delayed` value: to look at, to teach with, to build into other graphs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from hcsflow.execute.finalise import finalise
from hcsflow.execute.lock import locked
from hcsflow.execute.output import check_output, clear_scratch, prepare_output
from hcsflow.execute.resume import Ledger, failed_before, planned_wells
from hcsflow.graph.build import build_graph, final_keys, task_resources
from hcsflow.graph.commit import fenced
from hcsflow.graph.plugin import Bundle, PackedBundle, forget, held_packed, packed
from hcsflow.graph.results import Handover, outcome_of
from hcsflow.graph.tasks import run_segment
from hcsflow.journal import ControlFolder, Outcome, clear_failure, write_failure
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
    Retries, time limits and worker death are the scheduler's business. Steps that need a GPU
    where not all workers have one ask for Dask's resource ``GPU``.
    """
    output, plate_root = Path(output).resolve(), Path(plate_root).resolve()
    check_output(plan, plate_root, output)
    with locked(output) as lock:
        check_output(plan, plate_root, output)
        bundle = Bundle(
            plan,
            manifest,
            str(plate_root),
            str(output),
            epoch=lock.epoch,
            memory_bytes=plan.resources.memory_bytes,
        )
        with fenced(bundle):
            prepare_output(plan, output)
        ledger = Ledger(plan, output)
        left = {well: ledger.segments_to_run(well) for well in plan.wells}
        with fenced(bundle):
            for well in (well for well, names in left.items() if not names):
                clear_failure(ControlFolder(output), well)
    todo = {well: names for well, names in left.items() if names}
    # What releasing the lock leaves; a run that begins right after it takes a later one.
    return _delayed(replace(bundle, epoch=lock.epoch + 1), todo)


def _delayed(bundle: Bundle, todo: Mapping[str, Sequence[str]]) -> Delayed:
    """Build the graph, a layer for each segment, which holds what its tasks ask of a worker."""
    plan, plan_id = bundle.plan, uuid.uuid4().hex[:12]
    shipped, finished = f"plan-{plan_id}", f"finish-{plan_id}"
    label = f"{plan.plate.name} ({plan_id})"
    keys = list(final_keys(plan, todo, attempt=0, label=label).values())
    # Dask puts the value of a key in place of its name
    tasks = build_graph(shipped, plan, todo, attempt=0, label=label, task=_run)
    layers: dict[str, Any] = {shipped: MaterializedLayer({shipped: packed(plan_id, bundle)})}
    above: dict[str, set[str]] = {shipped: set()}
    for segment in plan.segments:
        own = {key: task for key, task in tasks.items() if key[0] == segment.name}
        resources = task_resources(segment)
        annotations = {"resources": resources} if resources else None
        above[segment.name] = set(above)
        layers[segment.name] = MaterializedLayer(own, annotations=annotations)
    above[finished] = set(above)
    layers[finished] = MaterializedLayer({finished: (_finish, shipped, keys)})
    return Delayed(finished, HighLevelGraph(layers, above))


def _run(
    shipped: PackedBundle, segment: str, well: str, attempt: int, *upstream: Outcome | Handover
) -> Outcome | Handover:
    with held_packed(shipped):
        return run_segment(shipped.plan_id, segment, well, attempt, *upstream)


def _finish(shipped: PackedBundle, results: Sequence[Outcome | Handover]) -> tuple[Outcome, ...]:
    """Write what is of the whole plate; return every well's outcome."""
    try:
        with held_packed(shipped) as bundle:
            return _finished(bundle, results)
    finally:
        forget(shipped)


def _finished(bundle: Bundle, results: Sequence[Outcome | Handover]) -> tuple[Outcome, ...]:
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
