"""Where settings are looked for: the user's file, a cluster's profile, the environment, a step."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from hcsflow.config.checks import OLD_NAMES
from hcsflow.config.layers import (
    Level,
    Source,
    parse_value,
    read_layer,
    resolve,
    setting_kinds,
    setting_names,
)
from hcsflow.config.values import (
    GlobalPipelineConfig,
    StepMaterializationConfig,
    VFSConfig,
    ZarrConfig,
)
from hcsflow.errors import ConfigError, UnknownSettingError, nearest

__all__ = [
    "environment_names",
    "environment_sources",
    "for_step",
    "profile_source",
    "resolve_step",
    "user_config_file",
    "user_sources",
]

ENVIRONMENT = "HCSFLOW_"

SWITCHES = ("HCSFLOW_CLUSTER", "HCSFLOW_DEBUG", "HCSFLOW_NO_GPU")
"""Environment variables that are read elsewhere: the command line's, and the one of the arrays."""


def user_config_file(environ: Mapping[str, str]) -> Path:
    """Return where a user's own settings are looked for; the file need not be there.

    ``$XDG_CONFIG_HOME/hcsflow/config.yaml``, without that variable ``~/.config/hcsflow/…``, on
    Windows ``%APPDATA%/hcsflow/…``.

    Examples
    --------
    >>> user_config_file({"XDG_CONFIG_HOME": "/home/ada/.settings"}).as_posix()
    '/home/ada/.settings/hcsflow/config.yaml'
    """
    given = Path(environ.get("XDG_CONFIG_HOME", ""))
    if given.is_absolute():
        folder = given
    elif sys.platform == "win32" and environ.get("APPDATA"):
        folder = Path(environ["APPDATA"])
    else:
        folder = Path(os.path.expanduser("~/.config"))  # noqa: PTH111 - no error without home
    return folder / "hcsflow" / "config.yaml"


def user_sources(environ: Mapping[str, str]) -> list[Source]:
    """Return the settings of the user's own file, where there is one.

    Raises
    ------
    ConfigError
        If it cannot be read, or is not a mapping.
    """
    file = user_config_file(environ)
    return [Source(Level.GLOBAL, str(file), read_layer(file))] if file.is_file() else []


def profile_source(path: str | Path) -> Source:
    """Return the settings in a cluster profile: its section ``config``, and how many workers.

    Raises
    ------
    ConfigError
        If the file cannot be read, or the section is not a mapping.
    """
    layer = read_layer(path)
    found = layer.get("config")
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"{path}: config must be a mapping of settings, got {found!r}")
    own = {"num_workers": layer["workers"]} if isinstance(layer.get("workers"), int) else {}
    return Source(Level.PROFILE, str(path), own | (found or {}))


def environment_names() -> dict[str, str]:
    """Return the settings by the environment variable that sets them.

    Examples
    --------
    >>> environment_names()["HCSFLOW_ZARR_CHUNK_STRATEGY"]
    'zarr.chunk_strategy'
    """
    return {ENVIRONMENT + name.replace(".", "_").upper(): name for name in setting_names()}


def environment_sources(environ: Mapping[str, str]) -> list[Source]:
    """Return the settings in environment variables such as ``HCSFLOW_ZARR_CHUNK_STRATEGY``.

    An empty variable sets nothing. Truth values are ``true yes on 1`` and ``false no off 0``.

    Raises
    ------
    UnknownSettingError
        If a variable that begins with ``HCSFLOW_`` names neither a setting nor one of `SWITCHES`;
        it would be overlooked otherwise.
    """
    known, kinds = environment_names(), setting_kinds()
    found = []
    for variable, text in environ.items():
        if variable in known:
            name = known[variable]
            value = _from_text(text.strip(), kinds[name])
            found.append(Source(Level.ENVIRONMENT, variable, {name: value}))
        elif variable.startswith(ENVIRONMENT) and variable not in SWITCHES:
            raise _unknown_variable(variable, [*known, *SWITCHES])
    return found


def _unknown_variable(variable: str, known: Iterable[str]) -> UnknownSettingError:
    names = sorted(known)
    old = variable.removeprefix(ENVIRONMENT).removeprefix("ZARR_").removeprefix("VFS_").lower()
    close = nearest(variable, names)
    listed = f"there are {', '.join(names)}"
    hint = OLD_NAMES.get(old) or (f"did you mean {close}? {listed}" if close else listed)
    return UnknownSettingError(f"environment variable {variable} names no setting", hint=hint)


_WORDS = dict.fromkeys(("true", "yes", "on", "1"), True)
_WORDS |= dict.fromkeys(("false", "no", "off", "0"), False)


def _from_text(text: str, kinds: tuple[type, ...]) -> Any:
    """Return what a variable's text means for a setting; text that means nothing stays."""
    if not text:
        return None
    if bool in kinds:
        return _WORDS.get(text.lower(), text)
    if {int, float} & set(kinds):
        return parse_value(text)
    return text.lower() if any(issubclass(kind, Enum) for kind in kinds) else text


def for_step(
    config: GlobalPipelineConfig, kept: StepMaterializationConfig | None
) -> tuple[ZarrConfig, VFSConfig]:
    """Return the storage settings that hold for one step's stored output.

    Parameters
    ----------
    config : GlobalPipelineConfig
        The plan's (``plan.config``).
    kept : StepMaterializationConfig or None
        The step's own (``declared.pipeline.steps[i].materialization``). `hcsflow.compile` has
        already taken out of it what profile, environment or the call decide otherwise.

    Examples
    --------
    >>> kept = StepMaterializationConfig(backend="disk", zarr={"chunk_strategy": "file"})
    >>> zarr, vfs = for_step(GlobalPipelineConfig(), kept)
    >>> zarr.chunk_strategy.value, vfs.materialization_backend.value
    ('file', 'disk')
    """
    if kept is None:
        return config.zarr, config.vfs
    backend = kept.backend or config.vfs.materialization_backend
    return config.zarr.replace(**kept.zarr), config.vfs.replace(materialization_backend=backend)


def resolve_step(
    sources: Iterable[Source], name: str, kept: StepMaterializationConfig
) -> tuple[StepMaterializationConfig, dict[str, str]]:
    """Lay a step's own settings between those of the pipeline and all that is stronger.

    Parameters
    ----------
    sources : iterable of Source
        All others, as for `resolve`.
    name : str
        The step's.
    kept : StepMaterializationConfig
        What the step sets.

    Returns
    -------
    kept, origins : StepMaterializationConfig, dict of str
        What is left of the step's settings, for `for_step`; and whence the value comes, for each
        setting that the step sets.
    """
    origin = f"step {name!r}"
    own = {f"zarr.{each}": value for each, value in kept.zarr.items()}
    if kept.backend is not None:
        own["vfs.materialization_backend"] = kept.backend
    _, origins = resolve([*sources, Source(Level.STEP, origin, own)])
    wins = {each for each in own if origins[each] == origin}
    left = StepMaterializationConfig(
        sub_dir=kept.sub_dir,
        backend=kept.backend if "vfs.materialization_backend" in wins else None,
        zarr={each: value for each, value in kept.zarr.items() if f"zarr.{each}" in wins},
    )
    return left, {each: origins[each] for each in own}
