"""One declared unit of work: a function pattern and how to feed it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any

from hcsflow.config import Backend, StepMaterializationConfig
from hcsflow.errors import PipelineError, nearest

__all__ = [
    "COMPONENT_NAMES",
    "DROP",
    "PASS",
    "PIPELINE_START",
    "PREVIOUS_STEP",
    "Chain",
    "FunctionStep",
    "GroupAction",
    "InputSource",
    "Invocation",
    "Pattern",
    "parse_pattern",
]

COMPONENT_NAMES = ("field", "timepoint", "channel", "z")


class GroupAction(StrEnum):
    """What a dict pattern may say instead of a function."""

    PASS = "PASS"  # noqa: S105 - a keyword of the pattern language
    DROP = "DROP"


class InputSource(StrEnum):
    """Where a step's planes come from."""

    PREVIOUS_STEP = "PREVIOUS_STEP"
    PIPELINE_START = "PIPELINE_START"


PASS = GroupAction.PASS
DROP = GroupAction.DROP
PREVIOUS_STEP = InputSource.PREVIOUS_STEP
PIPELINE_START = InputSource.PIPELINE_START


@dataclass(frozen=True, slots=True)
class Invocation:
    """A function, by object or name, and the parameters it is called with."""

    function: Callable[..., Any] | str
    parameters: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """Functions applied one after another to the same stack."""

    invocations: tuple[Invocation, ...]


Pattern = Chain | Mapping[str, Chain | GroupAction]


@dataclass(frozen=True, init=False)
class FunctionStep:
    """Apply a function pattern to every group of planes.

    Parameters
    ----------
    func : callable, str, (func, dict), list or dict
        A function, a catalogue name or ``"module:function"``; a pair with parameters; a list is a
        chain; a dict maps values of ``group_by`` (channel names or labels, ``"*"``) to
        any of these, or to `PASS` or `DROP`.
    name : str, optional
        Unique in the pipeline; default the function's name.
    variable_components : sequence of str
        Components that form the stack's first axis, row-major; default ``("z",)``; none: stacks of
        one plane.
    group_by : str
        Component whose values are a dict pattern's keys; default ``"channel"``.
    force_disk_output, requires_disk_output : bool
        Keep this step's output under ``<nn>_<name>/``.
    requires_disk_input : bool
        Read from files, not from memory: the output of the step before is kept, too.
    backend : Backend or str, optional
        Materialise the output on this backend.
    input_source : InputSource
        `PIPELINE_START` takes the plate's planes, past earlier steps.
    special_inputs, special_outputs : mapping of str to str, optional
        Other names within the pipeline for what the function declares.
    materialization : StepMaterializationConfig, optional
        Where a materialised output goes.
    **parameters
        Passed to the function, to every function of a chain that accepts them.

    Examples
    --------
    >>> FunctionStep("gaussian_filter", sigma=2.0, name="smooth").name
    'smooth'
    """

    pattern: Pattern
    name: str
    variable_components: tuple[str, ...]
    group_by: str
    materialize: bool
    requires_disk_input: bool
    backend: Backend | None
    input_source: InputSource
    special_inputs: Mapping[str, str]
    special_outputs: Mapping[str, str]
    materialization: StepMaterializationConfig | None
    parameters: Mapping[str, Any]

    def __init__(  # noqa: PLR0913 - the seeds give users this signature
        self,
        func: Any,
        *,
        name: str | None = None,
        variable_components: tuple[str, ...] | list[str] | str | None = None,
        group_by: str | None = None,
        force_disk_output: bool = False,
        requires_disk_input: bool = False,
        requires_disk_output: bool = False,
        backend: Backend | str | None = None,
        input_source: InputSource | str = PREVIOUS_STEP,
        special_inputs: Mapping[str, str] | None = None,
        special_outputs: Mapping[str, str] | None = None,
        materialization: StepMaterializationConfig | None = None,
        **parameters: Any,
    ) -> None:
        pattern = parse_pattern(func)
        put = object.__setattr__
        put(self, "pattern", pattern)
        put(self, "name", _of_kind("name", name, str) or _default_name(pattern))
        put(self, "variable_components", _components(variable_components))
        put(self, "group_by", _one_component("group_by", group_by or "channel"))
        put(self, "requires_disk_input", _flag("requires_disk_input", requires_disk_input))
        put(self, "backend", None if backend is None else _member(Backend, backend, "backend"))
        durable = self.backend not in {None, Backend.MEMORY} or materialization is not None
        forced = _flag("force_disk_output", force_disk_output)
        required = _flag("requires_disk_output", requires_disk_output)
        put(self, "materialize", forced or required or durable)
        put(self, "input_source", _member(InputSource, input_source, "input_source"))
        put(self, "special_inputs", _renaming("special_inputs", special_inputs))
        put(self, "special_outputs", _renaming("special_outputs", special_outputs))
        kept = _of_kind("materialization", materialization, StepMaterializationConfig)
        put(self, "materialization", kept)
        put(self, "parameters", MappingProxyType(dict(parameters)))
        self._check()

    def _check(self) -> None:
        if "/" in self.name or not self.name.strip() or self.name.startswith("."):
            raise PipelineError(
                f"a step cannot be named {self.name!r}", hint="use letters, digits, - and _"
            )
        if isinstance(self.pattern, Mapping) and self.group_by in self.variable_components:
            raise PipelineError(
                f"step {self.name!r} groups by {self.group_by!r}, which also varies in its stacks",
                hint="leave it out of variable_components, or group by another component",
            )

    def replace(self, /, **parameters: Any) -> FunctionStep:
        """Return a copy whose function parameters are changed as given.

        A parameter changes wherever it stands, the pairs of every branch included. One that
        stands nowhere becomes the step's: it goes to each function that accepts it.
        """
        copy = object.__new__(FunctionStep)
        for slot in self.__dataclass_fields__:
            object.__setattr__(copy, slot, getattr(self, slot))
        in_pairs = {name for i in _invocations_of(self.pattern) for name, _ in i.parameters}
        own = {k: v for k, v in parameters.items() if k in self.parameters or k not in in_pairs}
        object.__setattr__(copy, "pattern", _with_parameters(self.pattern, parameters))
        object.__setattr__(copy, "parameters", MappingProxyType({**self.parameters, **own}))
        return copy

    def takes(self, parameter: str) -> bool:
        """Tell whether a parameter of this name can be seen to belong to one of its functions."""
        found = list(_invocations_of(self.pattern))
        given = {name for i in found for name, _ in i.parameters} | self.parameters.keys()
        return parameter in given or any(_declares(i.function, parameter) for i in found)

    def with_materialization(self, kept: StepMaterializationConfig) -> FunctionStep:
        """Return a copy whose output is kept as given."""
        copy = self.replace()
        object.__setattr__(copy, "materialization", kept)
        object.__setattr__(copy, "materialize", True)
        return copy

    def __reduce__(self) -> tuple[object, ...]:
        state = {slot: getattr(self, slot) for slot in self.__dataclass_fields__}
        plain = {k: dict(v) if isinstance(v, MappingProxyType) else v for k, v in state.items()}
        return (_restore, (plain,))


