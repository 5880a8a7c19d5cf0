"""Running a plan: from lock to finished output."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hcsflow.errors import HcsflowError, PlanRefusedError, UsageError
from hcsflow.execute.clusters import (
    ClusterPlan,
    default_workers,
    machine_limits,
    open_cluster,
    select_cluster,
)
from hcsflow.execute.dashboard import offer_dashboard
from hcsflow.execute.events import EventLog, Listener
from hcsflow.execute.finalise import finalise, list_wells
from hcsflow.execute.lock import OutputLock, locked
from hcsflow.execute.loop import WellLoop
from hcsflow.execute.options import RunOptions, RunResult
from hcsflow.execute.output import check_output, clear_output, clear_scratch, prepare_output
from hcsflow.execute.quiet import dask_logs_to
from hcsflow.execute.resume import Ledger, planned_wells
from hcsflow.graph.families import register_families
from hcsflow.graph.plugin import Bundle, PlanPlugin
from hcsflow.journal import ControlFolder, Outcome, clear_failure, write_failure
from hcsflow.plan import Plan
from hcsflow.plate import Manifest

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["run_plan"]

LISTING_S = 20.0
"""Least time between two updates of the plates' lists of wells during a run."""


def run_plan(
    plan: Plan,
    manifest: Manifest,
    plate_root: Path,
    output: Path,
    *,
    options: RunOptions | None = None,
    on_event: Listener | None = None,
) -> RunResult:
    """Run a plan on a cluster; wells that are whole already are skipped.

    Parameters
    ----------
    plan, manifest : Plan, Manifest
        What to do, and where the planes lie.
    plate_root, output : Path
        The plate's folder, never written to; the output folder, made if need be.
    options : RunOptions, optional
        How to run.
    on_event : callable, optional
        Gets each event in this thread.

    Returns
    -------
    RunResult
        An outcome for each well asked for. A failed well raises nothing.

    Raises
    ------
    OutputError
        If the output must not be written to (see `check_output`), or another run is alive on it.
    PlanRefusedError
        If the cluster offers less memory than the plan needs.
    FencedError
        If another run took the output over. Nothing was written after that.
    KeyboardInterrupt
        After Ctrl-C, with the cluster closed and the wells done so far listed.
    """
    options = options or RunOptions()
    output, plate_root = Path(output).resolve(), Path(plate_root).resolve()
    check_output(plan, plate_root, output, fresh=options.fresh)
    _cluster_plan(plan, options, len(plan.wells))
    with locked(output) as lock:
        check_output(plan, plate_root, output, fresh=options.fresh)
        if options.fresh:
            clear_output(plan, output)
        prepare_output(plan, output)
        bundle = _bundle(plan, manifest, plate_root, output, lock)
        return _Run(bundle, options, lock, EventLog(ControlFolder(output), on_event)).run()


def _bundle(
    plan: Plan, manifest: Manifest, plate_root: Path, output: Path, lock: OutputLock
) -> Bundle:
    return Bundle(
        plan=plan,
        manifest=manifest,
        plate_root=str(plate_root),
        output=str(output),
        epoch=lock.epoch,
        memory_bytes=plan.resources.memory_bytes,
    )


