"""The settings in force: every place where they may stand, laid over each other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from hcsflow.config import (
    GlobalPipelineConfig,
    Level,
    Source,
    StepMaterializationConfig,
    environment_sources,
    for_step,
    layer_of,
    plain_layer,
    profile_source,
    resolve,
    resolve_step,
    settings_of,
    user_sources,
)
from hcsflow.config.shipped import share_folder
from hcsflow.errors import ConfigError
from hcsflow.pipeline import Pipeline

__all__ = ["Given", "Setting", "Settled", "profile_file", "profile_sources", "settle"]

Given: TypeAlias = GlobalPipelineConfig | Mapping[str, Any] | Iterable[Source] | None
"""What `hcsflow.compile` takes for ``config``."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in force.

    Parameters
    ----------
    name : str
        Dotted.
    value : bool, int, float, str or None
        As YAML has it.
    origin : str
        Where it was said; ``"default"`` where nowhere.
    step : str or None
        The step that has it for itself.
    """

    name: str
    value: bool | int | float | str | None
    origin: str
    step: str | None = None

    def __str__(self) -> str:
        where = f"{self.step}: " if self.step else ""
        return f"{where}{self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class Settled:
    """Settings in force and whence they come.

    Parameters
    ----------
    config : GlobalPipelineConfig
        Of the run.
    origins : mapping of str to str
        By dotted name; a step's own settings as ``"<step>/zarr.chunk_strategy"``.
    steps : mapping of str to StepMaterializationConfig
        What is left of the steps' own settings, for `hcsflow.config.for_step`.
    """

    config: GlobalPipelineConfig
    origins: Mapping[str, str]
    steps: Mapping[str, StepMaterializationConfig]

    def all(self) -> list[Setting]:
        """Return every setting of the run, then those that steps set for themselves."""
        found = [
            Setting(name, plain_layer(value), self.origins[name])
            for name, value in settings_of(self.config)
        ]
        for step, kept in self.steps.items():
            zarr, vfs = for_step(self.config, kept)
            found += [
                Setting(name, plain_layer(value), self.origins[f"{step}/{name}"], step)
                for group, prefix in ((zarr, "zarr."), (vfs, "vfs."))
                for name, value in settings_of(group, prefix)
                if f"{step}/{name}" in self.origins
            ]
        return found

    def chosen(self) -> list[Setting]:
        """Return the settings that are not left to the defaults."""
        return [setting for setting in self.all() if setting.origin != "default"]


def settle(
    pipeline: Pipeline | None, given: Given = None, *, cluster: str | None = None
) -> Settled:
    """Resolve call ▸ environment ▸ profile ▸ step ▸ pipeline ▸ global ▸ default.

    Parameters
    ----------
    pipeline : Pipeline or None
        Its settings and its steps'.
    given : GlobalPipelineConfig, mapping or sources, optional
        A `GlobalPipelineConfig` is the global level, in place of the user's own file; a mapping is
        the call's, above all others; sources say themselves.
    cluster : str, optional
        Name or path of a profile, for its settings.

    Raises
    ------
    ConfigError
        If a name is unknown or a value does not fit; it says where.
    """
    sources = _sources(pipeline, given) + (profile_sources(cluster) if cluster else [])
    config, origins = resolve(sources)
    steps = {}
    for step in pipeline or ():
        if step.materialization is not None:
            steps[step.name], own = resolve_step(sources, step.name, step.materialization)
            origins |= {f"{step.name}/{name}": origin for name, origin in own.items()}
    return Settled(config, origins, steps)


def _sources(pipeline: Pipeline | None, given: Given) -> list[Source]:
    sources = environment_sources(os.environ)
    if isinstance(given, GlobalPipelineConfig):
        sources.append(Source(Level.GLOBAL, "argument", layer_of(given)))
    else:
        sources += user_sources(os.environ)
    if isinstance(given, Mapping):
        sources.append(Source(Level.CALL, "argument", given))
    elif given is not None and not isinstance(given, GlobalPipelineConfig):
        sources += _checked(given)
    if pipeline is not None:
        sources.append(Source(Level.PIPELINE, f"pipeline {pipeline.name!r}", pipeline.config))
    return sources


def _checked(given: Any) -> list[Source]:
    found = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if all(isinstance(source, Source) for source in found):
        return found
    raise ConfigError(
        f"config must be a GlobalPipelineConfig or a mapping of settings, got {given!r}",
        hint="a file is read by hcsflow.config.load_config",
    )


def profile_file(cluster: str) -> Path | None:
    """Return the profile that a cluster's name or path stands for; None for one without."""
    if Path(cluster).suffix in {".yaml", ".yml"}:
        return Path(cluster)
    packed = share_folder("cluster") / f"{cluster}.yaml"
    return packed if cluster.isidentifier() and packed.is_file() else None


def profile_sources(cluster: str) -> list[Source]:
    """Return the settings in a cluster's profile, where it has one.

    Raises
    ------
    ConfigError
        If the profile cannot be read.
    """
    file = profile_file(cluster)
    return [] if file is None else [profile_source(file)]
