"""Pass 1, bind: names → functions, parameters → values, special inputs → producers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, cast

from hcsflow.compiler.choices import VariantChooser
from hcsflow.compiler.fingerprints import call_fingerprint
from hcsflow.compiler.inputs import Declared
from hcsflow.compiler.origins import name_of
from hcsflow.contracts import BUILTIN_INPUTS, SpecialOutput, contract_of
from hcsflow.errors import PipelineError, nearest
from hcsflow.functions.parameters import check_parameters
from hcsflow.materialize import kind_of
from hcsflow.pipeline.arrays import ArrayFile
from hcsflow.pipeline.step import Chain, FunctionStep, GroupAction, InputSource
from hcsflow.plan import Branch, Call, Plan, SpecialLink, SpecialTarget, StepPlan
from hcsflow.plate import Plate

__all__ = ["bind", "component_labels"]

Producers = dict[str, list[int]]


def bind(plan: Plan, declared: Declared) -> Plan:
    """Resolve every name that the pipeline uses.

    Raises
    ------
    FunctionNotFoundError
        No such function; the nearest is suggested.
    PipelineError
        Unknown parameter, channel, special input; ambiguous or uncovered dict pattern.
    """
    values = dict(plan.parameters)
    producers: Producers = {}
    steps: list[StepPlan] = []
    for index, step in enumerate(declared.pipeline.steps):
        chooser = VariantChooser(
            step.name,
            has_gpu=plan.resources.gpus > 0,
            is_all_gpu=plan.resources.gpus >= max(1, plan.resources.workers),
            recorded=declared.recorded,
        )
        bound = _bind_step(index, _Scope(step, plan, values, chooser), producers)
        for target in bound.special_outputs:
            producers.setdefault(target.name, []).append(index)
        steps.append(bound)
    return plan.replace(steps=tuple(steps))


class _Scope(NamedTuple):
    """What names in a step may refer to."""

    step: FunctionStep
    plan: Plan
    values: Mapping[str, Any]
    chooser: VariantChooser


def _bind_step(index: int, scope: _Scope, producers: Producers) -> StepPlan:
    step, plan = scope.step, scope.plan
    branches = _branches(scope)
    calls = [call for branch in branches for call in branch.calls]
    takes_plate = index == 0 or step.input_source is InputSource.PIPELINE_START
    return StepPlan(
        index=index,
        name=step.name,
        variable_components=step.variable_components,
        group_by=step.group_by,
        source=None if takes_plate else index - 1,
        branches=branches,
        input=plan.source,
        output=plan.source,
        input_dir="",
        output_dir="",
        read_backend="",
        write_backend="",
        special_inputs=_links(step, calls, producers),
        special_outputs=_targets(step, calls),
    )


def _branches(scope: _Scope) -> tuple[Branch, ...]:
    step = scope.step
    if isinstance(step.pattern, Chain):
        return (Branch(None, "call", _calls(scope, step.pattern)),)
    branches: list[Branch] = []
    default: Branch | None = None
    for key, entry in step.pattern.items():
        action: Literal["call", "pass", "drop"] = "call"
        calls: tuple[Call, ...] = ()
        if isinstance(entry, GroupAction):
            action = cast("Literal['pass', 'drop']", entry.value.lower())
        else:
            calls = _calls(scope, entry)
        if key == "*":
            default = Branch(None, action, calls)
            continue
        value = _component_value(step, key, scope.plan.plate, scope.values)
        if any(branch.value == value for branch in branches):
            raise PipelineError(f"step {step.name!r} names {step.group_by} {key!r} twice")
        branches.append(Branch(value, action, calls))
    return tuple(branches) if default is None else (*branches, default)


def component_labels(component: str, plate: Plate) -> list[tuple[str, ...]]:
    """Return the names of each value of a component, the instrument's own first."""
    if component == "channel":
        return [(channel.label, channel.name) for channel in plate.channels]
    return [(label,) for label in getattr(plate, "z" if component == "z" else component + "s")]


def _component_value(step: FunctionStep, key: str, plate: Plate, values: Mapping[str, Any]) -> int:
    """Return the dense index that a dict key means; a parameter of None means the first."""
    wanted: Any = key
    if key.startswith("$"):
        wanted = _parameter(step, key, values)
        if wanted is None:
            return 0
    labels = component_labels(step.group_by, plate)
    hits = [i for i, names in enumerate(labels) if str(wanted) in names]
    if len(hits) == 1:
        return hits[0]
    there = ", ".join(" = ".join(dict.fromkeys(names)) for names in labels)
    known = [name for names in labels for name in names]
    alike = (name for name in known if name.casefold() == str(wanted).casefold())
    meant = next(alike, None) or nearest(str(wanted), known)
    kind = "ambiguous" if hits else "unknown"
    raise PipelineError(
        f"step {step.name!r}: {kind} {step.group_by} {wanted!r}; the plate has: {there}",
        hint=f"did you mean {meant!r}?" if meant and not hits else "use the instrument's label",
    )


