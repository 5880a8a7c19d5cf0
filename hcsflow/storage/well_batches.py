"""A batch of named planes as one stored image, and each plane by its name again.

Planes named as `hcsflow.plate.names` has it, all of one well, become the well's OME-Zarr image
``<store>/<row>/<column>/0``; any other planes of one size become an array ``<store>/<chunk>``,
``(n, y, x)``. Either way the group's attributes say where in the array each plane begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.config import FieldLayout
from hcsflow.errors import PlanRefusedError, PlateError, UsageError
from hcsflow.ngff.layout import plan_image, region_of, slot_of
from hcsflow.plate import Channel
from hcsflow.plate.grid import grid_by_number
from hcsflow.plate.names import PlaneName, canonical_well, format_plane_name, parse_plane_name
from hcsflow.storage.encoding import available_cores
from hcsflow.storage.images import ImageWriter
from hcsflow.storage.plates import write_well_documents
from hcsflow.storage.well_index import describe
from hcsflow.storage.zarr_nodes import add_attributes, node_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hcsflow.config import ZarrConfig

__all__ = ["Planes", "check_names", "plane_set", "require_alike", "stacked", "write_well"]

_LIKE_A_PLANE = re.compile(r"[A-Z]{1,2}\d{1,3}_s\d+_w\d+_z\d+_t\d+", re.ASCII | re.IGNORECASE)
_OR_SINGLE = "or leave chunk_name out: then each plane is an array of its own"


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


def check_names(names: Sequence[str], chunk_name: str) -> None:
    """Refuse names that a store cannot keep apart, on any file system.

    Names that differ only in case are refused: as folders, some systems take them for one.

    Raises
    ------
    UsageError
        If names repeat, or one is not that of a single file.
    """
    if len(set(names)) != len(names):
        raise UsageError("a batch names each plane once")
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise UsageError(
                f"{other!r} and {name!r} differ only in case: some file systems take them for one",
                hint="give each plane a name of its own",
            )
    for name in (*names, chunk_name):
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise UsageError(f"a plane or batch cannot be called {name!r}")


def plane_set(
    names: Sequence[str], first: NDArray[Any], chunk_name: str
) -> tuple[list[PlaneName], Planes] | None:
    """Return what the names of a batch say; None where none is like the name of a well's plane.

    Raises
    ------
    UsageError
        If they are not one well's full set of planes: every field and timepoint with the same
        channels, and each channel with the same z. Or ``chunk_name`` is another well.
    """
    keys = _keys_of(names)
    if keys is None:
        return None
    _refuse_other_well(names, keys, chunk_name)
    channels = tuple(sorted({key.channel for key in keys}))
    planes = Planes(
        fields=tuple(sorted({key.field for key in keys})),
        timepoints=tuple(sorted({key.timepoint for key in keys})),
        channels=channels,
        z=tuple(tuple(sorted({k.z for k in keys if k.channel == c})) for c in channels),
        shape_yx=(first.shape[0], first.shape[1]),
        dtype=first.dtype.name,
    )
    _refuse_holes(keys, planes)
    return keys, planes


def _keys_of(names: Sequence[str]) -> list[PlaneName] | None:
    stems = [PurePosixPath(name).stem for name in names]
    if not any(map(_LIKE_A_PLANE.fullmatch, stems)):
        return None
    keys: dict[PlaneName, str] = {}
    for name, stem in zip(names, stems, strict=True):
        try:
            key = parse_plane_name(stem)
        except PlateError as error:
            raise UsageError(
                f"{name!r} is not spelled as the planes of a well are: {error.message}",
                hint=f"name every plane of the batch so, {_OR_SINGLE}",
            ) from error
        other = keys.setdefault(key, name)
        if other != name:
            raise UsageError(f"{other!r} and {name!r} are one plane", hint="save it once")
    return list(keys)


def _refuse_other_well(names: Sequence[str], keys: Sequence[PlaneName], chunk_name: str) -> None:
    well = keys[0].well
    other = next((name for name, key in zip(names, keys, strict=True) if key.well != well), None)
    if other is not None:
        raise UsageError(
            f"a batch holds the planes of one well: {names[0]!r} is of {well}, {other!r} is not",
            hint=f"save one well a call, {_OR_SINGLE}",
        )
    try:
        named = canonical_well(chunk_name)
    except PlateError:
        return  # any name that is no well's may be given: the well has its own
    if named != well:
        raise UsageError(
            f"chunk_name={chunk_name!r} is another well than that of the planes, {well}",
            hint=f"give chunk_name={well!r}, or name the planes after {named}",
        )


def _refuse_holes(keys: Sequence[PlaneName], planes: Planes) -> None:
    held, well = set(keys), keys[0].well
    for field, timepoint in product(planes.fields, planes.timepoints):
        for channel, slots in zip(planes.channels, planes.z, strict=True):
            for z in slots:
                key = PlaneName(well, field, channel, z, timepoint)
                if key not in held:
                    raise UsageError(
                        f"the batch is not a whole well: {format_plane_name(key)} is missing",
                        hint=f"save it with the others, {_OR_SINGLE}",
                    )


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
    if config.field_layout is FieldLayout.IMAGES:
        raise PlanRefusedError(
            "a batch of planes is stored as a mosaic, not as an image for each field",
            hint="leave field_layout at mosaic; runs write either",
        )
    layout = plan_image(
        path="0",
        kind="image",
        planes=planes,
        grid=grid_by_number(max(planes.fields) + 1),
        config=config,
        pixel_size_um=None,
        z_step_um=None,
    )
    starts: dict[str, tuple[int, ...]] = {}
    order = sorted(range(len(keys)), key=lambda i: (keys[i].field, keys[i].timepoint, keys[i]))
    with ImageWriter(root, layout, encoders=available_cores()) as writer:
        for index in order:
            key = keys[index]
            place = key.field, key.timepoint, key.channel, slot_of(layout, key.channel, key.z)
            writer.write(*place, data[index])
            slices = region_of(layout, 0, *place).slices
            starts[names[index]] = tuple(one.start for one in slices)
        record = writer.close()
    channels = _channels(planes)
    write_well_documents(root, name=keys[0].well, image=layout, record=record, channels=channels)
    group = node_of(root)
    if group is not None:
        checksums = {stored.path: stored.checksum for stored in record.objects}
        add_attributes(group, describe("0/0", starts, planes.shape_yx, checksums))


def _channels(planes: Planes) -> list[Channel]:
    depth = dict(zip(planes.channels, map(len, planes.z), strict=True))
    count = max(planes.channels) + 1
    return [Channel(label=f"w{c + 1}", name=f"w{c + 1}", z=depth.get(c, 0)) for c in range(count)]


def stacked(data: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the planes of a batch as one array, (n, y, x).

    Raises
    ------
    UsageError
        If they are not all two-dimensional, of one size and dtype.
    """
    require_alike(data)
    return np.stack(data)


def require_alike(data: Sequence[NDArray[Any]]) -> None:
    """Refuse planes that are not all two-dimensional, of one size and dtype."""
    kinds = {(plane.shape, plane.dtype.name) for plane in data}
    if len(kinds) != 1 or data[0].ndim != 2:
        raise UsageError(f"a batch holds planes of one size and dtype, got {sorted(kinds)}")
