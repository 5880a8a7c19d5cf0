"""Settings in layers, mappings of names to values: a file, the environment, the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml

from hcsflow.config.values import LIMITS, GlobalPipelineConfig
from hcsflow.errors import ConfigError, nearest

__all__ = [
    "Layer",
    "environment_layer",
    "environment_names",
    "layer_of",
    "load_config",
    "parse_assignment",
    "parse_value",
    "read_layer",
    "resolve",
    "setting_names",
]

Layer = Mapping[str, Any]

ENVIRONMENT = "HCSFLOW_"

SWITCHES = ("HCSFLOW_CLUSTER", "HCSFLOW_DEBUG", "HCSFLOW_NO_GPU")
"""Environment variables that are read elsewhere: the command line's, and the one of the arrays."""

_HINTS = {
    "materialization_defaults": "write vfs.materialization_backend, or a step's materialization",
    "zarr.compression": "write zarr.compressor",
    "zarr.chunks": "write zarr.chunk_strategy (well, file or adaptive)",
    "zarr.ome_metadata": "write zarr.ome_zarr_metadata",
    "compression": "write zarr.compressor",
    "chunks": "write zarr.chunk_strategy (well, file or adaptive)",
    "ome_metadata": "write zarr.ome_zarr_metadata",
}
"""Names that older documents use, and what they are called here."""


def load_config(path: str | Path) -> GlobalPipelineConfig:
    """Read settings from a YAML file; what it leaves out keeps its default.

    Raises
    ------
    ConfigError
        If the file cannot be read, a name is unknown, or a value does not fit.
    """
    return resolve([(str(path), read_layer(path))])[0]


def read_layer(path: str | Path) -> dict[str, Any]:
    """Read a YAML file as a layer for `resolve`.

    Raises
    ------
    ConfigError
        If it cannot be read, or is not a mapping.
    """
    try:
        found = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as settings: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(
            f"{path}: expected names and values, found {type(found).__name__}",
            hint="write for example\nzarr:\n  chunk_strategy: file",
        )
    return found


