"""A plan in words."""

from __future__ import annotations

from hcsflow.compiler.memory_types import roads_of
from hcsflow.config import Backend
from hcsflow.plan import Plan, PlaneSet, Segment, StepPlan, WritePlan

__all__ = ["explain"]


def explain(plan: Plan) -> str:
    """Return what a plan will do, line by line: steps, stores, tasks, memory.

    The text is the same for the same plan.
    """
    each = f"{_count(plan.source.num_planes, 'plane')}: {_planes(plan.source)}"
    lines = [
        f"{plan.pipeline} on {plan.plate.name} ({plan.plate.microscope}, {plan.plate.layout})",
        f"  {_count(len(plan.wells), 'well')} of {each}",
    ]
    lines += [f"  {well} fails: {reason}" for well, reason, _ in plan.failed_wells]
    lines.append("steps")
    for step in plan.steps:
        lines.append(f"  {_step(step)}")
        if step.held_because:
            lines.append(f"     what later steps read of it lies in files, {step.held_because}")
    lines.append("writes")
    for write in plan.writes:
        lines += [f"  {line}" for line in _write(write)]
    lines.append("tasks")
    for segment in plan.segments:
        lines += [f"  {line}" for line in _segment(plan, segment)]
    workers = plan.resources
    lines.append(f"  on {_count(workers.workers, 'worker')} of {workers.memory_bytes / 1e9:.1f} GB")
    lines += [f"warning: {text}" for text in plan.warnings]
    return "\n".join(lines)


def _planes(planes: PlaneSet) -> str:
    z = sorted({len(h) for h in planes.z})
    counts = [
        _count(len(planes.fields), "field"),
        _count(len(planes.timepoints), "timepoint") if len(planes.timepoints) > 1 else "",
        _count(len(planes.channels), "channel"),
        f"{z[0]} z" if len(z) == 1 else f"{z[0]}–{z[-1]} z",
    ]
    y, x = planes.shape_yx
    return f"{' × '.join(filter(None, counts))} of {y}×{x} {planes.dtype}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _step(step: StepPlan) -> str:
    functions = dict.fromkeys(
        " → ".join(call.function.rpartition(":")[2] for call in branch.calls) or branch.action
        for branch in step.branches
    )
    roads = dict.fromkeys(" → ".join(road) for road in roads_of(step) if len(road) > 1)
    extra = f"; arrays {' | '.join(roads)} in each group" if roads else ""
    stacks = ", ".join(step.variable_components)
    return (
        f"{step.index + 1}. {step.name}: {' | '.join(functions)} "
        f"{f'over {stacks}' if stacks else 'plane by plane'}; "
        f"{step.num_calls} calls a well; "
        f"{step.read_backend} → {step.write_backend}; "
        f"{_planes(step.output)}; {step.projected_bytes / 1e6:.0f} MB{extra}"
    )


def _segment(plan: Plan, segment: Segment) -> list[str]:
    """Say what a task does; where a well has several, also what it takes and gives."""
    loop = " × ".join(segment.loop) or "whole well"
    text = (
        f"{segment.name}: {_count(len(plan.wells), 'task')}, steps {segment.first + 1}–"
        f"{segment.last + 1}, one {loop} at a time, {segment.projected_bytes / 1e6:.0f} MB each"
    )
    if segment.needs_gpu:
        text += ", on a GPU"
    if len(plan.segments) == 1:
        return [text]
    return [text, f"  starts from {_start(plan, segment)}", f"  ends with {_end(plan, segment)}"]


def _start(plan: Plan, segment: Segment) -> str:
    stores = {write.output: write.store for write in plan.writes}
    steps = plan.steps[segment.first : segment.last + 1]
    found = ["the plate"] if any(step.source is None for step in steps) else []
    if segment.reads is not None:
        found.append(stores[segment.reads])
    elif segment.first:
        found.append("the result of the task before")
    return " and ".join(found)


def _end(plan: Plan, segment: Segment) -> str:
    found = [write.store for write in plan.writes_of(segment)]
    if plan.hands_on(segment):
        result = _planes(plan.steps[segment.last].output)
        found.append(f"a result for the next task: {result}")
    names = [f"{carried.special} of {plan.steps[carried.step].name}" for carried in segment.carries]
    return "; with it ".join(filter(None, ["; ".join(found), ", ".join(names)]))


def _images(write: WritePlan) -> str:
    """Say what is stored of a well's pixels."""
    level0 = write.image.levels[0]
    if write.backend == Backend.DISK.value:
        y, x = write.image.field_yx
        return f"TIFF files of {y}×{x} {level0.dtype}, {_count(write.objects_per_well, 'file')}"
    shape = "×".join(map(str, level0.shape))
    each = f"{_count(len(write.image.fields), 'image')} of " if write.image.is_per_field else ""
    return (
        f"{each}{shape} ({' '.join(level0.axes)}) {level0.dtype}, "
        f"{len(write.image.levels)} levels, {write.objects_per_well} objects"
    )


def _write(write: WritePlan) -> list[str]:
    size = f"{write.raw_bytes_per_well / 1e6:.0f} MB uncompressed"
    lines = [f"{write.store}: {_images(write)} and {size} a well"]
    lines += [f"  labels {label.name}" for label in write.labels]
    lines += [f"  table {table.name}" for table in write.tables]
    lines += [f"  results/{side.name}/" for side in write.sides]
    return lines
