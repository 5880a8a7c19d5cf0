"""A step bound to functions, planes and places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from hcsflow.plan.planes import Group, LocalKey, PlaneSet

__all__ = ["Branch", "Call", "SpecialLink", "SpecialTarget", "StepPlan", "output_members"]


@dataclass(frozen=True, slots=True)
class Call:
    """One function call of a step.

    Parameters
    ----------
    function : str
        Import path ``module:qualname``.
    fingerprint : str
        Hashes of the function, of what it has bound, and of the parameters' contents; versions of
        the libraries that these come from.
    input_type, output_type : str
        Memory types.
    parameters : tuple of (str, value)
        Keyword arguments, sorted by name.
    special_inputs, special_outputs : tuple of str
        Names as the function declares them.
    z_out : "same", "one" or int
        From the contract.
    shape_yx, dtype : tuple of int, str
        Promised for the output.
    func : callable
        The function itself; travels by cloudpickle, is not part of the plan's text.
    """

    function: str
    fingerprint: str
    input_type: str
    output_type: str
    parameters: tuple[tuple[str, Any], ...]
    special_inputs: tuple[str, ...]
    special_outputs: tuple[str, ...]
    z_out: str | int
    shape_yx: tuple[int, int]
    dtype: str
    func: Callable[..., Any] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Branch:
    """What a step does with the groups of one component value.

    Parameters
    ----------
    value : int or None
        Dense index along the step's ``group_by`` component; None: every group.
    action : "call", "pass" or "drop"
        Run the chain, keep the planes as they are, or leave them out.
    calls : tuple of Call
        The chain.
    """

    value: int | None
    action: Literal["call", "pass", "drop"]
    calls: tuple[Call, ...] = ()


def output_members(
    branch: Branch, group: Group, variable_components: tuple[str, ...]
) -> tuple[LocalKey, ...]:
    """Return the keys of the planes that a branch makes of a group, in order."""
    if branch.action == "drop":
        return ()
    members = group.members
    for call in branch.calls:
        if call.z_out == "same":
            continue
        first = members[0]
        if call.z_out == "one":
            changes = {c: 0 if c == "z" else getattr(first, c) for c in variable_components}
            members = (first._replace(**changes),)
        else:
            members = tuple(first._replace(z=i) for i in range(int(call.z_out)))
    return members


@dataclass(frozen=True, slots=True)
class SpecialLink:
    """Where a function's special input comes from.

    ``producer`` is the index of the step, or None for a built-in input.
    """

    argument: str
    name: str
    producer: int | None


@dataclass(frozen=True, slots=True)
class SpecialTarget:
    """Where a step's special output goes.

    Parameters
    ----------
    declared : str
        Name that the function declares.
    name : str
        Name within the pipeline, by which later steps ask for it.
    path, backend : str
        Staging place: always the memory backend while the segment runs.
    kind : str
        ``"memory"`` (not written), ``"labels"``, ``"table"`` or ``"function"``.
    stored_as : str
        Name of the label, table or folder.
    materializer : callable or None
        The object that writes it.
    """

    declared: str
    name: str
    path: str
    backend: str
    kind: Literal["memory", "labels", "table", "function"]
    stored_as: str
    materializer: Callable[..., Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step, bound to functions and places.

    ``held_in`` is the backend that keeps its output for later steps of the task, and
    ``held_because`` says why, where that is not memory.
    """

    index: int
    name: str
    variable_components: tuple[str, ...]
    group_by: str
    source: int | None
    branches: tuple[Branch, ...]
    input: PlaneSet
    output: PlaneSet
    input_dir: str
    output_dir: str
    read_backend: str
    write_backend: str
    special_inputs: tuple[SpecialLink, ...] = ()
    special_outputs: tuple[SpecialTarget, ...] = ()
    num_calls: int = 0
    projected_bytes: int = 0
    fingerprint: str = ""
    held_in: str = "memory"
    held_because: str = ""

    def branch_for(self, group: Group) -> Branch:
        """Return the branch that treats a group."""
        value = group.value(self.group_by)
        for branch in self.branches:
            if branch.value is None or branch.value == value:
                return branch
        raise LookupError(f"step {self.name!r} has no branch for {self.group_by} {value}")
