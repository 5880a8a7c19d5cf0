"""Pass 6, segments: which steps form one task, and what its loop runs over."""

from __future__ import annotations

from dataclasses import replace

from hcsflow.compiler.fingerprints import step_fingerprint
from hcsflow.compiler.inputs import Declared
from hcsflow.plan import Plan, Segment

__all__ = ["segments"]

LOOPABLE = ("field", "timepoint")
"""Components that a well's task may run over one at a time."""


def segments(plan: Plan, _declared: Declared) -> Plan:
    """Fuse all steps of a well into one task.

    The task loops over the components that no step stacks and none regroups, so what it holds
    at a time does not grow with them.
    """
    varying = {c for step in plan.steps for c in step.variable_components}
    grouped = {s.group_by for s in plan.steps if any(b.value is not None for b in s.branches)}
    loop = tuple(c for c in LOOPABLE if c not in varying and c not in grouped)
    steps = tuple(
        replace(step, fingerprint=step_fingerprint(step, plan.label_stride)) for step in plan.steps
    )
    whole = Segment(plan.pipeline, 0, len(steps) - 1, loop)
    return plan.replace(steps=steps, segments=(whole,))
