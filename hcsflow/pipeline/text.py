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

A parameter may be an array: ``{array: [[0, 1], [1, 0]], dtype: uint8}`` up to 4 KiB, or
``{npy: flat.npy}``, a file beside the pipeline's.
"""

from __future__ import annotations

from typing import Any

import yaml

from hcsflow.config import Backend, StepMaterializationConfig, plain_layer
from hcsflow.errors import HcsflowError, PipelineError
from hcsflow.pipeline.arrays import as_parameter, as_plain
from hcsflow.pipeline.document import (
    FunctionDocument,
    MaterializationDocument,
    PipelineDocument,
    StepDocument,
    read_document,
)
from hcsflow.pipeline.pipeline import Pipeline
from hcsflow.pipeline.step import Chain, FunctionStep, GroupAction, InputSource, Invocation

__all__ = ["pipeline_from_yaml", "pipeline_to_yaml"]

MAX_BYTES = 1 << 20

_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises: beside its own, what its readers of dates, numbers and tags let through."""


def pipeline_from_yaml(text: str, *, name: str = "pipeline", folder: str = "") -> Pipeline:
    """Parse a pipeline.

    Parameters
    ----------
    text : str
        YAML, at most 1 MiB.
    name : str
        Used where the text gives none.
    folder : str
        Where its .npy files lie; ``""`` is the current folder.

    Raises
    ------
    PipelineError
        If it is no YAML, a key is unknown or a value of the wrong kind; names the key's path.
    """
    if len(text) > MAX_BYTES:
        raise PipelineError(f"a pipeline of {len(text)} bytes; at most {MAX_BYTES} are read")
    try:
        document = yaml.safe_load(text)
    except _YAML_ERRORS as error:
        raise PipelineError(f"not YAML: {error}") from error
    top = read_document(PipelineDocument, document)
    return Pipeline(
        [_step(item, f"steps[{i}]", folder) for i, item in enumerate(top.steps)],
        name=top.name or name,
        parameters=as_parameter(top.parameters, folder, "parameters"),
        config=top.config,
        description=(top.description or "").strip(),
    )


def pipeline_to_yaml(pipeline: Pipeline) -> str:
    """Render a pipeline whose functions have names; parsing it gives an equal pipeline."""
    document: dict[str, Any] = {"name": pipeline.name}
    if pipeline.description:
        document["description"] = pipeline.description
    if pipeline.parameters:
        document["parameters"] = as_plain(pipeline.parameters)
    if pipeline.config:
        document["config"] = plain_layer(pipeline.config)
    document["steps"] = [_step_document(step) for step in pipeline.steps]
    try:
        return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    except yaml.YAMLError as error:
        raise PipelineError(f"pipeline {pipeline.name!r} cannot be written: {error}") from error


def _step(item: Any, at: str, folder: str) -> FunctionStep:
    step = read_document(StepDocument, {"function": item} if isinstance(item, str) else item, at)
    if (step.function is None) == (step.functions is None):
        raise PipelineError(
            f"{at}: a step needs either 'function' or 'functions'",
            hint="'function' is a name or a list of them; 'functions' maps channels to them",
        )
    func = (
        _function(step.function, f"{at}.function", folder)
        if step.functions is None
        else _functions(step.functions, f"{at}.functions", folder)
    )
    parameters = as_parameter(step.parameters or {}, folder, f"{at}.parameters")
    clash = sorted(set(parameters) & (set(StepDocument.model_fields) | {"func"}))
    if clash:
        raise PipelineError(
            f"{at}: parameters {clash} have the names of step fields",
            hint="write the function as {function: …, parameters: {…}} in a list",
        )
    options = step.model_dump(exclude={"function", "functions", "parameters", "materialization"})
    try:
        kept = _materialization(step.materialization)
        return FunctionStep(func, **options, materialization=kept, **parameters)
    except HcsflowError as error:
        raise PipelineError(f"{at}: {error.message}", hint=error.hint) from error


def _materialization(given: MaterializationDocument | None) -> StepMaterializationConfig | None:
    return None if given is None else StepMaterializationConfig(**given.model_dump())


def _functions(entries: dict[str, Any], at: str, folder: str) -> dict[str, Any]:
    return {key: _function(item, f"{at}.{key}", folder) for key, item in entries.items()}


def _function(value: Any, at: str, folder: str) -> Any:
    """Return a name, a pair, or a list of these: a chain, which holds no further lists."""
    if isinstance(value, list):
        return [_one_function(item, f"{at}[{i}]", folder) for i, item in enumerate(value)]
    return _one_function(value, at, folder)


def _one_function(value: Any, at: str, folder: str) -> Any:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise PipelineError(
            f"{at}: must be a function's name or a mapping, got {value!r:.80}",
            hint="{function: name, parameters: {…}}",
        )
    pair = read_document(FunctionDocument, value, at)
    return (pair.function, as_parameter(pair.parameters or {}, folder, f"{at}.parameters"))


def _step_document(step: FunctionStep) -> dict[str, Any]:
    document: dict[str, Any] = {"name": step.name}
    if isinstance(step.pattern, Chain):
        document["function"] = _chain_document(step.pattern)
    else:
        document["functions"] = {
            key: entry.value if isinstance(entry, GroupAction) else _chain_document(entry)
            for key, entry in step.pattern.items()
        }
    durable = step.materialize and step.backend in {None, Backend.MEMORY}
    optional: dict[str, Any] = {
        "parameters": as_plain(step.parameters),
        "group_by": _unless(step.group_by, "channel"),
        "force_disk_output": durable and step.materialization is None,
        "requires_disk_input": step.requires_disk_input,
        "backend": step.backend.value if step.backend else None,
        "input_source": _unless(step.input_source.value, InputSource.PREVIOUS_STEP.value),
        "special_inputs": dict(step.special_inputs),
        "special_outputs": dict(step.special_outputs),
    }
    document |= {key: value for key, value in optional.items() if value}
    if step.variable_components != ("z",):
        document["variable_components"] = list(step.variable_components)
    if step.materialization is not None:
        document["materialization"] = _materialization_document(step.materialization)
    return document


def _materialization_document(kept: StepMaterializationConfig) -> dict[str, Any]:
    given = {"sub_dir": kept.sub_dir, "backend": kept.backend, "zarr": kept.zarr}
    return {key: plain_layer(value) for key, value in given.items() if value}


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
        return {"function": function, "parameters": as_plain(dict(invocation.parameters))}
    return function
