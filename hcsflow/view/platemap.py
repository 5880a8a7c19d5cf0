"""The plate map of an opened plate: which wells are whole, and what is missing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hcsflow.view.html import draw_plate, environment
from hcsflow.view.words import counted, planes_in_words

if TYPE_CHECKING:
    from hcsflow.plate import Manifest, Measured, Plate

__all__ = ["plate_map_html", "well_states"]

STATES = {
    "complete": ("#2a788e", "#1f5b6b", "complete"),
    "incomplete": ("#f2a93b", "#b97510", "planes missing"),
    "faulty": ("#c0392b", "#8f2a20", "cannot be processed"),
    "promised": ("none", "#c0392b", "promised, no image"),
    "empty": ("#8080801f", "#80808040", "not acquired"),
}
"""State of a well → fill, outline, words."""


def well_states(plate: Plate, manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Return state and explanation of each well that was acquired or promised.

    Returns
    -------
    dict of str to (str, str)
        Well name → (``"complete"``, ``"incomplete"``, ``"faulty"`` or ``"promised"``, words).
    """
    states = {well: ("promised", f"{well}: promised, no image") for well in manifest.missing_wells}
    lacking = Counter(manifest.missing[:, 0].tolist())
    faults = {fault.well: fault.reason for fault in manifest.faults}
    for index, well in enumerate(plate.wells):
        here = len(manifest.rows_of(index))
        if well in faults:
            states[well] = ("faulty", f"{well}: {faults[well]}")
        elif lacking[index]:
            total = here + lacking[index]
            states[well] = (
                "incomplete",
                f"{well}: {lacking[index]} of {counted(total, 'plane')} missing",
            )
        else:
            states[well] = ("complete", f"{well}: {counted(here, 'plane')}")
    return states


def plate_map_html(plate: Plate, manifest: Manifest) -> str:
    """Return the plate map as one piece of HTML, without scripts or anything from elsewhere.

    Parameters
    ----------
    plate, manifest : Plate, Manifest
        As a microscope's reader returned them.
    """
    states = well_states(plate, manifest)
    status = {well: state for well, (state, _) in states.items()}
    titles = {well: words for well, (_, words) in states.items()}
    drawing = draw_plate(plate.rows, plate.columns, status, titles)
    count = Counter(cell.status for cell in drawing.cells)
    return (
        environment()
        .get_template("plate_map.html.j2")
        .render(
            plate=plate,
            facts=_facts(plate),
            drawing=drawing,
            font=11 if drawing.size >= 16 else 8,
            every=1 if drawing.size >= 16 else 4,
            colours={state: (fill, line) for state, (fill, line, _) in STATES.items()},
            legend=[(s, words, count[s]) for s, (_, _, words) in STATES.items() if count[s]],
            channels=[(channel, planes_in_words(channel)) for channel in plate.channels],
            notes=_notes(plate, manifest),
        )
    )


def _facts(plate: Plate) -> list[str]:
    grid = plate.grid
    return [
        f"{counted(len(plate.wells), 'well')} of {len(plate.rows) * len(plate.columns)}",
        f"{counted(len(plate.fields), 'field')} ({grid.rows} × {grid.columns}, {grid.origin})",
        counted(len(plate.timepoints), "timepoint"),
        counted(len(plate.channels), "channel"),
        f"{len(plate.z)} z",
        f"{plate.shape_yx[0]} × {plate.shape_yx[1]} px {plate.dtype}",
    ]


def _notes(plate: Plate, manifest: Manifest) -> list[str]:
    notes = [f"pixel size: {_measured(plate.pixel_size)}"]
    if len(plate.z) > 1:
        notes.append(f"z step: {_measured(plate.z_step)}")
    if len(manifest.missing):
        wells = np.unique(manifest.missing[:, 0])
        names = ", ".join(plate.wells[i] for i in wells[:12].tolist())
        more = " …" if len(wells) > 12 else ""
        planes = counted(len(manifest.missing), "plane")
        notes.append(f"missing: {planes} in {names}{more}")
    if manifest.ignored:
        left = ", ".join(f"{count} × {reason}" for reason, count in manifest.ignored)
        notes.append(f"left aside: {left}")
    return notes


def _measured(value: Measured) -> str:
    return "unknown" if value.um is None else f"{value.um:g} µm, from {value.origin}"
