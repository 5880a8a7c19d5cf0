"""Bringing a finished unit from its scratch folder into the output, whole or not at all.

A unit's scratch folder mirrors the output folder: what lies at ``<scratch>/images.zarr/B/03`` goes
to ``OUT/images.zarr/B/03``, ``<scratch>/results/<name>/B03`` to ``OUT/results/<name>/B03``. Object
paths in a journal entry are the same in both.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from zlib import crc32

from hcsflow.config import Backend
from hcsflow.errors import FencedError, HcsflowError, OutputLockedError
from hcsflow.graph.plugin import Bundle
from hcsflow.journal import (
    ControlFolder,
    JournalEntry,
    Outcome,
    read_entry,
    read_epoch,
    write_entry,
)
from hcsflow.plan import Plan, Segment, SideWrite, WritePlan
from hcsflow.plate.names import parse_well
from hcsflow.storage.zarr_commit import put_in_place

if sys.platform != "win32":
    import fcntl

__all__ = [
    "check_epoch",
    "commit_unit",
    "commits_shut_out",
    "committed_outcome",
    "fenced",
    "forget_unit",
    "handover_folder",
    "open_scratch",
    "scratch_dir",
    "unit_folder",
    "unit_scratch",
    "well_folder",
]

GATE_WAIT_S = 30.0
GATE_POLL_S = 0.02
UNIT_LOCKS = 64
"""Files among which the units share out; two at a time seldom meet, and a plate makes no more."""


def scratch_dir(bundle: Bundle, well: str, attempt: int, first: int = 0) -> Path:
    """Return the folder for one execution of one well's task; nothing is made.

    The name holds epoch, attempt, host and process besides the well and the task's first step:
    neither an orphan of an earlier run nor a second execution after a worker was thought dead
    writes into the same folder.
    """
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())
    name = f"{well}.{attempt}.{bundle.epoch}-{host}-{os.getpid()}-{first}"
    return ControlFolder(Path(bundle.output)).scratch / name


@contextmanager
def open_scratch(bundle: Bundle, well: str, attempt: int, first: int = 0) -> Iterator[Path]:
    """Make an empty scratch folder and remove it at the end, whatever happens."""
    folder = scratch_dir(bundle, well, attempt, first)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unit_scratch(scratch: Path, output: str) -> Path:
    """Return the part of a task's scratch folder that mirrors OUT for one output."""
    return scratch / (output or "final")


def well_folder(plan: Plan, well: str) -> str:
    """Return a well's place in a plate store, by the plate's own labels: ``"B/03"``."""
    row, column = parse_well(well)
    return f"{plan.plate.rows[row]}/{plan.plate.columns[column]}"


def unit_folder(plan: Plan, write: WritePlan, well: str) -> str:
    """Return a well's place below the output folder, which is committed by one rename.

    ``"images.zarr/B/03"``, or ``"images/B03"`` where planes are files.
    """
    if write.backend == Backend.DISK.value:
        return f"{write.store}/{well}"
    return f"{write.store}/{well_folder(plan, well)}"


def handover_folder(write: WritePlan, well: str) -> str:
    """Return where a checkpoint keeps a well's special outputs, below the output folder."""
    return f"{write.output}/handover/{well}"


def check_epoch(bundle: Bundle) -> None:
    """Refuse to go on for a run that has been succeeded.

    Raises
    ------
    FencedError
        If a newer run holds the output, or this one has ended.
    """
    found = read_epoch(ControlFolder(Path(bundle.output)))
    if found != bundle.epoch:
        raise FencedError(
            f"{bundle.output} belongs to run {found} now, this task is of run {bundle.epoch}: "
            "nothing was written"
        )


def commit_unit(bundle: Bundle, well: str, output: str, scratch: Path, entry: JournalEntry) -> None:
    """Make a finished unit part of the output, then record it.

    Parameters
    ----------
    bundle : Bundle
        The run's.
    well, output : str
        The unit; "" is the final output.
    scratch : Path
        The unit's folder (`unit_scratch`), on the same file system as the output.
    entry : JournalEntry
        What to record; its objects are checked for presence and size first.

    Raises
    ------
    FencedError
        If a newer run holds the output. Nothing has changed.
    HcsflowError
        If an object that the entry names is not there with that size. Nothing has changed.

    Notes
    -----
    Idempotent: a unit that this run has committed stays as it is, and what is in scratch goes:
    who reads it meanwhile finds it whole, and its record names the bytes in place. Killed in
    between, the folder is whole, old or new, and the journal does not know the unit, so it is
    made again.
    """
    control = ControlFolder(Path(bundle.output))
    write = _write_of(bundle.plan, output)
    _check_objects(scratch, entry)
    with _unit_alone(bundle, output, well):
        if _committed_entry(bundle, output, well) is None:
            _replace_unit(control, write, scratch, well, bundle.plan)
            write_entry(control, replace(entry, recipe=bundle.plan.recipe(output)))
    shutil.rmtree(scratch, ignore_errors=True)


