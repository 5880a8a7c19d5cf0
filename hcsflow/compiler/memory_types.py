"""Pass 3, memory types: can the functions run here; which conversions a chain needs."""

from __future__ import annotations

from hcsflow.arrays import conversion_path
from hcsflow.compiler.inputs import Declared
from hcsflow.errors import PlanRefusedError
from hcsflow.plan import Plan, StepPlan

__all__ = ["memory_types", "roads_of"]

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


def roads_of(step: StepPlan) -> list[tuple[str, ...]]:
    """Return, branch by branch, the memory types that a group's stack passes, conversions in full.

    Planes lie in memory as numpy arrays between steps; ``("numpy",)`` is a branch that converts
    nothing.
    """
    roads = []
    for branch in step.branches:
        road = ["numpy"]
        for call in branch.calls:
            road += conversion_path(road[-1], call.input_type)[1:]
            road += [call.output_type] if call.output_type != road[-1] else []
        roads.append((*road, *conversion_path(road[-1], "numpy")[1:]))
    return roads
