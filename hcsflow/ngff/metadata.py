"""Metadata documents of OME-Zarr 0.5 and 0.4 (https://ngff.openmicroscopy.org) as plain dicts.

NGFF 0.5 is Zarr 3: a node has one ``zarr.json``, NGFF's words stand below ``ome``. NGFF 0.4 is
Zarr 2: an array has ``.zarray``, a group ``.zgroup`` and ``.zattrs``. Every function is pure;
nothing depends on the time, the machine or the place of the plate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hcsflow.errors import PlateError
from hcsflow.ngff.colors import label_rgb, unique_colors
from hcsflow.ngff.model import ImageLayout
from hcsflow.plate import Channel

__all__ = [
    "VERSION",
    "Document",
    "Version",
    "Window",
    "group_documents",
    "image_attributes",
    "image_facts",
    "label_attributes",
    "labels_attributes",
    "plate_attributes",
    "table_attributes",
    "tables_attributes",
    "well_attributes",
    "well_path",
]

Version = Literal["0.4", "0.5"]
VERSION: Version = "0.5"
Document = dict[str, Any]

_AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


@dataclass(frozen=True, slots=True)
class Window:
    """Display range of a channel.

    Parameters
    ----------
    min, max : float
        Range of the dtype (8 and 16 bit), else of the data.
    start, end : float
        Where black and white lie; start < end.
    """

    min: float
    max: float
    start: float
    end: float


def group_documents(
    attributes: Document | None = None, version: Version = VERSION
) -> dict[str, Document]:
    """Return the documents of a group by file name; with the last one it is there.

    Examples
    --------
    >>> group_documents({"labels": ["nuclei"]}, "0.4")
    {'.zattrs': {'labels': ['nuclei']}, '.zgroup': {'zarr_format': 2}}
    """
    if version == "0.4":
        given = {".zattrs": attributes} if attributes else {}
        return {**given, ".zgroup": {"zarr_format": 2}}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes or {}}
    return {"zarr.json": group}


def well_path(name: str, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Return a well's NGFF path from its canonical name.

    Raises
    ------
    PlateError
        If the plate has no such row or column.

    Examples
    --------
    >>> well_path("B03", ["A", "B"], ["01", "02", "03"])
    'B/03'
    """
    for row in rows:
        if name.startswith(row) and name[len(row) :] in columns:
            return f"{row}/{name[len(row) :]}"
    raise PlateError(
        f"well {name!r} lies on no row ({rows[0]}–{rows[-1]}) and column "
        f"({columns[0]}–{columns[-1]}) of the plate"
    )


def plate_attributes(  # noqa: PLR0913 - what a plate states
    name: str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    wells: Sequence[str],
    acquisition: str = "0",
    fields: int = 1,
    version: Version = VERSION,
) -> Document:
    """Return the plate group's attributes.

    Parameters
    ----------
    name : str
        Plate name.
    rows, columns : sequence of str
        All physical rows and columns.
    wells : sequence of str
        Canonical names of the wells that are there; listed row by row.
    acquisition : str
        Name of the acquisition, which has id 0.
    fields : int
        Images in a well.
    version : "0.4" or "0.5"
        Of NGFF.
    """
    paths = [well_path(well, rows, columns) for well in wells]
    places = [(*path.split("/"), path) for path in paths]
    listed = sorted((rows.index(row), columns.index(column), path) for row, column, path in places)
    plate = {
        "acquisitions": [{"id": 0, "name": acquisition, "maximumfieldcount": fields}],
        "columns": [{"name": column} for column in columns],
        "field_count": fields,
        "name": name,
        "rows": [{"name": row} for row in rows],
        "version": version,  # said twice in 0.5: ome-zarr-models warns where the plate lacks it
        "wells": [{"path": path, "rowIndex": r, "columnIndex": c} for r, c, path in listed],
    }
    return _attributes(version, {"plate": plate})


def _attributes(version: Version, found: Document) -> Document:
    """Return NGFF's words where a version has them: in 0.4 at the top."""
    return found if version == "0.4" else {"ome": {"version": version, **found}}


def well_attributes(images: Sequence[str] = ("0",), version: Version = VERSION) -> Document:
    """Return a well group's attributes; all images are of acquisition 0."""
    listed = [{"path": path, "acquisition": 0} for path in images]
    return _attributes(version, {"well": {"images": listed, "version": version}})


def image_attributes(
    layout: ImageLayout,
    *,
    name: str,
    channels: Sequence[Channel],
    windows: Sequence[Window],
    corner_um: tuple[float, float] | None = None,
) -> Document:
    """Return an image group's attributes: multiscales and omero.

    Parameters
    ----------
    layout : ImageLayout
        The image.
    name : str
        What viewers show, e.g. the well's name.
    channels : sequence of Channel
        The plate's channels, by dense index.
    windows : sequence of Window
        Display ranges, by position along the image's channel axis.
    corner_um : (y, x) or None
        Where the upper left corner lies on the stage, in µm; not said where the scale is not in µm.
    """
    held = [channels[index] for index in layout.channels]
    drawn = unique_colors([channel.name for channel in held])
    omero = [
        {
            "label": channel.name,
            "wavelength_id": channel.label,
            "color": color,
            "active": True,
            "window": {"min": w.min, "max": w.max, "start": w.start, "end": w.end},
        }
        for channel, color, w in zip(held, drawn, windows, strict=True)
    ]
    version = layout.ngff_version
    found = {
        "multiscales": [_multiscale(layout, name, corner_um)],
        "omero": {**_stated(version), "name": name, "channels": omero},
    }
    return _attributes(version, found)


