"""Special values of a task: made by one step, asked for by later ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hcsflow.errors import ContractError
from hcsflow.graph.planes import kept
from hcsflow.graph.positions import StagePositions
from hcsflow.plan import Call, Carried, Group, Plan, StepPlan, agreeing
from hcsflow.plate import PlaneKey

__all__ = ["BuiltinInputs", "SpecialValues"]


class BuiltinInputs:
    """The special inputs that hcsflow itself provides, for one well."""

    def __init__(self, plan: Plan, well: int, positions: StagePositions) -> None:
        self._plan = plan
        self._well = well
        self._positions = positions

    def value(self, name: str, group: Group) -> Any:
        """Return a built-in input for one group; lists have one entry per plane."""
        makers: dict[str, Callable[[], Any]] = {
            "pixel_size_um": lambda: self._plan.plate.pixel_size.um,
            "z_step_um": lambda: self._plan.plate.z_step.um,
            "channel_names": lambda: [c.label for c in self._plan.plate.channels],
            "plane_keys": lambda: [PlaneKey(0, self._well, *key) for key in group.members],
            "stage_positions_um": lambda: [
                self._positions.of_field(k.field) for k in group.members
            ],
        }
        return makers[name]()


class SpecialValues:
    """Special outputs by step and name, each with the group that it belongs to.

    Parameters
    ----------
    plan : Plan
        What is done.
    builtins : BuiltinInputs
        What hcsflow itself provides.
    earlier : mapping
        What earlier segments made; it stays.
    """

    def __init__(
        self,
        plan: Plan,
        builtins: BuiltinInputs,
        earlier: Mapping[Carried, Mapping[Group, Any]] | None = None,
    ) -> None:
        self._plan = plan
        self._builtins = builtins
        self._earlier = earlier or {}
        self._values: dict[Carried, dict[Group, Any]] = {}

    def put(self, step: StepPlan, name: str, group: Group, value: Any) -> None:
        """Keep what a step made for a group; an array can be changed by nobody from now on."""
        self._values.setdefault(Carried(step.index, name), {})[group] = kept(value)

    def clear(self) -> None:
        """Forget all values of this task; the others stay."""
        self._values.clear()

    def inputs_for(self, step: StepPlan, call: Call, group: Group) -> dict[str, Any]:
        """Return the special inputs of one call.

        One agreeing value is given as it is; several as a dict, keyed by the values of the
        components that tell them apart (a scalar where one component does).

        Raises
        ------
        ContractError
            If the producer made none for this group (its planes were skipped).
        """
        found: dict[str, Any] = {}
        for link in step.special_inputs:
            if link.argument in call.special_inputs:
                found[link.argument] = self._one(step, link.name, link.producer, group)
        return found

    def are_made(self, step: StepPlan, group: Group) -> bool:
        """Tell whether every earlier step has made what this group asks for."""
        return all(
            self._agreeing(step, link.name, link.producer, group)
            for link in step.special_inputs
            if link.producer is not None
        )

    def _made(self, producer: int, name: str) -> Mapping[Group, Any]:
        carried = Carried(producer, name)
        return self._values.get(carried) or self._earlier.get(carried, {})

    def _agreeing(self, step: StepPlan, name: str, producer: int, group: Group) -> list[Group]:
        made = self._made(producer, name)
        skipped = {*self._plan.steps[producer].input.collapsed, *step.input.collapsed}
        return agreeing(group, made, skipped)

    def _one(self, step: StepPlan, name: str, producer: int | None, group: Group) -> Any:
        if producer is None:
            return self._builtins.value(name, group)
        made = self._made(producer, name)
        groups = self._agreeing(step, name, producer, group)
        if not groups:
            raise ContractError(
                f"step {step.name!r} needs {name!r}, but step "
                f"{self._plan.steps[producer].name!r} made none for {dict(group.fixed)}"
            )
        if len(groups) == 1:
            return made[groups[0]]
        own = {c: v for c, v in group.fixed if c not in step.input.collapsed}
        return {_telling(g, own): made[g] for g in groups}


def _telling(group: Group, own: dict[str, int]) -> Any:
    values = tuple(value for component, value in group.fixed if component not in own)
    return values[0] if len(values) == 1 else values
