"""A well's picture, whether it is stored as a mosaic or as an image for each field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.ngff.metadata import well_path
from hcsflow.storage.zarr_nodes import holds_node
from hcsflow.view.levels import Crop
from hcsflow.view.record import RunRecord
from hcsflow.view.thumbnails import Scene, read_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["has_images", "read_first_field", "read_well"]

SMALLEST_SIDE = 16
"""Pixels that a field has at least where a well is put together of many."""


def has_images(record: RunRecord, well: str) -> bool:
    """Tell whether a well's final output is stored as images; planes in files are not read."""
    return holds_node(_image_root(record, well, 0))


def read_well(record: RunRecord, well: str, *, side: int, labels: str | None = None) -> Scene:
    """Read a well's image with its longer side at most ``side`` pixels.

    Fields that are images of their own are put side by side, as they lie in the plate's grid.

    Raises
    ------
    PlaneError
        If what is stored cannot be read.
    """
    image, axes = _image(record), _axes(record)
    if not image.get("is_per_field"):
        return read_scene(_image_root(record, well, 0), side=side, labels=labels, axes=axes)
    grid = record.plate["grid"]
    part = max(side // max(grid["rows"], grid["columns"]), SMALLEST_SIDE)
    scenes = {}
    for number, field in enumerate(image["fields"]):
        root = _image_root(record, well, number)
        place = tuple(grid["cells"][field])
        scenes[place] = read_scene(root, side=part, labels=labels, axes=axes)
    shape = (grid["rows"], grid["columns"])
    first = next(iter(scenes.values()))
    found = None
    if first.labels is not None:
        tiles = {at: s.labels for at, s in scenes.items() if s.labels is not None}
        found = _joined(tiles, shape)
    pixels = _joined({at: s.pixels for at, s in scenes.items()}, shape)
    return Scene(pixels, found, first.colours)


def read_first_field(
    record: RunRecord, well: str, *, side: int, labels: str | None = None
) -> Scene:
    """Read the first field of a well; errors as `read_well`."""
    image = _image(record)
    row, column = image["cells"][0]
    pitch, size = image["pitch_yx"], image["field_yx"]
    crop = Crop(row * pitch[0], column * pitch[1], size[0], size[1])
    root = _image_root(record, well, 0)
    return read_scene(root, side=side, labels=labels, crop=crop, axes=_axes(record))


def _image(record: RunRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.final.get("image", {})
    return found


def _axes(record: RunRecord) -> tuple[str, ...]:
    levels = _image(record).get("levels", [])
    return tuple(levels[0]["axes"]) if levels else ()


def _image_root(record: RunRecord, well: str, number: int) -> Path:
    store = record.output / str(record.final.get("store", "images.zarr"))
    return store / well_path(well, record.plate["rows"], record.plate["columns"]) / str(number)


def _joined(tiles: Mapping[Any, NDArray[Any]], shape: tuple[int, int]) -> NDArray[Any]:
    """Put arrays (…, y, x) of one size side by side by (row, column); 0 where there is none."""
    first = next(iter(tiles.values()))
    height, width = first.shape[-2:]
    joined = np.zeros((*first.shape[:-2], shape[0] * height, shape[1] * width), first.dtype)
    for (row, column), tile in tiles.items():
        y, x = row * height, column * width
        joined[..., y : y + height, x : x + width] = tile
    return joined