def _stated(version: Version) -> Document:
    """Return a version where 0.4 states it: within each of its words."""
    return {"version": version} if version == "0.4" else {}


def image_facts(
    layout: ImageLayout, channels: Sequence[Channel], absent: Sequence[Sequence[int]] = ()
) -> Document:
    """Return what NGFF has no word for: unknown pixel size, heights, what was not written.

    Parameters
    ----------
    layout : ImageLayout
        The image.
    channels : sequence of Channel
        The plate's channels, by dense index.
    absent : sequence of (field, timepoint, channel, z)
        Planes that were left out, by dense indices; not said where there are none.
    """
    held = [channels[index] for index in layout.channels]
    y_um = layout.levels[0].scale[-1] if layout.has_unit else None
    left_out = {"absent": [list(place) for place in absent]} if absent else {}
    facts = {
        "pixel_size_um": y_um,
        **left_out,
        "channels": [
            {
                "label": channel.label,
                "z_slots": list(slots),
                "z_um": channel.z_um,
                "projection": channel.projection if channel.is_projection else None,
            }
            for channel, slots in zip(held, layout.slots, strict=True)
        ],
    }
    return {"hcsflow": facts}


def _multiscale(layout: ImageLayout, name: str, corner_um: tuple[float, float] | None) -> Document:
    is_label = layout.kind == "label"
    how = "nearest: every second pixel" if is_label else "2 × 2 mean, halves rounded up"
    return {
        **_stated(layout.ngff_version),
        "name": name,
        "type": "nearest" if is_label else "mean",
        "metadata": {"method": "hcsflow.storage.images.halve", "description": how},
        "axes": [_axis(axis, layout) for axis in layout.levels[0].axes],
        "datasets": [
            {
                "path": array.path.rsplit("/", 1)[1],
                "coordinateTransformations": [
                    {"type": "scale", "scale": list(array.scale)},
                    *_translation(layout, corner_um),
                ],
            }
            for array in layout.levels
        ],
    }


def _translation(layout: ImageLayout, corner_um: tuple[float, float] | None) -> list[Document]:
    """Return where the image begins; pixels begin at their corner, so all levels alike."""
    if corner_um is None or not layout.has_unit:
        return []
    lead = [0.0] * (len(layout.levels[0].axes) - 2)
    return [{"type": "translation", "translation": [*lead, *corner_um]}]


def _axis(axis: str, layout: ImageLayout) -> Document:
    found = {"name": axis, "type": _AXIS_TYPES[axis]}
    if layout.has_z_unit if axis == "z" else axis in "yx" and layout.has_unit:
        found["unit"] = "micrometer"
    return found


def labels_attributes(names: Sequence[str], version: Version = VERSION) -> Document:
    """Return the ``labels`` group's attributes."""
    return _attributes(version, {"labels": list(names)})


def label_attributes(
    layout: ImageLayout,
    *,
    name: str,
    values: Sequence[int] | None = (),
    corner_um: tuple[float, float] | None = None,
) -> Document:
    """Return a label image group's attributes.

    Parameters
    ----------
    layout : ImageLayout
        The label image.
    name : str
        Its name.
    values : sequence of int or None
        Label values that occur: each gets a colour, for viewers hide a label without one as
        soon as any has one. None: no colours, viewers choose their own.
    corner_um : (y, x) or None
        As that of its image.
    """
    version = layout.ngff_version
    image_label: Document = {"version": version, "source": {"image": "../../"}}
    if values is not None:
        background = {"label-value": 0, "rgba": [0, 0, 0, 0]}
        drawn = [{"label-value": v, "rgba": [*label_rgb(v), 255]} for v in values if v]
        image_label["colors"] = [background, *drawn]
    found = {
        "multiscales": [_multiscale(layout, name, corner_um)],
        "image-label": image_label,
    }
    return _attributes(version, found)


def tables_attributes(names: Sequence[str]) -> Document:
    """Return the ``tables`` group's attributes (ngio's convention, no part of NGFF)."""
    return {"tables": list(names)}


def table_attributes(kind: str, *, labels: str | None = None) -> Document:
    """Return a table group's attributes after ngio's table specification, version 1.

    Parameters
    ----------
    kind : str
        ``"roi_table"``, ``"feature_table"`` or ``"generic_table"``.
    labels : str or None
        The label image whose values the rows of a feature table are tied to.
    """
    found: Document = {"type": kind, "table_version": "1", "backend": "parquet"}
    if kind == "roi_table":
        found |= {"index_key": "FieldIndex", "index_type": "str"}
    if kind == "feature_table":
        found |= {
            "region": {"path": f"../labels/{labels}"},
            "instance_key": "label",
            "index_key": "label",
            "index_type": "int",
        }
    return found
