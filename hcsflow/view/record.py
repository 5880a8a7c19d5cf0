"""What an output folder says about its run, read for showing; nothing here writes.

Files as in architecture section 8: ``.hcsflow/plan.json``, ``.hcsflow/journal``,
``.hcsflow/failures``, ``results/*.parquet`` and ``hcsflow_metadata.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hcsflow.errors import OutputError

__all__ = ["RunRecord", "WellRecord", "read_record", "read_tables"]

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WellRecord:
    """What became of one well.

    Parameters
    ----------
    well, status : str
        Name; ``"done"``, ``"failed"`` or ``"pending"``.
    seconds : float
        Wall time of its tasks.
    steps : mapping of str to float
        Wall time by step, plus ``"read"`` and ``"write"``.
    nbytes, peak_bytes : int
        Stored output; the worker's peak above its idle size.
    failure : mapping or None
        Step, error, message, hint, file, traceback of a failed well.
    notes : tuple of str
        Things recorded without failing.
    """

    well: str
    status: str
    seconds: float = 0.0
    steps: Mapping[str, float] = field(default_factory=dict)
    nbytes: int = 0
    peak_bytes: int = 0
    failure: Json | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One output folder: its plan, its wells, its tables, where they came from."""

    output: Path
    plan: Json
    metadata: Json
    wells: Mapping[str, WellRecord]
    tables: Mapping[str, pd.DataFrame]

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
    hidden = output / ".hcsflow"
    if not (hidden / "plan.json").is_file():
        raise OutputError(
            f"{output} is not an output folder of hcsflow: it has no .hcsflow/plan.json",
            hint="give the folder that `hcsflow run -o` wrote",
        )
    plan = _read_json(hidden / "plan.json")
    metadata = output / "hcsflow_metadata.json"
    return RunRecord(
        output=output,
        plan=plan,
        metadata=_read_json(metadata) if metadata.is_file() else {},
        wells=_read_wells(hidden, plan),
        tables=read_tables(output),
    )


def read_tables(output: Path) -> dict[str, pd.DataFrame]:
    """Read every consolidated table, by name."""
    return {path.stem: pd.read_parquet(path) for path in sorted(output.glob("results/*.parquet"))}


def _read_json(path: Path) -> Json:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise OutputError(
            f"{path} is not valid JSON: {error}", hint="run the same command again to rewrite it"
        ) from error
    return found if isinstance(found, dict) else {}


def _read_wells(hidden: Path, plan: Json) -> dict[str, WellRecord]:
    """Join the plan's wells with journal and failures, in plate order."""
    known = {well: WellRecord(well, "pending") for well in plan.get("wells", [])}
    for well, reason, file in plan.get("failed_wells", []):
        known[well] = WellRecord(well, "failed", failure={"message": reason, "file": file})
    known |= {record.well: record for record in _done_wells(hidden / "journal" / "final")}
    known |= {record.well: record for record in _failed_wells(hidden / "failures")}
    order = {well: i for i, well in enumerate(plan.get("plate", {}).get("wells", []))}
    return dict(sorted(known.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def _done_wells(folder: Path) -> Iterator[WellRecord]:
    for path in sorted(folder.glob("*.json")):
        entry = _read_json(path)
        outcome = entry.get("outcome", {})
        yield WellRecord(
            well=str(entry.get("well", path.stem)),
            status="done",
            seconds=float(outcome.get("seconds", 0.0)),
            steps=_by_step(outcome),
            nbytes=sum(int(item["nbytes"]) for item in entry.get("objects", [])),
            peak_bytes=int(outcome.get("peak_bytes", 0)),
            notes=tuple(outcome.get("notes", ())),
        )


def _failed_wells(folder: Path) -> Iterator[WellRecord]:
    for path in sorted(folder.glob("*.json")):
        entry = _read_json(path)
        outcome = entry.get("outcome", entry)
        yield WellRecord(
            well=str(outcome.get("well", path.stem)),
            status="failed",
            seconds=float(outcome.get("seconds", 0.0)),
            steps=_by_step(outcome),
            failure={**outcome, "rerun": entry.get("rerun")},
            notes=tuple(outcome.get("notes", ())),
        )


def _by_step(outcome: Json) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for step, spent in outcome.get("step_seconds", ()):
        seconds[step] = seconds.get(step, 0.0) + float(spent)
    return seconds
