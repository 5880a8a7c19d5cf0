"""What the arguments of `hcsflow.compile` stand for: the pipeline, its settings, its output."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hcsflow.config import Level, Source, layer_of, resolve, settings_of
from hcsflow.errors import UsageError
from hcsflow.execute.profiles import AddressProfile, Profile
from hcsflow.pipeline import FunctionStep, Pipeline
from hcsflow.plan import Plan, Resources
from hcsflow.session.pipelines import load_pipeline
from hcsflow.session.settings import Given, Settled, settle

__all__ = ["check_profile", "declared_pipeline", "output_of", "settled_for", "settled_output"]


def declared_pipeline(given: Pipeline | str | Path | Iterable[FunctionStep]) -> Pipeline:
    """Return a pipeline from itself, a file, the name of a ready-made one, or steps."""
    if isinstance(given, Pipeline):
        return given
    if isinstance(given, (str, Path)):
        return load_pipeline(given)
    return Pipeline(given)


def settled_for(declared: Pipeline, resources: Resources | str | Path, config: Given) -> Settled:
    """Return the settings in force, those of the resources' profile among them."""
    cluster = None if isinstance(resources, Resources) else str(resources)
    return settle(declared, config, cluster="local" if cluster == "auto" else cluster)


def output_of(settled: Settled, output: str | Path) -> Path:
    """Return where an output lies under settings."""
    return Path(settled.config.vfs.persistent_storage_root_path or "", output)


def settled_output(
    pipeline: Pipeline | str | Path | Iterable[FunctionStep],
    output: str | Path,
    *,
    resources: str | Path = "auto",
    config: Given = None,
) -> Path:
    """Return where `hcsflow.compile` with the same arguments puts its output.

    Raises
    ------
    PipelineError, ConfigError
        If pipeline or settings cannot be understood.
    """
    return output_of(settled_for(declared_pipeline(pipeline), resources, config), output)


def check_profile(cluster: str | Path, profile: Profile, plan: Plan) -> None:
    """Refuse to run a plan on a profile that asks for what the plan was compiled without.

    Raises
    ------
    UsageError
        If its settings, threads or GPUs are others; it names them.
    """
    layers = [
        Source(Level.GLOBAL, "plan", layer_of(plan.config)),
        Source(Level.PROFILE, f"profile {profile.name}", profile.config),
    ]
    compiled, wanted = dict(settings_of(plan.config)), settings_of(resolve(layers)[0])
    differ = [name for name, value in wanted if value != compiled[name]]
    threads = 0 if isinstance(profile, AddressProfile) else profile.threads_per_worker
    if threads > plan.resources.threads_per_worker:
        differ.append("threads_per_worker")
    if profile.gives_gpus and not plan.resources.gpus:
        differ.append("GPUs")
    if differ:
        raise UsageError(
            f"the plan was compiled without the {', '.join(differ)} of cluster {str(cluster)!r}",
            hint=f"compile it with resources={str(cluster)!r}",
        )
