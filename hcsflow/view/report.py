"""The report: one offline HTML page about a run, written from its output folder alone."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hcsflow.journal import ControlFolder, Outcome, read_json, read_log, write_text_atomic
from hcsflow.view.command import COMMAND, rerun_command
from hcsflow.view.faults import reason_of, user_frame
from hcsflow.view.heat import heat_maps
from hcsflow.view.html import draw_plate, environment, format_number
from hcsflow.view.pictures import choose_pictures, label_name
from hcsflow.view.progress import format_duration
from hcsflow.view.record import RunRecord, WellRecord, read_record
from hcsflow.view.timeline import Timeline, draw_timeline
from hcsflow.view.words import format_time

__all__ = ["render_report", "write_report"]


def write_report(output: Path) -> Path:
    """Write ``report.html`` into an output folder.

    Parameters
    ----------
    output : Path
        What `hcsflow run` wrote, finished or not.

    Returns
    -------
    Path
        The page; it needs no network and nothing beside it.

    Raises
    ------
    OutputError
        If the folder holds no run of hcsflow.
    """
    record = read_record(output)
    page = render_report(record, written=datetime.now(UTC))
    path = output / "report.html"
    write_text_atomic(path, page)
    return path


def render_report(record: RunRecord, *, written: datetime) -> str:
    """Return the page; ``written`` appears in the footer only, the rest depends on the run."""
    maps = heat_maps(record)
    pictures = choose_pictures(record, None if maps[0].is_of_run else maps[0])
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            name=record.plate.get("name", ""),
            pipeline=record.plan.get("pipeline", ""),
            facts=_facts(record),
            drawing=draw_plate(
                record.plate.get("rows", ()),
                record.plate.get("columns", ()),
                {well.well: well.status for well in record.wells.values()},
                {well.well: _title(well) for well in record.wells.values()},
            ),
            has_others=bool(record.with_status("other")),
            maps=maps,
            columns_note=_columns_note(record),
            map_data=[{"low": m.low, "high": m.high, "cells": m.cells} for m in maps],
            failures=[_failure(record, well) for well in record.with_status("failed")],
            pictures=pictures,
            labels=label_name(record),
            channels=record.plate.get("channels", []),
            timings=_timings(record),
            timeline=_timeline(record),
            steps=[_step(step) for step in record.plan.get("steps", [])],
            memory_note=_memory_note(record),
            provenance=_provenance(record),
            traffic=_traffic(record),
            warnings=[
                *record.plan.get("warnings", []),
                *_left_out(record),
                *_notes(record),
                *pictures.unreadable,
            ],
            written=written.strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def _timeline(record: RunRecord) -> Timeline | None:
    steps = [str(step["name"]) for step in record.plan.get("steps", [])]
    return draw_timeline(read_log(ControlFolder(record.output)), steps)


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    done, failed = record.with_status("done"), record.with_status("failed")
    pending = record.with_status("pending")
    facts = [("wells done", str(len(done))), ("wells failed", str(len(failed)))]
    if pending:
        facts.append(("wells not yet run", str(len(pending))))
    facts += [
        (table["name"], f"{record.tables[table['name']].num_rows:,}")
        for table in record.final.get("tables", [])
        if table["labels"] and table["name"] in record.tables
    ]
    facts.append(("stored", _bytes(sum(well.nbytes for well in done))))
    facts.append(("worker time", format_duration(sum(w.seconds for w in record.wells.values()))))
    return facts


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _title(well: WellRecord) -> str:
    if well.status == "other":
        return f"{well.well}: stored, but made with other settings; left out here"
    if well.failure is not None:
        return f"{well.well}: failed, {well.failure.message or ''}"
    return f"{well.well}: {well.status}" + (f", {well.seconds:.1f} s" if well.seconds else "")


def _failure(record: RunRecord, well: WellRecord) -> dict[str, str]:
    found = well.failure or Outcome(well.well, "", "failed")
    return {
        "well": well.well,
        "step": found.step or "before the first step",
        "error": found.error or "",
        "message": _reason(found),
        "file": found.file or "",
        "hint": found.hint or "",
        "rerun": rerun_command(record.output, [well.well]) or "run() of the same plan",
        "traceback": found.traceback or "",
    }


def _reason(found: Outcome) -> str:
    where = user_frame(found.traceback)
    return reason_of({"error": found.error, "message": found.message, "where": where})


def _timings(record: RunRecord) -> list[dict[str, str | float]]:
    """Wall time and memory over all wells: reading, the steps in order, writing."""
    planned = {str(step["name"]): step for step in record.plan.get("steps", [])}
    spent: dict[str, list[float]] = {name: [] for name in ("read", *planned, "write")}
    peaks: dict[str, int] = {}
    for well in record.with_status("done"):
        for step, seconds in well.steps.items():
            spent.setdefault(step, []).append(seconds)
        for step, nbytes in well.peaks.items():
            peaks[step] = max(nbytes, peaks.get(step, 0))
    total = sum(map(sum, spent.values())) or 1.0
    return [
        {
            "step": step,
            "total": format_time(sum(values)),
            "median": format_time(statistics.median(values)),
            "longest": format_time(max(values)),
            "rate": _rate(planned.get(step, {}), statistics.median(values)),
            "peak": _bytes(peaks[step]) if step in peaks else "–",
            "projected": _projected(planned.get(step, {})),
            "percent": round(100 * sum(values) / total, 1),
        }
        for step, values in spent.items()
        if values
    ]


def _rate(step: Mapping[str, Any], seconds: float) -> str:
    """Return a step's pixels taken in per second, where the plan says how many they are."""
    planes = step.get("input", {})
    if not seconds or "dtype" not in planes:
        return "–"
    count = len(planes["fields"]) * len(planes["timepoints"]) * sum(map(len, planes["z"]))
    nbytes = count * math.prod(planes["shape_yx"]) * np.dtype(planes["dtype"]).itemsize
    return f"{_bytes(round(nbytes / seconds))}/s"


