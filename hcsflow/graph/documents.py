"""Finishing a well's folder: documents, ROI tables, feature tables; the list of its objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hcsflow.config import Backend
from hcsflow.graph.sinks import Stored, WellSink
from hcsflow.journal import ObjectRecord
from hcsflow.ngff.layout import ImageLayout
from hcsflow.plan import Plan, WritePlan
from hcsflow.storage.images import ImageRecord
from hcsflow.storage.objects import StoredObject, checksum_of
from hcsflow.storage.plates import (
    ImageFacts,
    list_tables,
    roi_tables,
    write_image_documents,
    write_roi_table,
    write_table,
    write_well_group,
)
from hcsflow.storage.tables import write_table_file

__all__ = ["finish_well"]


def finish_well(  # noqa: PLR0913 - a well's parts
    plan: Plan,
    write: WritePlan,
    sink: WellSink,
    *,
    well: str,
    root: Path,
    well_path: str,
    stage_positions: Sequence[tuple[float, float] | None],
) -> tuple[ObjectRecord, ...]:
    """Close a well's arrays and write all that belongs to it.

    Parameters
    ----------
    plan, write, sink : Plan, WritePlan, WellSink
        What was written.
    well : str
        Well name.
    root : Path
        The unit's scratch folder; mirrors the output folder.
    well_path : str
        The well's folder below it, e.g. ``"images.zarr/B/03"``.
    stage_positions : sequence of ((y, x) or None)
        In µm, by dense field index.

    Returns
    -------
    tuple of ObjectRecord
        Every file of the unit, paths relative to the output folder, sorted.
    """
    folder = root / well_path
    images, labels = sink.close()
    stored = [obj for record in _records(images, labels) for obj in record.objects]
    if write.backend == Backend.DISK.value:
        for name, _, rows in sink.tables():
            stored.append(write_table_file(folder, f"tables/{name}.parquet", rows))
    else:
        group = [image for image, _ in images]
        stored.extend(write_well_group(folder, group, has_ngff=write.has_ngff))
        absent = sink.absent
        for number, (image, record) in enumerate(images):
            lacking = [key for key in absent if key.field in image.fields]
            facts = replace(_facts(plan, write, image, well, stage_positions), absent=lacking)
            tied = [made[number] for made in labels.values()]
            stored.extend(write_image_documents(folder, image, record, facts=facts, labels=tied))
            stored.extend(_tables(plan, write, sink, image, folder, stage_positions))
    records = {f"{well_path}/{s.path}": s for s in stored}
    records |= dict(_side_files(write, root, well))
    return tuple(ObjectRecord(path, s.nbytes, s.checksum) for path, s in sorted(records.items()))


def _records(images: Stored, labels: Mapping[str, Stored]) -> Iterator[ImageRecord]:
    for made in (images, *labels.values()):
        yield from (record for _, record in made)


def _facts(
    plan: Plan,
    write: WritePlan,
    image: ImageLayout,
    well: str,
    stage_positions: Sequence[tuple[float, float] | None],
) -> ImageFacts:
    """Return what an image's documents say of it."""
    if not write.image.is_per_field:
        return ImageFacts(well, plan.plate.channels, has_ngff=write.has_ngff)
    field = image.fields[0]
    centre = stage_positions[field] if field < len(stage_positions) else None
    return ImageFacts(
        f"{well}, field {plan.plate.fields[field]}",
        plan.plate.channels,
        corner_um=None if centre is None else _corner_of(image, centre),
        has_ngff=write.has_ngff,
    )


def _corner_of(image: ImageLayout, centre_um: tuple[float, float]) -> tuple[float, float]:
    """Return a field's upper left corner (y, x) from its centre on the stage, in µm."""
    um = image.levels[0].scale[-1]
    y, x = (
        round(at - size * um / 2, 6) for at, size in zip(centre_um, image.field_yx, strict=True)
    )
    return y, x


def _tables(
    plan: Plan,
    write: WritePlan,
    sink: WellSink,
    image: ImageLayout,
    folder: Path,
    stage_positions: Sequence[tuple[float, float] | None],
) -> Iterable[StoredObject]:
    """Write an image's ROI tables, and the rows of the feature tables that belong to it."""
    root, version = folder / image.path, image.ngff_version
    names = []
    for name, regions in roi_tables(image, plan.plate.fields, stage_positions).items():
        yield from write_roi_table(root, name, regions, version=version)
        names.append(name)
    for name, labels, rows in sink.tables(image.fields[0] if write.image.is_per_field else None):
        # label ids recur at each timepoint, and a reader wants one row for each
        tied = labels if len(plan.source.timepoints) == 1 else None
        yield from write_table(root, name, rows, labels=tied, version=version)
        names.append(name)
    yield from list_tables(root, names, version=version)


def _side_files(write: WritePlan, root: Path, well: str) -> Iterable[tuple[str, StoredObject]]:
    for side in write.sides:
        for path in sorted((root / "results" / side.name / well).rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                name = path.relative_to(root).as_posix()
                yield name, StoredObject(name, len(data), checksum_of(data))
