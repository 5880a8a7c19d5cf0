"""Pass 3, memory types: can the functions run here; which conversions a chain needs."""

from __future__ import annotations

from itertools import pairwise

from hcsflow.arrays import conversion_path
from hcsflow.compiler.inputs import Declared
from hcsflow.errors import PlanRefusedError
from hcsflow.plan import Plan, StepPlan

__all__ = ["conversions_of", "memory_types"]

HOST_TYPES = frozenset({"numpy", "torch", "jax", "tensorflow"})


def memory_types(plan: Plan, _declared: Declared) -> Plan:
    """Refuse functions of GPU libraries where there is no GPU. Variants are frozen by now.

    Raises
    ------
    PlanRefusedError
        A function needs a GPU library and the resources hold no GPU.
    """
    for step in plan.steps:
        for branch in step.branches:
            for call in branch.calls:
                wanted = {call.input_type, call.output_type} - HOST_TYPES
                if wanted - {"pyclesperanto"} and plan.resources.gpus == 0:
                    raise PlanRefusedError(
                        f"step {step.name!r}: {call.function} works on "
                        f"{' and '.join(sorted(wanted))} arrays, and there is no GPU",
                        hint="run on a machine with a GPU, or name a numpy variant "
                        "(hcsflow functions lists them)",
                    )
    return plan


def conversions_of(step: StepPlan) -> list[tuple[str, str]]:
    """List (source, target) of the conversions that one group of a step makes.

    Planes lie in memory as numpy arrays between steps.
    """
    found: list[tuple[str, str]] = []
    for branch in step.branches:
        current = "numpy"
        for call in branch.calls:
            found += pairwise(conversion_path(current, call.input_type))
            current = call.output_type
        found += pairwise(conversion_path(current, "numpy"))
    return found
