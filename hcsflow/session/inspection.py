"""What a plate holds, as plain values for ``--json`` and as a few lines of text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.plate.names import PlaneName, format_plane_name
from hcsflow.view.words import counted, planes_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hcsflow.plate import Manifest, Measured, PlaneKey, Plate

__all__ = ["SCHEMA", "describe_values", "inspect_values", "plane_name"]

SCHEMA = "hcsflow.inspect/1"

NAMED_PER_WELL = 5


def plane_name(plate: Plate, key: PlaneKey) -> str:
    """Return a plane's name, ``B03_s001_w1_z001_t001``."""
    name = PlaneName(plate.wells[key.well], key.field, key.channel, key.z, key.timepoint)
    return format_plane_name(name)


def inspect_values(plate: Plate, manifest: Manifest) -> dict[str, Any]:
    """Return everything about a plate that its folder tells; stable from run to run."""
    return {
        "schema": SCHEMA,
        "path": manifest.root,
        **_identity(plate),
        "wells": list(plate.wells),
        "fields": list(plate.fields),
        "timepoints": list(plate.timepoints),
        "channels": [_channel(plate, index) for index in range(len(plate.channels))],
        "z": list(plate.z),
        "shape_yx": list(plate.shape_yx),
        "dtype": plate.dtype,
        "pixel_size": _measured(plate.pixel_size),
        "z_step": _measured(plate.z_step),
        "grid": {
            "rows": plate.grid.rows,
            "columns": plate.grid.columns,
            "cells": [list(cell) for cell in plate.grid.cells],
            "origin": plate.grid.origin,
            "overlap_px": plate.grid.overlap_px,
        },
        "planes": len(manifest),
        "nbytes": int(manifest.nbytes.sum()),
        "absent": manifest.absent,
        "missing": _missing(plate, manifest),
        "missing_wells": list(manifest.missing_wells),
        "projections": _projections(plate, manifest),
        "ignored": dict(manifest.ignored),
        "faults": [fault._asdict() for fault in manifest.faults],
    }


def _identity(plate: Plate) -> dict[str, Any]:
    return {
        "name": plate.name,
        "microscope": plate.microscope,
        "layout": plate.layout,
        "uuid": plate.uuid,
        "acquisition": plate.acquisition,
        "acquisitions": list(plate.acquisitions),
        "rows": len(plate.rows),
        "columns": len(plate.columns),
    }


def _channel(plate: Plate, index: int) -> dict[str, Any]:
    """``projection`` says whether the only plane is one that the instrument stored."""
    channel = plate.channels[index]
    return {
        "label": channel.label,
        "name": channel.name,
        "name_origin": channel.name_origin,
        "z": channel.z,
        "projection": channel.is_projection,
        "projection_method": channel.projection,
        "z_um": channel.z_um,
    }


def _measured(value: Measured) -> dict[str, Any]:
    return {"um": value.um, "origin": value.origin}


def _missing(plate: Plate, manifest: Manifest) -> list[dict[str, Any]]:
    """Count per well, and name the first few."""
    found = []
    for well in np.unique(manifest.missing[:, 0]).tolist():
        keys = manifest.missing_of(well)
        first = [plane_name(plate, key) for key in keys[:NAMED_PER_WELL]]
        found.append({"well": plate.wells[well], "planes": len(keys), "first": first})
    return found


def _projections(plate: Plate, manifest: Manifest) -> list[dict[str, Any]]:
    """Count the projections stored beside each channel's stacks."""
    count = Counter(projection.channel for projection in manifest.projections)
    return [
        {
            "channel": plate.channels[index].label,
            "method": plate.channels[index].projection,
            "files": files,
        }
        for index, files in sorted(count.items())
    ]


def describe_values(plate: Plate, manifest: Manifest) -> str:
    """Say in a few lines what a plate holds."""
    positions = len(plate.rows) * len(plate.columns)
    grid = plate.grid
    overlap = "" if grid.overlap_px is None else f", overlap {grid.overlap_px:g} px"
    tiles = f"{grid.rows} × {grid.columns}"
    size = f"{plate.shape_yx[0]} × {plate.shape_yx[1]}"
    megabytes = int(manifest.nbytes.sum()) / 1e6
    lines = [
        f"{plate.name} ({plate.microscope}, {plate.layout} layout, {plate.acquisition})",
        f"  wells      {len(plate.wells)} of {positions}: {_some(plate.wells)}",
        f"  fields     {len(plate.fields)}: {tiles} by {grid.origin}{overlap}",
        f"  timepoints {len(plate.timepoints)}",
        *(
            f"  {channel.label:<10} {channel.name}: z {planes_in_words(channel)}"
            for channel in plate.channels
        ),
        f"  pixel size {_in_words(plate.pixel_size)}",
        *([f"  z step     {_in_words(plate.z_step)}"] if len(plate.z) > 1 else []),
        f"  planes     {len(manifest):,} of {size} px {plate.dtype}, {megabytes:,.1f} MB",
    ]
    return "\n".join([*lines, *_exceptions(plate, manifest)])


def _exceptions(plate: Plate, manifest: Manifest) -> list[str]:
    """Lines that only a plate with something unusual has."""
    lines = (
        [f"  absent     {counted(manifest.absent, 'plane')} (uneven z)"] if manifest.absent else []
    )
    lines += [
        f"  missing    {each['well']}: {counted(each['planes'], 'plane')}, {_some(each['first'])}"
        for each in _missing(plate, manifest)[:8]
    ]
    if manifest.missing_wells:
        lines.append(f"  no image   {_some(manifest.missing_wells)} (promised)")
    lines += [f"  faulty     {fault.well}: {fault.reason}" for fault in manifest.faults]
    if manifest.projections:
        beside = _projections(plate, manifest)
        words = ", ".join(f"{p['channel']}: {p['files']} × {p['method']}" for p in beside)
        lines.append(f"  projected  {words} (stored beside the stacks)")
    if manifest.ignored:
        left = ", ".join(f"{count} × {reason}" for reason, count in manifest.ignored)
        lines.append(f"  left aside {left}")
    return lines


def _in_words(value: Measured) -> str:
    return "unknown" if value.um is None else f"{value.um:g} µm ({value.origin})"


def _some(names: Sequence[str], limit: int = 12) -> str:
    more = f" … {names[-1]}" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
