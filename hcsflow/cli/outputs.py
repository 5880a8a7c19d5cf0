"""``status``, ``failures``, ``verify``, ``report`` and ``cancel``: from the output folder alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcsflow.cli import options as o
from hcsflow.cli.console import emit

if TYPE_CHECKING:
    from hcsflow.execute.status import Status

__all__ = ["left_out", "register"]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (status, failures, verify, report, cancel):
        app.command()(verb)


def status(output: o.OutputArgument, *, as_json: o.JsonFlag = False) -> None:
    """Say how far a run is, while it goes or later; no scheduler is asked."""
    from hcsflow.execute.status import read_status
    from hcsflow.view.text import render_status

    found = read_status(output)
    document = _status(found) | {"running": _running(found)}
    emit(document, as_json=as_json, render=render_status, soft_wrap=True)


def _running(found: Status) -> dict[str, Any] | None:
    """Describe the run that is alive: where, since when, its open wells and steps, its rate."""
    import time
    from datetime import UTC, datetime

    from hcsflow.journal import ControlFolder, read_log
    from hcsflow.view.tally import tally_of

    holder = found.running
    if holder is None:
        return None
    tally, begun = tally_of(read_log(ControlFolder(found.output)))
    if begun.get("epoch") != holder.epoch:  # it holds the output and has not begun yet
        tally, begun = type(tally)(), {}
    rate, left = tally.rate(time.time()), tally.seconds_left(time.time())
    return {
        "host": holder.host,
        "pid": holder.pid,
        "since": datetime.fromtimestamp(holder.started, UTC).isoformat(timespec="seconds"),
        "detached": bool(begun.get("detached")),
        "cluster": begun.get("cluster"),
        "workers": tally.workers,
        "waiting": tally.is_waiting,
        "dashboard": tally.dashboard,
        "tunnel": tally.tunnel,
        "open": dict(tally.running),
        "steps": [
            {"step": name, "through": step.through, "at": tally.at_step(name),
             "seconds_per_well": step.seconds_per_well}
            for name, step in tally.steps.items()
        ],
        "wells_per_minute": 60 * rate if rate else None,
        "seconds_left": left,
    }  # fmt: skip


def _status(found: Status) -> dict[str, Any]:
    from hcsflow.execute.estimates import seconds_left

    return {
        "schema": "hcsflow.status/1",
        "output": str(found.output),
        "pipeline": found.pipeline,
        "plate": found.plate,
        "wells": len(found.wells),
        "done": list(found.done),
        "failed": list(found.failed),
        "pending": list(found.pending),
        "objects": found.objects,
        "nbytes": found.nbytes,
        "seconds": round(found.seconds, 3),
        "seconds_left": seconds_left(found.output, found.pending),
        "left_out": left_out(found.output),
        "error": found.error,
        "log": _log_of(found.output) if found.error else None,
    }


def _log_of(output: Path) -> str | None:
    """Return the file that took what a detached run printed, None where there is none."""
    from hcsflow.execute.detach import run_log

    return str(run_log(output)) if run_log(output).is_file() else None


def left_out(output: Path) -> list[str]:
    """Return stored wells that plate and tables do not list, made with other settings."""
    from hcsflow.journal import ControlFolder, read_entries, read_json

    control = ControlFolder(output)
    plan, metadata = read_json(control.plan), read_json(output / "hcsflow_metadata.json")
    if not isinstance(plan, dict) or not isinstance(metadata, dict):
        return []
    stores = metadata.get("subdirectories", {}).values()
    listed = {well for store in stores if store.get("main") for well in store["wells"]}
    of_this_plan = {*plan["wells"], *(well for well, *_ in plan["failed_wells"])}
    stored = read_entries(control, "")
    return [w for w in plan["plate"]["wells"] if w in stored and w not in listed | of_this_plan]


def failures(
    output: o.OutputArgument,
    *,
    with_traceback: Annotated[
        bool, typer.Option("--traceback", help="Show each error's traceback too.")
    ] = False,
    as_json: o.JsonFlag = False,
) -> None:
    """List the wells that failed: step, reason, file, what to do, how to run them again."""
    from hcsflow.execute.status import read_failures, read_status
    from hcsflow.view.command import rerun_command
    from hcsflow.view.faults import user_frame
    from hcsflow.view.text import render_failures

    read_status(output)  # refuses a folder that holds no run
    found = read_failures(output)
    names = ["well", "step", "error", "message", "file", "hint"]
    names += ["traceback"] if with_traceback else []
    wells = [outcome.well for outcome in found]
    document = {
        "schema": "hcsflow.failures/1",
        "output": str(output),
        "failures": [
            {name: getattr(outcome, name) for name in names}
            | {"where": user_frame(outcome.traceback)}
            for outcome in found
        ],
        "rerun": rerun_command(output, wells) if wells else None,
    }
    emit(document, as_json=as_json, render=render_failures, soft_wrap=True)


def verify(output: o.OutputArgument, *, as_json: o.JsonFlag = False) -> None:
    """Check every stored object against the journal; exit 1 if one is not as written."""
    from hcsflow.execute.status import verify_output
    from hcsflow.view.text import render_verify

    findings = [asdict(finding) for finding in verify_output(output)]
    document = {
        "schema": "hcsflow.verify/1",
        "output": str(output),
        "ok": not findings,
        "objects": _stored_objects(output),
        "findings": findings,
    }
    emit(document, as_json=as_json, render=render_verify)
    raise typer.Exit(1 if findings else 0)


def _stored_objects(output: Path) -> int:
    """Count the objects on record, of every output."""
    from hcsflow.journal import ControlFolder, read_entries, read_json

    control = ControlFolder(output)
    names = [write["output"] for write in read_json(control.plan)["writes"]]
    return sum(len(e.objects) for name in names for e in read_entries(control, name).values())


def report(output: o.OutputArgument, *, as_json: o.JsonFlag = False) -> None:
    """Write report.html again."""
    from hcsflow.view.report import write_report

    document = {"schema": "hcsflow.report/1", "report": str(write_report(output))}
    emit(document, as_json=as_json, render=lambda found: str(found["report"]))


def cancel(output: o.OutputArgument, *, as_json: o.JsonFlag = False) -> None:
    """Stop a run as Ctrl-C would; wells that are done stay, the same command goes on later."""
    from hcsflow.execute.lock import cancel_run
    from hcsflow.execute.status import read_status

    read_status(output)  # refuses a folder that holds no run
    words = {True: "the run was told to stop", False: "no run is alive there"}
    document = {"schema": "hcsflow.cancel/1", "cancelled": cancel_run(output)}
    emit(document, as_json=as_json, render=lambda found: words[found["cancelled"]])
