"""Metadata documents of OME-Zarr 0.5 (https://ngff.openmicroscopy.org/0.5) as plain dicts.

Every function is pure and returns what one ``zarr.json`` or its attributes hold; nothing depends
on the time, the machine or the place of the plate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hcsflow.errors import PlateError
from hcsflow.ngff.model import ArrayLayout, Codec, ImageLayout
from hcsflow.plate import Channel

__all__ = [
    "VERSION",
    "Document",
    "Window",
    "array_document",
    "channel_color",
    "group_document",
    "image_attributes",
    "label_attributes",
    "labels_attributes",
    "plate_attributes",
    "table_attributes",
    "tables_attributes",
    "well_attributes",
    "well_path",
]

VERSION = "0.5"
Document = dict[str, Any]

_AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}

_COLORS = (
    (r"dapi|hoechst|blue|405|w?bfp|cfp", "0000FF"),
    (r"fitc|gfp|green|488|alexa ?488|yfp", "00FF00"),
    (r"tritc|cy3|orange|555|568|rfp|561", "FF8000"),
    (r"texas|mcherry|red|594", "FF0000"),
    (r"cy5|far|647|640|cy7", "FF00FF"),
    (r"bright|phase|dic|trans|\bbf\b|\btl\b", "FFFFFF"),
)
_CYCLE = ("00FFFF", "FF00FF", "FFFF00", "00FF00", "FF0000", "0000FF", "FF8000", "FFFFFF")


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


def group_document(attributes: Document | None = None) -> Document:
    """Return the ``zarr.json`` of a Zarr 3 group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes or {}}


def array_document(array: ArrayLayout) -> Document:
    """Return the ``zarr.json`` of a Zarr 3 array, sharded where the layout has shards."""
    codecs = _codecs(array)
    if array.shards is not None:
        codecs = [_sharding(array.chunks, codecs)]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(array.shape),
        "data_type": array.dtype,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": list(array.shards or array.chunks)},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if np.dtype(array.dtype).kind == "f" else 0,
        "codecs": codecs,
        "attributes": {},
        "dimension_names": list(array.axes),
    }


def _sharding(chunks: tuple[int, ...], codecs: list[Document]) -> Document:
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(chunks),
            "codecs": codecs,
            "index_codecs": [_BYTES, {"name": "crc32c"}],
            "index_location": "end",
        },
    }


_BYTES: Document = {"name": "bytes", "configuration": {"endian": "little"}}


def _codecs(array: ArrayLayout) -> list[Document]:
    compressor = _compressor(array.codec, np.dtype(array.dtype).itemsize)
    return [_BYTES] if compressor is None else [_BYTES, compressor]


def _compressor(codec: Codec, itemsize: int) -> Document | None:
    if codec.name == "none":
        return None
    configuration: Document = {"level": codec.level}
    if codec.name == "zstd":
        configuration["checksum"] = False
    elif codec.name == "blosc":
        configuration = {
            "typesize": itemsize,
            "cname": codec.cname,
            "clevel": codec.level,
            "shuffle": "shuffle" if codec.shuffle else "noshuffle",
            "blocksize": codec.block_bytes,
        }
    return {"name": codec.name, "configuration": configuration}


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


