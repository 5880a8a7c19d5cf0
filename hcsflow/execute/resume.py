"""What need not be done again: units whose journal entry, inputs and objects agree."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hcsflow.journal import ControlFolder, JournalEntry, Outcome, read_entries
from hcsflow.plan import Plan
from hcsflow.storage.objects import file_checksum

__all__ = ["Ledger", "SegmentShare", "failed_before", "planned_wells", "shares_of"]

CLOCK_SLACK_S = 2.0
"""A record's time is in whole seconds, and a file server's clock may be a little ahead."""


@dataclass(frozen=True, slots=True)
class SegmentShare:
    """For how many wells a segment's work is there already, and for how many it is to do.

    Parameters
    ----------
    name : str
        The segment.
    wells_kept, wells_to_do : int
        Together the plan's wells.
    """

    name: str
    wells_kept: int
    wells_to_do: int

    def __str__(self) -> str:
        counts = ((self.wells_kept, "kept"), (self.wells_to_do, "to do"))
        told = (f"{word} ({n} well{'' if n == 1 else 's'})" for n, word in counts if n)
        return f"{self.name}: {', '.join(told)}"


def shares_of(plan: Plan, todo: Mapping[str, Sequence[str]]) -> tuple[SegmentShare, ...]:
    """Sum up what is kept and what is to do, segment by segment.

    Parameters
    ----------
    plan : Plan
        The plan.
    todo : mapping of str to sequence of str
        Names of the segments to run, by well; a well without any is done.
    """
    counts = Counter(name for names in todo.values() for name in names)
    return tuple(
        SegmentShare(s.name, len(plan.wells) - counts[s.name], counts[s.name])
        for s in plan.segments
    )


class Ledger:
    """An output's journal held against a plan.

    Parameters
    ----------
    plan : Plan
        What should be there.
    output : Path
        The output folder.
    """

    def __init__(self, plan: Plan, output: Path) -> None:
        self._plan = plan
        self._output = output
        outputs = [write.output for write in plan.writes]
        self._recipes = {name: plan.recipe(name) for name in outputs}
        self._wanted = {
            (name, well): plan.unit_fingerprint(well, name)
            for name in outputs
            for well in plan.wells
        }
        self._entries: dict[str, dict[str, JournalEntry]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the journal again."""
        control = ControlFolder(self._output)
        self._entries = {name: read_entries(control, name) for name in self._recipes}

    def segments_to_run(self, well: str) -> tuple[str, ...]:
        """Return the names of the segments that a well still needs, in order; empty: it is done.

        A segment must run if an output of it is not whole, of this very plan and input, or if
        one after it must run that takes its result. One that starts from a whole checkpoint needs
        nothing before that.
        """
        found: list[str] = []
        is_needed = False
        for segment in reversed(self._plan.segments):
            units = [write.output for write in self._plan.writes_of(segment)]
            is_run = is_needed or not all(self._is_unit_done(name, well) for name in units)
            if is_run:
                found.append(segment.name)
            is_needed = is_run and segment.reads is None
        return tuple(reversed(found))

    def entry(self, output: str, well: str) -> JournalEntry:
        """Return the entry of a unit that is done."""
        return self._entries[output][well]

    def skipped(self, well: str) -> Outcome:
        """Return the outcome of a well that is done already."""
        first = self.entry(self._plan.writes[-1].output, well).outcome
        return Outcome(well, first.segment, "skipped", outputs=first.outputs, objects=first.objects)

    def whole_wells(self, output: str) -> list[str]:
        """Return the wells of an output that are whole and made as the plan says, in plate order.

        A well that is in the plan counts if its inputs are unchanged too; one that the plan leaves
        out (a run of a few wells) counts if it was made by the same steps and layout.
        """
        failed = {name for name, _, _ in self._plan.failed_wells}
        return [
            well
            for well in self._plan.plate.wells
            if well in self._entries[output] and well not in failed
            if self._is_whole(output, self._entries[output][well])
        ]

    def _is_unit_done(self, output: str, well: str) -> bool:
        entry = self._entries[output].get(well)
        return entry is not None and self._is_whole(output, entry)

    def _is_whole(self, output: str, entry: JournalEntry) -> bool:
        wanted = self._wanted.get((output, entry.well))
        return entry.is_made_by(wanted, self._recipes[output]) and self._has_objects(entry)

    def _has_objects(self, entry: JournalEntry) -> bool:
        """Tell whether all objects are there as written.

        The checksum is looked at where a file's date is later than its record; `verify` looks at
        all of them.
        """
        try:
            recorded = datetime.fromisoformat(entry.time).timestamp() + CLOCK_SLACK_S
            for item in entry.objects:
                path = f"{self._output}/{item.path}"  # a Path takes far longer
                status = os.stat(path)  # noqa: PTH116
                if status.st_size != item.nbytes:
                    return False
                if status.st_mtime > recorded and file_checksum(Path(path)) != item.checksum:
                    return False
        except (OSError, ValueError):  # gone, unreadable, or a record without a time
            return False
        return True


def planned_wells(plan: Plan) -> tuple[str, ...]:
    """Return the wells of a plan, with a task or failed before one, in plate order."""
    failed = [name for name, _, _ in plan.failed_wells]
    chosen = {*plan.wells, *failed}
    return tuple(well for well in dict.fromkeys([*plan.plate.wells, *failed]) if well in chosen)


def failed_before(well: str, reason: str, file: str | None) -> Outcome:
    """Return the outcome of a well that the plan gave no task."""
    error = "PlateError" if file else "MissingPlaneError"  # at fault, or nowhere to be found
    return Outcome(well, "", "failed", step="plan", error=error, message=reason, file=file)
