"""Pipelines as YAML.

::

    name: smooth-and-project
    parameters: {sigma: 1.5}
    steps:
      - name: smooth
        function: gaussian_filter          # a catalogue name or module:function; a list is a chain
        parameters: {sigma: $sigma}
      - name: project
        functions:                          # by channel; PASS and DROP allowed
          w1: {function: max_projection}
          "*": DROP
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from hcsflow.config import StepMaterializationConfig
from hcsflow.errors import PipelineError, nearest
from hcsflow.pipeline.pipeline import Pipeline
from hcsflow.pipeline.step import Chain, FunctionStep, GroupAction, InputSource, Invocation

__all__ = ["pipeline_from_yaml", "pipeline_to_yaml"]

MAX_BYTES = 1 << 20
PIPELINE_KEYS = ("name", "description", "parameters", "config", "steps")
STEP_KEYS = (
    "name", "function", "functions", "parameters", "variable_components", "group_by",
    "force_disk_output", "requires_disk_input", "requires_disk_output", "backend",
    "input_source", "special_inputs", "special_outputs", "materialization",
)  # fmt: skip


def pipeline_from_yaml(text: str, *, name: str = "pipeline") -> Pipeline:
    """Parse a pipeline.

    Parameters
    ----------
    text : str
        YAML, at most 1 MiB.
    name : str
        Used where the text gives none.

    Raises
    ------
    PipelineError
        If it is no YAML, or a key is unknown; names the nearest.
    """
    if len(text) > MAX_BYTES:
        raise PipelineError(f"a pipeline of {len(text)} bytes; at most {MAX_BYTES} are read")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PipelineError(f"not YAML: {error}") from error
    top = _mapping(document, "the pipeline")
    _check_keys(top, PIPELINE_KEYS, "pipeline")
    steps = top.get("steps")
    if not isinstance(steps, list):
        raise PipelineError(f"'steps' must be a list, got {type(steps).__name__}")
    return Pipeline(
        [_step(item) for item in steps],
        name=str(top.get("name") or name),
        parameters=_mapping(top.get("parameters") or {}, "'parameters'"),
        config=_mapping(top.get("config") or {}, "'config'"),
        description=str(top.get("description") or "").strip(),
    )


def pipeline_to_yaml(pipeline: Pipeline) -> str:
    """Render a pipeline whose functions have names; parsing it gives an equal pipeline."""
    document: dict[str, Any] = {"name": pipeline.name}
    if pipeline.description:
        document["description"] = pipeline.description
    if pipeline.parameters:
        document["parameters"] = dict(pipeline.parameters)
    if pipeline.config:
        document["config"] = dict(pipeline.config)
    document["steps"] = [_step_document(step) for step in pipeline.steps]
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def _step(item: Any) -> FunctionStep:
    step = _mapping({"function": item} if isinstance(item, str) else item, "a step")
    _check_keys(step, STEP_KEYS, "step")
    if ("function" in step) == ("functions" in step):
        raise PipelineError(
            f"step {step.get('name', '?')!r} needs either 'function' or 'functions'",
            hint="'function' is a name or a list of them; 'functions' maps channels to them",
        )
    func = _function(step["function"]) if "function" in step else _functions(step["functions"])
    options = {k: v for k, v in step.items() if k not in {"function", "functions", "parameters"}}
    if "materialization" in options:
        options["materialization"] = StepMaterializationConfig(**options["materialization"])
    parameters = _mapping(step.get("parameters") or {}, "'parameters'")
    clash = sorted(set(parameters) & (set(STEP_KEYS) | {"func"}))
    if clash:
        raise PipelineError(
            f"parameters {clash} have the names of step fields",
            hint="write the function as {function: …, parameters: {…}} in a list",
        )
    return FunctionStep(func, **options, **parameters)


def _functions(value: Any) -> dict[str, Any]:
    entries = _mapping(value, "'functions'")
    return {
        key: item if isinstance(item, str) and item in GroupAction.__members__ else _function(item)
        for key, item in entries.items()
    }


def _function(value: Any) -> Any:
    if isinstance(value, list):
        return [_function(item) for item in value]
    if isinstance(value, str):
        return value
    pair = _mapping(value, "a function")
    _check_keys(pair, ("function", "parameters"), "function")
    return (pair.get("function"), _mapping(pair.get("parameters") or {}, "'parameters'"))


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    raise PipelineError(f"{what} must be a mapping, got {type(value).__name__}")


def _check_keys(document: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in document:
        if key not in known:
            meant = nearest(key, known)
            raise PipelineError(
                f"a {what} has no key {key!r}; there are {', '.join(known)}",
                hint=f"did you mean {meant!r}?" if meant else None,
            )


def _step_document(step: FunctionStep) -> dict[str, Any]:
    document: dict[str, Any] = {"name": step.name}
    if isinstance(step.pattern, Chain):
        document["function"] = _chain_document(step.pattern)
    else:
        document["functions"] = {
            key: entry.value if isinstance(entry, GroupAction) else _chain_document(entry)
            for key, entry in step.pattern.items()
        }
    durable = step.materialize and step.backend is None and step.materialization is None
    optional: dict[str, Any] = {
        "parameters": dict(step.parameters),
        "variable_components": _unless(list(step.variable_components), ["z"]),
        "group_by": _unless(step.group_by, "channel"),
        "force_disk_output": durable,
        "requires_disk_input": step.requires_disk_input,
        "backend": step.backend.value if step.backend else None,
        "input_source": _unless(step.input_source.value, InputSource.PREVIOUS_STEP.value),
        "special_inputs": dict(step.special_inputs),
        "special_outputs": dict(step.special_outputs),
    }
    return document | {key: value for key, value in optional.items() if value}


def _unless(value: Any, default: Any) -> Any:
    return None if value == default else value


def _chain_document(chain: Chain) -> Any:
    items = [_invocation_document(invocation) for invocation in chain.invocations]
    return items[0] if len(items) == 1 else items


def _invocation_document(invocation: Invocation) -> Any:
    function = invocation.function
    if not isinstance(function, str):
        if "<" in function.__qualname__ or function.__module__ == "__main__":
            raise PipelineError(
                f"{function.__qualname__} has no import path, so it cannot stand in YAML",
                hint="put it into a module",
            )
        function = f"{function.__module__}:{function.__qualname__}"
    if invocation.parameters:
        return {"function": function, "parameters": dict(invocation.parameters)}
    return function
