"""Pass 7, intermediates: where each step's output waits for the steps that read it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from hcsflow.compiler.inputs import Declared
from hcsflow.compiler.sizes import is_read_on, turn_nbytes
from hcsflow.config import Backend
from hcsflow.plan import Plan, Segment, StepPlan

__all__ = ["Choice", "intermediates", "select_backend"]


class Choice(NamedTuple):
    """A backend, and why it was chosen where that is not plain."""

    backend: Backend
    reason: str = ""


def select_backend(
    nbytes: int, held_bytes: int, limit_bytes: int, *, wanted: Backend, overflow: Backend
) -> Choice:
    """Choose where an output between two steps is kept.

    Parameters
    ----------
    nbytes : int
        Size of the output.
    held_bytes : int
        What memory holds beside it while it is needed.
    limit_bytes : int
        What memory may hold.
    wanted : Backend
        ``vfs.intermediate_backend``.
    overflow : Backend
        Where it goes if it is wanted in memory and there is no room.

    Examples
    --------
    >>> select_backend(30 * 10**9, 8 * 10**9, 32 * 10**9,
    ...                wanted=Backend.MEMORY, overflow=Backend.ZARR).reason
    'to zarr: 38 GB of intermediates, limit 32 GB'
    """
    if wanted is not Backend.MEMORY:
        return Choice(wanted, f"to {wanted.value}: intermediate_backend asks for it")
    total = nbytes + held_bytes
    if total <= limit_bytes:
        return Choice(Backend.MEMORY)
    sizes = f"{_gigabytes(total)} of intermediates, limit {_gigabytes(limit_bytes)}"
    return Choice(overflow, f"to {overflow.value}: {sizes}")


def intermediates(plan: Plan, _declared: Declared) -> Plan:
    """Keep in memory what fits; the outputs for which there is no room go to files.

    In step order, an output stays in memory if it fits beside the planes read and the earlier
    outputs that are still needed while it is. Files lie in the task's scratch folder and go with
    it. The limit is `Plan.held_limit_bytes`; the rest of a worker's memory is the functions'.
    """
    steps = list(plan.steps)
    limit = plan.held_limit_bytes(plan.resources.memory_bytes)
    vfs = plan.config.vfs
    overflow = Backend(vfs.materialization_backend.value)
    for segment in plan.segments:
        for index in range(segment.first, segment.last + 1):
            step = steps[index]
            if not any(other.source == index for other in steps[: segment.last + 1]):
                continue  # nobody's, or what crosses the cut: a checkpoint, or the task's result
            choice = select_backend(
                turn_nbytes(step.output, segment),
                _held_beside(steps, index, plan, segment),
                limit,
                wanted=vfs.intermediate_backend,
                overflow=overflow,
            )
            steps[index] = replace(step, held_in=choice.backend.value, held_because=choice.reason)
    kept_in = {write.step: write.backend for write in plan.writes}
    kept_in = {step.index: kept_in.get(step.index, step.held_in) for step in steps}
    starts = {segment.first for segment in plan.segments}
    held = {
        step.index: kept_in[source] if step.index in starts else steps[source].held_in
        for step in steps
        if (source := step.source) is not None
    }
    read = [replace(s, read_backend=held.get(s.index, s.read_backend)) for s in steps]
    return plan.replace(steps=tuple(read))


def _held_beside(steps: list[StepPlan], index: int, plan: Plan, segment: Segment) -> int:
    """Return the most that memory holds beside a step's output while that is needed."""
    within = steps[segment.first : segment.last + 1]
    last = max(step.index for step in within if step.source == index)
    moments = [step for step in within if index <= step.index <= last]
    return max(_held_at(now, index, within, plan, segment) for now in moments)


def _held_at(now: StepPlan, index: int, steps: list[StepPlan], plan: Plan, segment: Segment) -> int:
    reads_plate = any(step.source is None and step.index >= now.index for step in steps)
    held = turn_nbytes(plan.source, segment) if reads_plate else 0
    return held + sum(
        turn_nbytes(other.output, segment)
        for other in steps
        if other.index < index
        and other.held_in == Backend.MEMORY.value
        and is_read_on(other, now, steps)
    )


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.3g} GB"
