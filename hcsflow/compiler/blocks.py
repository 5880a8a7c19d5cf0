"""Objects that NGFF 0.4 encodes as a whole: how much of them a task holds until they are."""

from __future__ import annotations

from collections.abc import Iterator

from hcsflow.config import MissingPolicy
from hcsflow.ngff.layout import ImageLayout, region_of, slot_of
from hcsflow.ngff.objects import held_bytes
from hcsflow.plan import LocalKey, Plan, Segment, StepPlan, groups_of, in_turns, output_members

__all__ = ["held_objects"]


def held_objects(plan: Plan, segment: Segment) -> int:
    """Return the bytes of image and label objects that a task holds at most, 0 for NGFF 0.5.

    A plane's object may be begun in one turn of the task and be whole turns later, so this stands
    beside whatever its steps need.
    """
    return sum(
        _held(plan, layout, plan.steps[index])
        for write in plan.writes_of(segment)
        for index, layout in (
            (write.step, write.image),
            *((label.step, label.layout) for label in write.labels),
        )
    )


def _held(plan: Plan, layout: ImageLayout, step: StepPlan) -> int:
    if layout.ngff_version == "0.5":
        return 0
    maker = next(s for s in plan.segments if s.first <= step.index <= s.last)
    places = (_place(layout, key) for key in _written(step, maker))
    may_lack = plan.config.missing is MissingPolicy.SKIP
    return held_bytes(layout, dict.fromkeys(places), may_lack=may_lack)


def _place(layout: ImageLayout, key: LocalKey) -> tuple[int, ...]:
    slot = slot_of(layout, key.channel, key.z)
    chunk = region_of(layout, 0, key.field, key.timepoint, key.channel, slot).chunk
    return (key.field, *chunk) if layout.is_per_field else chunk


def _written(step: StepPlan, segment: Segment) -> Iterator[LocalKey]:
    """Yield what a step makes, in the order in which its task makes it: turn by turn.

    What a later segment stores of it comes in the same order.
    """
    groups = groups_of(step.input, step.variable_components)
    for _, turn in in_turns(groups, segment.loop):
        for group in turn:
            yield from output_members(step.branch_for(group), group, step.variable_components)
