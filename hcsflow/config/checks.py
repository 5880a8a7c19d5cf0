"""Whether a setting is known and its value fits: kinds, limits, and names of older documents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from hcsflow.errors import ConfigError, UnknownSettingError, nearest

__all__ = ["LIMITS", "NGFF_VERSIONS", "OLD_NAMES", "fitted", "kinds_of", "unknown_setting"]

LIMITS: Mapping[str, tuple[int, int | None]] = {
    "compression_level": (1, 9),
    "num_workers": (1, None),
    "memory_limit_gb": (0, None),
    "fill_value": (0, None),
}
"""Lowest and highest value of settings that are numbers; None is no limit."""

NGFF_VERSIONS = ("0.4", "0.5")

_OF_MEMORY = "it is an argument of the memory backend: MemoryStorageBackend(…)"
_OF_DISK = "it is an argument of the disk backend: DiskStorageBackend(…)"
_NO_LINKS = "leave it out: no symlinks are made, a plate's files are reached by its workspace"

OLD_NAMES: Mapping[str, str] = {
    "materialization_defaults": "write vfs.materialization_backend and zarr.compression_level, or "
    "a step's materialization",
    "materialization_defaults.output_path": "write vfs.persistent_storage_root_path",
    "materialization_defaults.compression_level": "write zarr.compression_level",
    "output_path": "write vfs.persistent_storage_root_path",
    "compression": "write zarr.compressor",
    "chunks": "write zarr.chunk_strategy (well, file or adaptive)",
    "ome_metadata": "write zarr.ome_zarr_metadata",
    "overwrite_symlinks_only": _NO_LINKS,
    "replace_symlinks": _NO_LINKS,
    "max_objects": _OF_MEMORY,
    "cleanup_threshold": _OF_MEMORY,
    "base_path": _OF_DISK,
    "create_directories": _OF_DISK,
    "file_permissions": _OF_DISK,
    "enable_compression": "it is an argument of the memory and disk backends",
}
"""Names that older documents use, dotted or by their last part, and what to write instead."""


def kinds_of(config: type) -> Mapping[str, tuple[type, ...]]:
    """Return the types that each setting of a group may have; groups within it are left out."""
    return _kinds_of(config)


@cache
def _kinds_of(config: type) -> Mapping[str, tuple[type, ...]]:
    hints = get_type_hints(config)
    return {
        name: tuple(get_args(hint)) or (hint,)
        for name, hint in hints.items()
        if not is_dataclass(hint)
    }


def fitted(name: str, value: Any, kinds: tuple[type, ...], where: str = "") -> Any:
    """Return a value as one of the types that a setting may have.

    Parameters
    ----------
    name : str
        The setting; its last part decides on limits.
    value : object
        Of the type itself; a choice also as its text, in small or capital letters.
    kinds : tuple of type
        As `kinds_of` gives them.
    where : str
        Put before what is said about a wrong value, e.g. ``"lab.yaml: "``.

    Raises
    ------
    ConfigError
        If the value is of another kind, or beyond the limits.
    """
    last = name.rpartition(".")[2]
    if last == "ngff_version":
        value = _version(value)
    for kind in kinds:
        found, fits = _as(value, kind)
        if fits and _is_within(last, found):
            return found
    wanted = " or ".join(_wanted(last, kind) for kind in kinds if kind is not NoneType)
    hint = "write it without quotes" if _is_quoted(value, kinds) else None
    raise ConfigError(f"{where}{name} must be {wanted}, got {value!r}", hint=hint)


def unknown_setting(name: str, known: Iterable[str], where: str = "") -> UnknownSettingError:
    """Return the error for a name that is no setting: what it is called here, or the nearest."""
    names = list(known)
    last = name.rpartition(".")[2]
    of_old = (name, last, name.partition(".")[0])
    hint = next((OLD_NAMES[old] for old in of_old if old in OLD_NAMES), None)
    if hint is None:
        by_last = {each.rpartition(".")[2]: each for each in names}
        close = nearest(name, names) or by_last.get(nearest(last, by_last) or "")
        hint = f"did you mean {close}?" if close else f"there are {', '.join(names)}"
    return UnknownSettingError(f"{where}there is no setting {name!r}", hint=hint)


def _as(value: Any, kind: type[Any]) -> tuple[Any, bool]:
    """Return ``value`` as ``kind``, and whether it is one."""
    if kind is NoneType or kind is bool:
        return value, isinstance(value, kind)
    if issubclass(kind, Enum):
        text = value if isinstance(value, str) else None
        found = next((each for each in kind if text in (each.value, each.name)), None)
        return found, found is not None
    if kind is str:
        return str(value), isinstance(value, (str, Path))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or kind(value) != value:
        return None, False
    return kind(value), True


def _version(value: Any) -> Any:
    """Let YAML's ``ngff_version: 0.5``, a number there, stand for the text."""
    return str(value) if isinstance(value, float) else value


def _is_within(last: str, value: Any) -> bool:
    if last in LIMITS and value is not None:
        low, high = LIMITS[last]
        return bool(low <= value <= (value if high is None else high))
    if last == "ngff_version":
        return value in NGFF_VERSIONS
    return last != "store_name" or not ("/" in value or value in ("", ".", ".."))


def _wanted(last: str, kind: type) -> str:
    if issubclass(kind, Enum):
        return ", ".join(str(member.value) for member in kind)
    if last in LIMITS:
        low, high = LIMITS[last]
        limits = f"at least {low}" if high is None else f"{low} to {high}"
        return f"a {'' if kind is float else 'whole '}number, {limits}"
    special = {"ngff_version": " or ".join(NGFF_VERSIONS), "store_name": "a folder's name"}
    return special.get(last, "true or false" if kind is bool else "text")


def _is_quoted(value: Any, kinds: tuple[type, ...]) -> bool:
    """Tell whether a number or a truth value was written as text."""
    is_word = isinstance(value, str) and value.lower() in {"true", "false", "yes", "no"}
    is_digits = isinstance(value, str) and value.replace(".", "", 1).isdigit()
    return (is_word and bool in kinds) or (is_digits and bool({int, float} & set(kinds)))
