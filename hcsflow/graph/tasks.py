"""What a worker runs: one segment of one well, from files to a committed well."""

from __future__ import annotations

import time
import traceback
from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hcsflow.arrays.counting import ArrayCounts, count_arrays
from hcsflow.config import MissingPolicy
from hcsflow.errors import FencedError, HcsflowError, PlaneError
from hcsflow.graph.commit import (
    check_epoch,
    commit_unit,
    committed_outcome,
    open_scratch,
    unit_scratch,
    well_folder,
)
from hcsflow.graph.documents import finish_well
from hcsflow.graph.feed import WellPlanes
from hcsflow.graph.planes import task_storage
from hcsflow.graph.plugin import bundle_of
from hcsflow.graph.segment import SegmentRun
from hcsflow.graph.sinks import WellSink
from hcsflow.graph.specials import BuiltinInputs, SpecialValues
from hcsflow.graph.worker import PeakMeter, emit
from hcsflow.journal import JournalEntry, ObjectRecord, Outcome
from hcsflow.plan import Group, LocalKey, StepPlan, WritePlan
from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.storage.traffic import TrafficMeter

__all__ = ["run_segment"]


def run_segment(plan_id: str, segment: str, well: str, attempt: int, *upstream: Outcome) -> Outcome:
    """Process one well through one segment.

    Parameters
    ----------
    plan_id, segment, well : str
        Which plan (shipped by `hcsflow.graph.plugin`), segment and well.
    attempt : int
        Counts resubmissions.
    *upstream : Outcome
        Outcomes of the segments before; one that failed is passed on.

    Returns
    -------
    Outcome
        Also for a well that fails: this is the one place where any error becomes a record.
    """
    for outcome in upstream:
        if outcome.status != "done":
            return replace(outcome, segment=segment)
    bundle = bundle_of(plan_id)
    done = committed_outcome(bundle, well)
    if done is not None:  # this worker's forerunner died between its commit and its answer
        return done
    emit("well_started", well, plan_id=plan_id)
    task = _WellTask(plan_id, segment, well, attempt)
    try:
        return task.run()
    except FencedError as error:
        return replace(task.failure(error), status="cancelled")
    except (Exception, SystemExit, CancelledError) as error:  # noqa: BLE001 - the task boundary
        return task.failure(error)


@dataclass
class _Sinks:
    """All outputs of a task as one sink."""

    sinks: list[WellSink]

    def image(self, step: StepPlan, keys: Any, stack: Any) -> None:
        for sink in self.sinks:
            sink.image(step, keys, stack)

    def special(
        self, step: StepPlan, name: str, group: Group, keys: Sequence[LocalKey], value: Any
    ) -> None:
        for sink in self.sinks:
            sink.special(step, name, group, keys, value)


