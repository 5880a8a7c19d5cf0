"""How many wells may be under way where steps with and without a GPU take turns on each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hcsflow.compiler.sizes import plane_nbytes
from hcsflow.plan import Plan, Segment

__all__ = ["changes_worker", "wells_at_once"]


def changes_worker(plan: Plan) -> bool:
    """Tell whether results of a plan go from workers with a GPU to others, or to them."""
    return any(True for _ in _crossings(plan))


def wells_at_once(plan: Plan, workers: Iterable[Mapping[str, Any]]) -> int:
    """Return how many wells may be under way, so that results do not pile up between two kinds.

    Every thread can be at a well, and one more can wait for each GPU, as far as the workers that
    take the results have memory for those that wait; at least two for each of the scarcer kind.

    Parameters
    ----------
    plan : Plan
        One that `changes_worker`.
    workers : iterable of mapping
        As `distributed.Client.scheduler_info` tells of each; none: those that the plan expects.
    """
    workers = list(workers)
    gpus = int(sum(worker["resources"].get("GPU", 0) for worker in workers))
    gpus = gpus or plan.resources.gpus
    threads = sum(int(worker["nthreads"]) for worker in workers) or plan.resources.workers
    others = max(1, threads - gpus)
    room = min(
        (gpus if taker.needs_gpu else others) * (1 + _spare(plan, giver, taker))
        for giver, taker in _crossings(plan)
    )
    return max(2 * min(gpus, others), min(threads + gpus, room))


def _crossings(plan: Plan) -> Iterator[tuple[Segment, Segment]]:
    """Yield the segments that give a result to another kind of worker, each with its taker."""
    for segment in plan.segments:
        after = plan.next_segment(segment) if plan.hands_on(segment) else None
        if after is not None and after.needs_gpu != segment.needs_gpu:
            yield segment, after


def _spare(plan: Plan, giver: Segment, taker: Segment) -> int:
    """Return how many results a worker has memory for besides the one that it is at."""
    planes = plan.steps[giver.last].output
    free = plan.resources.memory_bytes - taker.projected_bytes
    return max(0, free // max(1, planes.num_planes * plane_nbytes(planes)))
