"""Runs that go on without a terminal: started, waited for until they hold their output."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from hcsflow.execute.lock import live_holder
from hcsflow.execute.output import check_place
from hcsflow.journal import ControlFolder, read_log

__all__ = ["Detached", "dashboard_of", "run_log", "start_detached"]

LOG = "run.log"
POLL_S = 0.05
DASHBOARD_S = 2.0
START_S = 15.0
"""Longest that a run which holds its output is watched for its cluster to stand or to fail."""


STANDING = ("cluster_started", "workers", "well_started", "well_done", "well_failed")

PROGRAM = """import sys
sys.path[:] = {path!r}
from hcsflow.cli.main import main
sys.exit(main({arguments!r}))
"""
"""The command line in a fresh interpreter that finds the same modules."""


@dataclass(frozen=True, slots=True)
class Detached:
    """A run that was started on its own.

    Parameters
    ----------
    pid, host : int, str
        Its process.
    log : Path
        What it prints.
    status : int or None
        Exit status where it has ended already, None while it runs.
    text : str
        What it printed, where it has ended.
    """

    pid: int
    host: str
    log: Path
    status: int | None = None
    text: str = ""


def run_log(output: Path) -> Path:
    """Return the file that takes what a detached run prints."""
    return ControlFolder(output).root / LOG


def start_detached(arguments: Sequence[str], plate_root: Path, output: Path) -> Detached:
    """Start ``hcsflow`` with some arguments, apart from this terminal and this session.

    Returns once the run has its cluster or works on wells, or has ended; `START_S` after it holds
    its output at the latest.

    Parameters
    ----------
    arguments : sequence of str
        ``["run", …]``, understood from the present folder.
    plate_root, output : Path
        Of that run; the output takes its log.

    Raises
    ------
    OutputError
        If the output must not be written to. Nothing has been started.
    """
    output = Path(output).resolve()
    check_place(plate_root, output)
    log = run_log(output)
    is_new = not output.exists()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        stream.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode())
        stream.flush()
        begin = stream.tell()
        process = _start(arguments, stream)
    try:
        status = _wait(process, output)
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        raise
    if status is None:
        process.returncode = 0  # it goes on by itself: nobody here will wait for it
        return Detached(process.pid, socket.gethostname(), log)
    text = log.read_bytes()[begin:].decode("utf-8", errors="replace")
    if is_new and not ControlFolder(output).plan.exists():
        _remove_traces(log, output)
    return Detached(process.pid, socket.gethostname(), log, status, text)


def dashboard_of(output: Path) -> tuple[str | None, str | None]:
    """Return the dashboard of the run that holds an output, and how to see it from elsewhere.

    Waits a few seconds for a cluster that is starting; None where there is no dashboard.
    """
    end = time.monotonic() + DASHBOARD_S
    while time.monotonic() < end and (holder := live_holder(Path(output))) is not None:
        lines = list(read_log(ControlFolder(Path(output).resolve())))
        kinds = [line.get("kind") for line in lines]
        begun = [n for n, line in enumerate(lines) if line.get("epoch") == holder.epoch]
        if begun and "cluster_started" in kinds[begun[-1] :]:
            found = lines[kinds.index("cluster_started", begun[-1])]
            return found.get("dashboard"), found.get("tunnel")
        if begun and lines[begun[-1]].get("cluster") == "serial":
            break
        time.sleep(POLL_S)
    return None, None


def _start(arguments: Sequence[str], stream: IO[bytes]) -> subprocess.Popen[bytes]:
    program = PROGRAM.format(path=sys.path, arguments=list(arguments))
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-P", "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes], output: Path) -> int | None:
    """Return the exit status of a run that ended, None once it has begun."""
    end = float("inf")
    while (status := process.poll()) is None:
        holder = live_holder(output)
        if holder is not None and holder.pid == process.pid and holder.is_here:
            end = min(end, time.monotonic() + START_S)
            if time.monotonic() >= end or _has_begun(output, holder.epoch):
                return None
        time.sleep(POLL_S)
    return status


def _has_begun(output: Path, epoch: int) -> bool:
    """Tell whether the run of an epoch is past its start, so that wells are worked on."""
    kinds: list[str] = []
    for line in read_log(ControlFolder(output)):
        if line.get("kind") == "run_started":
            kinds = ["begun"] if line.get("epoch") == epoch else []
        elif kinds:
            kinds.append(str(line.get("kind")))
    return any(kind in STANDING for kind in kinds)


def _remove_traces(log: Path, output: Path) -> None:
    """Remove a folder that was made for the log alone."""
    log.unlink(missing_ok=True)
    with suppress(OSError):  # it holds more than that
        log.parent.rmdir()
        output.rmdir()
