"""Reading a part of one level of a stored image."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.storage.lazy import load_object
from hcsflow.storage.zarr_chunks import ChunkReader, open_chunks
from hcsflow.storage.zarr_nodes import Node, is_array, node_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Crop", "node_at", "ome_attributes", "read_level"]

OPEN_LAZILY = "hcsflow.storage.zarr_reading:open_lazily"
"""By zarr-python, which knows more codecs and takes longer to import than a page to write."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of an image in pixels of full resolution."""

    y: int
    x: int
    height: int
    width: int


def node_at(folder: Path) -> Node:
    """Return the array or group in a folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    PlaneError
        If its document is damaged.
    """
    found = node_of(folder)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no array or group of Zarr", os.fspath(folder))
    return found


def ome_attributes(group: Node) -> Mapping[str, Any]:
    """Return a group's attributes in NGFF's words, of both versions."""
    found: Mapping[str, Any] = group.attributes.get("ome", group.attributes)
    return found


def read_level(
    group: Node, side: int, crop: Crop | None, known: Sequence[str] = ()
) -> NDArray[Any]:
    """Read (c, y, x) of the smallest level whose longer side (of the crop) reaches ``side``.

    Positions along t: the first; along z: the maximum.

    Parameters
    ----------
    group : Node
        The image.
    side : int
        Longest side wanted, in pixels; of a smaller image all are read.
    crop : Crop or None
        Part of the image; None is all of it.
    known : sequence of str
        Its axes, for a group that does not say so in NGFF's words.

    Raises
    ------
    PlaneError, OSError, ValueError, LookupError, TypeError
        If what is stored cannot be read.
    """
    axes, levels = _levels(group, known)
    full = levels[0].document["shape"][-2:]
    part = crop or Crop(0, 0, *full)
    array = _smallest(levels, side * full[1] / max(part.height, part.width))
    shape = dict(zip(axes, array.document["shape"], strict=True))
    cut = {"t": slice(0, 1)}
    for axis, start, extent in (("y", part.y, part.height), ("x", part.x, part.width)):
        ratio = shape[axis] / full[axis == "x"]
        cut[axis] = slice(round(start * ratio), round((start + extent) * ratio))
    region = [slice(*cut.get(axis, slice(None)).indices(size)[:2]) for axis, size in shape.items()]
    block = _read(array, region)
    kept = list(axes)
    for axis in ("t", "z"):
        if axis in kept:
            block = block.max(axis=kept.index(axis))
            kept.remove(axis)
    return block if "c" in kept else block[None]


def _levels(group: Node, known: Sequence[str]) -> tuple[list[str], list[Node]]:
    """Return an image's axes and arrays, full resolution first."""
    multiscales = ome_attributes(group).get("multiscales")
    if multiscales:
        named = [axis["name"] for axis in multiscales[0]["axes"]]
        paths = [dataset["path"] for dataset in multiscales[0]["datasets"]]
        return named, [node_at(group.folder / path) for path in paths]
    names = [path.name for path in group.folder.iterdir() if path.is_dir() and is_array(path)]
    arrays = [node_at(group.folder / name) for name in sorted(names, key=int)]
    return list(known)[-len(arrays[0].document["shape"]) :], arrays


def _smallest(levels: Sequence[Node], width: float) -> Node:
    """Return the smallest level that is so wide, or else the first."""
    widths = {array: array.document["shape"][-1] for array in levels}
    fitting = [array for array in levels if widths[array] >= width]
    return min(fitting, key=lambda array: widths[array]) if fitting else levels[0]


def _read(array: Node, region: Sequence[slice]) -> NDArray[Any]:
    """Return a part of an array; what was never written reads as the array says."""
    reader = open_chunks(array)
    if reader is None:
        return np.asarray(load_object(OPEN_LAZILY)(array)[tuple(region)])
    document = array.document
    dtype = np.dtype(document["data_type" if array.zarr_format == 3 else "dtype"])
    shape = [one.stop - one.start for one in region]
    found = np.full(shape, document.get("fill_value") or 0, dtype.newbyteorder("="))
    with reader:
        for box in _boxes(reader, region):
            start, stop = zip(*box, strict=True)
            pixels = reader.read(start, tuple(b - a for a, b in box))
            if pixels is not None:
                offsets = [one.start for one in region]
                place = zip(start, stop, offsets, strict=True)
                found[tuple(slice(a - at, b - at) for a, b, at in place)] = pixels
    return found


def _boxes(reader: ChunkReader, region: Sequence[slice]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Yield what of a region lies in each chunk: from and to along each axis."""
    edges = (
        (one.start, *range(one.start // size * size + size, one.stop, size), one.stop)
        for one, size in zip(region, reader.chunks, strict=True)
    )
    return product(*(tuple(pairwise(along)) for along in edges))
