"""Pass 2, axes: the planes before and after each step, and what each call promises."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np

from hcsflow.compiler.bind import component_labels
from hcsflow.compiler.inputs import Declared
from hcsflow.contracts import contract_of
from hcsflow.errors import PipelineError, PlanRefusedError
from hcsflow.plan import (
    Branch,
    Call,
    LocalKey,
    Plan,
    PlaneSet,
    StepPlan,
    groups_of,
    output_members,
)
from hcsflow.plate import COMPONENTS, Plate

__all__ = ["axes"]


def axes(plan: Plan, _declared: Declared) -> Plan:
    """Follow the planes through all steps.

    Raises
    ------
    PlanRefusedError
        Groups that lack members, branches that disagree in shape or dtype, nothing left.
    """
    steps: list[StepPlan] = []
    for step in plan.steps:
        planes = plan.source if step.source is None else steps[step.source].output
        steps.append(_follow(step, planes, plan.plate))
    return plan.replace(steps=tuple(steps))


def _follow(step: StepPlan, planes: PlaneSet, plate: Plate) -> StepPlan:
    step = replace(step, input=planes)
    groups = list(groups_of(planes, step.variable_components))
    _check_covered(step, planes, plate)
    _check_complete(step, planes, plate)
    branches = tuple(_promise(step, branch, planes, plate) for branch in step.branches)
    step = replace(step, branches=branches)
    kept: list[LocalKey] = []
    used: list[Branch] = []
    num_calls = 0
    for group in groups:
        branch = step.branch_for(group)
        used.append(branch)
        kept.extend(output_members(branch, group, step.variable_components))
        num_calls += len(branch.calls)
    output = _gathered(step, planes, kept, used)
    return replace(step, output=output, num_calls=num_calls)


def _check_covered(step: StepPlan, planes: PlaneSet, plate: Plate) -> None:
    """Hold a dict pattern's keys to the values that this step's planes still have."""
    named = {branch.value for branch in step.branches if branch.value is not None}
    if not named:
        return
    if step.group_by in planes.collapsed:
        raise PipelineError(
            f"step {step.name!r} tells {step.group_by}s apart, but an earlier step has made one of "
            "them",
            hint="give one function for all, or group before they are combined",
        )
    labels = component_labels(step.group_by, plate)
    there = _values(step.group_by, planes)
    called = {branch.value for branch in step.branches if branch.action == "call"}
    gone = sorted(labels[i][0] for i in called - there if i is not None)
    if gone:
        raise PipelineError(
            f"step {step.name!r} has a function for {step.group_by} {', '.join(gone)}, which an "
            "earlier step has dropped",
            hint="leave it out here, or keep it there (PASS)",
        )
    uncovered = [labels[i][0] for i in sorted(there - named)]
    if uncovered and None not in {branch.value for branch in step.branches}:
        raise PipelineError(
            f"step {step.name!r} says nothing about {step.group_by} {', '.join(uncovered)}",
            hint='add them, or "*": "PASS" (keep as they are) or "*": "DROP"',
        )


def _values(component: str, planes: PlaneSet) -> set[int]:
    if component == "z":
        return {z for heights in planes.z for z in heights}
    return set(getattr(planes, f"{component}s"))


def _check_complete(step: StepPlan, planes: PlaneSet, plate: Plate) -> None:
    """Refuse stacks over channels and the like whose z ranges differ, unless ragged."""
    varying = set(step.variable_components)
    if varying == {"z"}:
        return
    for branch in step.branches:
        for call in branch.calls:
            declared = contract_of(call.func)
            if not isinstance(declared.z_out, str):
                raise PlanRefusedError(
                    f"step {step.name!r}: a new z axis needs stacks of z alone, not of "
                    f"{', '.join(step.variable_components) or 'one plane'}"
                )
    if all(contract_of(c.func).ragged for b in step.branches for c in b.calls):
        return
    if "channel" in varying and len(set(planes.z)) > 1 and "channel" not in planes.collapsed:
        heights = zip(planes.channels, planes.z, strict=True)
        counts = ", ".join(f"{plate.channels[c].label}: {len(h)}" for c, h in heights)
        raise PlanRefusedError(
            f"step {step.name!r} stacks over {', '.join(step.variable_components)}, but channels "
            f"differ in z planes ({counts})",
            hint="project along z first, or declare the function with @contract(ragged=True)",
        )


def _promise(step: StepPlan, branch: Branch, planes: PlaneSet, plate: Plate) -> Branch:
    shape, dtype = planes.shape_yx, planes.dtype
    calls: list[Call] = []
    for call in branch.calls:
        declared = contract_of(call.func)
        if declared.output_shape is not None:
            shape = _declared_shape(step, call, shape, plate)
        dtype = declared.dtype or dtype
        calls.append(replace(call, shape_yx=shape, dtype=dtype))
    return replace(branch, calls=tuple(calls))


def _declared_shape(
    step: StepPlan, call: Call, shape_yx: tuple[int, int], plate: Plate
) -> tuple[int, int]:
    """Ask a function's ``output_shape``; one with an argument ``grid`` gets the plate's."""
    rule = contract_of(call.func).output_shape
    if rule is None:
        return shape_yx
    given = dict(call.parameters)
    known = inspect.signature(rule).parameters
    if "grid" in known and "grid" not in given:
        given["grid"] = plate.grid
    try:
        found: object = rule(shape_yx, **given)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise PipelineError(
            f"step {step.name!r}: output_shape of {call.function} fails: "
            f"{type(error).__name__}: {error}",
            hint="it is called with (shape_yx, **parameters) and, if it asks for it, grid",
        ) from error
    if isinstance(found, (tuple, list)) and len(found) == 2:
        y, x = found
        if isinstance(y, (int, np.integer)) and isinstance(x, (int, np.integer)) and min(y, x) > 0:
            return (int(y), int(x))
    raise PipelineError(
        f"step {step.name!r}: output_shape of {call.function} must give (y, x) in whole pixels, "
        f"gave {found!r}"
    )


def _gathered(
    step: StepPlan, planes: PlaneSet, kept: list[LocalKey], used: list[Branch]
) -> PlaneSet:
    if not kept:
        raise PlanRefusedError(
            f"step {step.name!r} drops every plane", hint="keep at least one channel"
        )
    results = {_result(branch, planes) for branch in used if branch.action != "drop"}
    if len(results) > 1:
        shown = " and ".join(f"{s[0]}×{s[1]} {d}" for s, d in sorted(results))
        raise PlanRefusedError(
            f"step {step.name!r} would return planes of {shown}; they are stored as one image",
            hint="cast or project so that all channels agree, or DROP some",
        )
    shape, dtype = results.pop()
    channels = tuple(dict.fromkeys(key.channel for key in sorted(kept, key=lambda k: k.channel)))
    heights: dict[int, set[int]] = {c: set() for c in channels}
    for key in kept:
        heights[key.channel].add(key.z)
    output = PlaneSet(
        fields=tuple(sorted({key.field for key in kept})),
        timepoints=tuple(sorted({key.timepoint for key in kept})),
        channels=channels,
        z=tuple(tuple(sorted(heights[c])) for c in channels),
        shape_yx=shape,
        dtype=dtype,
        collapsed=_collapsed(step, planes, used),
    )
    if output.num_planes != len(set(kept)):
        raise PlanRefusedError(
            f"step {step.name!r} leaves {len(set(kept))} of {output.num_planes} planes: no full "
            f"grid of fields, timepoints, channels and z, because its {step.group_by}s are "
            "treated unlike",
            hint="let all of them keep, drop or collapse the same planes",
        )
    return output


def _collapsed(step: StepPlan, planes: PlaneSet, used: list[Branch]) -> tuple[str, ...]:
    """Return the components that have one value left: reduced before, or by every branch now."""
    kept = [branch for branch in used if branch.action != "drop"]
    is_reduced = all(any(call.z_out == "one" for call in branch.calls) for branch in kept)
    reduced = set(step.variable_components) if is_reduced else set()
    return tuple(c for c in COMPONENTS if c in reduced or c in planes.collapsed)


def _result(branch: Branch, planes: PlaneSet) -> tuple[tuple[int, int], str]:
    if branch.action == "pass":
        return planes.shape_yx, planes.dtype
    return branch.calls[-1].shape_yx, branch.calls[-1].dtype
