"""Settings in layers, mappings of names to values: which there are, and one laid over the other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, TypeAlias, get_type_hints

import yaml

from hcsflow.config.checks import fitted, kinds_of, unknown_setting
from hcsflow.config.values import GlobalPipelineConfig, VFSConfig, ZarrConfig
from hcsflow.errors import ConfigError

__all__ = [
    "Layer",
    "Level",
    "Source",
    "layer_of",
    "load_config",
    "parse_assignment",
    "parse_value",
    "plain_layer",
    "read_layer",
    "resolve",
    "setting_kinds",
    "setting_names",
    "settings_of",
]

Layer: TypeAlias = Mapping[str, Any]

_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises: beside its own, what its readers of dates, numbers and tags let through."""


class Level(IntEnum):
    """Where settings may come from, the weakest first."""

    GLOBAL = 1
    PIPELINE = 2
    STEP = 3
    PROFILE = 4
    ENVIRONMENT = 5
    CALL = 6


@dataclass(frozen=True, slots=True)
class Source:
    """Settings and where they come from.

    Parameters
    ----------
    level : Level
        What they give way to.
    origin : str
        As a user knows it: a file's path, a variable's name, an option, ``"pipeline 'x'"``.
    settings : mapping
        Nested or dotted (``"zarr.pyramid"``); a group may be given as its class. None inherits.
    """

    level: Level
    origin: str
    settings: Layer


def load_config(path: str | Path) -> GlobalPipelineConfig:
    """Read settings from a YAML file; what it leaves out keeps its default.

    ``hcsflow schema config`` prints the JSON Schema of such files.

    Raises
    ------
    ConfigError
        If the file cannot be read, a name is unknown, or a value does not fit.
    """
    return resolve([Source(Level.GLOBAL, str(path), read_layer(path))])[0]


def read_layer(path: str | Path) -> dict[str, Any]:
    """Read a YAML file as the settings of a `Source`.

    Raises
    ------
    ConfigError
        If it cannot be read, or is not a mapping.
    """
    try:
        found = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, *_YAML_ERRORS) as error:
        raise ConfigError(f"{path}: cannot be read as settings: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(
            f"{path}: expected names and values, found {type(found).__name__}",
            hint="write for example\nzarr:\n  chunk_strategy: file",
        )
    return found


def setting_names() -> list[str]:
    """List all settings by dotted name.

    Examples
    --------
    >>> "zarr.chunk_strategy" in setting_names()
    True
    """
    return list(setting_kinds())


def setting_kinds() -> dict[str, tuple[type, ...]]:
    """Return the types that each setting may have, by dotted name."""
    return {
        f"{prefix}{name}": kinds
        for prefix, group in (
            ("vfs.", VFSConfig),
            ("zarr.", ZarrConfig),
            ("", GlobalPipelineConfig),
        )
        for name, kinds in kinds_of(group).items()
    }


def settings_of(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of a configuration, or of a group of it."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from settings_of(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value


def layer_of(config: GlobalPipelineConfig) -> dict[str, Any]:
    """Return what a configuration sets otherwise than the defaults: nested, as YAML has it.

    Examples
    --------
    >>> layer_of(GlobalPipelineConfig(zarr=ZarrConfig(chunk_strategy="file")))
    {'zarr': {'chunk_strategy': 'file'}}
    """
    default = dict(settings_of(GlobalPipelineConfig()))
    layer: dict[str, Any] = {}
    for name, value in settings_of(config):
        if value != default[name]:
            group, dot, last = name.rpartition(".")
            place = layer.setdefault(group, {}) if dot else layer
            place[last] = plain_layer(value)
    return layer


def plain_layer(value: Any) -> Any:
    """Return settings as YAML can hold them: choices as their text, groups as mappings.

    Examples
    --------
    >>> plain_layer({"vfs": VFSConfig(memory_limit_gb=2)})["vfs"]["intermediate_backend"]
    'memory'
    """
    if isinstance(value, (VFSConfig, ZarrConfig)):
        value = dict(settings_of(value))
    if isinstance(value, Mapping):
        return {name: plain_layer(each) for name, each in value.items()}
    return value.value if isinstance(value, Enum) else value


def resolve(sources: Iterable[Source]) -> tuple[GlobalPipelineConfig, dict[str, str]]:
    """Lay settings over each other.

    Parameters
    ----------
    sources : iterable of Source
        The stronger level wins; among equals, the later one. None inherits.

    Returns
    -------
    config, origins : GlobalPipelineConfig, dict of str
        The settings, and for each dotted name the origin of its value (``"default"`` where no
        source says anything).

    Raises
    ------
    ConfigError
        If a name is unknown or a value does not fit; it says in which source.

    Examples
    --------
    >>> lab = Source(Level.GLOBAL, "lab.yaml", {"zarr": {"chunk_strategy": "file"}})
    >>> config, origins = resolve([lab])
    >>> config.zarr.chunk_strategy.value, origins["zarr.chunk_strategy"], origins["fill_value"]
    ('file', 'lab.yaml', 'default')
    """
    values = dict(settings_of(GlobalPipelineConfig()))
    origins = dict.fromkeys(values, "default")
    kinds = setting_kinds()
    for source in sorted(sources, key=lambda each: each.level):
        for name, value in _flat(source.settings, source.origin, kinds):
            if value is not None:
                values[name] = fitted(name, value, kinds[name], f"{source.origin}: ")
                origins[name] = source.origin
    return _built(GlobalPipelineConfig, values), origins


def parse_value(text: str) -> Any:
    """Return what a value on the command line means: JSON where it is JSON, else the text.

    Examples
    --------
    >>> parse_value("2.5"), parse_value("true"), parse_value("w1"), parse_value('"7"')
    (2.5, True, 'w1', '7')
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split ``name=value`` and read the value by `parse_value`.

    Raises
    ------
    ConfigError
        If there is no name or no ``=``.

    Examples
    --------
    >>> parse_assignment("smooth.sigma=2")
    ('smooth.sigma', 2)
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"expected name=value, got {text!r}")
    return name.strip(), parse_value(value.strip())


def _flat(
    layer: Layer, origin: str, names: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of a layer; refuse names there are not."""
    for key, value in layer.items():
        name = f"{prefix}{key}"
        if name in names:
            yield name, value
        elif not any(known.startswith(f"{name}.") for known in names):
            raise unknown_setting(name, names, f"{origin}: ")
        elif isinstance(value, Mapping):
            yield from _flat(value, origin, names, f"{name}.")
        elif isinstance(value, VFSConfig if name == "vfs" else ZarrConfig):
            yield from settings_of(value, f"{name}.")
        elif value is not None:
            raise ConfigError(f"{origin}: {name} is a group of settings, got {value!r}")


def _built(config: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Make a configuration from dotted names and values."""
    arguments = {}
    for name, hint in get_type_hints(config).items():
        nested = is_dataclass(hint) and isinstance(hint, type)
        dotted = f"{prefix}{name}"
        arguments[name] = _built(hint, values, f"{dotted}.") if nested else values[dotted]
    return config(**arguments)
