"""What a task holds in memory while a step runs, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod

from hcsflow.compiler.blocks import held_objects
from hcsflow.compiler.sizes import is_read_on, plane_nbytes, turn_nbytes
from hcsflow.config import Backend
from hcsflow.contracts import contract_of
from hcsflow.plan import (
    READING_BYTES,
    Carried,
    Plan,
    Segment,
    StepPlan,
    groups_of,
    output_members,
)

__all__ = ["Needs", "device_bytes", "needs_of"]

FLOAT32 = 4
UINT32 = 4
INT64 = 8
"""Labels as functions may return them, which is how they are handed on."""

ENCODER_PLANES = 3
"""Planes held for each that is written: itself, its smaller levels, its encoded bytes."""

DECODER_PLANES = 2
"""Planes held while one of a checkpoint is read: itself and its encoded bytes."""

VALUE_COPIES = 2
"""A special output on its way from or to the files of a checkpoint: itself, and its bytes."""

OVERHEAD_BYTES = 64_000_000
"""Documents, tables and what the allocator keeps back (measured: 10–45 MB, by
``benchmarks/memory.py``), rounded up."""

LIBRARY_BYTES = {
    "torch": 200_000_000,
    "jax": 170_000_000,
    "tensorflow": 600_000_000,
    "pyclesperanto": 90_000_000,
    "cupy": 300_000_000,
}
"""Host memory that a library takes once imported and used, over what an idle worker has loaded;
measured on CPUs, but for cupy, which is assumed."""

DEVICE_CONTEXT_BYTES = 600_000_000
"""Device memory that drivers and libraries take before the first array (assumed)."""

THREAD_HEAP_BYTES = 64 << 20
"""What the reading thread allocates in smaller blocks stays with glibc's allocator."""

SLACK = 1.06
"""Gaps that the allocator leaves between blocks of different sizes."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes above an idle worker while one step of a segment runs.

    Parameters
    ----------
    inputs : int
        The plate's planes of one turn; a result that was handed over; planes and special outputs
        of a checkpoint being decoded.
    look_ahead : int
        The group read ahead.
    earlier : int
        Results and special outputs of earlier steps that are still needed.
    working : int
        The stack put together, the function's temporaries, libraries loaded for it.
    outputs : int
        The step's result, and what the task hands on at its end.
    encoding : int
        Planes, levels and encoded bytes under way to the store.
    objects : int
        Objects that NGFF 0.4 encodes as a whole.
    """

    inputs: int
    look_ahead: int
    earlier: int
    working: int
    outputs: int
    encoding: int
    objects: int

    @property
    def total(self) -> int:
        """All of it, with what the allocator keeps back, and a fixed overhead."""
        return int(SLACK * sum(asdict(self).values())) + OVERHEAD_BYTES


def needs_of(plan: Plan, segment: Segment) -> Iterator[tuple[StepPlan, Needs]]:
    """Yield each step of a segment with what its task holds while it runs."""
    steps = plan.steps[segment.first : segment.last + 1]
    readers = _readers(plan, segment)
    objects = held_objects(plan, segment)
    ahead = _read_ahead(readers) + (READING_BYTES if plan.resources.encoders > 1 else 0)
    handed = _handed_over(plan, segment) + _values_read(plan, segment)
    passed_on = _passed_on(plan, segment)
    for step in steps:
        yield (
            step,
            Needs(
                inputs=_of_plate(plan, segment, step)
                + handed
                + _decoding(segment, step)
                + _left_behind(plan, segment),
                look_ahead=ahead,
                earlier=sum(_earlier(other, step, steps, segment) for other in steps),
                working=_gathering(step, plan, segment, readers)
                + _working(plan, step)
                + _libraries(plan),
                outputs=_result(plan, step, steps, segment) + passed_on,
                encoding=_encoding(plan, step)
                + _encoding_ahead(plan, segment, step)
                + _values_stored(plan, segment, step),
                objects=objects,
            ),
        )


def device_bytes(step: StepPlan) -> int:
    """Return the device memory that a step's largest group takes, 0 where none is on a device.

    The stack (a copy of it where the function may write to it), the result, temporaries.
    """
    calls = [call for branch in step.branches for call in branch.calls]
    if all(call.input_type == call.output_type == "numpy" for call in calls):
        return 0
    given = 2 * _group_nbytes(step)
    return DEVICE_CONTEXT_BYTES + given + _largest_output(step) + _temporaries(step)


def _of_plate(plan: Plan, segment: Segment, step: StepPlan) -> int:
    """Return the bytes of the plate's planes: those still to be read, or not given back.

    What a task read stays with its worker's allocator, also while the next task runs there.
    """
    is_read = any(reader.index >= step.index for reader in _readers(plan, segment))
    if is_read:
        return turn_nbytes(plan.source, segment)
    return max(_staying(plan, other) for other in plan.segments)


