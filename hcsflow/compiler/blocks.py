"""Objects that NGFF 0.4 encodes as a whole: how much of them a task holds until they are."""

from __future__ import annotations

from collections.abc import Iterator

from hcsflow.config import MissingPolicy
from hcsflow.ngff.layout import ImageLayout, region_of, slot_of
from hcsflow.ngff.objects import held_bytes
from hcsflow.plan import Group, LocalKey, Plan, Segment, StepPlan, groups_of, output_members

__all__ = ["held_objects"]


def held_objects(plan: Plan, segment: Segment) -> int:
    """Return the bytes of image and label objects that a task holds at most, 0 for NGFF 0.5.

    A plane's object may be begun in one turn of the task and be whole turns later, so this stands
    beside whatever its steps need.
    """
    return sum(
        _held(plan, layout, plan.steps[index], segment)
        for write in plan.writes
        for index, layout in (
            (write.step, write.image),
            *((label.step, label.layout) for label in write.labels),
        )
    )


def _held(plan: Plan, layout: ImageLayout, step: StepPlan, segment: Segment) -> int:
    if layout.ngff_version == "0.5":
        return 0
    places = (
        region_of(layout, 0, k.field, k.timepoint, k.channel, slot_of(layout, k.channel, k.z)).chunk
        for k in _written(step, segment)
    )
    may_lack = plan.config.missing is MissingPolicy.SKIP
    return held_bytes(layout, dict.fromkeys(places), may_lack=may_lack)


def _written(step: StepPlan, segment: Segment) -> Iterator[LocalKey]:
    """Yield what a step makes, in the order in which the task makes it: turn by turn."""
    turns: dict[tuple[int | None, ...], list[Group]] = {}
    for group in groups_of(step.input, step.variable_components):
        turns.setdefault(tuple(group.value(c) for c in segment.loop), []).append(group)
    for groups in turns.values():
        for group in groups:
            yield from output_members(step.branch_for(group), group, step.variable_components)
