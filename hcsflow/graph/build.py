"""Plan → Dask graph: one task per well and segment, chained by its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from hcsflow.journal import Outcome
from hcsflow.plan import Plan

__all__ = ["Key", "Task", "build_graph", "final_keys"]

Key = tuple[str | int, ...]
Task = Callable[..., Outcome]


def build_graph(
    plan_id: str,
    plan: Plan,
    wells: Iterable[str],
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
    wells : iterable of str
        Well names.
    attempt : int
        0 the first time; later ones have keys of their own, so that Dask runs them anew.
    label : str, optional
        Stands for the plate in the keys; must differ between runs that share a scheduler.
        Defaults to the plate's name.
    task : callable, optional
        ``(plan_id, segment, well, attempt, *upstream) -> Outcome``; `run_segment` if left out.

    Returns
    -------
    dict
        Keys ``(segment, plate, well)``, so that the dashboard groups by segment. A well's
        segments form a chain: each gets the outcome of the one before.
    """
    run = task or import_module("hcsflow.graph.tasks").run_segment
    graph: dict[Key, tuple[Any, ...]] = {}
    for well in wells:
        upstream: tuple[Key, ...] = ()
        for segment in plan.segments:
            key = _key(segment.name, label or plan.plate.name, well, attempt)
            graph[key] = (run, plan_id, segment.name, well, attempt, *upstream)
            upstream = (key,)
    return graph


def final_keys(
    plan: Plan, wells: Iterable[str], *, attempt: int, label: str | None = None
) -> dict[str, Key]:
    """Return the key of each well's last segment, by well."""
    last = plan.segments[-1].name
    return {well: _key(last, label or plan.plate.name, well, attempt) for well in wells}


def _key(segment: str, plate: str, well: str, attempt: int) -> Key:
    return (segment, plate, well) if attempt == 0 else (segment, plate, well, attempt)
