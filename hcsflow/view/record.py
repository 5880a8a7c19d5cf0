"""What an output folder says about its run, read for showing; nothing here writes.

Files as in architecture section 8: ``.hcsflow/plan.json``, journal and failures,
``results/*.parquet`` and ``hcsflow_metadata.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hcsflow.errors import OutputError
from hcsflow.journal import (
    ControlFolder,
    Outcome,
    entries_of_plan,
    merged,
    read_entries,
    read_failures,
    read_json,
)

__all__ = [
    "RunRecord",
    "WellRecord",
    "read_record",
    "read_tables",
]

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WellRecord:
    """What became of one well.

    Parameters
    ----------
    well, status : str
        Name; ``"done"``, ``"failed"``, ``"pending"`` or ``"other"``: stored, but made with other
        steps, parameters or settings than the latest plan's, which leaves it out.
    seconds : float
        Wall time of its tasks.
    steps : mapping of str to float
        Wall time by step, plus ``"read"`` and ``"write"``.
    nbytes : int
        Stored output.
    failure : Outcome or None
        Step, error, message, hint, file, traceback of a failed well.
    notes : tuple of str
        Things recorded without failing.
    traffic : tuple of (str, int, int, float)
        By storage backend: operations, bytes, seconds.
    peaks : mapping of str to int
        Peak memory above an idle worker by step; empty where it was not measured.
    bytes_read, bytes_written : int
        Decoded input; stored output.
    """

    well: str
    status: str
    seconds: float = 0.0
    steps: Mapping[str, float] = field(default_factory=dict)
    nbytes: int = 0
    failure: Outcome | None = None
    notes: tuple[str, ...] = ()
    traffic: tuple[tuple[str, int, int, float], ...] = ()
    peaks: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def peak_bytes(self) -> int:
        """Peak memory of its worst task, 0 where it was not measured."""
        return max(self.peaks.values(), default=0)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One output folder: its plan, its wells, its tables, where they came from."""

    output: Path
    plan: Json
    metadata: Json
    wells: Mapping[str, WellRecord]
    tables: Mapping[str, pa.Table]

    @property
    def plate(self) -> Json:
        """The plate's part of the plan."""
        found: Json = self.plan.get("plate", {})
        return found

    @property
    def final(self) -> Json:
        """The final output's part of the plan (store, image, labels, tables)."""
        found: Json = next((w for w in self.plan.get("writes", []) if w.get("output") == ""), {})
        return found

    def with_status(self, status: str) -> list[WellRecord]:
        """List the wells of one status, in plate order."""
        return [well for well in self.wells.values() if well.status == status]


def read_record(output: Path) -> RunRecord:
    """Read an output folder.

    Raises
    ------
    OutputError
        If the folder holds no run of hcsflow.
    """
    control = ControlFolder(output)
    plan = read_json(control.plan)
    if not isinstance(plan, dict):
        raise OutputError(
            f"{output} is not an output folder of hcsflow: it has no readable .hcsflow/plan.json",
            hint="give the folder that `hcsflow run -o` wrote",
        )
    metadata = read_json(output / "hcsflow_metadata.json")
    return RunRecord(
        output=output,
        plan=plan,
        metadata=metadata if isinstance(metadata, dict) else {},
        wells=_read_wells(control, plan),
        tables=read_tables(output),
    )


def read_tables(output: Path) -> dict[str, pa.Table]:
    """Read every consolidated table, by name."""
    tables = {}
    for path in sorted(output.glob("results/*.parquet")):
        with pq.ParquetFile(path) as file:  # `pq.read_table` would load pandas for it
            tables[path.stem] = file.read()
    return tables


def _read_wells(control: ControlFolder, plan: Json) -> dict[str, WellRecord]:
    """Join the plan's wells with journal and failures, in plate order."""
    known = {well: WellRecord(well, "pending") for well in plan.get("wells", [])}
    for well, reason, file in plan.get("failed_wells", []):
        fault = Outcome(well, "", "failed", message=reason, file=file)
        known[well] = WellRecord(well, "failed", failure=fault)
    for well in read_entries(control, ""):
        known.setdefault(well, WellRecord(well, "other"))
    outputs = [write.get("output", "") for write in plan.get("writes", [])]
    units = [entries_of_plan(control, plan, output) for output in outputs]
    for well in units[-1] if units else ():
        entries = [entries[well] for entries in units if well in entries]
        nbytes = sum(item.nbytes for entry in entries for item in entry.objects)
        known[well] = _well("done", merged([entry.outcome for entry in entries]), nbytes)
    for outcome in read_failures(control):
        known[outcome.well] = _well("failed", outcome, 0)
    order = {well: i for i, well in enumerate(plan.get("plate", {}).get("wells", []))}
    return dict(sorted(known.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def _well(status: str, outcome: Outcome, nbytes: int) -> WellRecord:
    seconds: dict[str, float] = {}
    for step, spent in outcome.step_seconds:
        seconds[step] = seconds.get(step, 0.0) + spent
    return WellRecord(
        well=outcome.well,
        status=status,
        seconds=outcome.seconds or sum(seconds.values()),
        steps=seconds,
        nbytes=nbytes,
        failure=outcome if status == "failed" else None,
        notes=outcome.notes,
        traffic=outcome.traffic,
        peaks=dict(outcome.step_peaks),
        bytes_read=outcome.bytes_read,
        bytes_written=outcome.bytes_written,
    )
