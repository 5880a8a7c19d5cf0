"""Compiling and running, as a user does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcsflow.compiler import compile_plan, explain
from hcsflow.compiler.budget import fit_encoders
from hcsflow.compiler.inputs import Granularity
from hcsflow.config import InputIdentity
from hcsflow.execute.clusterplan import ClusterRequest
from hcsflow.execute.probe import probe_machine
from hcsflow.execute.profiles import Profile, find_profile
from hcsflow.execute.resume import Ledger, SegmentShare, shares_of
from hcsflow.execute.select import IDLE_BYTES, fitted_resources, largest_resources
from hcsflow.journal import ControlFolder, Event
from hcsflow.pipeline import FunctionStep, Pipeline
from hcsflow.plan import Plan as FrozenPlan
from hcsflow.plan import Resources
from hcsflow.plate import Manifest
from hcsflow.session.contents import known_by_contents
from hcsflow.session.declared import check_profile, declared_pipeline, output_of, settled_for
from hcsflow.session.recorded import recorded_variants
from hcsflow.session.settings import Given, Settled
from hcsflow.session.sizes import StoredSize, free_bytes, room_warnings, stored_sizes, total_lines

if TYPE_CHECKING:
    from dask.delayed import Delayed

    from hcsflow.session.forecast import Forecast
    from hcsflow.session.plate import Plate
    from hcsflow.session.probe import Probe
    from hcsflow.session.run import Run

__all__ = ["UNKNOWN_TIME", "Plan", "compile"]

UNKNOWN_TIME = "unknown until --probe or the first wells"


@dataclass(frozen=True, repr=False)
class Plan:
    """A compiled pipeline, ready to run on its plate.

    Attributes
    ----------
    frozen : hcsflow.plan.Plan
        The plan itself: steps, writes, tasks, memory.
    output : Path
        Where results go; nothing is made before `run`.
    settled : Settled
        The settings, and where each came from.
    profile : Profile or None
        What the resources were taken from, where it is a profile.
    """

    frozen: FrozenPlan
    manifest: Manifest
    plate_path: Path
    output: Path
    settled: Settled
    profile: Profile | None = None

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each setting came from, by dotted name; see `hcsflow.session.settings.Settled`."""
        return self.settled.origins

    def explain(self) -> str:
        """Return what the plan will do, in words, the settings that somebody chose, and the time.

        The time is known once wells have been measured: by `probe`, or by a run.
        """
        return self.explained_with(self.forecast())

    def explained_with(self, forecast: Forecast | None) -> str:
        """Return the same with another forecast, for example that of a probe."""
        chosen = [f"  {setting}, from {setting.origin}" for setting in self.settled.chosen()]
        lines = [explain(self.frozen), *(["settings", *chosen] if chosen else [])]
        told = [UNKNOWN_TIME] if forecast is None else list(forecast.lines())
        sizes = stored_sizes(self.frozen, forecast)
        lines += ["in all", *(f"  {line}" for line in total_lines(self.frozen, sizes))]
        lines += [*(f"warning: {text}" for text in self.room_warnings(sizes)), *self._shares()]
        return "\n".join([*lines, "time", *(f"  {line}" for line in told)])

    def segments(self) -> tuple[SegmentShare, ...]:
        """Return, by segment, of how many wells the output holds its work, and what is to do."""
        return shares_of(self.frozen, self._todo())

    def _todo(self) -> dict[str, tuple[str, ...]]:
        """Return the segments to run of each well."""
        ledger = Ledger(self.frozen, self.output)
        return {well: ledger.segments_to_run(well) for well in self.frozen.wells}

    def _shares(self) -> list[str]:
        """Say what the output holds already; nothing where it is new."""
        if not ControlFolder(self.output).plan.exists():
            return []
        return ["already there", *(f"  {share}" for share in self.segments())]

    def sizes(self) -> tuple[StoredSize, ...]:
        """Return what each output will take on disk, and by what that is known."""
        return stored_sizes(self.frozen, self.forecast())

    def room_warnings(self, sizes: tuple[StoredSize, ...] | None = None) -> tuple[str, ...]:
        """Return a warning where what is to do is expected to overfill the output's disk.

        ``sizes`` takes the place of `sizes`', for example those after a probe.
        """
        expected = self.sizes() if sizes is None else sizes
        return room_warnings(self.frozen, expected, self._todo(), free=free_bytes(self.output))

    def forecast(self) -> Forecast | None:
        """Return what a run will come to, by what earlier runs on the output measured.

        None where nothing that fits the plan was measured.
        """
        if not ControlFolder(self.output).estimates.exists():
            return None
        from hcsflow.session.forecast import known_forecast

        return known_forecast(self.frozen, self.output)

    def probe(self) -> Probe:
        """Measure one to three wells on one local worker, in a temporary folder.

        The output folder is not written to.

        Returns
        -------
        Probe
            Its ``forecast`` has time, stored bytes and memory of the whole plan.

        Raises
        ------
        PlanRefusedError
            No well has all its planes, a probed well fails, or the plan needs GPUs.
        OutputError
            The temporary folder has too little room.
        """
        from hcsflow.session.probe import probe_plan

        return probe_plan(self.frozen, self.manifest, self.plate_path, self.output)

    def __str__(self) -> str:
        return self.explain()

    def __repr__(self) -> str:
        plan = self.frozen
        chosen = "".join(f"; {setting}" for setting in self.settled.chosen())
        return (
            f"<Plan {plan.pipeline} on {plan.plate.name}: {len(plan.wells)} wells, "
            f"{len(plan.steps)} steps, {plan.num_tasks} tasks, {plan.num_objects} objects{chosen}>"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.explain())}</pre>"

    def to_json(self) -> str:
        """Return the plan as JSON: the same inputs give the same bytes."""
        return self.frozen.to_json()

    def summary(self, forecast: Forecast | None = None) -> dict[str, Any]:
        """Return the figures of the plan (schema ``hcsflow.plan/1``).

        ``forecast`` takes the place of `forecast`'s, for example that of a probe.
        """
        plan = self.frozen
        known = forecast or self.forecast()
        sizes = stored_sizes(plan, known)
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
            "documents": sum(size.documents for size in sizes),
            "raw_bytes": sum(size.raw_bytes for size in sizes),
            "stored_bytes": sum(size.stored_bytes for size in sizes),
            "outputs": [size.summary() for size in sizes],
            "free_bytes": free_bytes(self.output),
            "projected_bytes_per_task": plan.projected_bytes,
            "workers": plan.resources.workers,
            "memory_bytes_per_worker": plan.resources.memory_bytes,
            "device_bytes_per_task": plan.projected_device_bytes,
            "segments": [asdict(share) for share in self.segments()],
            "forecast": None if known is None else known.summary(),
            "settings": [asdict(setting) for setting in self.settled.chosen()],
            "warnings": [*plan.warnings, *self.room_warnings(sizes)],
        }

    def to_delayed(self) -> Delayed:
        """Return what a run would do as one `dask.delayed` value, for any Dask scheduler.

        It computes to a tuple of outcomes, one a well, after the plate is finished, and may be
        shown (``.visualize()``) or built into other graphs. The output folder is prepared here
        and now; a run started on it later takes it over, and what is computed after that commits
        nothing. See `hcsflow.execute.delayed.delayed_plan`.

        Raises
        ------
        UsageError
            An option makes no sense, or not with this cluster.
        PlanRefusedError
            The cluster offers less than the plan needs.
        OutputError
            The output folder belongs to something else, or is in use.
        """
        from hcsflow.execute.delayed import delayed_plan

        return delayed_plan(self.frozen, self.manifest, self.plate_path, self.output)

    def run(  # noqa: PLR0913 - the options of `hcsflow run`
        self,
        cluster: Any = "local",
        *,
        workers: int | None = None,
        retries: int = 0,
        timeout_s: float | None = None,
        fail_fast: bool = False,
        fresh: bool = False,
        performance_report: str | Path | None = None,
        detached: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> Run:
        """Run the plan; wells that are whole already are skipped.

        Parameters
        ----------
        cluster : str or dask.distributed.Client
            ``"local"`` (processes), ``"threads"``, ``"serial"`` (this very thread), ``"cuda"``,
            ``"slurm"`` and its like, a profile's file, ``"tcp://…"`` or a Client.
        workers : int, optional
            Default is the plan's.
        retries : int
            Times a failed well is submitted again.
        timeout_s : float, optional
            Longest that one task of a well may take, in seconds; its worker is restarted then,
            and the well has failed.
        fail_fast : bool
            Cancel the rest at the first failed well.
        fresh : bool
            Discard what the output folder holds.
        performance_report : path, optional
            HTML file for Dask's own report of the run; not with ``"serial"``.
        detached : bool
            No terminal belongs to this process; ``hcsflow status`` says so.
        on_event : callable, optional
            Called with each `hcsflow.journal.Event`. In a notebook progress is shown besides.

        Returns
        -------
        Run
            Also where wells failed: see ``Run.failures``.

        Raises
        ------
        UsageError
            The cluster's profile has settings, threads or GPUs that the plan was compiled without.
        OutputError
            The output folder belongs to something else, or is in use.
        """
        from hcsflow.execute import RunOptions, run_plan
        from hcsflow.session.run import Run
        from hcsflow.session.shown import shown_in_notebook

        if isinstance(cluster, (str, Path)):
            profile = find_profile(cluster)
            if profile != self.profile:
                check_profile(cluster, profile, self.frozen)
        options = RunOptions(
            cluster=cluster,
            workers=workers,
            retries=retries,
            timeout_s=timeout_s,
            fail_fast=fail_fast,
            fresh=fresh,
            performance_report=Path(performance_report) if performance_report else None,
            detached=detached,
        )
        with shown_in_notebook(on_event) as listener:
            result = run_plan(
                self.frozen,
                self.manifest,
                self.plate_path,
                self.output,
                options=options,
                on_event=listener,
            )
        return Run(self.output, result)


def compile(  # noqa: A001, PLR0913 - hf.compile is the public name
    pipeline: Pipeline | str | Path | Iterable[FunctionStep],
    plate: Plate,
    *,
    output: str | Path,
    resources: Resources | str | Path = "auto",
    config: Given = None,
    parameters: Mapping[str, Any] | None = None,
    wells: Iterable[str] | None = None,
    workers: int | None = None,
    fresh: bool = False,
    granularity: Granularity = "segment",
) -> Plan:
    """Compile a pipeline against a plate. Reads no pixel, writes nothing.

    Parameters
    ----------
    pipeline : Pipeline, str, Path or steps
        Also a file or the name of a ready-made one.
    plate : Plate
        From `open_plate`.
    output : path
        Where a run will write; outside the plate. A relative path lies below
        ``vfs.persistent_storage_root_path`` where that is set.
    resources : "auto", str, Path or Resources
        ``"auto"`` takes this machine: workers = min(cores, wells, RAM ÷ projected peak). A
        profile's name or file (``"cuda"``, ``"slurm"``, ``"mine.yaml"``) takes what it offers,
        and its settings.
    config : GlobalPipelineConfig or mapping, optional
        A mapping, e.g. ``{"zarr": {"pyramid": False}}``, wins over all other settings. A
        `GlobalPipelineConfig` is the weakest: it stands for the user's own settings file, which
        is ``$XDG_CONFIG_HOME/hcsflow/config.yaml``. `hcsflow.config.Source` objects say their own
        level and origin.
    parameters : mapping, optional
        ``{"param": v}`` or ``{"step.param": v}``, as ``--set``.
    wells : iterable of str, optional
        Names or patterns (``"B*"``).
    workers : int, optional
        Overrides the number of workers.
    fresh : bool
        Choose variants of functions anew; else those that made what the output holds are kept.
    granularity : "segment" or "step"
        One task for as many steps of a well as can be, or one for each step, for looking at. The
        results are the same.

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
    declared = declared_pipeline(pipeline)
    if parameters:
        declared = declared.with_settings(parameters)
    settled = settled_for(declared, resources, config)
    declared, settings = declared.with_materializations(settled.steps), settled.config
    output = output_of(settled, output)
    asked = workers if workers is not None else settings.num_workers
    if isinstance(resources, Resources):
        profile, chosen = None, resources
    else:
        profile = find_profile("local" if resources == "auto" else resources)
        machine = probe_machine(gpus=profile.kind == "cuda")
        chosen = largest_resources(profile, machine, asked)
    frozen = compile_plan(
        declared,
        plate.model,
        plate.manifest,
        config=settings,
        resources=chosen,
        wells=wells,
        granularity=granularity,
        recorded={} if fresh else recorded_variants(output, declared.name),
    )
    if profile is not None:
        request = ClusterRequest(len(frozen.wells), frozen.projected_bytes, asked)
        frozen = frozen.replace(resources=fitted_resources(profile, machine, request))
        frozen = fit_encoders(frozen, frozen.resources.memory_bytes - IDLE_BYTES)
    if settings.input_identity is InputIdentity.CONTENT:
        frozen = known_by_contents(frozen, plate.manifest)
    return Plan(frozen, plate.manifest, Path(plate.path), output, settled, profile)