def _staying(plan: Plan, segment: Segment) -> int:
    groups = [_group_nbytes(reader) for reader in _readers(plan, segment)]
    return (
        turn_nbytes(plan.source, segment)
        if max(groups, default=1 << 62) <= THREAD_HEAP_BYTES
        else 0
    )


def _left_behind(plan: Plan, segment: Segment) -> int:
    """Return the bytes that a task of an earlier segment leaves in blocks of other sizes.

    Its worker's allocator keeps them (measured: up to one turn's input and output).
    """
    before = [other for other in plan.segments if other.last < segment.first]
    first = (plan.steps[other.first].input for other in before)
    last = (plan.steps[other.last].output for other in before)
    turns = zip(before, first, last, strict=True)
    return max((turn_nbytes(a, s) + turn_nbytes(b, s) for s, a, b in turns), default=0)


def _readers(plan: Plan, segment: Segment) -> list[StepPlan]:
    """Return the steps of a segment that read the plate."""
    return [s for s in plan.steps[segment.first : segment.last + 1] if s.source is None]


def _read_ahead(readers: Sequence[StepPlan]) -> int:
    """Return the largest group read ahead; a well that is one group has none."""
    groups = [list(groups_of(step.input, step.variable_components)) for step in readers]
    if sum(map(len, groups)) <= 1:
        return 0
    return max(_group_nbytes(step) for step in readers)


def _handed_over(plan: Plan, segment: Segment) -> int:
    """Return the bytes of what a task is given whole by the one before it."""
    if segment.first == 0 or segment.reads is not None:
        return 0
    return _crossing(plan, next(s for s in plan.segments if s.last == segment.first - 1))


def _passed_on(plan: Plan, segment: Segment) -> int:
    """Return the bytes that a task gathers for the next one, of turns before the present one."""
    if not plan.hands_on(segment):
        return 0
    last = plan.steps[segment.last]
    return _crossing(plan, segment) - turn_nbytes(last.output, segment)


def _crossing(plan: Plan, segment: Segment) -> int:
    """Return the bytes of a segment's result: main output, and special ones of images' size."""
    last = plan.steps[segment.last]
    values = sum(
        plan.steps[carried.step].output.num_planes * _special_plane(plan, carried)
        for carried in segment.carries
    )
    return last.output.num_planes * plane_nbytes(last.output) + values


def _special_plane(plan: Plan, carried: Carried) -> int:
    """Return the bytes of a special output for each plane of its step's main output.

    What is kept for other steps alone may be anything; it is taken to be as large as that.
    """
    step = plan.steps[carried.step]
    kind = next(t.kind for t in step.special_outputs if t.name == carried.special)
    if kind == "labels":
        return prod(step.output.shape_yx) * INT64
    return plane_nbytes(step.output) if kind == "memory" else 0


def _value_nbytes(plan: Plan, carried: Carried) -> int:
    """Return the bytes of a special output of the largest group."""
    return _most_planes(plan.steps[carried.step]) * _special_plane(plan, carried)


def _values_read(plan: Plan, segment: Segment) -> int:
    """Return the bytes of special outputs read from a checkpoint: the last one of each stays."""
    if segment.reads is None:
        return 0
    carried = next(w.carried for w in plan.writes if w.output == segment.reads)
    sizes = [_value_nbytes(plan, one) for one in carried]
    return sum(sizes) + (VALUE_COPIES - 1) * max(sizes, default=0)


def _values_stored(plan: Plan, segment: Segment, step: StepPlan) -> int:
    """Return the bytes of a step's special outputs on their way into a checkpoint."""
    carried = {one for write in plan.writes_of(segment) for one in write.carried}
    sizes = [_value_nbytes(plan, one) for one in carried if one.step == step.index]
    return (VALUE_COPIES - 1) * max(sizes, default=0)


def _decoding(segment: Segment, step: StepPlan) -> int:
    is_stored = segment.reads is not None and _is_from_outside(step, segment)
    return DECODER_PLANES * plane_nbytes(step.input) if is_stored else 0


def _is_from_outside(step: StepPlan, segment: Segment) -> bool:
    """Tell whether a step takes what an earlier segment made."""
    return step.source is not None and step.source < segment.first


