"""One run at a time on an output: a lock with a heartbeat and an epoch that only grows."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from hcsflow.errors import FencedError, OutputLockedError
from hcsflow.execute.namespace import process_namespace
from hcsflow.graph.commit import commits_shut_out
from hcsflow.journal import ControlFolder, read_epoch, read_json, write_text_atomic

__all__ = ["Holder", "OutputLock", "cancel_run", "live_holder", "locked"]

HEARTBEAT_S = 5.0
STALE_S = 60.0
"""A lock of another host counts as dead when its heart has not beaten for this long."""

START_TOLERANCE_S = 1.0

_held_here: set[tuple[Path, int]] = set()
"""Lock files that runs of this process hold, with their epochs."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock.

    Parameters
    ----------
    host, namespace : str
        Host name and process name space: process ids mean nothing across either.
    pid : int
        Process id.
    started : float
        When that process started, seconds since 1970; tells it from a later one of the same id.
    epoch : int
        Number of the run.
    """

    host: str
    namespace: str
    pid: int
    started: float
    epoch: int

    @property
    def is_here(self) -> bool:
        """Whether the process can be looked up from here."""
        return (self.host, self.namespace) == (socket.gethostname(), process_namespace())

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; only where `is_here`."""
        try:
            process = psutil.Process(self.pid)
            same = bool(abs(process.create_time() - self.started) < START_TOLERANCE_S)
            return same and str(process.status()) != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return True


class OutputLock:
    """A lock that is held; see `locked`.

    Parameters
    ----------
    control : ControlFolder
        Of the output.
    holder : Holder
        This run.
    """

    def __init__(self, control: ControlFolder, holder: Holder) -> None:
        self._control = control
        self._holder = holder
        self._held = (control.lock.resolve(), holder.epoch)
        _held_here.add(self._held)
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="hcsflow-heartbeat", daemon=True)
        self._heart.start()

    @property
    def epoch(self) -> int:
        """Number of this run."""
        return self._holder.epoch

    def check(self) -> None:
        """Make sure that nobody took the output over, e.g. while this machine slept.

        Raises
        ------
        FencedError
            If somebody did.
        """
        if read_epoch(self._control) != self.epoch:
            raise FencedError(
                f"{self._control.output} was taken over by another run",
                hint="this one had not been heard of for too long; see `hcsflow status`",
            )

    def release(self) -> None:
        """Give the output free; tasks of this run that are still about cannot commit any more.

        Where one of them is stopped in the middle of a commit the lock stays, as that of a process
        that will be dead. Where the disk refuses to remove it, it is dead at once.
        """
        _held_here.discard(self._held)
        self._stop.set()
        self._heart.join(timeout=HEARTBEAT_S)
        with suppress(OutputLockedError), commits_shut_out(self._control):
            try:
                _cancel_request(self._control).unlink(missing_ok=True)
                if read_epoch(self._control) == self.epoch:
                    _write_epoch(self._control, self.epoch + 1)
            finally:  # also on a full disk
                if _read_holder(self._control) == self._holder:
                    self._control.lock.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with suppress(OSError):
                if _read_holder(self._control) == self._holder:
                    os.utime(self._control.lock)
                    self._heed_cancel()

    def _heed_cancel(self) -> None:
        request = _cancel_request(self._control)
        if read_json(request) == self.epoch:
            request.unlink(missing_ok=True)
            os.kill(self._holder.pid, signal.SIGINT)


@contextmanager
def locked(output: Path) -> Iterator[OutputLock]:
    """Hold an output for the block.

    Raises
    ------
    OutputLockedError
        If another run is alive on it. Nothing has changed.
    """
    lock = _acquire(ControlFolder(output))
    try:
        yield lock
    finally:
        lock.release()


def live_holder(output: Path) -> Holder | None:
    """Return who runs on an output now, None if nobody does."""
    control = ControlFolder(output)
    holder = _read_holder(control)
    return holder if holder is not None and _is_live(control, holder) else None


def cancel_run(output: Path) -> bool:
    """Interrupt the run on an output as Ctrl-C would; False if none is alive.

    One on another host is asked by a file, which it sees within `HEARTBEAT_S`.
    """
    holder = live_holder(output)
    if holder is None:
        return False
    if holder.is_here:
        os.kill(holder.pid, signal.SIGINT)
    else:
        write_text_atomic(_cancel_request(ControlFolder(output)), str(holder.epoch))
    return True


def _cancel_request(control: ControlFolder) -> Path:
    """Return the file that asks the run of the epoch in it to stop."""
    return control.root / "cancel"


def _acquire(control: ControlFolder) -> OutputLock:
    _refuse_if_held(control)  # at once, also while the other run is in the middle of a commit
    with commits_shut_out(control):
        held = _refuse_if_held(control)
        control.lock.unlink(missing_ok=True)
        epoch = max(read_epoch(control), held.epoch if held else 0) + 1
        holder = _this_process(epoch)
        try:
            _publish(control, holder)
            _write_epoch(control, epoch)
        except FileExistsError:
            raise _locked_error(control, _read_holder(control)) from None
        except OSError:  # or this process would seem to hold it for as long as it lives
            control.lock.unlink(missing_ok=True)
            raise
    return OutputLock(control, holder)


def _refuse_if_held(control: ControlFolder) -> Holder | None:
    """Return who held the lock last, None if that is not known."""
    held = _read_holder(control)
    if control.lock.exists() and _is_live(control, held):
        raise _locked_error(control, held)
    return held


def _publish(control: ControlFolder, holder: Holder) -> None:
    """Make the lock file, whole at once: a torn one would seem to be of a run that is alive."""
    draft = control.lock.with_name(f".lock.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        draft.write_text(json.dumps(asdict(holder)), encoding="utf-8")
        try:
            control.lock.hardlink_to(draft)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            handle = os.open(control.lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(holder), file)
    finally:
        draft.unlink(missing_ok=True)


def _is_live(control: ControlFolder, holder: Holder | None) -> bool:
    """Tell whether a lock file's holder lives; one that is torn counts by its age."""
    if holder is not None and holder.is_here:
        if holder.pid == os.getpid():
            return (control.lock.resolve(), holder.epoch) in _held_here
        return holder.is_alive
    return _age_s(control) < STALE_S


def _age_s(control: ControlFolder) -> float:
    """Return the time since the last heartbeat, by the clock of the file system."""
    probe = control.gate
    try:
        os.utime(probe)
        return probe.stat().st_mtime - control.lock.stat().st_mtime
    except FileNotFoundError:
        return STALE_S
    except OSError:
        return time.time() - control.lock.stat().st_mtime


def _locked_error(control: ControlFolder, holder: Holder | None) -> OutputLockedError:
    who = f"process {holder.pid} on {holder.host}" if holder else "an unknown process"
    return OutputLockedError(
        f"another run is alive on {control.output}: {who}",
        hint="wait for it, stop it with `hcsflow cancel`, or choose another output",
    )


def _this_process(epoch: int) -> Holder:
    started = psutil.Process().create_time()
    return Holder(socket.gethostname(), process_namespace(), os.getpid(), started, epoch)


def _read_holder(control: ControlFolder) -> Holder | None:
    value: Any = read_json(control.lock)
    try:
        return Holder(**value)
    except TypeError:
        return None


def _write_epoch(control: ControlFolder, epoch: int) -> None:
    write_text_atomic(control.epoch, str(epoch))