@dataclass
class _Run:
    """One run under its lock."""

    bundle: Bundle
    options: RunOptions
    lock: OutputLock
    events: EventLog
    _listed: float = field(default_factory=time.monotonic)

    def run(self) -> RunResult:
        """Do what is left to do, then finalise, also after an interruption."""
        started = time.monotonic()
        plan, output = self.bundle.plan, Path(self.bundle.output)
        ledger = Ledger(plan, output)
        wells = planned_wells(plan)
        done = {well for well in wells if well in plan.wells and ledger.is_done(well)}
        list_wells(plan, output, ledger)
        outcomes = {well: self._skipped(well, ledger) for well in wells if well in done}
        todo = [well for well in wells if well not in done]
        try:
            self._process(todo, len(done), outcomes, ledger)
        finally:
            self.lock.check()
            self._finish(ledger)
        ordered = tuple(outcomes[well] for well in wells if well in outcomes)
        result = RunResult(ordered, output, time.monotonic() - started)
        self._tell_end(result)
        return result

    def _finish(self, ledger: Ledger) -> None:
        """Write what is of the whole plate, and clear what tasks left in scratch."""
        output = Path(self.bundle.output)
        try:
            finalise(self.bundle.plan, self.bundle.manifest, output, ledger)
        except OSError as error:
            raise HcsflowError(
                f"{error.filename or output}: cannot be written: {error.strerror}",
                hint="make room, then run the same command again: what is done is skipped",
            ) from error
        finally:
            clear_scratch(output)

    def _process(
        self, todo: list[str], skipped: int, outcomes: dict[str, Outcome], ledger: Ledger
    ) -> None:
        """Process wells on a cluster, filling in ``outcomes``."""
        failed = {name: (reason, file) for name, reason, file in self.bundle.plan.failed_wells}
        tasks = [well for well in todo if well not in failed]
        cluster = _cluster_plan(self.bundle.plan, self.options, len(tasks))
        workers = cluster.kwargs.get("n_workers") if tasks else 0
        self.events.tell("run_started", wells=len(todo), skipped=skipped, workers=workers)
        for well in outcomes:
            self.events.tell("well_skipped", well)
        for well in todo:
            if well in failed:
                self._settle(_failed_before(well, *failed[well]), outcomes)
        if tasks and not self._must_stop(outcomes):
            with dask_logs_to(ControlFolder(Path(self.bundle.output))):
                self._process_on(cluster, tasks, outcomes, ledger)
        for well in todo:
            if well not in outcomes:
                outcomes[well] = Outcome(well, "", "cancelled", message="the run was stopped")

    def _process_on(
        self,
        cluster: ClusterPlan,
        wells: Sequence[str],
        outcomes: dict[str, Outcome],
        ledger: Ledger,
    ) -> None:
        plan, options = self.bundle.plan, self.options
        plan_id = uuid.uuid4().hex[:12]
        # On a scheduler that others use too, two runs must not share keys.
        label = plan.plate.name if cluster.kwargs else f"{plan.plate.name} ({plan_id})"
        with ExitStack() as stack:
            client, own = stack.enter_context(open_cluster(cluster))
            bundle = replace(self.bundle, memory_bytes=_memory_per_worker(client, plan))
            stack.enter_context(_shipped(client, PlanPlugin(plan_id, bundle), cluster))
            link = offer_dashboard(own.scheduler) if own else client.dashboard_link
            self.events.tell("cluster_started", dashboard=link)
            loop = WellLoop(client, plan, plan_id=plan_id, label=label, task=options.task)
            news = loop.run(wells, retries=options.retries, timeout_s=options.timeout_s)
            for item in stack.enter_context(closing(news)):
                if isinstance(item, dict):
                    self.events.tell(item["kind"], item["well"], **item["data"])
                    continue
                self._settle(item, outcomes)
                self._list_at_times(ledger)
                if self._must_stop(outcomes):
                    break

    def _list_at_times(self, ledger: Ledger) -> None:
        """Let the plates list the wells done so far, so that they can be looked at meanwhile."""
        if time.monotonic() - self._listed > LISTING_S:
            ledger.refresh()
            list_wells(self.bundle.plan, Path(self.bundle.output), ledger)
            self._listed = time.monotonic()

    def _must_stop(self, outcomes: dict[str, Outcome]) -> bool:
        bad = ("failed", "crashed")
        return self.options.fail_fast and any(o.status in bad for o in outcomes.values())

    def _settle(self, outcome: Outcome, outcomes: dict[str, Outcome]) -> None:
        """Record what became of a well."""
        self.lock.check()
        control = ControlFolder(Path(self.bundle.output))
        outcomes[outcome.well] = outcome
        if outcome.status in ("failed", "crashed"):
            with suppress(OSError):  # on a full disk the event is all there is
                write_failure(control, outcome)
        elif outcome.status == "done":
            clear_failure(control, outcome.well)
        self.events.tell_outcome(outcome)

    def _skipped(self, well: str, ledger: Ledger) -> Outcome:
        clear_failure(ControlFolder(Path(self.bundle.output)), well)
        first = ledger.entry(self.bundle.plan.writes[-1].output, well).outcome
        return Outcome(well, first.segment, "skipped", outputs=first.outputs, objects=first.objects)

    def _tell_end(self, result: RunResult) -> None:
        counts = result.counts
        self.events.tell(
            "run_finished",
            done=counts.get("done", 0),
            failed=counts.get("failed", 0) + counts.get("crashed", 0),
            skipped=counts.get("skipped", 0),
            cancelled=counts.get("cancelled", 0),
            seconds=result.seconds,
        )


