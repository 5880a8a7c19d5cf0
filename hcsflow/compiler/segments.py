"""Pass 6, segments: which steps form one task, what its loop runs over, what crosses the cuts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

from hcsflow.compiler.fingerprints import step_fingerprint
from hcsflow.compiler.inputs import Declared
from hcsflow.plan import Carried, Group, Plan, Segment, StepPlan, groups_of, in_turns
from hcsflow.plate import COMPONENTS

__all__ = ["segments"]

LOOPABLE = COMPONENTS
"""Components that a well's task may run over one at a time: all, in the order of its planes."""


def segments(plan: Plan, declared: Declared) -> Plan:
    """Cut a well's chain of steps into tasks.

    A cut lies after every materialised step (the next task starts from what is stored), where
    steps on GPUs and others meet and the resources have workers of both kinds, and with
    granularity ``"step"`` after each step. What the bytes stored depend on does not change with
    the cuts: a task takes its groups in an order that agrees with that of the whole chain.
    """
    steps = tuple(
        replace(step, fingerprint=step_fingerprint(step, plan.label_stride)) for step in plan.steps
    )
    plan = plan.replace(steps=steps)
    checkpoints = {write.step: write.output for write in plan.writes if write.output}
    on_gpu = _on_gpu(plan)
    cuts = {
        index
        for index in range(len(steps) - 1)
        if index in checkpoints
        or on_gpu[index] != on_gpu[index + 1]
        or declared.granularity == "step"
    }
    found: list[Segment] = []
    for first, last in _spans(cuts, len(steps)):
        within = steps[first : last + 1]
        segment = Segment(
            name=_name(plan, within, [other.name for other in found]),
            first=first,
            last=last,
            loop=_loop(within, steps),
            reads=checkpoints.get(first - 1),
            carries=_carries(steps, last),
            needs_gpu=on_gpu[first],
        )
        found.append(segment)
    writes = tuple(
        replace(write, carried=_carries(steps, write.step)) if write.output else write
        for write in plan.writes
    )
    return plan.replace(segments=tuple(found), writes=writes)


def _spans(cuts: set[int], num_steps: int) -> Iterator[tuple[int, int]]:
    first = 0
    for last in [*sorted(cuts), num_steps - 1]:
        yield first, last
        first = last + 1


def _on_gpu(plan: Plan) -> list[bool]:
    """Tell of each step whether it is for a GPU, where some workers have none.

    A step that calls nothing is done wherever the one before it is.
    """
    resources = plan.resources
    if not 0 < resources.gpus < resources.workers:
        return [False] * len(plan.steps)
    found: list[bool] = []
    for step in plan.steps:
        calls = [call for branch in step.branches for call in branch.calls]
        types = {name for call in calls for name in (call.input_type, call.output_type)}
        found.append(types != {"numpy"} if calls else bool(found and found[-1]))
    return found


def _name(plan: Plan, steps: Sequence[StepPlan], taken: Sequence[str]) -> str:
    """Return a name that Dask's dashboard takes as it is: from ``-`` on it might leave it out."""
    if len(steps) == len(plan.steps):
        return plan.pipeline
    plain = re.sub(r"[^\w+.]", "_", "+".join(step.name for step in steps))
    name = plain if plain[0].isalpha() else f"step_{plain}"
    return next(n for n in (name + "_" * i for i in count()) if n not in taken)


def _loop(steps: Sequence[StepPlan], chain: Sequence[StepPlan]) -> tuple[str, ...]:
    """Return the components that a task runs over one by one.

    More of them than the whole chain has fixed are taken only if every step's groups come in the
    same order as without.
    """
    whole = _fixed(chain)
    loop = (*whole, *(c for c in _fixed(steps) if c not in whole))
    agrees = all(_order(step, loop) == _order(step, whole) for step in steps)
    return loop if agrees else whole


def _fixed(steps: Sequence[StepPlan]) -> tuple[str, ...]:
    """Return the loopable components that no step stacks and none treats by value."""
    varying = {c for step in steps for c in step.variable_components}
    grouped = {s.group_by for s in steps if any(b.value is not None for b in s.branches)}
    return tuple(c for c in LOOPABLE if c not in varying and c not in grouped)


def _order(step: StepPlan, loop: tuple[str, ...]) -> list[Group]:
    groups = groups_of(step.input, step.variable_components)
    return [group for _, turn in in_turns(groups, loop) for group in turn]


def _carries(steps: Sequence[StepPlan], last: int) -> tuple[Carried, ...]:
    """Return the special outputs of steps up to ``last`` that are needed after it.

    Those are what later steps ask for, and all that is stored: it is stored at the end.
    """
    if last == len(steps) - 1:
        return ()
    asked = {
        (link.producer, link.name)
        for step in steps[last + 1 :]
        for link in step.special_inputs
        if link.producer is not None and link.producer <= last
    }
    return tuple(
        Carried(step.index, target.name)
        for step in steps[: last + 1]
        for target in step.special_outputs
        if target.kind != "memory" or (step.index, target.name) in asked
    )
