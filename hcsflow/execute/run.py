"""Running a plan: from lock to finished output."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hcsflow.errors import HcsflowError, UsageError
from hcsflow.execute.clusterplan import ClusterPlan
from hcsflow.execute.estimates import Measurements
from hcsflow.execute.events import EventLog, Listener
from hcsflow.execute.executor import outcomes_of
from hcsflow.execute.listing import list_wells
from hcsflow.execute.lock import OutputLock, locked
from hcsflow.execute.options import RunOptions, RunResult
from hcsflow.execute.output import check_output, clear_output, clear_scratch, prepare_output
from hcsflow.execute.performance import check_report_path
from hcsflow.execute.quiet import dask_logs_to
from hcsflow.execute.resume import Ledger, failed_before, planned_wells, shares_of
from hcsflow.execute.select import cluster_for, with_fitting_encoders
from hcsflow.graph.commit import fenced
from hcsflow.graph.plugin import Bundle
from hcsflow.journal import ControlFolder, Outcome, clear_failure, write_failure
from hcsflow.plan import Plan
from hcsflow.plate import Manifest
from hcsflow.storage.lazy import load_object

__all__ = ["run_plan"]

FINALISE = "hcsflow.execute.finalise:finalise"
"""Loaded while workers start and work: nothing before the end needs it."""

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
    plan = with_fitting_encoders(plan, options)
    cluster = cluster_for(plan, options, len(plan.wells))
    _check_report(cluster, options)
    with locked(output) as lock:
        check_output(plan, plate_root, output, fresh=options.fresh)
        bundle = _bundle(plan, manifest, plate_root, output, lock)
        with fenced(bundle):
            if options.fresh:
                clear_output(plan, output)
            prepare_output(plan, output)
        return _Run(bundle, options, lock, EventLog(ControlFolder(output), on_event)).run()


def _check_report(cluster: ClusterPlan, options: RunOptions) -> None:
    if options.performance_report is None:
        return
    if cluster.kind == "serial":
        raise UsageError(
            "a performance report is Dask's, and 'serial' runs without Dask",
            hint="use the cluster 'local' or 'threads', or look at the times in report.html",
        )
    check_report_path(options.performance_report)


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
    _measured: Measurements | None = None

    def run(self) -> RunResult:
        """Do what is left to do, then finalise, also after an interruption."""
        started = time.monotonic()
        plan, output = self.bundle.plan, Path(self.bundle.output)
        ledger = Ledger(plan, output)
        wells = planned_wells(plan)
        left = {well: ledger.segments_to_run(well) for well in plan.wells}
        done = {well for well, names in left.items() if not names}
        with fenced(self.bundle):
            list_wells(plan, output, ledger)
            outcomes = {well: self._skipped(well, ledger) for well in wells if well in done}
        todo = {well: left.get(well, ()) for well in wells if well not in done}
        try:
            self._process(todo, len(done), outcomes, ledger)
        except BaseException as error:
            self.events.tell("run_stopped", error=type(error).__name__, message=str(error))
            raise
        finally:
            self.lock.check()
            self._finish(ledger)
        ordered = tuple(outcomes[well] for well in wells if well in outcomes)
        seconds = time.monotonic() - started
        result = RunResult(ordered, output, seconds, shares_of(plan, left))
        self._tell_end(result)
        return result

    def _finish(self, ledger: Ledger) -> None:
        """Write what is of the whole plate, and clear what tasks left in scratch."""
        output = Path(self.bundle.output)
        with fenced(self.bundle):
            try:
                if self._measured is not None:
                    self._measured.save()
                load_object(FINALISE)(self.bundle.plan, self.bundle.manifest, output, ledger)
            except OSError as error:
                raise HcsflowError(
                    f"{error.filename or output}: cannot be written: {error.strerror}",
                    hint="make room, then run the same command again: what is done is skipped",
                ) from error
            finally:
                clear_scratch(output)

    def _process(
        self,
        todo: Mapping[str, Sequence[str]],
        skipped: int,
        outcomes: dict[str, Outcome],
        ledger: Ledger,
    ) -> None:
        """Process wells on a cluster, filling in ``outcomes``."""
        failed = {name: (reason, file) for name, reason, file in self.bundle.plan.failed_wells}
        tasks = {well: names for well, names in todo.items() if well not in failed}
        cluster = cluster_for(self.bundle.plan, self.options, len(tasks))
        workers = cluster.workers if tasks else 0
        self._measured = Measurements(
            self.bundle.plan, Path(self.bundle.output), workers=workers or 1
        )
        self.events.tell(
            "run_started",
            wells=len(todo),
            skipped=skipped,
            workers=workers,
            cluster=cluster.kind,
            **self._process_facts(),
        )
        for well in outcomes:
            self.events.tell("well_skipped", well)
        for well in todo:
            if well in failed:
                self._settle(failed_before(well, *failed[well]), outcomes)
        if tasks and not self._must_stop(outcomes):
            with dask_logs_to(ControlFolder(Path(self.bundle.output))):
                self._execute(cluster, tasks, outcomes, ledger)
        for well in todo:
            if well not in outcomes:
                outcomes[well] = Outcome(well, "", "cancelled", message="the run was stopped")

    def _process_facts(self) -> dict[str, Any]:
        """Return where this run can be found."""
        return {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "epoch": self.lock.epoch,
            "detached": self.options.detached,
        }

    def _execute(
        self,
        cluster: ClusterPlan,
        todo: Mapping[str, Sequence[str]],
        outcomes: dict[str, Outcome],
        ledger: Ledger,
    ) -> None:
        """Settle each well's outcome as it comes in, until all are or the run must stop."""
        with closing(outcomes_of(cluster, self.bundle, self.options, todo, self.events)) as news:
            for number, outcome in enumerate(news):
                if not number:  # loaded beside the other wells: workers are no longer waited for
                    threading.Thread(target=load_object, args=(FINALISE,), daemon=True).start()
                self._settle(outcome, outcomes)
                self._list_at_times(ledger)
                if self._must_stop(outcomes):
                    return

    def _list_at_times(self, ledger: Ledger) -> None:
        """Let the plates list the wells done so far, so that they can be looked at meanwhile."""
        if time.monotonic() - self._listed > LISTING_S:
            ledger.refresh()
            with fenced(self.bundle):
                list_wells(self.bundle.plan, Path(self.bundle.output), ledger)
            self._listed = time.monotonic()

    def _must_stop(self, outcomes: dict[str, Outcome]) -> bool:
        bad = ("failed", "crashed")
        return self.options.fail_fast and any(o.status in bad for o in outcomes.values())

    def _settle(self, outcome: Outcome, outcomes: dict[str, Outcome]) -> None:
        """Record what became of a well."""
        outcomes[outcome.well] = outcome
        with fenced(self.bundle):
            control = ControlFolder(Path(self.bundle.output))
            if outcome.status in ("failed", "crashed"):
                with suppress(OSError):  # on a full disk the event is all there is
                    write_failure(control, outcome)
            elif outcome.status == "done":
                clear_failure(control, outcome.well)
        if outcome.status == "done":
            over = self._measured.add(outcome.well) if self._measured else None
            if over is not None:
                self.events.tell("over_projection", outcome.well, **over)
        self.events.tell_outcome(outcome)

    def _skipped(self, well: str, ledger: Ledger) -> Outcome:
        clear_failure(ControlFolder(Path(self.bundle.output)), well)
        return ledger.skipped(well)

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
