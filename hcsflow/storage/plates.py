"""A plate on disk: documents of plate, rows, wells, images and labels; tables.

A well's documents are written into its scratch folder before the well is committed; the plate's
and rows' documents only by the client, each by temporary file and rename.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hcsflow.ngff.layout import ArrayLayout, ImageLayout
from hcsflow.ngff.metadata import (
    VERSION,
    Version,
    image_attributes,
    image_facts,
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
from hcsflow.storage.objects import StoredObject
from hcsflow.storage.tables import list_tables, roi_tables, write_roi_table, write_table

if TYPE_CHECKING:  # the client writes documents, and has no need of codecs
    from hcsflow.storage.images import ImageRecord

__all__ = [
    "ImageFacts",
    "list_tables",
    "roi_tables",
    "write_image_documents",
    "write_label_group",
    "write_plate_documents",
    "write_roi_table",
    "write_table",
    "write_well_documents",
    "write_well_group",
]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the documents of an image say besides its layout and contents.

    Parameters
    ----------
    name : str
        Shown by viewers.
    channels : sequence of Channel
        The plate's channels, by dense index.
    corner_um : (y, x) or None
        Stage position of the upper left corner, in µm.
    absent : sequence of (field, timepoint, channel, z)
        Planes that were not written, by dense indices.
    has_ngff : bool
        False: plain Zarr groups, without NGFF's words.
    """

    name: str
    channels: Sequence[Channel]
    corner_um: tuple[float, float] | None = None
    absent: Sequence[Sequence[int]] = ()
    has_ngff: bool = True


def write_well_documents(
    root: Path,
    *,
    name: str,
    image: ImageLayout,
    record: ImageRecord,
    channels: Sequence[Channel],
    labels: Sequence[tuple[ImageLayout, ImageRecord]] = (),
) -> tuple[StoredObject, ...]:
    """Write the documents of a well of one image: well, image, arrays, labels.

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
    facts = ImageFacts(name, channels)
    return (
        *write_well_group(root, [image]),
        *write_image_documents(root, image, record, facts=facts, labels=labels),
    )


def write_well_group(
    root: Path, images: Sequence[ImageLayout], *, has_ngff: bool = True
) -> tuple[StoredObject, ...]:
    """Write the documents of a well's group, which list its images (at least one)."""
    version = images[0].ngff_version
    attributes = well_attributes([image.path for image in images], version) if has_ngff else None
    return write_group_documents(root, "", attributes, version, is_new=True)


def write_image_documents(
    root: Path,
    image: ImageLayout,
    record: ImageRecord,
    *,
    facts: ImageFacts,
    labels: Sequence[tuple[ImageLayout, ImageRecord]] = (),
) -> tuple[StoredObject, ...]:
    """Write the documents of one image of a well, its arrays and labels.

    Parameters
    ----------
    root : Path
        The well's folder.
    image, record : ImageLayout, ImageRecord
        The image and what was stored of it.
    facts : ImageFacts
        What else is said of it.
    labels : sequence of (ImageLayout, ImageRecord)
        Its label images, in the order in which they are listed.

    Returns
    -------
    tuple of StoredObject
        Every document written, paths relative to ``root``.
    """
    version = image.ngff_version
    attributes = image_facts(image, facts.channels, facts.absent)
    if facts.has_ngff:
        attributes |= image_attributes(
            image,
            name=facts.name,
            channels=facts.channels,
            windows=record.windows,
            corner_um=facts.corner_um,
        )
    stored = [
        *write_group_documents(root, image.path, attributes, version, is_new=True),
        *_write_arrays(root, image.levels),
    ]
    if labels:
        names = labels_attributes([_label_name(layout) for layout, _ in labels], version)
        listed = names if facts.has_ngff else None
        group = f"{image.path}/labels"
        stored.extend(write_group_documents(root, group, listed, version, is_new=True))
    for layout, label_record in labels:
        stored.extend(write_label_group(root, layout, label_record, facts=facts))
    return tuple(stored)


def write_label_group(
    root: Path, layout: ImageLayout, record: ImageRecord, *, facts: ImageFacts | None = None
) -> tuple[StoredObject, ...]:
    """Write the documents of one label image; `write_image_documents` lists it.

    Parameters
    ----------
    root : Path
        The well's folder.
    layout, record : ImageLayout, ImageRecord
        The label image and what was stored of it.
    facts : ImageFacts, optional
        Of its image.

    Returns
    -------
    tuple of StoredObject
        The group's documents and one for each level.
    """
    attributes = None
    if facts is None or facts.has_ngff:
        attributes = label_attributes(
            layout,
            name=_label_name(layout),
            values=record.values,
            corner_um=None if facts is None else facts.corner_um,
        )
    version = layout.ngff_version
    group = write_group_documents(root, layout.path, attributes, version, is_new=True)
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
    fields: int = 1,
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
    fields : int
        Images in a well.
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
        fields=fields,
        version=version,
    )
    used = {well_path(well, rows, columns).split("/")[0] for well in wells}
    groups = [(row, None) for row in rows if row in used] + [("", attributes)]
    written = [write_group_documents(store, path, found, version) for path, found in groups]
    return tuple(stored for group in written for stored in group)
