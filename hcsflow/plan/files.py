"""How many files a plan's plates will have, besides those with pixels."""

from __future__ import annotations

from hcsflow.config import Backend
from hcsflow.ngff.fields import images_of
from hcsflow.ngff.layout import ImageLayout
from hcsflow.ngff.metadata import Document, group_documents
from hcsflow.plan.plan import Plan
from hcsflow.plan.writes import WritePlan

__all__ = ["documents_of"]

ROI_TABLES = 2
"""``FOV_ROI_table`` and ``well_ROI_table``, beside every image."""


def documents_of(plan: Plan, write: WritePlan) -> int:
    """Return the documents and tables of an output's plate, as all its wells will have them.

    Side outputs (`WritePlan.sides`) are left out, since only their functions know their files, and
    so is what lies outside the plate: ``results/``, ``.hcsflow/``.
    """
    wells = len(plan.wells)
    if write.backend == Backend.DISK.value:
        return wells * len(write.tables)
    return wells * _of_well(plan, write) + _of_plate(plan, write)


def _of_plate(plan: Plan, write: WritePlan) -> int:
    if not write.lists_wells or not plan.wells:
        return 0
    rows = {well.rstrip("0123456789") for well in plan.wells}
    return len(rows) * _group(write, has_attributes=False) + _group(write)


def _of_well(plan: Plan, write: WritePlan) -> int:
    """Return the files of a well: its group, its images, their arrays, labels and tables."""
    images = len(images_of(write.image))
    table = 1 + _group(write)
    each = _group(write) + _arrays(write.image) + ROI_TABLES * table + _group(write)
    if write.labels:
        groups = (1 + len(write.labels)) * _group(write, has_attributes=write.has_ngff)
        each += groups + sum(_arrays(label.layout) for label in write.labels)
    tables = table * sum(_tables(plan, write, made.step) for made in write.tables)
    return _group(write, has_attributes=write.has_ngff) + images * each + tables


def _tables(plan: Plan, write: WritePlan, step: int) -> int:
    """Return how many images of a well have a table: where fields are stacked, only the first."""
    has_one = "field" in plan.steps[step].variable_components
    return 1 if has_one else len(images_of(write.image))


def _arrays(image: ImageLayout) -> int:
    return len(image.levels)


def _group(write: WritePlan, *, has_attributes: bool = True) -> int:
    """Return the documents of a group."""
    attributes: Document | None = {"multiscales": []} if has_attributes else None
    return len(group_documents(attributes, write.image.ngff_version))
