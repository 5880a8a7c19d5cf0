"""What a worker runs: one segment of one well, from files to a committed well."""

from __future__ import annotations

import errno
import threading
import time
import traceback
from asyncio import CancelledError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hcsflow.arrays.counting import ArrayCounts, count_arrays
from hcsflow.arrays.devices import using_gpus
from hcsflow.config import MissingPolicy
from hcsflow.errors import FencedError, HcsflowError, PlaneError
from hcsflow.graph.commit import (
    check_epoch,
    commit_unit,
    committed_outcome,
    open_scratch,
    unit_folder,
    unit_scratch,
)
from hcsflow.graph.documents import finish_well
from hcsflow.graph.feed import WellPlanes
from hcsflow.graph.handover import CheckpointSink, Incoming, ResultSink, incoming_of
from hcsflow.graph.planes import task_storage
from hcsflow.graph.plugin import bundle_of
from hcsflow.graph.positions import StagePositions
from hcsflow.graph.results import Handover, outcome_of
from hcsflow.graph.segment import SegmentRun, Sink
from hcsflow.graph.sinks import WellSink
from hcsflow.graph.specials import BuiltinInputs, SpecialValues
from hcsflow.graph.worker import MemoryReturn, PeakMeter, emit, emit_no_more
from hcsflow.journal import JournalEntry, ObjectRecord, Outcome, merged
from hcsflow.plan import Group, LocalKey, Segment, StepPlan, WritePlan
from hcsflow.storage.encoding import Encoders
from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.storage.traffic import TrafficMeter

__all__ = ["run_segment"]


Result = Outcome | Handover

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def run_segment(plan_id: str, segment: str, well: str, attempt: int, *upstream: Result) -> Result:
    """Process one well through one segment.

    Parameters
    ----------
    plan_id, segment, well : str
        Which plan (shipped by `hcsflow.graph.plugin`), segment and well.
    attempt : int
        Counts resubmissions.
    *upstream : Outcome or Handover
        The result of the segment before, if that ran too; a failure is passed on.

    Returns
    -------
    Outcome or Handover
        An outcome of the well's last segment, of what this run did of the well; a handover of any
        other. Also for a well that fails: this is the one place where any error becomes a record.
    """
    bundle = bundle_of(plan_id)
    part = bundle.plan.segment(segment)
    is_last = bundle.plan.next_segment(part) is None
    before = upstream[0] if upstream else None
    if before is not None and outcome_of(before).status != "done":
        return outcome_of(before) if is_last else Handover(outcome_of(before))
    earlier = [outcome_of(before)] if before is not None else []
    done = committed_outcome(bundle, part, well)
    if done is not None:  # this worker's forerunner died between its commit and its answer
        return _answer(merged([*_committed(before), done]), is_last=is_last)
    started = "segment_started" if before else "well_started"
    emit(started, well, plan_id=plan_id, segment=segment)
    task = _WellTask(plan_id, part, well, attempt, before if isinstance(before, Handover) else None)
    try:
        own = task.run()
    except FencedError as error:
        own = replace(task.failure(error), status="cancelled")
    except KeyboardInterrupt as error:
        if threading.current_thread() is threading.main_thread():
            raise  # somebody's Ctrl-C; it reaches no other thread, so there a function raised it
        own = task.failure(error)
    except (Exception, SystemExit, CancelledError) as error:  # noqa: BLE001 - the task boundary
        own = task.failure(error)
    if is_last or own.status != "done":
        emit_no_more(well, plan_id=plan_id)
    outcome = merged([*earlier, own])
    if is_last or own.status != "done":
        return _answer(outcome, is_last=is_last)
    return task.handover(outcome, own)


def _committed(before: Result | None) -> tuple[Outcome, ...]:
    """Return what a well's records hold of the segments before the one that comes now."""
    if not isinstance(before, Handover):
        return ()
    if not before.uncommitted:
        return (before.outcome,)
    return (before.committed,) if before.committed else ()


def _answer(outcome: Outcome, *, is_last: bool) -> Result:
    return outcome if is_last else Handover(outcome)


