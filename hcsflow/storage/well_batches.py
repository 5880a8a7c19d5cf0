"""A batch of named planes as one stored image, and each plane by its name again.

Planes named as `hcsflow.plate.names` has it, all of one well, become the well's OME-Zarr image
``<store>/<row>/<column>/0``; any other planes of one size become an array ``<store>/<chunk>``,
``(n, y, x)``. Either way the group's attributes map each name to a chunk of the array.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.errors import PlateError, UsageError
from hcsflow.ngff.layout import plan_image, region_of, slot_of
from hcsflow.ngff.metadata import group_document, well_attributes
from hcsflow.plate import Channel
from hcsflow.plate.grid import grid_by_number
from hcsflow.plate.names import PlaneName, column_label, parse_plane_name, parse_well, row_label
from hcsflow.storage.documents import write_document
from hcsflow.storage.images import ImageWriter
from hcsflow.storage.plates import write_well_documents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hcsflow.config import ZarrConfig

__all__ = ["Planes", "StoredPlane", "find_plane", "iter_planes", "plane_set", "write_well"]

_NAMESPACE = "hcsflow"


@dataclass(frozen=True, slots=True)
class Planes:
    """The planes of a batch, by rule; see `hcsflow.ngff.layout.Planes`."""

    fields: tuple[int, ...]
    timepoints: tuple[int, ...]
    channels: tuple[int, ...]
    z: tuple[tuple[int, ...], ...]
    shape_yx: tuple[int, int]
    dtype: str
    collapsed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredPlane:
    """Where a named plane lies: array folder, chunk index, size."""

    array: Path
    chunk: tuple[int, ...]
    shape_yx: tuple[int, int]


def plane_set(names: Sequence[str], first: NDArray[Any]) -> tuple[list[PlaneName], Planes] | None:
    """Return what the names of a batch say; None unless they are one well's full set of planes.

    Full: every field and timepoint has the same channels, and each channel the same z.
    """
    try:
        keys = [parse_plane_name(PurePosixPath(name).stem) for name in names]
    except PlateError:
        return None
    channels = tuple(sorted({key.channel for key in keys}))
    planes = Planes(
        fields=tuple(sorted({key.field for key in keys})),
        timepoints=tuple(sorted({key.timepoint for key in keys})),
        channels=channels,
        z=tuple(tuple(sorted({k.z for k in keys if k.channel == c})) for c in channels),
        shape_yx=(first.shape[0], first.shape[1]),
        dtype=first.dtype.name,
    )
    full = len(planes.fields) * len(planes.timepoints) * sum(map(len, planes.z))
    is_full = len(set(keys)) == len(keys) == full and len({key.well for key in keys}) == 1
    return (keys, planes) if is_full else None


def well_folder(name: str) -> str:
    """Return a well's folder below the store, ``"B/03"``."""
    row, column = parse_well(name)
    return f"{row_label(row)}/{column_label(column)}"


def write_well(
    root: Path,
    data: Sequence[NDArray[Any]],
    names: Sequence[str],
    *,
    keys: Sequence[PlaneName],
    planes: Planes,
    config: ZarrConfig,
) -> None:
    """Write the well group of a batch into an empty folder.

    Raises
    ------
    PlanRefusedError
        If the settings or the dtype cannot be stored.
    ContractError
        If a plane has another size or dtype than the first.
    """
    layout = plan_image(
        path="0",
        kind="image",
        planes=planes,
        grid=grid_by_number(max(planes.fields) + 1),
        config=config,
        pixel_size_um=None,
        z_step_um=None,
    )
    chunks: dict[str, tuple[int, ...]] = {}
    order = sorted(range(len(keys)), key=lambda i: (keys[i].field, keys[i].timepoint, keys[i]))
    with ImageWriter(root, layout) as writer:
        for index in order:
            key = keys[index]
            place = key.field, key.timepoint, key.channel, slot_of(layout, key.channel, key.z)
            writer.write(*place, data[index])
            chunks[names[index]] = region_of(layout, 0, *place).chunk
        record = writer.close()
    depth = dict(zip(planes.channels, planes.z, strict=True))
    channels = [
        Channel(label=f"w{c + 1}", name=f"w{c + 1}", z=len(depth.get(c, ())))
        for c in range(max(planes.channels) + 1)
    ]
    write_well_documents(root, name=keys[0].well, image=layout, record=record, channels=channels)
    facts = describe("0/0", chunks, planes.shape_yx)
    write_document(root, "", group_document({**well_attributes(("0",)), **facts}))


def describe(
    array: str, chunks: Mapping[str, Sequence[int]], shape_yx: tuple[int, int]
) -> dict[str, Any]:
    """Return the attributes that say which plane is which chunk of ``array``."""
    planes = {name: list(chunk) for name, chunk in chunks.items()}
    return {_NAMESPACE: {"array": array, "shape_yx": list(shape_yx), "filenames": planes}}


def find_plane(store: Path, name: str) -> StoredPlane | None:
    """Return where a batch below ``store`` keeps the plane of this name, None if none does."""
    try:
        well = parse_plane_name(PurePosixPath(name).stem).well
        found = _planes_of(store / well_folder(well)).get(name)
    except PlateError:
        found = None
    if found is not None or not store.is_dir():
        return found
    batches = (entry for entry in store.iterdir() if entry.is_dir())
    return next((p[name] for p in map(_planes_of, batches) if name in p), None)


def iter_planes(store: Path) -> Iterator[str]:
    """Yield the names of all planes of the batches of a store."""
    for entry in store.iterdir():
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _planes_of(entry)
            wells = (well for well in entry.iterdir() if _is_well(entry.name, well))
            yield from chain.from_iterable(_planes_of(well) for well in wells)


def _is_well(row: str, folder: Path) -> bool:
    try:
        return well_folder(row + folder.name) == f"{row}/{folder.name}"
    except PlateError:
        return False


def _planes_of(group: Path) -> dict[str, StoredPlane]:
    facts = node(group).get("attributes", {}).get(_NAMESPACE, {})
    if "filenames" not in facts:
        return {}
    array, (height, width) = group / facts["array"], facts["shape_yx"]
    return {
        name: StoredPlane(array, tuple(chunk), (height, width))
        for name, chunk in facts["filenames"].items()
    }


def node(folder: Path) -> dict[str, Any]:
    """Return a Zarr node's document, empty where the folder is none.

    Raises
    ------
    UsageError
        If the document is damaged.
    """
    file = folder / "zarr.json"
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise UsageError(f"{file}: not a Zarr document: {error}") from error
    return found if isinstance(found, dict) else {}


def stacked(data: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the planes of a batch as one array, (n, y, x).

    Raises
    ------
    UsageError
        If they are not all two-dimensional, of one size and dtype.
    """
    kinds = {(plane.shape, plane.dtype.name) for plane in data}
    if len(kinds) != 1 or data[0].ndim != 2:
        raise UsageError(f"a batch holds planes of one size and dtype, got {sorted(kinds)}")
    return np.stack(data)