def _projected(step: Mapping[str, Any]) -> str:
    nbytes = int(step.get("projected_bytes") or 0)
    return _bytes(nbytes) if nbytes else "–"


def _memory_note(record: RunRecord) -> str:
    """Say how the tasks' measured peaks compare with the plan's projection."""
    projected = max((int(s.get("projected_bytes") or 0) for s in _segments(record)), default=0)
    peaks = {well.well: well.peak_bytes for well in record.with_status("done") if well.peak_bytes}
    if not peaks or not projected:
        return ""
    worst = max(peaks, key=lambda well: peaks[well])
    note = (
        f"The worst task came to {_bytes(peaks[worst])} of memory ({worst}), above an idle worker; "
        f"the plan projected {_bytes(projected)}."
    )
    over = [well for well, peak in peaks.items() if peak > projected]
    if over:
        note += f" Wells over the projection: {len(over)} (the first is {over[0]})."
    return note


def _segments(record: RunRecord) -> list[Mapping[str, Any]]:
    return list(record.plan.get("segments", []))


def _traffic(record: RunRecord) -> list[dict[str, str]]:
    """Sum up what went through each storage backend in all wells' tasks."""
    sums: dict[str, tuple[int, int, float]] = {}
    for well in record.wells.values():
        for backend, operations, nbytes, seconds in well.traffic:
            before = sums.get(backend, (0, 0, 0.0))
            sums[backend] = before[0] + operations, before[1] + nbytes, before[2] + seconds
    return [
        {
            "backend": backend,
            "operations": f"{operations:,}",
            "size": _bytes(nbytes),
            "seconds": format_time(seconds),
        }
        for backend, (operations, nbytes, seconds) in sorted(sums.items())
    ]


