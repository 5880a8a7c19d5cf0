"""Which wells a plate lists: those that are whole."""

from __future__ import annotations

from pathlib import Path

from hcsflow.execute.resume import Ledger
from hcsflow.ngff.layout import images_of
from hcsflow.plan import Plan, WritePlan
from hcsflow.storage.documents import remove_group
from hcsflow.storage.plates import write_plate_documents

__all__ = ["list_wells"]


def list_wells(plan: Plan, output: Path, ledger: Ledger) -> dict[str, list[str]]:
    """Let each plate list exactly its whole wells; return them by output, in plate order."""
    listed = {}
    for write in plan.writes:
        wells = ledger.whole_wells(write.output)
        store = output / write.store
        if wells or store.is_dir():
            store.mkdir(parents=True, exist_ok=True)
            _list_wells(plan, write, store, wells)
        listed[write.output] = wells
    return listed


def _list_wells(plan: Plan, write: WritePlan, store: Path, wells: list[str]) -> None:
    """Write the documents of a plate and its rows, or see to it that there are none."""
    plate = plan.plate
    if not write.lists_wells:
        for folder in (store, *(store / row for row in plate.rows)):
            remove_group(folder)
        return
    write_plate_documents(
        store,
        plate.name,
        rows=plate.rows,
        columns=plate.columns,
        wells=wells,
        acquisition=plate.acquisition,
        fields=len(images_of(write.image)),
        version=write.image.ngff_version,
    )
