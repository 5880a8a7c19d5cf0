"""The report: one offline HTML page about a run, written from its output folder alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hcsflow.journal import Outcome, write_text_atomic
from hcsflow.ngff.metadata import well_path
from hcsflow.view.heat import HeatMap, heat_maps
from hcsflow.view.html import draw_plate, environment, format_number
from hcsflow.view.progress import format_duration
from hcsflow.view.record import RunRecord, WellRecord, read_record, rerun_command
from hcsflow.view.thumbnails import Crop, Picture, Scene, paint, read_scene, windows_of

__all__ = ["render_report", "write_report"]

PICTURE_BYTES = 2_400_000
"""All thumbnails together; base64 and the rest stay below 5 MB."""
CLOSER_SIDE = 460


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture with its caption."""

    well: str
    caption: str
    picture: Picture


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
    pictures, closer = _pictures(record, maps)
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
            maps=maps,
            map_data=[{"low": m.low, "high": m.high, "cells": m.cells} for m in maps],
            failures=[_failure(record, well) for well in record.with_status("failed")],
            pictures=pictures,
            closer=closer,
            labels=_label_name(record),
            channels=record.plate.get("channels", []),
            timings=_timings(record),
            steps=[_step(step) for step in record.plan.get("steps", [])],
            provenance=_provenance(record),
            warnings=[*record.plan.get("warnings", []), *_notes(record)],
            written=written.strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    done, failed = record.with_status("done"), record.with_status("failed")
    pending = record.with_status("pending")
    facts = [("wells done", str(len(done))), ("wells failed", str(len(failed)))]
    if pending:
        facts.append(("wells not yet run", str(len(pending))))
    facts += [
        (table["name"], f"{len(record.tables[table['name']]):,}")
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
    if well.failure is not None:
        return f"{well.well}: failed, {well.failure.message or ''}"
    return f"{well.well}: {well.status}" + (f", {well.seconds:.1f} s" if well.seconds else "")


def _failure(record: RunRecord, well: WellRecord) -> dict[str, str]:
    found = well.failure or Outcome(well.well, "", "failed")
    return {
        "well": well.well,
        "step": found.step or "before the first step",
        "error": found.error or "",
        "message": found.message or "",
        "file": found.file or "",
        "hint": found.hint or "",
        "rerun": rerun_command(record.output, [well.well], str(record.plan.get("pipeline"))),
        "traceback": found.traceback or "",
    }


def _label_name(record: RunRecord) -> str | None:
    labels = record.final.get("labels", [])
    return str(labels[0]["name"]) if labels else None


def _pictures(record: RunRecord, maps: list[HeatMap]) -> tuple[list[Shown], list[Shown]]:
    """Return a thumbnail per finished well, and a close look at the extremes."""
    roots = {well.well: _image_root(record, well.well) for well in record.with_status("done")}
    roots = {well: root for well, root in roots.items() if (root / "zarr.json").is_file()}
    if not roots:
        return [], []
    label = _label_name(record)
    share = PICTURE_BYTES // (len(roots) + 3)
    side = int(min(max(math.sqrt(share / 0.25), 48), 360))
    scenes = {well: read_scene(root, side=side, labels=label) for well, root in roots.items()}
    windows = windows_of(scenes.values())
    first = maps[0]
    thumbnails = [
        Shown(well, first.cells.get(well, ("", ""))[1], paint(scene, windows, max_bytes=share))
        for well, scene in scenes.items()
    ]
    return thumbnails, _closer(record, roots, windows, first)


def _image_root(record: RunRecord, well: str) -> Path:
    store = record.output / str(record.final.get("store", "images.zarr"))
    return store / well_path(well, record.plate["rows"], record.plate["columns"]) / "0"


def _closer(
    record: RunRecord,
    roots: Mapping[str, Path],
    windows: list[tuple[float, float]],
    ranked: HeatMap,
) -> list[Shown]:
    """One field at higher resolution: the wells with the lowest, middle and highest value."""
    image = record.final.get("image", {})
    if not image.get("cells"):
        return []
    order = sorted(roots, key=lambda well: (_as_float(ranked.cells.get(well, ("", ""))[1]), well))
    chosen = {"lowest": order[0], "middle": order[len(order) // 2], "highest": order[-1]}
    crop = _first_field(image)
    shown: dict[str, Shown] = {}
    for word, well in chosen.items():
        scene: Scene = read_scene(
            roots[well], side=CLOSER_SIDE, labels=_label_name(record), crop=crop
        )
        caption = f"{word}: {ranked.cells.get(well, ('', '–'))[1]} ({ranked.name})"
        picture = paint(scene, windows, max_bytes=90_000, has_bold_outlines=True)
        shown.setdefault(well, Shown(well, caption, picture))
    return list(shown.values())


def _as_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.inf


def _first_field(image: Mapping[str, Any]) -> Crop:
    row, column = image["cells"][0]
    pitch, size = image["pitch_yx"], image["field_yx"]
    return Crop(row * pitch[0], column * pitch[1], size[0], size[1])


def _timings(record: RunRecord) -> list[dict[str, str | float]]:
    """Wall time over all wells: reading, the steps in order, writing."""
    spent: dict[str, list[float]] = {"read": []}
    spent |= {str(step["name"]): [] for step in record.plan.get("steps", [])}
    spent["write"] = []
    for well in record.with_status("done"):
        for step, seconds in well.steps.items():
            spent.setdefault(step, []).append(seconds)
    total = sum(map(sum, spent.values())) or 1.0
    return [
        {
            "step": step,
            "total": format_duration(sum(values)),
            "median": f"{statistics.median(values):.2f} s",
            "longest": f"{max(values):.2f} s",
            "percent": round(100 * sum(values) / total, 1),
        }
        for step, values in spent.items()
        if values
    ]


def _step(step: Mapping[str, Any]) -> dict[str, str]:
    calls = [call for branch in step.get("branches", []) for call in branch.get("calls", [])]
    return {
        "name": str(step.get("name", "")),
        "functions": ", ".join(dict.fromkeys(call["function"] for call in calls)) or "–",
        "parameters": "; ".join(dict.fromkeys(_parameters(call) for call in calls)) or "–",
        "memory": ", ".join(dict.fromkeys(call["input_type"] for call in calls)) or "–",
        "stack": " × ".join(step.get("variable_components", [])),
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
        ("parameters", ", ".join(f"{k}={v}" for k, v in plan.get("parameters", [])) or "–"),
        ("workers", f"{plan.get('resources', {}).get('workers', '–')}"),
    ]  # fmt: skip
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


def _length(measured: Mapping[str, Any]) -> str:
    if measured.get("um") is None:
        return "unknown"
    return f"{measured['um']:g} µm ({measured.get('origin', '')})"


def _notes(record: RunRecord) -> list[str]:
    return [f"{well.well}: {note}" for well in record.wells.values() for note in well.notes]