def _declares(function: Callable[..., Any] | str, parameter: str) -> bool:
    """Tell whether a function names a parameter; one that is given by name is not looked up."""
    if isinstance(function, str):
        return False
    try:
        return parameter in inspect.signature(function).parameters
    except ValueError:  # a compiled one need not have a signature
        return False


def _restore(state: dict[str, Any]) -> FunctionStep:
    step = object.__new__(FunctionStep)
    for slot, value in state.items():
        frozen = MappingProxyType(value) if isinstance(value, dict) else value
        object.__setattr__(step, slot, frozen)
    return step


def parse_pattern(func: Any) -> Pattern:
    """Turn what a user wrote into a chain, or a mapping of component value to chain.

    Raises
    ------
    PipelineError
        If it is none of the accepted forms.
    """
    if isinstance(func, Mapping):
        if not func:
            raise PipelineError("a dict pattern needs at least one entry")
        return MappingProxyType({_key(k): _entry(v) for k, v in func.items()})
    if isinstance(func, GroupAction):
        raise PipelineError(f"{func.value} stands in a dict pattern, not for a whole step")
    return Chain(_invocations(func))


def _key(key: Any) -> str:
    if isinstance(key, str) and key:
        return key
    raise PipelineError(
        f"a dict pattern's keys are names or labels, got {key!r}",
        hint='write the channel as the instrument does, e.g. "w1" or "DAPI", or "*"',
    )


def _entry(value: Any) -> Chain | GroupAction:
    if isinstance(value, str) and value in GroupAction.__members__:
        return GroupAction(value)
    if isinstance(value, GroupAction):
        return value
    return Chain(_invocations(value))


