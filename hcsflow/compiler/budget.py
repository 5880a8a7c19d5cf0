"""Pass 8, budget: bytes that a task holds at its worst, against what a worker may use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from hcsflow.compiler.blocks import held_objects
from hcsflow.compiler.inputs import Declared
from hcsflow.compiler.sizes import is_read_on, plane_nbytes, turn_nbytes
from hcsflow.config import Backend
from hcsflow.contracts import contract_of
from hcsflow.errors import PlanRefusedError
from hcsflow.plan import Plan, Segment, StepPlan, groups_of

__all__ = ["budget"]

FLOAT32 = 4
UINT32 = 4
LABEL_COPIES = 2
"""A label stack as made, and as numbered for storing."""

ENCODER_PLANES = 3
"""Planes held while one is written: itself, its smaller levels, its encoded bytes."""

OVERHEAD_BYTES = 64_000_000
"""Documents, tables and what the allocator keeps back (measured: 10–45 MB, by
``benchmarks/memory.py``), rounded up."""


def budget(plan: Plan, _declared: Declared) -> Plan:
    """Project each task's peak memory above an idle worker.

    Counted are, while a step runs: the planes read and still needed, one group read ahead,
    earlier results still needed, the stack gathered, the result, the function's own
    temporaries (``working_planes`` of its contract), the encoder's buffers, objects that NGFF 0.4
    encodes as a whole, and a fixed overhead.

    Raises
    ------
    PlanRefusedError
        A task needs more than a worker has.
    """
    done = []
    steps = list(plan.steps)
    for segment in plan.segments:
        blocks = held_objects(plan, segment)
        peaks = {index: peak + blocks for index, peak in _peaks(plan, segment)}
        for index, peak in peaks.items():
            steps[index] = replace(steps[index], projected_bytes=peak)
        worst = max(peaks, key=lambda index: peaks[index])
        done.append(replace(segment, projected_bytes=peaks[worst]))
        if peaks[worst] > plan.resources.memory_bytes:
            raise _too_large(plan, steps[worst].name, peaks[worst], blocks)
    return plan.replace(steps=tuple(steps), segments=tuple(done))


def _too_large(plan: Plan, step: str, peak: int, blocks: int) -> PlanRefusedError:
    text = (
        f"step {step!r} would need {peak / 1e9:.2f} GB in one task; "
        f"a worker has {plan.resources.memory_bytes / 1e9:.2f} GB"
    )
    hint = "use fewer workers, or stack fewer planes at a time"
    if blocks:
        text += f"; {blocks / 1e9:.2f} GB are objects that NGFF 0.4 encodes as a whole"
        hint += ", choose chunk_strategy (--chunks) adaptive or file, or NGFF 0.5 (--ngff 0.5)"
    return PlanRefusedError(text, hint=hint)


def _peaks(plan: Plan, segment: Segment) -> Iterator[tuple[int, int]]:
    steps = plan.steps[segment.first : segment.last + 1]
    readers = [step for step in steps if step.source is None]
    read = turn_nbytes(plan.source, segment)
    ahead = _read_ahead(readers)
    for step in steps:
        later_readers = [r for r in readers if r.index >= step.index]
        held = (read if later_readers else 0) + ahead
        held += sum(
            turn_nbytes(other.output, segment)
            for other in steps
            if other.index < step.index and _is_in_memory(other, step, steps)
        )
        held += OVERHEAD_BYTES + _result_nbytes(step, segment)
        held += _gathering(step, plan.steps, readers) + _working(step) + _encoding(plan, step)
        yield step.index, held


def _is_in_memory(producer: StepPlan, now: StepPlan, steps: tuple[StepPlan, ...]) -> bool:
    """Tell whether memory holds a step's output, or a special one, while ``now`` runs."""
    if producer.held_in == Backend.MEMORY.value and is_read_on(producer, now, steps):
        return True
    later = (step for step in steps if step.index >= now.index)
    return any(link.producer == producer.index for step in later for link in step.special_inputs)


def _result_nbytes(step: StepPlan, segment: Segment) -> int:
    """Return the bytes of a step's results: of one group, where each goes to a file at once."""
    if step.held_in == Backend.MEMORY.value:
        return turn_nbytes(step.output, segment)
    return _largest(step) * plane_nbytes(step.output)


def _read_ahead(readers: list[StepPlan]) -> int:
    """Return the largest group read ahead; a well that is one group has none."""
    groups = [list(groups_of(step.input, step.variable_components)) for step in readers]
    if sum(map(len, groups)) <= 1:
        return 0
    return max(_group_nbytes(step) for step in readers)


def _gathering(step: StepPlan, steps: tuple[StepPlan, ...], readers: list[StepPlan]) -> int:
    """Return the bytes of a stack put together; one kept as it was made costs nothing."""
    if step.source is None:
        is_as_kept = step is readers[0]
    else:
        is_as_kept = steps[step.source].variable_components == step.variable_components
        is_as_kept &= steps[step.source].held_in == Backend.MEMORY.value
    return 0 if is_as_kept else _group_nbytes(step)


def _group_nbytes(step: StepPlan) -> int:
    return _largest(step) * plane_nbytes(step.input)


def _largest(step: StepPlan) -> int:
    """Return the planes of the largest stack."""
    return max(len(g.members) for g in groups_of(step.input, step.variable_components))


def _working(step: StepPlan) -> int:
    largest = _largest(step)
    planes = 0.0
    for branch in step.branches:
        for call in branch.calls:
            stack = 1 if contract_of(call.func).per_slice else largest
            planes = max(planes, contract_of(call.func).working_planes * stack)
    return int(planes * prod(step.input.shape_yx) * FLOAT32)


def _encoding(plan: Plan, step: StepPlan) -> int:
    nbytes = 0
    if any(write.step == step.index for write in plan.writes):
        nbytes += ENCODER_PLANES * plane_nbytes(step.output)
    labels = sum(target.kind == "labels" for target in step.special_outputs)
    planes = ENCODER_PLANES + LABEL_COPIES * _largest(step)
    return nbytes + labels * planes * prod(step.output.shape_yx) * UINT32