def _failed_before(well: str, reason: str, file: str | None) -> Outcome:
    """Return the outcome of a well that the plan gave no task."""
    error = "PlateError" if file else "MissingPlaneError"  # at fault, or nowhere to be found
    return Outcome(well, "", "failed", step="plan", error=error, message=reason, file=file)


def _cluster_plan(plan: Plan, options: RunOptions, wells: int) -> ClusterPlan:
    """Decide where the plan runs.

    Raises
    ------
    UsageError
        If the cluster is unknown, or cannot keep time limits.
    PlanRefusedError
        If it offers too little.
    """
    wanted = options.workers or plan.config.num_workers
    cores, memory_bytes = machine_limits()
    automatic = default_workers(
        cores=min(cores, plan.resources.workers or cores),
        wells=wells,
        memory_bytes=memory_bytes,
        projected_bytes=plan.projected_bytes,
    )
    cluster = select_cluster(
        options.cluster,
        workers=min(wanted, max(wells, 1)) if wanted else automatic,
        memory_bytes=memory_bytes,
        projected_bytes=plan.projected_bytes,
    )
    if options.timeout_s is not None and not cluster.has_processes:
        raise UsageError(
            "a thread cannot be stopped: --timeout needs worker processes",
            hint="use the cluster 'local'",
        )
    if plan.resources.gpus and cluster.kwargs:
        raise PlanRefusedError(
            f"the plan needs {plan.resources.gpus} GPUs, the cluster {options.cluster!r} has none",
            hint="compile it for CPUs, or give the address of a cluster with GPUs",
        )
    return cluster


@contextmanager
def _shipped(client: Client, plugin: PlanPlugin, cluster: ClusterPlan) -> Iterator[None]:
    """Give all workers the plan, and take it back at the end."""
    register_families()
    try:
        client.register_plugin(plugin)
    except ImportError as error:
        raise UsageError(
            f"a worker of the cluster cannot load the plan: {error}",
            hint="install hcsflow and the step functions' packages where the workers run",
        ) from error
    except OSError as error:
        raise HcsflowError(
            f"the cluster is gone: {error}",
            hint="run the same command again: what is done is skipped",
        ) from error
    try:
        yield
    finally:
        if not cluster.kwargs:
            with suppress(OSError, TimeoutError, RuntimeError, ValueError):
                client.unregister_worker_plugin(plugin.name)


def _memory_per_worker(client: Client, plan: Plan) -> int:
    """Return what a task may use, in bytes: the plan's resources or the cluster's, the lesser.

    A worker runs as many tasks at a time as it has threads.

    Raises
    ------
    PlanRefusedError
        If that cannot hold the worst task.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    threads = [max(1, int(worker["nthreads"])) for worker in workers]
    limits = [int(worker.get("memory_limit") or 0) for worker in workers]
    shares = [limit // n for limit, n in zip(limits, threads, strict=True) if limit]
    offered = min(shares) if shares else machine_limits()[1] // max(1, sum(threads))
    if offered < plan.projected_bytes:
        raise PlanRefusedError(
            f"the worst task needs {plan.projected_bytes / 2**30:.1f} GiB, a thread of this "
            f"cluster's workers has {offered / 2**30:.1f} GiB",
            hint="use workers with more memory or fewer threads, or stack fewer planes at a time",
        )
    return min(offered, plan.resources.memory_bytes or offered)
