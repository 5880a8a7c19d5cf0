"""A plate on disk: documents of plate, rows, wells, images and labels; tables.

A well's documents are written into its scratch folder before the well is committed; the plate's
and rows' documents only by the client, each by temporary file and rename.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hcsflow.ngff.layout import ArrayLayout, ImageLayout
from hcsflow.ngff.metadata import (
    VERSION,
    Version,
    image_attributes,
    label_attributes,
    labels_attributes,
    plate_attributes,
    well_attributes,
    well_path,
)
from hcsflow.plate import Channel
from hcsflow.storage.documents import (
    remove_group,
    write_array_document,
    write_group_documents,
)
from hcsflow.storage.images import ImageRecord
from hcsflow.storage.objects import StoredObject
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
    version = image.ngff_version
    attributes = image_attributes(image, name=name, channels=channels, windows=record.windows)
    stored = [
        *write_group_documents(root, "", well_attributes((image.path,), version), version),
        *write_group_documents(root, image.path, attributes, version),
        *_write_arrays(root, image.levels),
    ]
    if labels:
        names = labels_attributes([_label_name(layout) for layout, _ in labels], version)
        stored.extend(write_group_documents(root, f"{image.path}/labels", names, version))
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
        The group's documents and one for each level.
    """
    attributes = label_attributes(layout, name=_label_name(layout), values=record.values)
    group = write_group_documents(root, layout.path, attributes, layout.ngff_version)
    return (*group, *_write_arrays(root, layout.levels))


def _write_arrays(root: Path, arrays: Sequence[ArrayLayout]) -> list[StoredObject]:
    return [write_array_document(root, array) for array in arrays]


def _label_name(layout: ImageLayout) -> str:
    return layout.path.rsplit("/", 1)[1]


def write_plate_documents(  # noqa: PLR0913 - what a plate states
    store: Path,
    plate_name: str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    wells: Sequence[str],
    acquisition: str = "0",
    version: Version = VERSION,
) -> tuple[StoredObject, ...]:
    """Write the plate's documents, listing exactly the wells given, and its rows'.

    NGFF has no plate without wells: with none, the plate's documents are removed. So are those
    of the other version of NGFF.

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
    version : "0.4" or "0.5"
        Of NGFF: that of the wells.

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
        remove_group(store)
        return ()
    attributes = plate_attributes(
        plate_name,
        rows=rows,
        columns=columns,
        wells=wells,
        acquisition=acquisition,
        version=version,
    )
    used = {well_path(well, rows, columns).split("/")[0] for well in wells}
    groups = [(row, None) for row in rows if row in used] + [("", attributes)]
    written = [write_group_documents(store, path, found, version) for path, found in groups]
    return tuple(stored for group in written for stored in group)