def environment_layer(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings in environment variables such as ``HCSFLOW_ZARR_CHUNK_STRATEGY``.

    Raises
    ------
    ConfigError
        If a variable that begins with ``HCSFLOW_`` names neither a setting nor one of `SWITCHES`;
        it would be overlooked otherwise.
    """
    known = environment_names()
    layer: dict[str, Any] = {}
    for variable, text in environ.items():
        if variable in known:
            _put(layer, known[variable].split("."), text)
        elif variable.startswith(ENVIRONMENT) and variable not in SWITCHES:
            names = sorted([*known, *SWITCHES])
            close = nearest(variable, names)
            listed = f"there are {', '.join(names)}"
            raise ConfigError(
                f"environment variable {variable} names no setting",
                hint=f"did you mean {close}? {listed}" if close else listed,
            )
    return layer


def environment_names() -> dict[str, str]:
    """Return the settings by the environment variable that sets them.

    Examples
    --------
    >>> environment_names()["HCSFLOW_ZARR_CHUNK_STRATEGY"]
    'zarr.chunk_strategy'
    """
    return {ENVIRONMENT + name.replace(".", "_").upper(): name for name in setting_names()}


def setting_names() -> list[str]:
    """List all settings by dotted name.

    Examples
    --------
    >>> "zarr.chunk_strategy" in setting_names()
    True
    """
    return [name for name, _ in _leaves(GlobalPipelineConfig())]


def layer_of(config: GlobalPipelineConfig) -> dict[str, Any]:
    """Return what a configuration sets otherwise than the defaults, as a layer."""
    default = dict(_leaves(GlobalPipelineConfig()))
    layer: dict[str, Any] = {}
    for name, value in _leaves(config):
        if value != default[name]:
            _put(layer, name.split("."), value)
    return layer


def resolve(layers: Sequence[tuple[str, Layer]]) -> tuple[GlobalPipelineConfig, dict[str, str]]:
    """Lay settings over each other.

    Parameters
    ----------
    layers : sequence of (origin, mapping)
        From the weakest to the strongest: a later one wins. None inherits. Names are nested or
        dotted (``"zarr.pyramid"``); values have their types or are text.

    Returns
    -------
    config, origins : GlobalPipelineConfig, dict of str
        The settings, and for each dotted name the origin of its value (``"default"`` where no
        layer says anything).

    Raises
    ------
    ConfigError
        If a name is unknown or a value does not fit; it says in which layer.

    Examples
    --------
    >>> config, origins = resolve([("a.yaml", {"zarr": {"chunk_strategy": "file"}})])
    >>> config.zarr.chunk_strategy.value, origins["zarr.chunk_strategy"], origins["fill_value"]
    ('file', 'a.yaml', 'default')
    """
    values = dict(_leaves(GlobalPipelineConfig()))
    kinds = dict(_kinds(GlobalPipelineConfig))
    origins = dict.fromkeys(values, "default")
    for origin, layer in layers:
        for name, value in _flat(layer, origin):
            if value is None:
                continue
            values[name] = _fitted(name, value, kinds[name], origin)
            origins[name] = origin
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


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of a configuration."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value


def _kinds(config: type, prefix: str = "") -> Iterator[tuple[str, tuple[type, ...]]]:
    """Yield dotted names and the types a value may have."""
    for name, hint in get_type_hints(config).items():
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _kinds(hint, f"{prefix}{name}.")
        else:
            yield prefix + name, get_args(hint) or (hint,)


def _flat(layer: Layer, origin: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of a layer; refuse names there are not."""
    names = setting_names()
    for key, value in layer.items():
        name = f"{prefix}{key}"
        is_section = any(known.startswith(f"{name}.") for known in names)
        if is_section and isinstance(value, Mapping):
            yield from _flat(value, origin, f"{name}.")
        elif is_section and value is None:
            continue
        elif is_section:
            raise ConfigError(f"{origin}: {name} is a group of settings, got {value!r}")
        elif name in names:
            yield name, value
        else:
            raise _unknown(name, names, origin)


def _unknown(name: str, names: Sequence[str], origin: str) -> ConfigError:
    hint = _HINTS.get(name) or _HINTS.get(name.partition(".")[0])
    if hint is None:
        by_last = {known.rpartition(".")[2]: known for known in names}
        last = name.rpartition(".")[2]
        close = nearest(name, names) or by_last.get(nearest(last, by_last) or "")
        hint = f"did you mean {close}?" if close else f"there are {', '.join(names)}"
    return ConfigError(f"{origin}: there is no setting {name!r}", hint=hint)


def _fitted(name: str, value: Any, kinds: tuple[type, ...], origin: str) -> Any:
    """Return a value as one of the types a setting may have."""
    for kind in kinds:
        found = _as(value, kind)
        if found is not None:
            return _within(name, found, origin)
    choices = [m.value for kind in kinds if issubclass(kind, Enum) for m in kind]
    wanted = ", ".join(choices) or " or ".join(k.__name__ for k in kinds if k is not NoneType)
    raise ConfigError(f"{origin}: {name} must be {wanted}, got {value!r}")


def _as(value: Any, kind: type) -> Any:
    """Return ``value`` as ``kind``, or None where it is not one."""
    if issubclass(kind, Enum):
        text = value.value if isinstance(value, Enum) else str(value).lower()
        return next((member for member in kind if member.value == text), None)
    if kind is bool:
        return value if isinstance(value, bool) else _WORDS.get(str(value).lower())
    if kind is str:
        return str(value) if isinstance(value, (str, Path, int, float)) else None
    if kind in (int, float) and not isinstance(value, bool):
        number = parse_value(value) if isinstance(value, str) else value
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return kind(number) if kind(number) == number else None
    return None


_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


def _within(name: str, value: Any, origin: str) -> Any:
    low, high = LIMITS.get(name.rpartition(".")[2], (None, None))
    is_low = low is not None and value is not None and value < low
    if is_low or (high is not None and value > high):
        limits = f"{low} to {high}" if high is not None else f"at least {low}"
        raise ConfigError(f"{origin}: {name} must be {limits}, got {value}")
    if name == "zarr.ngff_version" and value not in ("0.4", "0.5"):
        raise ConfigError(f"{origin}: {name} must be 0.4 or 0.5, got {value!r}")
    if name == "zarr.store_name" and ("/" in value or value in ("", ".", "..")):
        raise ConfigError(f"{origin}: {name} must be a folder's name, got {value!r}")
    return value


def _built(config: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Make a configuration from dotted names and values."""
    arguments = {}
    for name, hint in get_type_hints(config).items():
        nested = is_dataclass(hint) and isinstance(hint, type)
        dotted = f"{prefix}{name}"
        arguments[name] = _built(hint, values, f"{dotted}.") if nested else values[dotted]
    return config(**arguments)


def _put(layer: dict[str, Any], names: Sequence[str], value: Any) -> None:
    for name in names[:-1]:
        layer = layer.setdefault(name, {})
    layer[names[-1]] = value