def _invocations(func: Any) -> tuple[Invocation, ...]:
    if isinstance(func, list):
        if not func:
            raise PipelineError("a chain needs at least one function")
        return tuple(inv for item in func for inv in _invocations(item))
    if isinstance(func, tuple):
        if len(func) != 2 or not isinstance(func[1], Mapping):  # (func, kwargs)
            raise PipelineError(f"expected (function, {{parameters}}), got {func!r}")
        inner = _invocations(func[0])
        if len(inner) != 1:
            raise PipelineError("parameters in a pair belong to one function")
        odd = [name for name in func[1] if not isinstance(name, str)]
        if odd:
            raise PipelineError(f"a parameter's name is text, got {odd[0]!r}")
        given = {**dict(inner[0].parameters), **func[1]}
        return (Invocation(inner[0].function, tuple(sorted(given.items()))),)
    if isinstance(func, str) and func in GroupAction.__members__:
        raise PipelineError(f"{func!s} stands alone in a dict pattern, not among functions")
    if isinstance(func, str) and func:
        return (Invocation(func),)
    if callable(func):
        return (Invocation(func),)
    raise PipelineError(
        f"a step needs a function, a name, (function, parameters), a list or a dict, got {func!r}"
    )


def _invocations_of(pattern: Pattern) -> Iterator[Invocation]:
    for entry in [pattern] if isinstance(pattern, Chain) else pattern.values():
        if isinstance(entry, Chain):
            yield from entry.invocations


def _with_parameters(pattern: Pattern, changes: Mapping[str, Any]) -> Pattern:
    """Return a pattern whose pairs have new values for the parameters that they hold."""
    if isinstance(pattern, Chain):
        return _changed(pattern, changes)
    return MappingProxyType(
        {
            key: _changed(entry, changes) if isinstance(entry, Chain) else entry
            for key, entry in pattern.items()
        }
    )


def _changed(chain: Chain, changes: Mapping[str, Any]) -> Chain:
    return Chain(
        tuple(
            Invocation(i.function, tuple((k, changes.get(k, v)) for k, v in i.parameters))
            for i in chain.invocations
        )
    )


def _default_name(pattern: Pattern) -> str:
    chains = [pattern] if isinstance(pattern, Chain) else list(pattern.values())
    for chain in chains:
        if isinstance(chain, Chain):
            function = chain.invocations[0].function
            text = function if isinstance(function, str) else getattr(function, "__name__", "step")
            return text.rpartition(":")[2].replace("<lambda>", "step")
    return "step"


def _components(value: tuple[str, ...] | list[str] | str | None) -> tuple[str, ...]:
    if value is None:
        return ("z",)
    if not isinstance(value, (str, Sequence)):
        raise PipelineError(f"variable_components must be a list of components, got {value!r}")
    given = (value,) if isinstance(value, str) else tuple(value)
    names = tuple(_one_component("variable_components", n) for n in given)
    if len(set(names)) != len(names):
        raise PipelineError(f"variable_components must name components once each, got {value!r}")
    return names


def _one_component(where: str, name: Any) -> str:
    if isinstance(name, str) and name in COMPONENT_NAMES:
        return name
    meant = nearest(str(name), COMPONENT_NAMES)
    raise PipelineError(
        f"{where}: no component {name!r}; there are {', '.join(COMPONENT_NAMES)}",
        hint=f"did you mean {meant!r}?" if meant else "OpenHCS's 'site' is called 'field' here",
    )


def _member(kind: type[Enum], value: Any, where: str) -> Any:
    text = getattr(value, "value", value)
    for member in kind:
        if text in (member.value, member.name):  # a list cannot be looked up in a set
            return member
    choices = ", ".join(str(m.value) for m in kind)
    raise PipelineError(f"{where}: no {value!r}; there are {choices}")


def _flag(where: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise PipelineError(f"{where} must be True or False, got {value!r}")


def _of_kind(where: str, value: Any, kind: type) -> Any:
    if value is None or isinstance(value, kind):
        return value
    raise PipelineError(f"{where} must be {kind.__name__} or None, got {value!r}")


def _renaming(where: str, value: Any) -> Mapping[str, str]:
    """Return what a function declares → what the pipeline calls it."""
    names = {} if value is None else value
    if isinstance(names, Mapping) and all(
        isinstance(text, str) and text for pair in names.items() for text in pair
    ):
        return MappingProxyType(dict(names))
    raise PipelineError(
        f"{where} must map names to names, got {value!r}",
        hint='e.g. {"labels": "nuclei"}: the function\'s name → the pipeline\'s',
    )
