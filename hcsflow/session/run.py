"""What a finished run gives: tables, failures, the report, the plate."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcsflow.errors import UsageError, nearest
from hcsflow.journal import (
    ControlFolder,
    Outcome,
    entries_of_plan,
    merged,
    read_failures,
    read_json,
)
from hcsflow.view.command import rerun_command

if TYPE_CHECKING:
    import pandas as pd

    from hcsflow.execute import RunResult
    from hcsflow.execute.resume import SegmentShare

__all__ = ["Run", "summary"]

BAD = ("failed", "crashed")


class Run:
    """An output folder and, right after running, what happened in that run.

    Parameters
    ----------
    output : str or Path
        What a run wrote.
    result : RunResult, optional
        Outcomes of the run just ended; without it they are read from the journal.

    Examples
    --------
    ``Run("OUT/").table("nuclei").groupby("well").size()``
    """

    def __init__(self, output: str | Path, result: RunResult | None = None) -> None:
        self.output = Path(output)
        self._result = result

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each well, in this run or, without one, on record."""
        if self._result is not None:
            return self._result.outcomes
        control = ControlFolder(self.output)
        plan = read_json(control.plan)
        names = [w["output"] for w in plan.get("writes", ())] if isinstance(plan, dict) else []
        units = [entries_of_plan(control, plan, name) for name in names]
        found = {
            well: merged([unit[well].outcome for unit in units if well in unit])
            for well in (units[-1] if units else ())
        }
        found |= {outcome.well: outcome for outcome in read_failures(control)}
        return tuple(found[well] for well in sorted(found))

    @property
    def seconds(self) -> float:
        """Wall time of the run just ended, in seconds; 0 where there was none."""
        return self._result.seconds if self._result is not None else 0.0

    @property
    def segments(self) -> tuple[SegmentShare, ...]:
        """What the run just ended kept and what it had to do, by segment; empty without one."""
        return self._result.segments if self._result is not None else ()

    @property
    def failures(self) -> pd.DataFrame:
        """One row per failed well: well, step, error, message, file, hint, rerun.

        ``rerun`` is a command line, None where the run was not started from one: there `Plan.run`
        does again what failed.
        """
        import pandas as pd

        names = ["well", "step", "error", "message", "file", "hint"]
        rows = [[getattr(o, name) for name in names] for o in self._failed()]
        frame = pd.DataFrame(rows, columns=names)
        frame["rerun"] = [rerun_command(self.output, [well]) for well in frame["well"]]
        return frame

    def _failed(self) -> list[Outcome]:
        """Failed outcomes, one per well, by well name."""
        by_well = {o.well: o for o in self.outcomes if o.status in BAD}
        return [by_well[well] for well in sorted(by_well)]

    @property
    def tables(self) -> list[str]:
        """Names of the consolidated tables."""
        return sorted(path.stem for path in self.output.glob("results/*.parquet"))

    def table(self, name: str) -> pd.DataFrame:
        """Return a consolidated table: one row per object or group, over all wells.

        Raises
        ------
        UsageError
            If there is no such table; lists those there are.
        """
        import pandas as pd

        path = self.output / "results" / f"{name}.parquet"
        if name not in self.tables:
            there = ", ".join(self.tables) or "none"
            meant = nearest(name, self.tables)
            raise UsageError(
                f"no table {name!r} in {self.output / 'results'}; there are: {there}",
                hint=f"did you mean {meant!r}?" if meant else None,
            )
        return pd.read_parquet(path)

    @property
    def plate(self) -> Path:
        """The OME-Zarr plate that was written."""
        plan = read_json(ControlFolder(self.output).plan)
        writes = plan.get("writes", []) if isinstance(plan, dict) else []
        stores = [write["store"] for write in writes if write.get("output") == ""]
        return self.output / (stores[0] if stores else "images.zarr")

    def report(self) -> Path:
        """Write ``report.html`` and return its path."""
        from hcsflow.view.report import write_report

        return write_report(self.output)

    def __repr__(self) -> str:
        counts = summary(self)
        there = f", {len(counts['skipped'])} done already" if counts["skipped"] else ""
        done, failed = len(counts["done"]), len(counts["failed"])
        return f"<Run {self.output}: {done} done{there}, {failed} failed>"

    def _repr_html_(self) -> str:
        found = summary(self)
        head = (
            f"<b>{len(found['done']) + len(found['skipped'])}</b> wells done, "
            f"<b>{len(found['failed'])}</b> failed, in <code>{escape(found['output'])}</code>"
        )
        tables = f"<br>tables: {escape(', '.join(found['tables']) or 'none')}"
        if not found["failed"]:
            return head + tables
        return head + tables + str(self.failures.drop(columns="hint").to_html(index=False))


def summary(run: Run) -> dict[str, Any]:
    """Return a run as a document (schema ``hcsflow.run/1``): wells by fate, where results lie."""
    fate: dict[str, str] = {}
    for outcome in run.outcomes:
        if fate.get(outcome.well) not in BAD:
            fate[outcome.well] = outcome.status
    failed = [well for well, status in fate.items() if status in BAD]
    report = run.output / "report.html"
    return {
        "schema": "hcsflow.run/1",
        "output": str(run.output),
        "plate": str(run.plate),
        "report": str(report) if report.is_file() else None,
        "tables": run.tables,
        "seconds": round(run.seconds, 3),
        "done": [well for well, status in fate.items() if status == "done"],
        "skipped": [well for well, status in fate.items() if status == "skipped"],
        "cancelled": [well for well, status in fate.items() if status == "cancelled"],
        "failed": [
            {"well": o.well, "step": o.step, "error": o.error, "message": o.message,
             "file": o.file, "hint": o.hint}
            for o in run._failed()  # noqa: SLF001 - the document of this very class
        ],
        "rerun": rerun_command(run.output, failed) if failed else None,
        "segments": [asdict(share) for share in run.segments],
        "measured": _measured(run.output),
    }  # fmt: skip


def _measured(output: Path) -> list[dict[str, Any]]:
    """Return time and memory of each output, as documents' parts."""
    from hcsflow.execute.estimates import measured_units

    units = [asdict(unit) for unit in measured_units(output)]
    own = _user_functions(output)
    for unit in units:
        unit["steps"] = [s | {"user_function": own.get(s["name"])} for s in unit["steps"]]
    return [{name: value for name, value in unit.items() if name != "key"} for unit in units]


def _user_functions(output: Path) -> dict[str, str]:
    """Return the functions of an output's steps that are none of hcsflow's own, by step."""
    plan = read_json(ControlFolder(output).plan)
    return {
        step["name"]: call["function"].rpartition(":")[2]
        for step in (plan["steps"] if isinstance(plan, dict) else ())
        for branch in step["branches"]
        for call in branch["calls"]
        if not call["function"].startswith("hcsflow.")
    }
