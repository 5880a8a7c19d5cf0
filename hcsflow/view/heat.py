"""Values per well for heat maps: object counts and means of measured columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hcsflow.view.html import colour_of, format_number
from hcsflow.view.record import RunRecord

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HeatMap", "heat_maps"]

KEY_COLUMNS = frozenset(
    ("plate", "well", "field", "timepoint", "t", "channel", "z", "step", "label", "label_in_field")
)
MAX_MAPS = 32


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One value per well, with its colour and its text.

    Parameters
    ----------
    name : str
        What is shown, e.g. ``"nuclei: mean area_um2"``.
    low, high : str
        Ends of the colour scale, as text.
    cells : mapping
        Well name to (colour, text).
    """

    name: str
    low: str
    high: str
    cells: Mapping[str, tuple[str, str]]


def heat_maps(record: RunRecord) -> list[HeatMap]:
    """Return the heat maps of a run: counts first, then measured columns, then time spent."""
    named: list[tuple[str, dict[str, float]]] = []
    done = [well.well for well in record.with_status("done")]
    tied = {t["name"]: t["labels"] for t in record.final.get("tables", [])}
    for name, table in record.tables.items():
        if "well" not in table:
            continue
        if tied.get(name):
            counts = table.groupby("well").size()
            named.append((f"{name} per well", {w: float(counts.get(w, 0)) for w in done}))
        named += [(f"{name}: mean {c}", means) for c, means in _means(table)]
    seconds = {well.well: well.seconds for well in record.with_status("done")}
    named.append(("processing time, s", seconds))
    return [_heat_map(name, values) for name, values in named[: MAX_MAPS - 1] + named[-1:]]


def _means(table: pd.DataFrame) -> Iterator[tuple[str, dict[str, float]]]:
    """Means by well of the columns that measure something (positions do not)."""
    for name in map(str, table.select_dtypes("number")):
        if name not in KEY_COLUMNS and not name.startswith(("centroid", "x_", "y_", "bbox")):
            yield name, {str(w): float(v) for w, v in table.groupby("well")[name].mean().items()}


def _heat_map(name: str, values: Mapping[str, float]) -> HeatMap:
    finite = [v for v in values.values() if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return HeatMap(
        name=name,
        low=format_number(low),
        high=format_number(high),
        cells={w: (colour_of(v, low, high), format_number(v)) for w, v in values.items()},
    )
