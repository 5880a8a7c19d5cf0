"""Finishing a well's folder: documents, ROI tables, feature tables; the list of its objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hcsflow.graph.sinks import WellSink
from hcsflow.journal import ObjectRecord
from hcsflow.plan import Plan, WritePlan
from hcsflow.storage.objects import StoredObject, checksum_of
from hcsflow.storage.plates import roi_tables, write_table, write_well_documents

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
    image, labels = sink.close()
    stored: list[StoredObject] = [*image.objects]
    for record in labels.values():
        stored.extend(record.objects)
    stored.extend(
        write_well_documents(
            folder,
            name=well,
            image=write.image,
            record=image,
            channels=plan.plate.channels,
            labels=[(label.layout, labels[label.name]) for label in write.labels],
        )
    )
    stored.extend(_tables(plan, write, sink, folder, stage_positions))
    records = {f"{well_path}/{s.path}": s for s in stored}  # a list written again: the last holds
    records |= dict(_side_files(write, root, well))
    return tuple(ObjectRecord(path, s.nbytes, s.checksum) for path, s in sorted(records.items()))


def _tables(
    plan: Plan,
    write: WritePlan,
    sink: WellSink,
    folder: Path,
    stage_positions: Sequence[tuple[float, float] | None],
) -> Iterable[StoredObject]:
    image_root = folder / write.image.path
    version = write.image.ngff_version
    for name, frame in roi_tables(write.image, plan.plate.fields, stage_positions).items():
        yield from write_table(image_root, name, frame, kind="roi_table", version=version)
    for name, labels, frame in sink.tables():
        # label ids recur at each timepoint, and a reader wants one row for each
        tied = labels if len(plan.source.timepoints) == 1 else None
        yield from write_table(image_root, name, frame, labels=tied, version=version)


def _side_files(write: WritePlan, root: Path, well: str) -> Iterable[tuple[str, StoredObject]]:
    for side in write.sides:
        for path in sorted((root / "results" / side.name / well).rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                name = path.relative_to(root).as_posix()
                yield name, StoredObject(name, len(data), checksum_of(data))
