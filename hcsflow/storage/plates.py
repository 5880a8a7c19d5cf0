"""A plate on disk: documents of plate, rows, wells, images and labels; tables.

A well's documents are written into its scratch folder before the well is committed; the plate's
and rows' documents only by the client, each by temporary file and rename.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hcsflow.ngff.layout import ArrayLayout, ImageLayout
from hcsflow.ngff.metadata import (
    array_document,
    group_document,
    image_attributes,
    label_attributes,
    labels_attributes,
    plate_attributes,
    well_attributes,
    well_path,
)
from hcsflow.plate import Channel
from hcsflow.storage.documents import write_document
from hcsflow.storage.images import ImageRecord
from hcsflow.storage.shards import StoredObject
from hcsflow.storage.tables import roi_tables, write_table

__all__ = [
    "roi_tables",
    "write_label_group",
    "write_plate_documents",
    "write_table",
    "write_well_documents",
]


def write_well_documents(
    root: Path,
    *,
    name: str,
    image: ImageLayout,
    record: ImageRecord,
    channels: Sequence[Channel],
    labels: Sequence[tuple[ImageLayout, ImageRecord]] = (),
) -> tuple[StoredObject, ...]:
    """Write the documents of one well: well, image, arrays, labels.

    Parameters
    ----------
    root : Path
        The well's folder, where `ImageWriter` wrote.
    name : str
        Well name, shown by viewers.
    image, record : ImageLayout, ImageRecord
        The well's image and what was stored of it.
    channels : sequence of Channel
        The plate's channels, by dense index.
    labels : sequence of (ImageLayout, ImageRecord)
        Label images, in the order in which they are listed.

    Returns
    -------
    tuple of StoredObject
        Every document written, paths relative to ``root``.
    """
    attributes = image_attributes(image, name=name, channels=channels, windows=record.windows)
    stored = [
        write_document(root, "", group_document(well_attributes((image.path,)))),
        write_document(root, image.path, group_document(attributes)),
        *_write_arrays(root, image.levels),
    ]
    if labels:
        names = [_label_name(layout) for layout, _ in labels]
        group = group_document(labels_attributes(names))
        stored.append(write_document(root, f"{image.path}/labels", group))
    for layout, label_record in labels:
        stored.extend(write_label_group(root, layout, label_record))
    return tuple(stored)


def write_label_group(
    root: Path, layout: ImageLayout, record: ImageRecord
) -> tuple[StoredObject, ...]:
    """Write the documents of one label image; `write_well_documents` lists it.

    Parameters
    ----------
    root : Path
        The well's folder.
    layout, record : ImageLayout, ImageRecord
        The label image and what was stored of it.

    Returns
    -------
    tuple of StoredObject
        The group's document and one for each level.
    """
    attributes = label_attributes(layout, name=_label_name(layout), values=record.values)
    group = write_document(root, layout.path, group_document(attributes))
    return (group, *_write_arrays(root, layout.levels))


def _write_arrays(root: Path, arrays: Sequence[ArrayLayout]) -> list[StoredObject]:
    return [write_document(root, array.path, array_document(array)) for array in arrays]


def _label_name(layout: ImageLayout) -> str:
    return layout.path.rsplit("/", 1)[1]


def write_plate_documents(
    store: Path,
    plate_name: str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    wells: Sequence[str],
    acquisition: str = "0",
) -> tuple[StoredObject, ...]:
    """Write the plate's document, listing exactly the wells given, and its rows'.

    NGFF has no plate without wells: with none, the plate's document is removed.

    Parameters
    ----------
    store : Path
        The plate's folder.
    plate_name : str
        Shown by viewers.
    rows, columns : sequence of str
        All physical rows and columns.
    wells : sequence of str
        Canonical names of the wells that are whole, in any order.
    acquisition : str
        Name of the acquisition.

    Returns
    -------
    tuple of StoredObject
        The documents, the plate's last, so that it never lists a well without its row.

    Raises
    ------
    PlateError
        If a well lies outside the plate; nothing was written.
    """
    if not wells:
        (store / "zarr.json").unlink(missing_ok=True)
        return ()
    attributes = plate_attributes(
        plate_name, rows=rows, columns=columns, wells=wells, acquisition=acquisition
    )
    used = {well_path(well, rows, columns).split("/")[0] for well in wells}
    documents = [write_document(store, row, group_document()) for row in rows if row in used]
    return (*documents, write_document(store, "", group_document(attributes)))