def _earlier(producer: StepPlan, now: StepPlan, steps: Sequence[StepPlan], segment: Segment) -> int:
    """Return the bytes that memory holds of an earlier step while ``now`` runs."""
    if producer.index >= now.index:
        return 0
    is_held = producer.held_in == Backend.MEMORY.value and is_read_on(producer, now, steps)
    nbytes = turn_nbytes(producer.output, segment) if is_held else 0
    later = [link for s in steps if s.index >= now.index for link in s.special_inputs]
    asked = {link.name for link in later if link.producer == producer.index}
    for target in producer.special_outputs:
        if target.name in asked and target.kind in ("memory", "labels"):
            nbytes += turn_nbytes(producer.output, segment)
    return nbytes


def _result(plan: Plan, step: StepPlan, steps: Sequence[StepPlan], segment: Segment) -> int:
    """Return the bytes of a step's results: of a turn where they are kept, else of a group."""
    is_kept = step.held_in == Backend.MEMORY.value and any(s.source == step.index for s in steps)
    if is_kept or (step.index == segment.last and plan.hands_on(segment)):
        return turn_nbytes(step.output, segment)
    return _largest_output(step)


def _gathering(step: StepPlan, plan: Plan, segment: Segment, readers: Sequence[StepPlan]) -> int:
    """Return the bytes of a stack put together; one kept as it was made costs nothing."""
    if step.source is None:
        is_as_kept = step is readers[0]
    else:
        maker = plan.steps[step.source]
        is_as_kept = maker.variable_components == step.variable_components
        is_as_kept &= maker.held_in == Backend.MEMORY.value
        is_as_kept &= segment.reads is None or not _is_from_outside(step, segment)
    return 0 if is_as_kept else _group_nbytes(step)


def _group_nbytes(step: StepPlan) -> int:
    return _largest(step) * plane_nbytes(step.input)


def _largest(step: StepPlan) -> int:
    """Return the planes of the largest stack."""
    return max(len(g.members) for g in groups_of(step.input, step.variable_components))


def _largest_output(step: StepPlan) -> int:
    """Return the bytes of the largest result."""
    return _most_planes(step) * plane_nbytes(step.output)


def _most_planes(step: StepPlan) -> int:
    """Return the planes of the largest result."""
    return max(
        len(output_members(step.branch_for(group), group, step.variable_components))
        for group in groups_of(step.input, step.variable_components)
    )


def _working(plan: Plan, step: StepPlan) -> int:
    """Return the host memory of a function's temporaries; those of a device lie there."""
    is_on_device = plan.resources.gpus > 0 and device_bytes(step) > 0
    return 0 if is_on_device else _temporaries(step)


def _temporaries(step: StepPlan) -> int:
    largest = _largest(step)
    planes = 0.0
    for branch in step.branches:
        for call in branch.calls:
            declared = contract_of(call.func)
            planes = max(planes, declared.working_planes * largest + declared.fixed_planes)
    return int(planes * prod(step.input.shape_yx) * FLOAT32)


def _libraries(plan: Plan) -> int:
    """Return what array libraries take that any step of the plan loads: workers are shared."""
    calls = (call for s in plan.steps for branch in s.branches for call in branch.calls)
    names = {name for call in calls for name in (call.input_type, call.output_type)}
    return sum(LIBRARY_BYTES.get(name, 0) for name in names)


def _encoding(plan: Plan, step: StepPlan) -> int:
    nbytes = 0
    if any(write.step == step.index for write in plan.writes):
        nbytes += ENCODER_PLANES * plane_nbytes(step.output)
    labels = sum(target.kind == "labels" for target in step.special_outputs)
    planes = ENCODER_PLANES + 1  # they are numbered plane by plane
    return nbytes + labels * planes * prod(step.output.shape_yx) * UINT32


def _encoding_ahead(plan: Plan, segment: Segment, now: StepPlan) -> int:
    """Return the bytes of planes that wait for several encoders while a step runs, the largest.

    Besides the one that `_encoding` counts: those that are made by then.
    """
    waiting = plan.resources.encoders if plan.resources.encoders > 1 else 0
    planes = []
    for step in plan.steps[segment.first : segment.last + 1]:
        a_turns = turn_nbytes(step.output, segment, min) // plane_nbytes(step.output)
        later = a_turns if step.index > now.index else int(step.index == now.index)
        made = step.output.num_planes - later
        planes += [(size, made) for size in _stored_planes(plan, step)]
    nbytes = 0
    for size, count in sorted(planes, reverse=True):
        nbytes += ENCODER_PLANES * min(waiting, count) * size
        waiting -= min(waiting, count)
    return nbytes


def _stored_planes(plan: Plan, step: StepPlan) -> Iterator[int]:
    """Yield the bytes of a plane of each image that is stored of a step."""
    if any(write.step == step.index for write in plan.writes):
        yield plane_nbytes(step.output)
    for target in step.special_outputs:
        if target.kind == "labels":
            yield prod(step.output.shape_yx) * UINT32