def _replace_unit(
    control: ControlFolder, write: WritePlan, scratch: Path, well: str, plan: Plan
) -> None:
    control.entry(write.output, well).unlink(missing_ok=True)
    for side in write.sides:
        if not (scratch / _side_folder(side, well)).is_dir():  # it made none this time
            shutil.rmtree(control.output / _side_folder(side, well), ignore_errors=True)
    for source, target in _moves(control.output, scratch, write, well, plan):
        target.parent.mkdir(parents=True, exist_ok=True)
        put_in_place(source, target, overwrite=True)


def forget_unit(bundle: Bundle, entry: JournalEntry) -> None:
    """Remove a unit's record, so that the next run makes it again.

    Nothing happens if the unit has another record by now.

    Raises
    ------
    FencedError
        If a newer run holds the output. Nothing has changed.
    """
    control = ControlFolder(Path(bundle.output))
    with _unit_alone(bundle, entry.output, entry.well):
        if read_entry(control, entry.output, entry.well) == entry:
            control.entry(entry.output, entry.well).unlink(missing_ok=True)


def committed_outcome(bundle: Bundle, segment: Segment, well: str) -> Outcome | None:
    """Return the outcome of a segment whose outputs this very run has all committed, else None.

    A worker may die after its last commit and before its outcome was fetched; Dask runs the task
    again then, which need not do anything. A segment whose result is needed is never through.
    """
    if bundle.plan.hands_on(segment):
        return None
    entry = None
    for write in bundle.plan.writes_of(segment):
        entry = _committed_entry(bundle, write.output, well)
        if entry is None:
            return None
    return entry.outcome if entry else None


def _committed_entry(bundle: Bundle, output: str, well: str) -> JournalEntry | None:
    """Return the record of a unit that this very run has committed, else None."""
    entry = read_entry(ControlFolder(Path(bundle.output)), output, well)
    if entry is None or entry.epoch != bundle.epoch:
        return None
    is_same = entry.fingerprint == bundle.plan.unit_fingerprint(well, output)
    return entry if is_same else None


@contextmanager
def fenced(bundle: Bundle) -> Iterator[None]:
    """Let no other run take the output over inside the block, on this host at least.

    Raises
    ------
    FencedError
        If one has before. The block has not begun.
    """
    with _locked(ControlFolder(Path(bundle.output)).gate, exclusive=False):
        check_epoch(bundle)
        yield


@contextmanager
def _unit_alone(bundle: Bundle, output: str, well: str) -> Iterator[None]:
    """Let one process at a time change a unit, on this host at least, and no older run.

    A worker that was thought dead may still be at the unit that another was given since.
    """
    number = crc32(f"{output}/{well}".encode()) % UNIT_LOCKS
    folder = ControlFolder(Path(bundle.output)).root / "gates"
    with fenced(bundle):
        folder.mkdir(exist_ok=True)
        with _locked(folder / f"{number:02d}", exclusive=True):
            yield


@contextmanager
def commits_shut_out(control: ControlFolder) -> Iterator[None]:
    """Hold the gate alone: no commit is under way inside the block, on this host at least.

    Raises
    ------
    OutputLockedError
        If a commit does not end within `GATE_WAIT_S`. The block has not begun.
    """
    control.root.mkdir(parents=True, exist_ok=True)
    with _locked(control.gate, exclusive=True):
        yield


@contextmanager
def _locked(file: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold a file's lock; where a file system knows none, the epoch alone guards."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if sys.platform != "win32":
            _lock_file(handle, file, exclusive=exclusive)
        yield
    finally:
        os.close(handle)


def _lock_file(handle: int, file: Path, *, exclusive: bool) -> None:
    """Wait for the lock; a process that was stopped in a commit would never give it up."""
    operation = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    end = time.monotonic() + GATE_WAIT_S
    while True:
        try:
            fcntl.flock(handle, operation)
        except BlockingIOError:
            if time.monotonic() > end:
                raise OutputLockedError(
                    f"{file} is held: a process is in the middle of a commit to this "
                    f"output, and has not ended it for {GATE_WAIT_S:g} s",
                    hint=f"is one stopped? find it with: lsof {file}",
                ) from None
            time.sleep(GATE_POLL_S)
        except OSError:
            return
        else:
            return


def _write_of(plan: Plan, output: str) -> WritePlan:
    return next(write for write in plan.writes if write.output == output)


def _check_objects(scratch: Path, entry: JournalEntry) -> None:
    for item in entry.objects:
        found: int | None = None
        with suppress(OSError):
            found = os.stat(f"{scratch}/{item.path}").st_size  # noqa: PTH116 - many, and faster
        if found != item.nbytes:
            raise HcsflowError(
                f"{item.path}: expected {item.nbytes} bytes before the commit, found "
                f"{'no such file' if found is None else found}",
                hint="is the disk full, or does something clean up .hcsflow/scratch?",
            )


def _side_folder(side: SideWrite, well: str) -> str:
    return f"results/{side.name}/{well}"


def _moves(
    output: Path, scratch: Path, write: WritePlan, well: str, plan: Plan
) -> Iterator[tuple[Path, Path]]:
    """Yield what goes where: what stands beside it first, the well's own folder last."""
    for side in write.sides:
        folder = _side_folder(side, well)
        if (scratch / folder).is_dir():
            yield scratch / folder, output / folder
    if write.carried:
        folder = handover_folder(write, well)
        yield scratch / folder, output / folder
    folder = unit_folder(plan, write, well)
    yield scratch / folder, output / folder