def plate_attributes(
    name: str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    wells: Sequence[str],
    acquisition: str = "0",
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
    """
    paths = [well_path(well, rows, columns) for well in wells]
    places = [(*path.split("/"), path) for path in paths]
    listed = sorted((rows.index(row), columns.index(column), path) for row, column, path in places)
    plate = {
        "acquisitions": [{"id": 0, "name": acquisition, "maximumfieldcount": 1}],
        "columns": [{"name": column} for column in columns],
        "field_count": 1,
        "name": name,
        "rows": [{"name": row} for row in rows],
        "version": VERSION,  # said twice: ome-zarr-models warns where the plate lacks it
        "wells": [{"path": path, "rowIndex": r, "columnIndex": c} for r, c, path in listed],
    }
    return {"ome": {"version": VERSION, "plate": plate}}


def well_attributes(images: Sequence[str] = ("0",)) -> Document:
    """Return a well group's attributes; all images are of acquisition 0."""
    listed = [{"path": path, "acquisition": 0} for path in images]
    return {"ome": {"version": VERSION, "well": {"images": listed, "version": VERSION}}}


def image_attributes(
    layout: ImageLayout,
    *,
    name: str,
    channels: Sequence[Channel],
    windows: Sequence[Window],
) -> Document:
    """Return an image group's attributes: multiscales, omero, and where planes are absent.

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
    """
    held = [channels[index] for index in layout.channels]
    drawn = _unique_colors([channel.name for channel in held])
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
    return {
        "ome": {
            "version": VERSION,
            "multiscales": [_multiscale(layout, name)],
            "omero": {"name": name, "channels": omero},
        },
        "hcsflow": _facts(layout, held),
    }


def _facts(layout: ImageLayout, held: Sequence[Channel]) -> Document:
    """Return what NGFF has no word for: unknown pixel size, absent slots, heights."""
    y_um = layout.levels[0].scale[-1] if layout.has_unit else None
    return {
        "pixel_size_um": y_um,
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


def _multiscale(layout: ImageLayout, name: str) -> Document:
    is_label = layout.kind == "label"
    how = "nearest: every second pixel" if is_label else "2 × 2 mean, halves rounded up"
    return {
        "name": name,
        "type": "nearest" if is_label else "mean",
        "metadata": {"method": "hcsflow.storage.images.halve", "description": how},
        "axes": [_axis(axis, layout) for axis in layout.levels[0].axes],
        "datasets": [
            {
                "path": array.path.rsplit("/", 1)[1],
                "coordinateTransformations": [{"type": "scale", "scale": list(array.scale)}],
            }
            for array in layout.levels
        ],
    }


def _axis(axis: str, layout: ImageLayout) -> Document:
    found = {"name": axis, "type": _AXIS_TYPES[axis]}
    if layout.has_z_unit if axis == "z" else axis in "yx" and layout.has_unit:
        found["unit"] = "micrometer"
    return found


def channel_color(name: str) -> str | None:
    """Return a fluorophore's or light path's usual colour as 6 hex digits, None if unknown.

    Examples
    --------
    >>> channel_color("DAPI"), channel_color("Cy5 confocal"), channel_color("w4")
    ('0000FF', 'FF00FF', None)
    """
    found = (color for pattern, color in _COLORS if re.search(pattern, name.lower()))
    return next(found, None)


def _unique_colors(names: Sequence[str]) -> list[str]:
    """Return a colour for each channel; none twice while there are enough."""
    chosen: list[str] = []
    for name in names:
        usual = channel_color(name)
        free = [color for color in _CYCLE if color not in chosen]
        chosen.append(usual if usual and usual not in chosen else (free or _CYCLE)[0])
    return chosen


def labels_attributes(names: Sequence[str]) -> Document:
    """Return the ``labels`` group's attributes."""
    return {"ome": {"version": VERSION, "labels": list(names)}}


def label_attributes(
    layout: ImageLayout, *, name: str, values: Sequence[int] | None = ()
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
    """
    image_label: Document = {"version": VERSION, "source": {"image": "../../"}}
    if values is not None:
        background = {"label-value": 0, "rgba": [0, 0, 0, 0]}
        drawn = [{"label-value": v, "rgba": [*_label_rgb(v), 255]} for v in values if v]
        image_label["colors"] = [background, *drawn]
    multiscales = [_multiscale(layout, name)]
    return {"ome": {"version": VERSION, "multiscales": multiscales, "image-label": image_label}}


def _label_rgb(value: int) -> tuple[int, int, int]:
    """Return a saturated colour; neighbouring values differ most (golden-ratio hue steps)."""
    hue = (value * 0.6180339887498949) % 1.0 * 6.0
    rise = round(255 * (hue % 1.0))
    wheel = (
        (255, rise, 0),
        (255 - rise, 255, 0),
        (0, 255, rise),
        (0, 255 - rise, 255),
        (rise, 0, 255),
        (255, 0, 255 - rise),
    )
    return wheel[int(hue) % 6]


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
