"""Values per well for heat maps: object counts and means of measured columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hcsflow.errors import PlaneError
from hcsflow.view.html import colour_of, format_number
from hcsflow.view.record import RunRecord
from hcsflow.view.scenes import has_images, read_well

__all__ = ["HeatMap", "heat_maps"]

KEY_COLUMNS = frozenset(
    ("plate", "well", "field", "timepoint", "t", "channel", "z", "step", "label", "label_in_field")
)
MAX_MAPS = 32
COARSE_SIDE = 64
"""Pixels of the longer side of the images that mean intensities are taken of."""


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
    is_of_run : bool
        Whether it shows what the run took, not what was measured in the images.
    """

    name: str
    low: str
    high: str
    cells: Mapping[str, tuple[str, str]]
    is_of_run: bool = False


def heat_maps(record: RunRecord) -> list[HeatMap]:
    """Return the heat maps of a run: counts, then measured columns, then time, rate and memory.

    Where nothing was measured, the mean intensity of each stored channel stands instead.
    """
    named: list[tuple[str, Mapping[str, float]]] = []
    done = [well.well for well in record.with_status("done")]
    tied = {t["name"]: t["labels"] for t in record.final.get("tables", [])}
    for name, table in record.tables.items():
        if "well" not in table.column_names:
            continue
        rows = table["well"].combine_chunks().cast(pa.string()).dictionary_encode("encode")
        if tied.get(name):
            counts = _by_well(rows)
            named.append((f"{name} per well", {w: float(counts.get(w, 0)) for w in done}))
        named += [(f"{name}: mean {c}", means) for c, means in _means(table, rows)]
    named += [] if named else _intensities(record, done)
    of_run = [_heat_map(name, values, is_of_run=True) for name, values in _of_run(record)]
    shown = named[: MAX_MAPS - len(of_run)]
    return [_heat_map(name, values) for name, values in shown] + of_run


def _of_run(record: RunRecord) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Yield what the wells took: time, input per second, memory where it was measured."""
    done = record.with_status("done")
    is_short = max((well.seconds for well in done), default=0.0) < 1
    spent = {w.well: round(1000 * w.seconds) if is_short else w.seconds for w in done}
    yield f"processing time, {'ms' if is_short else 's'}", spent
    rates = {w.well: w.bytes_read / w.seconds / 1e6 for w in done if w.seconds and w.bytes_read}
    if rates:
        yield "input read, MB per second", rates
    peaks = {well.well: well.peak_bytes / 1e6 for well in done if well.peak_bytes}
    if peaks:
        yield "peak memory, MB", peaks


def _intensities(record: RunRecord, wells: Sequence[str]) -> list[tuple[str, Mapping[str, float]]]:
    """Mean grey level of the pixels over 0 by channel and well, from a coarse level."""
    names = [str(c["name"]) for c in record.plate.get("channels", [])]
    found: dict[int, dict[str, float]] = {}
    for well in wells:
        if not has_images(record, well):
            continue
        try:
            pixels = read_well(record, well, side=COARSE_SIDE).pixels
        except PlaneError:  # the pictures say so
            continue
        for number, plane in enumerate(pixels):
            acquired = plane[plane > 0]
            mean = float(acquired.mean()) if acquired.size else 0.0
            found.setdefault(number, {})[well] = mean
    stored = record.final.get("image", {}).get("channels", range(len(names)))
    return [(f"mean intensity of {names[stored[n]]}", means) for n, means in found.items()]


def _means(table: pa.Table, rows: pa.DictionaryArray) -> Iterator[tuple[str, dict[str, float]]]:
    """Means by well of the columns that measure something (positions do not)."""
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        is_place = name in KEY_COLUMNS or name.startswith(("centroid", "x_", "y_", "bbox"))
        if is_number and not is_place:
            values = table[name].combine_chunks().cast(pa.float64(), safe=False)
            there = pc.invert(pc.is_nan(values))  # null where the value is
            measured = rows.filter(there)
            sums, counts = _by_well(measured, values.filter(there)), _by_well(measured)
            yield name, {w: sums[w] / counts[w] if counts[w] else math.nan for w in sorted(counts)}


def _by_well(rows: pa.DictionaryArray, values: pa.Array | None = None) -> dict[str, float]:
    """Sum up values by well, or count the rows; those without a well do not matter.

    Not by pyarrow's own groups, which, like its `to_numpy`, load pandas: 0.2 s.
    """
    weights = None if values is None else np.from_dlpack(values)
    wells = rows.dictionary.to_pylist()
    found = np.bincount(np.from_dlpack(rows.indices), weights, minlength=len(wells)).tolist()
    return {well: n for well, n in zip(wells, found, strict=True) if well is not None}


def _heat_map(name: str, values: Mapping[str, float], *, is_of_run: bool = False) -> HeatMap:
    finite = [v for v in values.values() if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return HeatMap(
        name=name,
        low=format_number(low),
        high=format_number(high),
        cells={w: (colour_of(v, low, high), format_number(v)) for w, v in values.items()},
        is_of_run=is_of_run,
    )
