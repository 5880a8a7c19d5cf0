"""The JSON Schema of a settings file, made from the settings themselves."""

from __future__ import annotations

from enum import Enum
from types import NoneType
from typing import Any

from hcsflow.config.checks import LIMITS, NGFF_VERSIONS
from hcsflow.config.layers import setting_kinds, settings_of
from hcsflow.config.values import GlobalPipelineConfig

__all__ = ["settings_schema"]

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what `load_config` reads.

    The same holds for a pipeline's ``config`` and a cluster profile's ``config``. A name may be
    nested or dotted; null inherits.

    Examples
    --------
    >>> settings_schema()["$defs"]["zarr.pyramid"]
    {'type': ['boolean', 'null'], 'default': True}
    """
    defaults = dict(settings_of(GlobalPipelineConfig()))
    values: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for name, kinds in setting_kinds().items():
        group, _, last = name.rpartition(".")
        values[name] = _value_schema(last, kinds) | {"default": _plain(defaults[name])}
        properties[name] = {"$ref": f"#/$defs/{name}"}
        if group:
            section = properties.setdefault(group, _mapping({}))
            section["properties"][last] = {"$ref": f"#/$defs/{name}"}
    return {
        "$schema": DRAFT,
        "title": "hcsflow settings",
        **_mapping(properties),
        "$defs": values,
    }


def _mapping(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _value_schema(last: str, kinds: tuple[type, ...]) -> dict[str, Any]:
    """Return what a value may be; null, which inherits, always is."""
    (kind,) = (each for each in kinds if each is not NoneType)
    if issubclass(kind, Enum):
        values = [member.value for member in kind]
        return {"enum": [*values, *(member.name for member in kind), None]}
    if last == "ngff_version":  # without quotes, YAML reads it as a number
        return {"enum": [*NGFF_VERSIONS, *map(float, NGFF_VERSIONS), None]}
    if last == "store_name":
        names = {"pattern": "^[^/]*$", "not": {"enum": ["", ".", ".."]}}
        return {"type": ["string", "null"], **names}
    json_type = {bool: "boolean", int: "integer", float: "number", str: "string"}[kind]
    low, high = LIMITS.get(last, (None, None))
    limits = {"minimum": low, "maximum": high}
    return {
        "type": [json_type, "null"],
        **{key: limit for key, limit in limits.items() if limit is not None},
    }