class _WellTask:
    """One well's segment: joins planes, steps, sinks and the commit."""

    def __init__(self, plan_id: str, segment: str, well: str, attempt: int) -> None:
        bundle = bundle_of(plan_id)
        plan = bundle.plan
        self._plan_id = plan_id
        self._bundle = bundle
        self._segment = next(s for s in plan.segments if s.name == segment)
        self._well = well
        self._attempt = attempt
        number = plan.plate.wells.index(well)
        self._meter = TrafficMeter(log_length=0)
        self._planes = WellPlanes(
            plan, bundle.manifest, Path(bundle.plate_root), number, meter=self._meter
        )
        self._builtins = BuiltinInputs(plan, bundle.manifest, number)
        self._run: SegmentRun | None = None
        self._arrays = ArrayCounts()
        self._started = time.perf_counter()

    def run(self) -> Outcome:
        """Process, write and commit; raises what goes wrong."""
        check_epoch(self._bundle)
        self._planes.check()
        plan = self._bundle.plan
        with open_scratch(self._bundle, self._well, self._attempt) as scratch:
            roots = {write.output: unit_scratch(scratch, write.output) for write in plan.writes}
            with PeakMeter() as meter, count_arrays() as self._arrays:
                records = self._make(roots, scratch)
            outcome = self._outcome(records, meter)
            for write in plan.writes:
                self._commit(write, roots[write.output], records[write.output], outcome)
        return outcome

    def _make(self, roots: dict[str, Path], scratch: Path) -> dict[str, tuple[ObjectRecord, ...]]:
        """Run the steps and write every output into its scratch folder."""
        writes = self._bundle.plan.writes
        sinks: dict[str, WellSink] = {}
        with _aborting(sinks.values()):
            for write in writes:
                sinks[write.output] = self._sink(write, roots[write.output])
            self._process(_Sinks(list(sinks.values())), scratch)
            return {w.output: self._finish(w, sinks[w.output], roots) for w in writes}

    def _sink(self, write: WritePlan, root: Path) -> WellSink:
        folder = root / write.store / well_folder(self._bundle.plan, self._well)
        sides = root / "results"
        return WellSink(
            self._bundle.plan, write, self._well, folder=folder, sides=sides, meter=self._meter
        )

    def _process(self, sink: _Sinks, scratch: Path) -> None:
        limit = self._bundle.plan.held_limit_bytes(self._bundle.memory_bytes)
        memory = MemoryStorageBackend(limit_bytes=limit, spill_dir=scratch / "spill")
        try:
            self._run = SegmentRun(
                self._bundle.plan,
                self._segment,
                planes=self._planes,
                specials=SpecialValues(self._bundle.plan, self._builtins),
                files=task_storage(memory, scratch / "held", self._meter),
                sink=sink,
                on_step=self._tell_step,
            )
            self._run.run()
        finally:
            memory.close()

    def _tell_step(self, step: str) -> None:
        emit("step", self._well, plan_id=self._plan_id, step=step)

    def _finish(
        self, write: WritePlan, sink: WellSink, roots: dict[str, Path]
    ) -> tuple[ObjectRecord, ...]:
        folder = write.store + "/" + well_folder(self._bundle.plan, self._well)
        return finish_well(
            self._bundle.plan,
            write,
            sink,
            well=self._well,
            root=roots[write.output],
            well_path=folder,
            stage_positions=self._builtins.stage_positions,
        )

    def _commit(
        self, write: WritePlan, root: Path, objects: tuple[ObjectRecord, ...], outcome: Outcome
    ) -> None:
        entry = JournalEntry(
            well=self._well,
            output=write.output,
            fingerprint=self._bundle.plan.unit_fingerprint(self._well, write.output),
            attempt=self._attempt,
            epoch=self._bundle.epoch,
            objects=objects,
            outcome=outcome,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        commit_unit(self._bundle, self._well, write.output, root, entry)

    def _outcome(self, records: dict[str, tuple[ObjectRecord, ...]], meter: PeakMeter) -> Outcome:
        seconds = self._run.seconds if self._run else {}
        stored = [record for objects in records.values() for record in objects]
        return Outcome(
            well=self._well,
            segment=self._segment.name,
            status="done",
            seconds=time.perf_counter() - self._started,
            peak_bytes=meter.peak_bytes,
            step_seconds=tuple((step, round(s, 4)) for step, s in seconds.items()),
            bytes_read=self._planes.bytes_read,
            bytes_written=sum(record.nbytes for record in stored),
            outputs=tuple(records),
            objects=sum(record.path.rpartition("/")[2].isdigit() for record in stored),
            notes=self._notes(),
            traffic=self._traffic(),
        )

    def _traffic(self) -> tuple[tuple[str, int, int, float], ...]:
        return tuple(
            (backend, found.operations, found.nbytes, round(found.seconds, 4))
            for backend, found in self._meter.traffic().items()
        )

    def _notes(self) -> tuple[str, ...]:
        return (*self._missing_notes(), *self._arrays.notes())

    def _missing_notes(self) -> tuple[str, ...]:
        if not self._planes.missing:
            return ()
        config = self._bundle.plan.config
        count = len(self._planes.missing)
        if config.missing is MissingPolicy.FILL:
            return (f"{count} missing planes filled with {config.fill_value}",)
        skipped = self._run.skipped_groups if self._run else 0
        return (f"{count} missing planes, {skipped} groups skipped",)

    def failure(self, error: BaseException) -> Outcome:
        """Return what is recorded of an error."""
        step = self._run.step_name if self._run else "read"
        file = error.file if isinstance(error, PlaneError) else None
        return Outcome(
            well=self._well,
            segment=self._segment.name,
            status="failed",
            seconds=time.perf_counter() - self._started,
            step="read" if file else step,
            error=type(error).__name__,
            message=_message(error),
            hint=error.hint if isinstance(error, HcsflowError) else _hint(error),
            file=file,
            traceback="".join(traceback.format_exception(error)),
            traffic=self._traffic(),
        )


def _message(error: BaseException) -> str:
    try:
        return error.message if isinstance(error, HcsflowError) else str(error)
    except Exception:  # noqa: BLE001 - a user's error class may fail to say what it is
        return type(error).__name__


def _hint(error: BaseException) -> str | None:
    if isinstance(error, ValueError) and "read-only" in str(error):
        return "a step function must not change its input; work on a copy"
    if isinstance(error, MemoryError):
        return "use fewer workers, or stack fewer planes at a time"
    return None


@contextmanager
def _aborting(sinks: Any) -> Iterator[None]:
    """Close the sinks' files if anything goes wrong."""
    try:
        yield
    except BaseException:
        for sink in sinks:
            sink.abort()
        raise
