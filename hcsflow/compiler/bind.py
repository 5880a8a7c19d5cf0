"""Pass 1, bind: names → functions, parameters → values, special inputs → producers."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, cast

from hcsflow.arrays import is_installed
from hcsflow.arrays.libraries import LIBRARIES
from hcsflow.compiler.fingerprints import function_fingerprint, function_path
from hcsflow.compiler.inputs import Declared
from hcsflow.compiler.variants import Variant, fewest_conversions
from hcsflow.contracts import BUILTIN_INPUTS, SpecialOutput, contract_of
from hcsflow.errors import FunctionNotFoundError, PipelineError, nearest
from hcsflow.functions import catalogue
from hcsflow.materialize import kind_of
from hcsflow.pipeline.step import Chain, FunctionStep, GroupAction, InputSource
from hcsflow.plan import Branch, Call, Plan, SpecialLink, SpecialTarget, StepPlan
from hcsflow.plate import Plate

__all__ = ["bind"]

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
        bound = _bind_step(index, step, plan, values, producers)
        for target in bound.special_outputs:
            producers.setdefault(target.name, []).append(index)
        steps.append(bound)
    return plan.replace(steps=tuple(steps))


def _bind_step(
    index: int, step: FunctionStep, plan: Plan, values: Mapping[str, Any], producers: Producers
) -> StepPlan:
    branches = _branches(step, plan, values)
    calls = [call for branch in branches for call in branch.calls]
    takes_plate = index == 0 or step.input_source is InputSource.PIPELINE_START
    if step.requires_disk_input and not takes_plate:
        raise PipelineError(
            f"step {step.name!r} requires disk input, but its input is the memory of step {index}",
            hint="use input_source=PIPELINE_START, or leave requires_disk_input out",
        )
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


def _branches(step: FunctionStep, plan: Plan, values: Mapping[str, Any]) -> tuple[Branch, ...]:
    if isinstance(step.pattern, Chain):
        return (Branch(None, "call", _calls(step, step.pattern, plan, values)),)
    branches: list[Branch] = []
    default: Branch | None = None
    for key, entry in step.pattern.items():
        action: Literal["call", "pass", "drop"] = "call"
        calls: tuple[Call, ...] = ()
        if isinstance(entry, GroupAction):
            action = cast("Literal['pass', 'drop']", entry.value.lower())
        else:
            calls = _calls(step, entry, plan, values)
        if key == "*":
            default = Branch(None, action, calls)
            continue
        value = _component_value(step, key, plan.plate, values)
        if any(branch.value == value for branch in branches):
            raise PipelineError(f"step {step.name!r} names {step.group_by} {key!r} twice")
        branches.append(Branch(value, action, calls))
    return _covering(step, tuple(branches), default, plan.plate)


def _covering(
    step: FunctionStep, branches: tuple[Branch, ...], default: Branch | None, plate: Plate
) -> tuple[Branch, ...]:
    if default is not None:
        return (*branches, default)
    labels = _labels(step.group_by, plate)
    named = {branch.value for branch in branches}
    uncovered = [names[0] for i, names in enumerate(labels) if i not in named]
    if uncovered:
        raise PipelineError(
            f"step {step.name!r} says nothing about {step.group_by} {', '.join(uncovered)}",
            hint='add them, or "*": "PASS" (keep as they are) or "*": "DROP"',
        )
    return branches


def _labels(component: str, plate: Plate) -> list[tuple[str, ...]]:
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
    labels = _labels(step.group_by, plate)
    hits = [i for i, names in enumerate(labels) if str(wanted) in names]
    if len(hits) == 1:
        return hits[0]
    there = ", ".join(" = ".join(dict.fromkeys(names)) for names in labels)
    meant = nearest(str(wanted), [name for names in labels for name in names])
    kind = "ambiguous" if hits else "unknown"
    raise PipelineError(
        f"step {step.name!r}: {kind} {step.group_by} {wanted!r}; the plate has: {there}",
        hint=f"did you mean {meant!r}?" if meant and not hits else "use the instrument's label",
    )


def _calls(
    step: FunctionStep, chain: Chain, plan: Plan, values: Mapping[str, Any]
) -> tuple[Call, ...]:
    """Bind a chain; a step's parameters go to each of its functions that has them."""
    functions = _functions(step, chain, has_gpu=plan.resources.gpus > 0)
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
        calls.append(_call(func, resolved))
    return tuple(calls)


def _check(step: FunctionStep, func: Callable[..., Any], given: Mapping[str, Any]) -> None:
    try:
        catalogue.check_parameters(func, given)
    except PipelineError as error:
        raise PipelineError(f"step {step.name!r}: {error.message}", hint=error.hint) from error


def _functions(step: FunctionStep, chain: Chain, *, has_gpu: bool) -> list[Callable[..., Any]]:
    """Find a chain's functions: of the catalogue's, the variants that convert least."""
    found: list[Callable[..., Any] | str] = []
    variants: list[list[Variant]] = []
    for invocation in chain.invocations:
        function = invocation.function
        if callable(function) or ":" in function:
            function = function if callable(function) else _imported(step, function)
            declared = contract_of(function)
            variants.append([Variant(declared.input_type, declared.output_type)])
        else:
            types = catalogue.memory_types_of(function)
            usable = [name for name in types if _is_usable(name, has_gpu=has_gpu)] or types[:1]
            variants.append([Variant(name, name) for name in usable])
        found.append(function)
    choices = fewest_conversions(variants)
    return [
        catalogue.find(function, options[choice].input_type)
        if isinstance(function, str)
        else function
        for function, options, choice in zip(found, variants, choices, strict=True)
    ]


def _is_usable(memory_type: str, *, has_gpu: bool) -> bool:
    return is_installed(memory_type) and (has_gpu or not LIBRARIES[memory_type].needs_gpu)


def _imported(step: FunctionStep, path: str) -> Callable[..., Any]:
    module_name, _, qualname = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise FunctionNotFoundError(
            f"step {step.name!r}: cannot import {path!r}: {error}",
            hint="the module must be importable where hcsflow runs",
        ) from error
    return cast("Callable[..., Any]", found)


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


def _call(func: Callable[..., Any], parameters: Mapping[str, Any]) -> Call:
    declared = contract_of(func)
    return Call(
        function=function_path(func),
        fingerprint=function_fingerprint(func),
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
        return _parameter(step, value, values)
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
