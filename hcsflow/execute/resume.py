"""What need not be done again: units whose journal entry, inputs and objects agree."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path

from hcsflow.errors import PlateError, UsageError, nearest
from hcsflow.graph.commit import recipe_of
from hcsflow.journal import ControlFolder, JournalEntry, read_entries
from hcsflow.plan import Plan
from hcsflow.plate.names import canonical_well

__all__ = ["Ledger", "select_wells"]


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
        self._recipes = {name: recipe_of(plan, name) for name in outputs}
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

    def is_done(self, well: str) -> bool:
        """Tell whether every output of a well is whole and of this very plan and input."""
        return all(self._is_unit_done(write.output, well) for write in self._plan.writes)

    def entry(self, output: str, well: str) -> JournalEntry:
        """Return the entry of a unit that is done."""
        return self._entries[output][well]

    def whole_wells(self, output: str) -> list[str]:
        """Return the wells of an output that are whole and made as the plan says, in plate order.

        A well that is in the plan counts if its inputs are unchanged too; one that the plan leaves
        out (a run of a few wells) counts if it was made by the same steps and layout.
        """
        in_plan = set(self._plan.wells)
        failed = {name for name, _, _ in self._plan.failed_wells}
        return [
            well
            for well in self._plan.plate.wells
            if well in self._entries[output] and well not in failed
            if (self._is_unit_done if well in in_plan else self._is_kin)(output, well)
        ]

    def _is_unit_done(self, output: str, well: str) -> bool:
        entry = self._entries[output].get(well)
        if entry is None or entry.fingerprint != self._wanted.get((output, well)):
            return False
        return self._has_objects(entry)

    def _is_kin(self, output: str, well: str) -> bool:
        entry = self._entries[output][well]
        return entry.recipe == self._recipes[output] and self._has_objects(entry)

    def _has_objects(self, entry: JournalEntry) -> bool:
        """Tell whether all objects are there with their size; `verify` looks at the checksums."""
        try:
            return all(
                (self._output / item.path).stat().st_size == item.nbytes for item in entry.objects
            )
        except OSError:
            return False


def select_wells(plan: Plan, patterns: Iterable[str] | None) -> tuple[str, ...]:
    """Return the wells of a plan, with a task or failed before one, that patterns name.

    Raises
    ------
    UsageError
        If a pattern names none.
    """
    failed = {name for name, _, _ in plan.failed_wells}
    known = dict.fromkeys([*plan.plate.wells, *plan.wells, *failed])
    wells = tuple(well for well in known if well in failed or well in plan.wells)
    if patterns is None:
        return wells
    chosen: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(wells, _canonical(pattern))
        if not found:
            close = nearest(pattern, wells)
            raise UsageError(
                f"no well of the plan is called {pattern!r}",
                hint=f"did you mean {close}?" if close else f"wells: {', '.join(wells[:12])}",
            )
        chosen.update(found)
    return tuple(well for well in wells if well in chosen)


def _canonical(pattern: str) -> str:
    """Return a well's name as hcsflow writes it, a pattern in capitals."""
    try:
        return canonical_well(pattern)
    except PlateError:
        return pattern.strip().upper()
