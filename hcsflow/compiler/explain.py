"""A plan in words."""

from __future__ import annotations

from hcsflow.compiler.memory_types import conversions_of
from hcsflow.plan import Plan, PlaneSet, StepPlan, WritePlan

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
        loop = " × ".join(segment.loop) or "whole well"
        lines.append(
            f"  {segment.name}: {_count(len(plan.wells), 'task')}, steps {segment.first + 1}–"
            f"{segment.last + 1}, one {loop} at a time, {segment.projected_bytes / 1e6:.0f} MB each"
        )
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
    conversions = conversions_of(step)
    extra = f", {len(conversions)} conversions a group" if conversions else ""
    return (
        f"{step.index + 1}. {step.name}: {' | '.join(functions)} over "
        f"{', '.join(step.variable_components)}; {step.num_calls} calls a well; "
        f"{step.read_backend} → {step.write_backend}; "
        f"{_planes(step.output)}; {step.projected_bytes / 1e6:.0f} MB{extra}"
    )


def _write(write: WritePlan) -> list[str]:
    level0 = write.image.levels[0]
    shape = "×".join(map(str, level0.shape))
    size = f"{write.raw_bytes_per_well / 1e6:.0f} MB uncompressed"
    text = (
        f"{write.store}: {shape} ({' '.join(level0.axes)}) {level0.dtype}, "
        f"{len(write.image.levels)} levels, {write.objects_per_well} objects and {size} a well"
    )
    lines = [text]
    lines += [f"  labels {label.name}" for label in write.labels]
    lines += [f"  table {table.name}" for table in write.tables]
    lines += [f"  results/{side.name}/" for side in write.sides]
    return lines