def _calls(scope: _Scope, chain: Chain) -> tuple[Call, ...]:
    """Bind a chain; a step's parameters go to each of its functions that has them."""
    step, values = scope.step, scope.values
    functions = scope.chooser.functions(chain)
    accepted = [_accepted(func) for func in functions]
    for name, value in step.parameters.items():
        if not any(names is None or name in names for names in accepted):
            _check(step, functions[-1], {name: value})
    calls = []
    for func, invocation, names in zip(functions, chain.invocations, accepted, strict=True):
        shared = {k: v for k, v in step.parameters.items() if names is None or k in names}
        given = {**shared, **dict(invocation.parameters)}
        resolved = {k: _resolve(step, v, values) for k, v in given.items()}
        _check(step, func, resolved)
        calls.append(_call(step, func, resolved))
    return tuple(calls)


def _check(step: FunctionStep, func: Callable[..., Any], given: Mapping[str, Any]) -> None:
    try:
        check_parameters(func, given)
    except PipelineError as error:
        raise PipelineError(f"step {step.name!r}: {error.message}", hint=error.hint) from error


def _accepted(func: Callable[..., Any]) -> set[str] | None:
    """Return the names of a function's parameters after the stack; None if it takes any."""
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    names = {p.name for p in parameters[1:] if p.kind is not p.VAR_POSITIONAL}
    return names - set(contract_of(func).special_inputs)


def _call(step: FunctionStep, func: Callable[..., Any], parameters: Mapping[str, Any]) -> Call:
    declared = contract_of(func)
    try:
        fingerprint = call_fingerprint(func, parameters)
    except PipelineError as error:
        raise PipelineError(f"step {step.name!r}: {error.message}", hint=error.hint) from error
    return Call(
        function=name_of(func),
        fingerprint=fingerprint,
        input_type=declared.input_type,
        output_type=declared.output_type,
        parameters=tuple(sorted(parameters.items())),
        special_inputs=declared.special_inputs,
        special_outputs=tuple(o.name for o in declared.special_outputs),
        z_out=declared.z_out,
        shape_yx=(0, 0),
        dtype="",
        func=func,
    )


def _resolve(step: FunctionStep, value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and value.startswith("$"):
        return _resolve(step, _parameter(step, value, values), values)
    if isinstance(value, ArrayFile):
        return value.load()
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(step, item, values) for item in value)
    if isinstance(value, Mapping):
        return {key: _resolve(step, item, values) for key, item in value.items()}
    return value


def _parameter(step: FunctionStep, reference: str, values: Mapping[str, Any]) -> Any:
    name = reference[1:]
    if name in values:
        return values[name]
    meant = nearest(name, values)
    raise PipelineError(
        f"step {step.name!r} refers to {reference}, but the pipeline has no such parameter",
        hint=f"did you mean ${meant}?" if meant else "add it under 'parameters'",
    )


def _links(step: FunctionStep, calls: list[Call], producers: Producers) -> tuple[SpecialLink, ...]:
    arguments = list(dict.fromkeys(name for call in calls for name in call.special_inputs))
    for argument in step.special_inputs:
        if argument not in arguments:
            raise PipelineError(
                f"step {step.name!r}: no special input {argument!r}; "
                f"the function asks for: {', '.join(arguments) or 'none'}"
            )
    return tuple(_link(step, argument, producers) for argument in arguments)


def _link(step: FunctionStep, argument: str, producers: Producers) -> SpecialLink:
    name = step.special_inputs.get(argument, argument)
    makers = producers.get(name, [])
    if len(makers) > 1:
        raise PipelineError(
            f"step {step.name!r} asks for {name!r}, which {len(makers)} earlier steps make",
            hint="give one of them another name: special_outputs={…}",
        )
    if makers:
        return SpecialLink(argument, name, makers[0])
    if name in BUILTIN_INPUTS:
        return SpecialLink(argument, name, None)
    there = ", ".join([*producers, *BUILTIN_INPUTS])
    raise PipelineError(
        f"step {step.name!r} asks for {name!r}, which no earlier step makes; there are: {there}",
        hint=f"let an earlier step return it (@special_outputs({name!r})), or rename with "
        f"special_inputs={{{argument!r}: …}}",
    )


def _targets(step: FunctionStep, calls: list[Call]) -> tuple[SpecialTarget, ...]:
    made: dict[str, SpecialOutput] = {}
    for call in calls:
        for output in contract_of(call.func).special_outputs:
            made.setdefault(output.name, output)
    for name in step.special_outputs:
        if name not in made:
            raise PipelineError(
                f"step {step.name!r}: no special output {name!r}; "
                f"the function makes: {', '.join(made) or 'none'}"
            )
    return tuple(_target(step, output) for output in made.values())


def _target(step: FunctionStep, output: SpecialOutput) -> SpecialTarget:
    name = step.special_outputs.get(output.name, output.name)
    materializer = output.materializer
    if materializer is None:
        return SpecialTarget(
            output.name, name, f"special/{step.name}/{name}", "memory", "memory", name
        )
    kind = kind_of(materializer)
    stored_as = getattr(materializer, "name", None) or name
    link = getattr(materializer, "labels", None)
    if link is not None:
        materializer = replace(
            cast("Any", materializer), labels=step.special_inputs.get(link, link)
        )
    return SpecialTarget(
        output.name, name, f"special/{step.name}/{name}", "memory", kind, stored_as, materializer
    )
