"""Ordered steps with parameters and settings. Declared, never run here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hcsflow.config import GlobalPipelineConfig, StepMaterializationConfig, layer_of
from hcsflow.errors import PipelineError, nearest
from hcsflow.pipeline.arrays import as_parameter
from hcsflow.pipeline.step import FunctionStep

__all__ = ["Pipeline"]


@dataclass(frozen=True, init=False)
class Pipeline:
    """Steps in order, the parameters they refer to, and settings.

    Parameters
    ----------
    steps : iterable of FunctionStep
        At least one; names are made unique by a number where a default name recurs.
    name : str
        Part of an output folder's identity.
    parameters : mapping of str to value
        Defaults of what steps refer to as ``"$name"``, also as a dict pattern's key.
    config : mapping or GlobalPipelineConfig
        Settings of the pipeline, e.g. ``{"zarr": {"compression_level": 3}}``; of a
        `GlobalPipelineConfig` what differs from the defaults.
    description : str
        One line for listings.

    Examples
    --------
    >>> len(Pipeline([FunctionStep("max_projection")]))
    1
    """

    steps: tuple[FunctionStep, ...]
    name: str
    parameters: Mapping[str, Any]
    config: Mapping[str, Any]
    description: str

    def __init__(
        self,
        steps: Iterable[FunctionStep],
        *,
        name: str = "pipeline",
        parameters: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | GlobalPipelineConfig | None = None,
        description: str = "",
    ) -> None:
        if not isinstance(steps, Iterable):
            raise PipelineError(f"a pipeline holds a list of FunctionSteps, got {steps!r}")
        declared = tuple(steps)
        for step in declared:
            if not isinstance(step, FunctionStep):
                raise PipelineError(f"a pipeline holds FunctionSteps, got {step!r}")
        if not declared:
            raise PipelineError(
                "a pipeline needs at least one step",
                hint='to store a plate as it is, take the ready pipeline "convert"',
            )
        for what, text in (("name", name), ("description", description)):
            if not isinstance(text, str):
                raise PipelineError(f"a pipeline's {what} must be text, got {text!r}")
        object.__setattr__(self, "steps", _unique(declared))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "parameters", _named("parameters", parameters))
        settings = layer_of(config) if isinstance(config, GlobalPipelineConfig) else config
        object.__setattr__(self, "config", _named("config", settings))
        object.__setattr__(self, "description", description)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[FunctionStep]:
        return iter(self.steps)

    def with_settings(self, settings: Mapping[str, Any]) -> Pipeline:
        """Return a copy with parameters set, as ``--set`` does.

        Parameters
        ----------
        settings : mapping
            ``{"param": v}`` for a pipeline's parameter, ``{"step.param": v}`` for a function's,
            wherever the step gives it: for itself or in a (function, parameters) pair.

        Raises
        ------
        PipelineError
            If there is no such parameter or step; names the nearest.
        """
        parameters = dict(self.parameters)
        steps = {step.name: step for step in self.steps}
        for key, given in settings.items():
            value = as_parameter(given, "", key)
            step_name, dot, parameter = key.partition(".")
            if not dot:
                owners = [f"{step.name}.{key}" for step in self.steps if step.takes(key)]
                _known("parameter", key, parameters, meant=next(iter(owners), None))
                parameters[key] = value
            else:
                _known("step", step_name, steps)
                steps[step_name] = steps[step_name].replace(**{parameter: value})
        return self._with(steps=tuple(steps.values()), parameters=MappingProxyType(parameters))

    def with_materializations(self, kept: Mapping[str, StepMaterializationConfig]) -> Pipeline:
        """Return a copy whose steps of these names keep their outputs as given."""
        return self._with(
            steps=tuple(
                step.with_materialization(kept[step.name]) if step.name in kept else step
                for step in self.steps
            )
        )

    def _with(self, **changes: Any) -> Pipeline:
        copy = object.__new__(Pipeline)
        for slot in self.__dataclass_fields__:
            object.__setattr__(copy, slot, changes.get(slot, getattr(self, slot)))
        return copy


def _named(what: str, value: Any) -> Mapping[str, Any]:
    given = {} if value is None else value
    if isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
        return MappingProxyType(dict(given))
    raise PipelineError(f"a pipeline's {what} must be a mapping by name, got {value!r}")


def _known(
    what: str, name: str, candidates: Mapping[str, Any], *, meant: str | None = None
) -> None:
    if name in candidates:
        return
    meant = meant or nearest(name, candidates)
    there = ", ".join(candidates) or "none"
    raise PipelineError(
        f"the pipeline has no {what} {name!r}; there are: {there}",
        hint=f"did you mean {meant!r}?" if meant else None,
    )


def _unique(steps: tuple[FunctionStep, ...]) -> tuple[FunctionStep, ...]:
    seen: dict[str, int] = {}
    unique = []
    for step in steps:
        count = seen[step.name] = seen.get(step.name, 0) + 1
        unique.append(step if count == 1 else _renamed(step, f"{step.name}_{count}"))
    return tuple(unique)


def _renamed(step: FunctionStep, name: str) -> FunctionStep:
    copy = step.replace()
    object.__setattr__(copy, "name", name)
    return copy
