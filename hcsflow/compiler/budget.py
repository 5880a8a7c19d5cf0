"""Pass 8, budget: bytes that a task holds at its worst, against what a worker may use."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace

from hcsflow.compiler.inputs import Declared
from hcsflow.compiler.needs import Needs, device_bytes, needs_of
from hcsflow.errors import PlanRefusedError
from hcsflow.plan import Plan, Resources, Segment, StepPlan

__all__ = ["budget", "fit_encoders", "with_encoders"]

STACKS = "stack fewer planes at a time (variable_components)"
ADVICE = {
    "inputs": STACKS,
    "look_ahead": STACKS,
    "earlier": "keep what steps hand on in files (vfs: intermediate_backend: disk)",
    "working": STACKS,
    "outputs": STACKS,
    "encoding": STACKS,
    "objects": "choose chunk_strategy (--chunks) adaptive, or NGFF 0.5 (--ngff 0.5)",
}
"""What makes each part of a task's memory smaller."""


def budget(plan: Plan, _declared: Declared | None) -> Plan:
    """Project each task's peak memory above an idle worker, and that of devices.

    Counted are, while a step runs: inputs (the plate's planes of one turn, what another task
    handed over, planes being decoded), the group read ahead, results still needed, the working
    set (``working_planes`` and ``fixed_planes`` of the function's contract), outputs, the
    encoder's buffers, objects that NGFF 0.4 encodes as a whole, and a fixed overhead. The figure
    is meant to be no less than what a task comes to, and no more than twice as much.

    Raises
    ------
    PlanRefusedError
        A task needs more than a worker, or its device, has.
    """
    done = []
    steps = list(plan.steps)
    for segment in plan.segments:
        needs = {step.index: found for step, found in needs_of(plan, segment)}
        for index, found in needs.items():
            steps[index] = replace(steps[index], projected_bytes=found.total)
        worst = max(needs, key=lambda index: needs[index].total)
        device = _device_bytes(plan, segment)
        peak = needs[worst].total
        done.append(replace(segment, projected_bytes=peak, projected_device_bytes=device))
        if peak > plan.resources.memory_bytes:
            raise _too_large(plan, segment, steps[worst], needs[worst])
    return plan.replace(steps=tuple(steps), segments=tuple(done))


def fit_encoders(plan: Plan, memory_bytes: int) -> Plan:
    """Give a plan as many of its encoders as fit into a worker's memory, and project it anew.

    One encoder's planes are counted in any plan: idle cores never have one refused.

    Parameters
    ----------
    plan : Plan
        Projected with one encoder.
    memory_bytes : int
        What a task may use above an idle worker.
    """
    encoders = plan.resources.encoders
    while encoders > 1:
        fitting = with_encoders(plan, encoders)
        if fitting.projected_bytes <= memory_bytes:
            return fitting
        encoders //= 2
    return plan.replace(resources=replace(plan.resources, encoders=encoders))


def with_encoders(plan: Plan, encoders: int) -> Plan:
    """Return a plan with some encoders, projected anew; it is not refused for what they take."""
    resources = replace(plan.resources, encoders=encoders)
    unlimited = plan.replace(resources=replace(resources, memory_bytes=sys.maxsize))
    return budget(unlimited, None).replace(resources=resources)


def _too_large(plan: Plan, segment: Segment, step: StepPlan, needs: Needs) -> PlanRefusedError:
    resources = plan.resources
    parts = sorted(asdict(needs).items(), key=lambda part: -part[1])
    told = ", ".join(
        f"{name.replace('_', ' ')} {_gb(nbytes)}" for name, nbytes in parts if nbytes >= 5_000_000
    )
    text = (
        f"{_place(plan, segment, step)} would need {_gb(needs.total)} in one task"
        f"{f' ({told})' if told else ''}; a worker has {_gb(resources.memory_bytes)} "
        "above its idle process"
    )
    if needs.objects:
        text += f"; {_gb(needs.objects)} are objects that NGFF 0.4 encodes as a whole"
    advice = [*_fewer_workers(resources, needs.total), ADVICE[parts[0][0]]]
    advice += [ADVICE["objects"]] if needs.objects else []
    advice.append("give a worker more memory")
    return PlanRefusedError(text, hint=", or ".join(dict.fromkeys(advice)))


def _fewer_workers(resources: Resources, peak: int) -> list[str]:
    """Advise fewer workers where the memory of all together would do."""
    enough = resources.workers * resources.memory_bytes // peak
    is_fewer = 0 < enough < resources.workers
    return [f"use fewer workers ({enough} instead of {resources.workers})"] if is_fewer else []


def _device_bytes(plan: Plan, segment: Segment) -> int:
    """Project a segment's device memory, and hold it against what a device has.

    Raises
    ------
    PlanRefusedError
        It is more, where the resources say how much that is.
    """
    if not plan.resources.gpus:
        return 0
    needs = {s.index: device_bytes(s) for s in plan.steps[segment.first : segment.last + 1]}
    worst = max(needs, key=lambda index: needs[index])
    offered = plan.resources.device_memory_bytes
    if offered and needs[worst] > offered:
        raise PlanRefusedError(
            f"{_place(plan, segment, plan.steps[worst])} would need {_gb(needs[worst])} on a "
            f"device in one task; a device has {_gb(offered)}",
            hint=f"{STACKS}, or give the step a numpy function",
        )
    return needs[worst]


def _place(plan: Plan, segment: Segment, step: StepPlan) -> str:
    within = f" of segment {segment.name!r}" if len(plan.segments) > 1 else ""
    return f"step {step.name!r}{within}"


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB"
