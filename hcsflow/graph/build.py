"""Plan → Dask graph: one task per well and segment, chained by its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from hcsflow.plan import Plan, Segment

__all__ = ["Key", "Task", "build_graph", "final_keys", "task_resources"]

Key = tuple[str | int, ...]
Task = Callable[..., Any]


def build_graph(
    plan_id: str,
    plan: Plan,
    todo: Mapping[str, Sequence[str]],
    *,
    attempt: int,
    label: str | None = None,
    task: Task | None = None,
) -> dict[Key, tuple[Any, ...]]:
    """Build the graph of some wells.

    Parameters
    ----------
    plan_id : str
        Under which the workers know the plan.
    plan : Plan
        Gives the segments.
    todo : mapping of str to sequence of str
        Names of the segments to run, in order, by well.
    attempt : int
        0 the first time; later ones have keys of their own, so that Dask runs them anew.
    label : str, optional
        Stands for the plate in the keys; must differ between runs that share a scheduler.
        Defaults to the plate's name.
    task : callable, optional
        ``(plan_id, segment, well, attempt, *upstream) -> Outcome or Handover``;
        `hcsflow.graph.tasks.run_segment` if left out.

    Returns
    -------
    dict
        Keys ``(segment, plate, well)``, so that the dashboard groups by segment. A well's
        segments form a chain: each gets the result of the one before.
    """
    run = task or _run_segment
    graph: dict[Key, tuple[Any, ...]] = {}
    for well, names in todo.items():
        upstream: tuple[Key, ...] = ()
        for name in names:
            key = _key(name, label or plan.plate.name, well, attempt)
            graph[key] = (run, plan_id, name, well, attempt, *upstream)
            upstream = (key,)
    return graph


def final_keys(
    plan: Plan, todo: Mapping[str, Sequence[str]], *, attempt: int, label: str | None = None
) -> dict[str, Key]:
    """Return the key of the last segment to run of each well, by well."""
    plate = label or plan.plate.name
    return {well: _key(names[-1], plate, well, attempt) for well, names in todo.items()}


def task_resources(segment: Segment) -> dict[str, int]:
    """Return what Dask must find on a worker for a task: a GPU, where not all have one."""
    return {"GPU": 1} if segment.needs_gpu else {}


def _key(segment: str, plate: str, well: str, attempt: int) -> Key:
    return (segment, plate, well) if attempt == 0 else (segment, plate, well, attempt)


def _run_segment(plan_id: str, segment: str, well: str, attempt: int, *upstream: Any) -> Any:
    """Run `hcsflow.graph.tasks.run_segment`, which a client need not import."""
    return import_module("hcsflow.graph.tasks").run_segment(
        plan_id, segment, well, attempt, *upstream
    )
