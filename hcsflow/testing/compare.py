"""A finished run against the truth of its synthetic plate: objects by overlap, faults by file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from hcsflow.config import Backend
from hcsflow.graph.commit import unit_folder
from hcsflow.journal import ControlFolder, Outcome, read_entries, read_failures
from hcsflow.ngff.layout import images_of
from hcsflow.storage.plane_files import plane_file, read_plane_file
from hcsflow.testing.truth import Match, PlantedFault, Truth, match_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hcsflow.ngff.layout import ImageLayout
    from hcsflow.plan import Plan

__all__ = ["F1_WANTED", "WellCheck", "check_run", "label_tiles"]

F1_WANTED = 0.9
"""F1 at IoU 0.5 that every intact well must reach."""


@dataclass(frozen=True, slots=True)
class WellCheck:
    """What became of one well, and whether it is what was planted there.

    Parameters
    ----------
    well, status : str
        Name; ``"done"``, ``"failed"`` or ``"absent"``.
    true, found : int or None
        Nuclei drawn and objects stored; None where the well was not finished.
    f1, worst_field_f1 : float or None
        F1 at IoU 0.5 over the well, and of its worst field.
    fault : PlantedFault or None
        What was made wrong.
    outcome : Outcome or None
        The run's record.
    as_planted : bool
        An intact well is done and found again; a faulty one failed and names the file at fault.
    """

    well: str
    status: str
    true: int | None
    found: int | None
    f1: float | None
    worst_field_f1: float | None
    fault: PlantedFault | None
    outcome: Outcome | None
    as_planted: bool


def check_run(output: Path, plan: Plan, truth: Truth) -> list[WellCheck]:
    """Compare every well of a run with the truth, in the order of the truth's wells.

    Parameters
    ----------
    output : Path
        What the run wrote.
    plan : Plan
        What was run; its final output holds the labels of the nuclei.
    truth : Truth
        Of the synthetic plate.
    """
    control = ControlFolder(output)
    done = {well: entry.outcome for well, entry in read_entries(control, "").items()}
    failed = {outcome.well: outcome for outcome in read_failures(control)}
    faults = {fault.well: fault for fault in truth.faults}
    checks = []
    for well in truth.wells:
        if well in faults:
            checks.append(_check_faulty(faults[well], done.get(well), failed.get(well)))
        elif well in done and well not in failed:
            checks.append(_check_intact(output, plan, truth, done[well]))
        else:
            status = "failed" if well in failed else "absent"
            lost = failed.get(well)
            checks.append(WellCheck(well, status, None, None, None, None, None, lost, False))
    return checks


def _check_intact(output: Path, plan: Plan, truth: Truth, outcome: Outcome) -> WellCheck:
    matches = [
        match_labels(truth.label_image(outcome.well, field), tile)
        for field, tile in label_tiles(output, plan, outcome.well)
    ]
    summed = Match(*(sum(counts) for counts in zip(*matches, strict=True)))
    return WellCheck(
        well=outcome.well,
        status="done",
        true=summed.true_positives + summed.false_negatives,
        found=summed.true_positives + summed.false_positives,
        f1=summed.f1,
        worst_field_f1=min(match.f1 for match in matches),
        fault=None,
        outcome=outcome,
        as_planted=summed.f1 >= F1_WANTED,
    )


def _check_faulty(fault: PlantedFault, done: Outcome | None, failed: Outcome | None) -> WellCheck:
    status = "failed" if failed else "done" if done else "absent"
    is_named = failed is not None and names_plane(failed.file, fault.file)
    return WellCheck(fault.well, status, None, None, None, None, fault, failed or done, is_named)


def names_plane(named: str | None, planted: str | None) -> bool:
    """Tell whether a failure names the plane in which a fault was planted.

    A file that is not there has no name of its own; then the plane's well, field, channel and z
    must agree.

    Examples
    --------
    >>> names_plane("B04_s004_w1_z002_t001", "TimePoint_1/ZStep_2/demo_B04_s4_w1.TIF")
    True
    """
    if named is None or planted is None:
        return named is planted
    return named == planted or _plane_numbers(named) == _plane_numbers(planted)


def _plane_numbers(name: str) -> tuple[str, ...]:
    patterns = (r"(?:^|[_/])([A-Z]{1,2}\d\d)_", r"_s(\d+)", r"_w(\d+)", r"(?:_z|ZStep_)(\d+)")
    hits = (re.search(pattern, name) for pattern in patterns)
    return tuple(hit.group(1).lstrip("0") if hit else "" for hit in hits)


def label_tiles(
    output: Path, plan: Plan, well: str, name: str | None = None
) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """Read a well's labels field by field: (dense field, (y, x) uint32), first timepoint.

    Parameters
    ----------
    output, plan, well
        The run and a well that is done.
    name : str, optional
        Which label image; default is the first.
    """
    write = next(write for write in plan.writes if write.output == "")
    label = next(each for each in write.labels if name in (None, each.name))
    place = output / unit_folder(plan, write, well)
    if write.backend == Backend.DISK.value:
        yield from _filed_tiles(place / "labels" / label.name, well, label.layout)
        return
    for layout in images_of(label.layout):
        array = zarr.open_array(place / layout.levels[0].path, mode="r")
        pixels = _plane(np.asarray(array[:]), layout)
        for field, (row, column) in zip(layout.fields, layout.cells, strict=True):
            y, x = row * layout.pitch_yx[0], column * layout.pitch_yx[1]
            yield field, pixels[y : y + layout.field_yx[0], x : x + layout.field_yx[1]]


def _filed_tiles(
    folder: Path, well: str, layout: ImageLayout
) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    first = {
        "timepoint": layout.timepoints[0],
        "channel": layout.channels[0],
        "z": layout.heights[0],
    }
    for field in layout.fields:
        yield field, read_plane_file(folder / plane_file(well, field=field, **first), layout)


def _plane(pixels: NDArray[Any], layout: ImageLayout) -> NDArray[Any]:
    """Reduce (t, z, y, x) to one plane: the first timepoint, the first z."""
    plane: NDArray[Any] = pixels[(0,) * (len(layout.levels[0].axes) - 2)]
    return plane
