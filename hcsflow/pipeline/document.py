"""A pipeline file's grammar as models: which keys there are and what kind of value each takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from hcsflow.config import settings_schema
from hcsflow.config.checks import OLD_NAMES
from hcsflow.errors import PipelineError, nearest
from hcsflow.pipeline.step import COMPONENT_NAMES

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "FunctionDocument",
    "MaterializationDocument",
    "PipelineDocument",
    "StepDocument",
    "pipeline_schema",
    "read_document",
]


def _text_keys(value: Any) -> Any:
    """Let labels that are numbers be written without quotes: ``{1: max_projection}``."""
    if not isinstance(value, Mapping):
        return value
    return {str(k) if type(k) is int else k: v for k, v in value.items()}


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Named = Annotated[dict[str, Any], BeforeValidator(_text_keys)]
Names = Annotated[list[str], BeforeValidator(_listed)]


class Document(BaseModel):
    """A part of a pipeline file: unknown keys are an error, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PipelineDocument(Document):
    """The whole file."""

    name: str | None = None
    description: str | None = None
    parameters: Named | None = None
    config: Named | None = None
    steps: list[Any]


class FunctionDocument(Document):
    """A function with parameters of its own."""

    function: str
    parameters: Named | None = None


class MaterializationDocument(Document):
    """Fields of `hcsflow.config.StepMaterializationConfig`."""

    sub_dir: str | None = None
    backend: str | None = None
    zarr: Named | None = None


class StepDocument(Document):
    """One step; ``function`` and ``functions`` have a grammar of their own."""

    name: str | None = None
    function: Any = None
    functions: Named | None = None
    parameters: Named | None = None
    variable_components: Names | None = None
    group_by: str | None = None
    force_disk_output: bool = False
    requires_disk_input: bool = False
    requires_disk_output: bool = False
    backend: str | None = None
    input_source: str = "PREVIOUS_STEP"
    special_inputs: dict[str, str] | None = None
    special_outputs: dict[str, str] | None = None
    materialization: MaterializationDocument | None = None


Model = TypeVar("Model", bound=Document)

_KINDS = {
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
"""Pydantic's name of an error → what was expected."""


def read_document(model: type[Model], value: Any, at: str = "") -> Model:
    """Check a part of a pipeline file.

    Parameters
    ----------
    model : type of Document
        What it should be.
    value : object
        As YAML gave it.
    at : str
        Its place in the file, e.g. ``"steps[0]"``.

    Raises
    ------
    PipelineError
        Names the key's path, what was expected and what was found.
    """
    if not isinstance(value, Mapping):
        raise PipelineError(f"{at or 'the pipeline'}: must be a mapping, got {value!r:.80}")
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        # A mistyped key says more than that the one meant is missing.
        wrong = min(error.errors(include_url=False), key=lambda e: e["type"] == "missing")
        raise _refusal(model, wrong, at) from None


def _refusal(model: type[Document], wrong: ErrorDetails, at: str) -> PipelineError:
    *parents, last = wrong["loc"]
    path = _path(at, wrong["loc"])
    if last == "[key]":
        where = _path(at, parents[:-1])
        key = wrong["input"]
        return PipelineError(f"{where}: keys must be text, got {key!r}", hint=f'quote it: "{key}"')
    if wrong["type"] == "missing":
        return PipelineError(f"{path}: is needed and not there")
    if wrong["type"] in {"extra_forbidden", "invalid_key"}:
        known = _keys_at(model, parents)
        meant = nearest(str(last), known)
        return PipelineError(
            f"{path}: there is no such key; there are {', '.join(known)}",
            hint=f"did you mean {meant!r}?" if meant else OLD_NAMES.get(str(last)),
        )
    expected = _KINDS.get(wrong["type"])
    found = f"got {wrong['input']!r:.80}"
    message = f"must be {expected}" if expected else wrong["msg"]
    is_unquoted = expected == "text" and isinstance(wrong["input"], (bool, int, float, date))
    hint = f'quote it: "{wrong["input"]}"' if is_unquoted else None
    return PipelineError(f"{path}: {message}, {found}", hint=hint)


def _path(at: str, loc: tuple[int | str, ...] | list[int | str]) -> str:
    path = at
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _keys_at(model: type[Document], parents: list[int | str]) -> list[str]:
    """Return the keys of the model that lies at a path below another."""
    if model is StepDocument and parents == ["materialization"]:
        return list(MaterializationDocument.model_fields)
    return list(model.model_fields)


def pipeline_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline file.

    What it cannot say, `read_document` and `FunctionStep` check: names of functions, channels and
    parameters.

    Examples
    --------
    >>> pipeline_schema()["properties"]["steps"]["type"]
    'array'
    """
    models = {
        model.__name__: model.model_json_schema() for model in (StepDocument, FunctionDocument)
    }
    definitions: dict[str, Any] = {}
    for schema in models.values():
        definitions |= schema.pop("$defs", {})
    name = {"type": "string", "description": "A ready-made function's name, or module:function."}
    one: dict[str, Any] = {"anyOf": [name, {"$ref": "#/$defs/FunctionDocument"}]}
    chain = {"anyOf": [*one["anyOf"], {"type": "array", "items": one, "minItems": 1}]}
    step = models["StepDocument"]
    by_value = {"type": "object", "minProperties": 1, "additionalProperties": chain}
    step["properties"] |= {
        "function": chain,
        "functions": by_value | {"description": "By channel, or group_by; PASS and DROP allowed."},
        "variable_components": _one_or_several(COMPONENT_NAMES),
        "group_by": {"enum": list(COMPONENT_NAMES)},
    }
    step["oneOf"] = [{"required": ["function"]}, {"required": ["functions"]}]
    whole = PipelineDocument.model_json_schema()
    steps = {"anyOf": [name, {"$ref": "#/$defs/StepDocument"}]}
    whole["properties"]["steps"] = {"type": "array", "minItems": 1, "items": steps}
    settings = settings_schema()
    definitions |= settings.pop("$defs", {})
    dialect = {"$schema": settings.pop("$schema")}
    whole["properties"]["config"] = settings
    kept = definitions["MaterializationDocument"]["properties"]
    kept["zarr"] = settings["properties"]["zarr"]
    return {**dialect, **whole, "title": "hcsflow pipeline", "$defs": {**definitions, **models}}


def _one_or_several(choices: Iterable[str]) -> dict[str, Any]:
    one = {"enum": list(choices)}
    return {"anyOf": [one, {"type": "array", "items": one, "uniqueItems": True}]}
