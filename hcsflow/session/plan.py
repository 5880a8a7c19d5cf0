"""Compiling and running, as a user does it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcsflow.compiler import compile_plan, explain
from hcsflow.config import GlobalPipelineConfig, environment_layer, layer_of, resolve
from hcsflow.errors import UsageError
from hcsflow.execute.clusters import IDLE_BYTES, default_workers, machine_limits
from hcsflow.journal import Event
from hcsflow.pipeline import FunctionStep, Pipeline
from hcsflow.plan import Plan as FrozenPlan
from hcsflow.plan import Resources
from hcsflow.plate import Manifest
from hcsflow.session.pipelines import load_pipeline

if TYPE_CHECKING:
    from hcsflow.session.plate import Plate
    from hcsflow.session.run import Run

__all__ = ["Plan", "compile"]


@dataclass(frozen=True, repr=False)
class Plan:
    """A compiled pipeline, ready to run on its plate.

    Attributes
    ----------
    frozen : hcsflow.plan.Plan
        The plan itself: steps, writes, tasks, memory.
    output : Path
        Where results go; nothing is made before `run`.
    origins : mapping
        Where each setting came from.
    """

    frozen: FrozenPlan
    manifest: Manifest
    plate_path: Path
    output: Path
    origins: Mapping[str, str]

    def explain(self) -> str:
        """Return what the plan will do, in words."""
        return explain(self.frozen)

    def __str__(self) -> str:
        return self.explain()

    def __repr__(self) -> str:
        plan = self.frozen
        return (
            f"<Plan {plan.pipeline} on {plan.plate.name}: {len(plan.wells)} wells, "
            f"{len(plan.steps)} steps, {plan.num_tasks} tasks, {plan.num_objects} objects>"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.explain())}</pre>"

    def to_json(self) -> str:
        """Return the plan as JSON: the same inputs give the same bytes."""
        return self.frozen.to_json()

    def summary(self) -> dict[str, Any]:
        """Return the figures of the plan (schema ``hcsflow.plan/1``)."""
        plan = self.frozen
        writes = len(plan.wells)
        return {
            "schema": plan.schema,
            "pipeline": plan.pipeline,
            "plate": plan.plate.name,
            "wells": list(plan.wells),
            "failed_wells": [
                {"well": w, "reason": reason, "file": file} for w, reason, file in plan.failed_wells
            ],
            "steps": [
                {
                    "name": step.name,
                    "functions": [c.function for b in step.branches for c in b.calls],
                    "calls_per_well": step.num_calls,
                    "planes_per_well": step.output.num_planes,
                    "shape_yx": list(step.output.shape_yx),
                    "dtype": step.output.dtype,
                    "projected_bytes": step.projected_bytes,
                }
                for step in plan.steps
            ],
            "tasks": plan.num_tasks,
            "objects": plan.num_objects,
            "objects_per_well": sum(w.objects_per_well for w in plan.writes),
            "raw_bytes": writes * sum(w.raw_bytes_per_well for w in plan.writes),
            "projected_bytes_per_task": plan.projected_bytes,
            "workers": plan.resources.workers,
            "memory_bytes_per_worker": plan.resources.memory_bytes,
            "warnings": list(plan.warnings),
        }

    def run(  # noqa: PLR0913 - the options of `hcsflow run`
        self,
        cluster: Any = "local",
        *,
        workers: int | None = None,
        retries: int = 0,
        timeout_s: float | None = None,
        fail_fast: bool = False,
        fresh: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> Run:
        """Run the plan; wells that are whole already are skipped.

        Parameters
        ----------
        cluster : str or dask.distributed.Client
            ``"local"`` (processes), ``"threads"``, ``"tcp://…"`` or a Client.
        workers : int, optional
            Default is the plan's.
        retries : int
            Times a failed well is submitted again.
        timeout_s : float, optional
            Longest a well may take, in seconds; its worker is restarted.
        fail_fast : bool
            Cancel the rest at the first failed well.
        fresh : bool
            Discard what the output folder holds.
        on_event : callable, optional
            Called with each `hcsflow.journal.Event`.

        Returns
        -------
        Run
            Also where wells failed: see ``Run.failures``.

        Raises
        ------
        OutputError
            The output folder belongs to something else, or is in use.
        """
        from hcsflow.execute import RunOptions, run_plan
        from hcsflow.session.run import Run

        options = RunOptions(
            cluster=cluster,
            workers=workers,
            retries=retries,
            timeout_s=timeout_s,
            fail_fast=fail_fast,
            fresh=fresh,
        )
        result = run_plan(
            self.frozen,
            self.manifest,
            self.plate_path,
            self.output,
            options=options,
            on_event=on_event,
        )
        return Run(self.output, result)


def compile(  # noqa: A001, PLR0913 - hf.compile is the public name
    pipeline: Pipeline | str | Path | Iterable[FunctionStep],
    plate: Plate,
    *,
    output: str | Path,
    resources: Resources | str = "auto",
    config: GlobalPipelineConfig | Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    wells: Iterable[str] | None = None,
    workers: int | None = None,
) -> Plan:
    """Compile a pipeline against a plate. Reads no pixel, writes nothing.

    Parameters
    ----------
    pipeline : Pipeline, str, Path or steps
        Also a file or the name of a ready-made one.
    plate : Plate
        From `open_plate`.
    output : path
        Where a run will write; outside the plate.
    resources : "auto" or Resources
        ``"auto"`` takes this machine: workers = min(cores, wells, RAM ÷ projected peak).
    config : GlobalPipelineConfig or mapping, optional
        Settings; a pipeline's own are below them, environment and these above.
    parameters : mapping, optional
        ``{"param": v}`` or ``{"step.param": v}``, as ``--set``.
    wells : iterable of str, optional
        Names or patterns (``"B*"``).
    workers : int, optional
        Overrides the number of workers.

    Raises
    ------
    PipelineError, ConfigError, UsageError
        A declaration that cannot be understood (exit 2).
    PlanRefusedError
        A plan that cannot be run (exit 3).

    Examples
    --------
    ``hf.compile("count-nuclei", hf.open_plate("PLATE/"), output="OUT/").run()``
    """
    declared = _pipeline(pipeline)
    if parameters:
        declared = declared.with_settings(parameters)
    settings, origins = resolve(_layers(declared, config))
    asked = workers if workers is not None else settings.num_workers
    automatic = resources == "auto"
    chosen = _machine(asked) if automatic else resources
    if not isinstance(chosen, Resources):
        raise UsageError(f"resources: expected 'auto' or Resources, got {resources!r}")
    frozen = compile_plan(
        declared,
        plate.model,
        plate.manifest,
        config=settings,
        resources=chosen,
        wells=wells,
    )
    if automatic:
        frozen = frozen.replace(resources=_fitted(frozen, asked))
    return Plan(frozen, plate.manifest, Path(plate.path), Path(output), origins)


def _pipeline(given: Pipeline | str | Path | Iterable[FunctionStep]) -> Pipeline:
    if isinstance(given, Pipeline):
        return given
    if isinstance(given, (str, Path)):
        return load_pipeline(given)
    return Pipeline(given)


def _layers(
    pipeline: Pipeline, config: GlobalPipelineConfig | Mapping[str, Any] | None
) -> list[tuple[str, Mapping[str, Any]]]:
    layers: list[tuple[str, Mapping[str, Any]]] = [("pipeline", pipeline.config)]
    layers.append(("environment", environment_layer(os.environ)))
    if isinstance(config, GlobalPipelineConfig):
        layers.append(("argument", layer_of(config)))
    elif config is not None:
        layers.append(("argument", config))
    return layers


def _machine(asked: int | None) -> Resources:
    """Return what the whole machine could give to one worker: the upper bound."""
    cores, usable = machine_limits()
    return Resources(workers=asked or cores, memory_bytes=usable - IDLE_BYTES)


def _fitted(plan: FrozenPlan, asked: int | None) -> Resources:
    """Return workers = min(cores, wells, RAM ÷ projected peak) and the memory of each."""
    cores, usable = machine_limits()
    workers = default_workers(
        cores=asked or cores,
        wells=asked or len(plan.wells),
        memory_bytes=usable,
        projected_bytes=plan.projected_bytes,
    )
    if asked and asked > workers:
        raise UsageError(
            f"{asked} workers of {plan.projected_bytes / 1e9:.2f} GB each do not fit into "
            f"{usable / 1e9:.1f} GB",
            hint=f"use --workers {workers} or fewer",
        )
    return Resources(workers=workers, memory_bytes=usable // workers)