@dataclass
class _Sinks:
    """All that takes what a task makes, as one sink."""

    sinks: list[Sink]

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

    def __init__(
        self,
        plan_id: str,
        segment: Segment,
        well: str,
        attempt: int,
        before: Handover | None,
    ) -> None:
        bundle = bundle_of(plan_id)
        plan = bundle.plan
        self._plan_id = plan_id
        self._bundle = bundle
        self._segment = segment
        self._before = before
        self._writes = plan.writes_of(segment)
        self._result = ResultSink(plan, segment) if plan.hands_on(segment) else None
        self._incoming = Incoming()
        self._well = well
        self._attempt = attempt
        number = plan.plate.wells.index(well)
        self._meter = TrafficMeter(log_length=0)
        root = Path(bundle.plate_root)
        known = before.positions if before else ()
        self._positions = StagePositions(plan.plate, bundle.manifest, root, number, known=known)
        self._planes = WellPlanes(
            plan, bundle.manifest, number, positions=self._positions, meter=self._meter
        )
        self._builtins = BuiltinInputs(plan, number, self._positions)
        self._told_positions = known
        self._run: SegmentRun | None = None
        self._arrays = ArrayCounts()
        self._peak = PeakMeter()
        self._return = MemoryReturn(segment.projected_bytes)
        self._told: set[str] = set()
        self._started = time.perf_counter()

    def run(self) -> Outcome:
        """Process, write and commit; raises what goes wrong."""
        check_epoch(self._bundle)
        self._planes.check()
        with open_scratch(self._bundle, self._well, self._attempt, self._segment.first) as scratch:
            roots = {write.output: unit_scratch(scratch, write.output) for write in self._writes}
            has_gpus = self._bundle.plan.resources.gpus > 0
            with self._peak, using_gpus(has_gpus), count_arrays() as self._arrays:
                records = self._make(roots, scratch)
            if self._bundle.plan.next_segment(self._segment) is not None:
                self._told_positions = self._positions.found()
            outcome = self._outcome(records)
            for write in self._writes:
                self._commit(write, roots[write.output], records[write.output], outcome)
        return outcome

    def handover(self, outcome: Outcome, own: Outcome) -> Handover:
        """Return the task's result where others come after it."""
        if self._result is None:
            return Handover(outcome, positions=self._told_positions)
        uncommitted = (*self._uncommitted, own)
        return Handover(
            outcome,
            uncommitted,
            tuple(self._result.planes),
            tuple(self._result.specials),
            next(iter(_committed(self._before)), None),
            self._told_positions,
        )

    @property
    def _uncommitted(self) -> tuple[Outcome, ...]:
        return self._before.uncommitted if self._before else ()

    def _make(self, roots: dict[str, Path], scratch: Path) -> dict[str, tuple[ObjectRecord, ...]]:
        """Run the steps and write every output into its scratch folder."""
        sinks: dict[str, WellSink] = {}
        handing: dict[str, CheckpointSink] = {}
        with Encoders(self._num_encoders) as encoders, _aborting(sinks), _aborting(handing):
            for write in self._writes:
                sinks[write.output] = self._sink(write, roots[write.output], encoders)
                handing[write.output] = CheckpointSink(write, self._well, roots[write.output])
            result = [self._result] if self._result else []
            self._process(_Sinks([*sinks.values(), *handing.values(), *result]), scratch)
            return {
                write.output: (
                    *self._finish(write, sinks[write.output], roots),
                    *handing[write.output].close(),
                )
                for write in self._writes
            }

    @property
    def _num_encoders(self) -> int:
        """Return the plan's encoders, or one where the worker has less memory than was planned."""
        has_room = self._bundle.memory_bytes >= self._segment.projected_bytes
        return self._bundle.plan.resources.encoders if has_room else 1

    def _sink(self, write: WritePlan, root: Path, encoders: Encoders) -> WellSink:
        folder = root / unit_folder(self._bundle.plan, write, self._well)
        return WellSink(
            self._bundle.plan,
            write,
            self._well,
            folder=folder,
            sides=root / "results",
            meter=self._meter,
            encoders=encoders,
        )

    def _process(self, sink: _Sinks, scratch: Path) -> None:
        limit = self._bundle.plan.held_limit_bytes(self._bundle.memory_bytes)
        on_device = self._bundle.plan.resources.device_memory_bytes // 4 or None
        memory = MemoryStorageBackend(
            limit_bytes=limit, device_limit_bytes=on_device, spill_dir=scratch / "spill"
        )
        with (
            closing(memory),
            incoming_of(
                self._bundle, self._segment, self._well, self._before, self._meter
            ) as self._incoming,
        ):
            self._run = SegmentRun(
                self._bundle.plan,
                self._segment,
                planes=self._planes,
                incoming=self._incoming,
                specials=SpecialValues(self._bundle.plan, self._builtins, self._incoming.specials),
                files=task_storage(memory, scratch / "held", self._meter),
                sink=sink,
                on_step=self._tell_step,
                on_done=self._tell_done,
            )
            self._run.run()

    def _tell_step(self, step: str) -> None:
        self._peak.begin(step)
        self._return.after(self._bytes_read)
        if step not in self._told:  # once, not once a turn: each costs the scheduler
            self._told.add(step)
            emit("step", self._well, plan_id=self._plan_id, step=step)

    def _tell_done(self, step: str) -> None:
        seconds = round(self._run.seconds[step], 4) if self._run else 0.0
        emit("step_done", self._well, plan_id=self._plan_id, step=step, seconds=seconds)

    def _finish(
        self, write: WritePlan, sink: WellSink, roots: dict[str, Path]
    ) -> tuple[ObjectRecord, ...]:
        self._peak.begin("write")
        folder = unit_folder(self._bundle.plan, write, self._well)
        return finish_well(
            self._bundle.plan,
            write,
            sink,
            well=self._well,
            root=roots[write.output],
            well_path=folder,
            stage_positions=self._positions.of_all,
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
            outcome=merged([*self._uncommitted, outcome]),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        commit_unit(self._bundle, self._well, write.output, root, entry)

    def _outcome(self, records: dict[str, tuple[ObjectRecord, ...]]) -> Outcome:
        seconds = self._run.seconds if self._run else {}
        stored = [record for objects in records.values() for record in objects]
        return Outcome(
            well=self._well,
            segment=self._segment.name,
            status="done",
            seconds=time.perf_counter() - self._started,
            peak_bytes=self._peak.peak_bytes,
            step_peaks=tuple(self._peak.step_peaks.items()),
            step_seconds=tuple((step, round(s, 4)) for step, s in seconds.items()),
            bytes_read=self._bytes_read,
            bytes_written=sum(record.nbytes for record in stored),
            outputs=tuple(records),
            objects=sum(record.path.rpartition("/")[2].isdigit() for record in stored),
            notes=self._notes(),
            traffic=self._traffic(),
        )

    @property
    def _bytes_read(self) -> int:
        return self._planes.bytes_read + self._incoming.bytes_read()

    def _traffic(self) -> tuple[tuple[str, int, int, float], ...]:
        return tuple(
            (backend, found.operations, found.nbytes, round(found.seconds, 4))
            for backend, found in self._meter.traffic().items()
        )

    def _notes(self) -> tuple[str, ...]:
        return (*self._missing_notes(), *self._arrays.notes())

    @property
    def _reads_plate(self) -> bool:
        steps = self._bundle.plan.steps[self._segment.first : self._segment.last + 1]
        return any(step.source is None for step in steps)

    def _missing_notes(self) -> tuple[str, ...]:
        if not self._planes.missing or not self._reads_plate:
            return ()
        config = self._bundle.plan.config
        count = len(self._planes.missing)
        if config.missing is MissingPolicy.FILL:
            return (f"{count} missing planes filled with {config.fill_value}",)
        skipped = self._run.skipped_groups if self._run else 0
        return (f"{count} missing planes, {skipped} groups skipped",)

    def failure(self, error: BaseException) -> Outcome:
        """Return what is recorded of an error."""
        # After the last step, and with several encoders later than planes were given to them.
        step = (self._run.step_name or "write") if self._run else "read"
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
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return "make room on the output's disk, then run the same command again"
    if isinstance(error, MemoryError):
        return "use fewer workers, or stack fewer planes at a time"
    return None


@contextmanager
def _aborting(sinks: Mapping[str, WellSink | CheckpointSink]) -> Iterator[None]:
    """Close the sinks' files if anything goes wrong."""
    try:
        yield
    except BaseException:
        for sink in sinks.values():
            sink.abort()
        raise