def _columns_note(record: RunRecord) -> str:
    """Say what the columns of a table of objects mean, where there is one."""
    columns = {str(name) for table in record.tables.values() for name in table.column_names}
    if "label_in_field" not in columns:
        return ""
    stride = int(record.plan.get("label_stride", 65_536))
    return (
        "In the table, label is the object's value in the well's label image (field number, from "
        f"0, × {stride:,} + label_in_field), centroids lie within their field, mean_intensity_… is "
        "taken over the maximum (or as set, the mean) over z of a channel, in grey levels."
    )


def _step(step: Mapping[str, Any]) -> dict[str, str]:
    calls = [call for branch in step.get("branches", []) for call in branch.get("calls", [])]
    return {
        "name": str(step.get("name", "")),
        "functions": ", ".join(dict.fromkeys(call["function"] for call in calls)) or "–",
        "parameters": "; ".join(dict.fromkeys(_parameters(call) for call in calls)) or "–",
        "memory": ", ".join(dict.fromkeys(call["input_type"] for call in calls)) or "–",
        "stack": " × ".join(step.get("variable_components", [])) or "–",
    }


def _parameters(call: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in call.get("parameters", []))


def _value(value: object) -> str:
    return format_number(value) if isinstance(value, float) else str(value)


def _provenance(record: RunRecord) -> list[tuple[str, str]]:
    plate, plan = record.plate, record.plan
    pixel = plate.get("pixel_size", {})
    read_as = f"{plate.get('microscope', '')}, {plate.get('layout', '')} layout"
    rows = [
        ("plate", f"{plate.get('name', '')} ({read_as})"),
        ("plate UUID", str(plate.get("uuid") or "–")),
        ("acquisition", str(plate.get("acquisition", ""))),
        ("pixel size", _length(pixel)),
        ("z step", _length(plate.get("z_step", {}))),
        ("fields × timepoints × z", " × ".join(
            str(len(plate.get(axis, ()))) for axis in ("fields", "timepoints", "z"))),
        ("parameters", ", ".join(_setting(record, *each) for each in plan.get("parameters", []))
            or "–"),
        ("workers", f"{plan.get('resources', {}).get('workers', '–')}"),
    ]  # fmt: skip
    command = read_json(ControlFolder(record.output).root / COMMAND)
    if isinstance(command, dict):
        rows.append(("command", shlex.join(map(str, command.get("arguments", [])))))
    found = dict(record.metadata.get("provenance", {}))
    versions = found.get("versions", {})
    rows.append(("versions", ", ".join(f"{name} {v}" for name, v in versions.items()) or "–"))
    inputs = found.get("inputs", {})
    rows += [
        (f"input {name}", f"{inputs[name]:,}" if name in ("planes", "bytes") else str(inputs[name]))
        for name in ("folder", "planes", "bytes", "fingerprint")
        if name in inputs
    ]
    return rows


def _setting(record: RunRecord, name: str, value: object) -> str:
    """Return a pipeline's parameter; where no channel is set it is the plate's first."""
    channels = record.plate.get("channels", [])
    if value is None and "channel" in name and channels:
        return f"{name}=first channel ({channels[0]['label']})"
    return f"{name}={value}"


def _length(measured: Mapping[str, Any]) -> str:
    if measured.get("um") is None:
        return "unknown"
    return f"{measured['um']:g} µm ({measured.get('origin', '')})"


def _left_out(record: RunRecord) -> list[str]:
    """Say which stored wells the run left out of plate, tables and this page."""
    wells = [well.well for well in record.with_status("other")]
    if not wells:
        return []
    named = ", ".join(wells[:12]) + (f" and {len(wells) - 12} more" if len(wells) > 12 else "")
    note = (
        f"stored wells made with other steps, parameters or storage settings: {len(wells)} "
        f"({named}). They are left out of the plate, of the tables and of this page; the same "
        "command without --wells makes them again"
    )
    return [note]


def _notes(record: RunRecord) -> list[str]:
    return [f"{well.well}: {note}" for well in record.wells.values() for note in well.notes]
