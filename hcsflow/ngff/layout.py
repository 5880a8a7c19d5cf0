"""Arrays, chunks, shards and regions of an OME-Zarr image. Pure."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Literal, Protocol

import numpy as np

from hcsflow.config import FieldLayout, ZarrChunkStrategy, ZarrCompressor, ZarrConfig
from hcsflow.errors import PlanRefusedError
from hcsflow.ngff.fields import image_of, images_of
from hcsflow.ngff.model import ArrayLayout, Codec, ImageLayout, Region
from hcsflow.ngff.objects import (
    MAX_OBJECT_BYTES,
    encodes_at_most,
    object_shape,
    objects_of,
    require_encodable,
)
from hcsflow.ngff.proof import prove_labels, prove_regions
from hcsflow.ngff.pyramid import plan_pyramid
from hcsflow.plate import FieldGrid

__all__ = [
    "ArrayLayout",
    "Codec",
    "ImageLayout",
    "Planes",
    "Region",
    "image_of",
    "images_of",
    "objects_of",
    "plan_image",
    "planes_of",
    "prove_labels",
    "prove_regions",
    "raw_bytes",
    "region_of",
    "slot_of",
]

MAX_CHUNK_BYTES = 2**31 - 17
"""Largest buffer that blosc encodes (2^31 - 1 bytes less its header)."""

IMAGE_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
"""Pixel dtypes that every OME-Zarr reader knows and whose mean is exact to compute."""


class Planes(Protocol):
    """What `plan_image` asks of a set of planes; `hcsflow.plan.PlaneSet` answers it."""

    @property
    def fields(self) -> tuple[int, ...]:
        """Dense field indices."""
        ...

    @property
    def timepoints(self) -> tuple[int, ...]:
        """Dense timepoint indices."""
        ...

    @property
    def channels(self) -> tuple[int, ...]:
        """Dense channel indices."""
        ...

    @property
    def z(self) -> tuple[tuple[int, ...], ...]:
        """Dense z indices of each channel."""
        ...

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Plane size in pixels."""
        ...

    @property
    def dtype(self) -> str:
        """Numpy name of the pixel dtype."""
        ...

    @property
    def collapsed(self) -> tuple[str, ...]:
        """Components reduced to one."""
        ...


def plan_image(  # noqa: PLR0913 - one keyword per independent fact; a bundle would only rename them
    *,
    path: str,
    kind: Literal["image", "label"],
    planes: Planes,
    grid: FieldGrid,
    config: ZarrConfig,
    pixel_size_um: float | None,
    z_step_um: float | None,
) -> ImageLayout:
    """Lay a well's planes out as a mosaic of its fields, or as an image for each field.

    Parameters
    ----------
    path : str
        Relative to the well's group: ``"0"`` or ``"0/labels/nuclei"``.
    kind : "image" or "label"
        Labels have no channel axis and dtype uint32; FILE gives them one object a level.
    planes : Planes
        The planes of every well.
    grid : FieldGrid
        Place of each field, by dense field index.
    config : ZarrConfig
        Codec, objects, pyramid; NGFF 0.4 is written in Zarr 2, 0.5 in Zarr 3.
    pixel_size_um, z_step_um : float or None
        None: scale 1 without unit.

    Returns
    -------
    ImageLayout
        Axes are a subsequence of ``t c z y x``: t and z only where longer than 1.

    Raises
    ------
    PlanRefusedError
        A dtype or plane that cannot be stored, in Zarr 2 an object that the codec cannot encode,
        in a mosaic a field without a place in the grid.
    """
    _refuse_planes(path, kind, planes)
    is_per_field = config.field_layout is FieldLayout.IMAGES and "field" not in planes.collapsed
    if is_per_field:
        grid_size, cells = (1, 1), ((0, 0),) * len(planes.fields)
    else:
        grid_size, cells = _tiles(path, planes, grid)
    heights, slots = _slots(kind, planes)
    pitch, num_levels = plan_pyramid(planes.shape_yx, grid_size, is_pyramid=config.pyramid)
    layout = ImageLayout(
        path=path,
        kind=kind,
        levels=(),
        field_yx=planes.shape_yx,
        pitch_yx=pitch,
        cells=cells,
        fields=planes.fields,
        timepoints=planes.timepoints,
        channels=planes.channels,
        z=len(heights),
        has_unit=pixel_size_um is not None,
        has_z_unit=pixel_size_um is not None and z_step_um is not None,
        heights=heights,
        slots=slots,
        is_per_field=is_per_field,
    )
    shape = _mosaic(grid_size, pitch)
    scale = {"z": z_step_um, "y": pixel_size_um, "x": pixel_size_um} if layout.has_unit else {}
    dtype = "uint32" if kind == "label" else planes.dtype
    full = _full(layout, shape, {axis: um or 1.0 for axis, um in scale.items()}, dtype, config)
    lower = (_reduced(full, f"{path}/{level}", level) for level in range(1, num_levels))
    levels = tuple(_shared_out(array, kind, config) for array in (full, *lower))
    for array in levels:
        require_encodable(array)
    return replace(layout, levels=levels)


def _full(
    layout: ImageLayout,
    shape_yx: tuple[int, int],
    scale: dict[str, float],
    dtype: str,
    config: ZarrConfig,
) -> ArrayLayout:
    """Return full resolution."""
    axes = _axes(layout)
    sizes = {"t": len(layout.timepoints), "c": len(layout.channels), "z": layout.z}
    shape = (*(sizes[axis] for axis in axes[:-2]), *shape_yx)
    return ArrayLayout(
        path=f"{layout.path}/0",
        axes=axes,
        shape=shape,
        chunks=(*(1 for _ in axes[:-2]), *layout.pitch_yx),
        shards=shape,
        dtype=dtype,
        codec=_codec(config, layout.kind),
        scale=tuple(float(scale.get(axis, 1.0)) for axis in axes),
        zarr_format=2 if config.ngff_version == "0.4" else 3,
    )


def _mosaic(grid_size: tuple[int, int], pitch: tuple[int, int]) -> tuple[int, int]:
    return grid_size[0] * pitch[0], grid_size[1] * pitch[1]


def _reduced(full: ArrayLayout, path: str, level: int) -> ArrayLayout:
    """Return a lower level: y and x divided by 2^level."""
    shape = (*full.shape[:-2], *(size >> level for size in full.shape[-2:]))
    return replace(
        full,
        path=path,
        shape=shape,
        chunks=(*full.chunks[:-2], *(size >> level for size in full.chunks[-2:])),
        shards=shape,
        scale=(*full.scale[:-2], *(size * (1 << level) for size in full.scale[-2:])),
    )


def _shared_out(array: ArrayLayout, kind: str, config: ZarrConfig) -> ArrayLayout:
    """Return an array, one object so far, as the chunk strategy has it."""
    if config.chunk_strategy is ZarrChunkStrategy.ADAPTIVE:
        limit = MAX_OBJECT_BYTES
        if array.zarr_format == 2:
            limit = min(limit, encodes_at_most(array.codec) or limit)
        itemsize = np.dtype(array.dtype).itemsize
        cut = object_shape(array.shape, array.chunks, itemsize=itemsize, limit=limit)
        return replace(array, shards=cut)
    is_full = array.path.endswith("/0")
    if config.chunk_strategy is ZarrChunkStrategy.FILE and kind == "image" and is_full:
        return replace(array, shards=None)
    return array


def _axes(layout: ImageLayout) -> tuple[str, ...]:
    kept = {
        "t": len(layout.timepoints) > 1,
        "c": layout.kind == "image",
        "z": layout.z > 1,
        "y": True,
        "x": True,
    }
    return tuple(axis for axis in "tczyx" if kept[axis])


def _refuse_planes(path: str, kind: str, planes: Planes) -> None:
    empty = not (planes.fields and planes.timepoints and planes.channels and all(planes.z))
    if empty or min(planes.shape_yx) < 1:
        raise PlanRefusedError(f"image {path!r} has no planes", hint="check the steps before it")
    if kind == "image" and planes.dtype not in IMAGE_DTYPES:
        raise PlanRefusedError(
            f"image {path!r}: dtype {planes.dtype} is not stored, only {', '.join(IMAGE_DTYPES)}",
            hint="cast in the step that makes it, e.g. to uint16 or float32",
        )
    dtype = "uint32" if kind == "label" else planes.dtype
    nbytes = prod(planes.shape_yx) * np.dtype(dtype).itemsize
    if nbytes > MAX_CHUNK_BYTES:
        raise PlanRefusedError(
            f"image {path!r}: one plane has {nbytes} bytes, a chunk holds {MAX_CHUNK_BYTES}",
            hint="make the planes smaller, or store them as a smaller dtype",
        )


def _tiles(
    path: str, planes: Planes, grid: FieldGrid
) -> tuple[tuple[int, int], tuple[tuple[int, int], ...]]:
    """Return rows and columns, and the cell of each field; collapsed fields are one tile."""
    if "field" in planes.collapsed:
        return (1, 1), ((0, 0),)
    if max(planes.fields) >= len(grid.cells):
        raise PlanRefusedError(
            f"image {path!r}: field {max(planes.fields)} has no place in the grid of "
            f"{len(grid.cells)} fields"
        )
    return (grid.rows, grid.columns), tuple(grid.cells[f] for f in planes.fields)


def _slots(kind: str, planes: Planes) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Return the height of each z slot and the slots of each channel.

    A channel with a single plane has it in slot 0, whatever its height.
    """
    stacks = [z for z in planes.z if len(z) > 1]
    heights = tuple(sorted({h for z in stacks for h in z})) if stacks else (planes.z[0][0],)
    at = {height: slot for slot, height in enumerate(heights)}
    slots = tuple(tuple(at[h] for h in z) if len(z) > 1 else (0,) for z in planes.z)
    if kind == "label":
        slots = (tuple(sorted({s for one in slots for s in one})),)
    return heights, slots


def _codec(config: ZarrConfig, kind: str) -> Codec:
    """Return a codec that the format's readers know.

    Of Zarr 2, JZarr (QuPath, Bio-Formats) has but blosc and zlib, zarrs (Rust) all but zlib.
    """
    is_v2 = config.ngff_version == "0.4"
    level = config.compression_level
    if config.compressor is ZarrCompressor.NONE:
        return Codec("none", cname="", level=0, shuffle=False)
    if kind == "label":
        # shuffled, labels take two and a half times the space
        if is_v2:
            return Codec("blosc", cname="zstd", level=1, shuffle=False)
        return Codec("zstd", cname="", level=1, shuffle=False)
    if config.compressor in (ZarrCompressor.ZLIB, ZarrCompressor.GZIP):
        is_zlib = is_v2 and config.compressor is ZarrCompressor.ZLIB
        return Codec("zlib" if is_zlib else "gzip", cname="", level=level, shuffle=False)
    cname = "lz4" if config.compressor is ZarrCompressor.LZ4 else "zstd"
    return Codec("blosc", cname=cname, level=level, shuffle=config.shuffle)


def slot_of(layout: ImageLayout, channel: int, z: int) -> int:
    """Return the z slot of a plane from its dense channel and z index.

    Raises
    ------
    LookupError
        If the channel has no plane at that height.
    """
    stack = layout.slots[0 if layout.kind == "label" else layout.channels.index(channel)]
    if stack == (0,):
        return 0
    slot = layout.heights.index(z)
    if slot not in stack:
        raise LookupError(f"channel {channel} has no plane at z {z}")
    return slot


def region_of(
    layout: ImageLayout, level: int, field: int, timepoint: int, channel: int, z_slot: int
) -> Region:
    """Return where a plane lies at one level.

    Parameters
    ----------
    layout : ImageLayout
        The image.
    level : int
        Pyramid level.
    field, timepoint, channel : int
        Dense plate indices; ``channel`` is not looked at for labels.
    z_slot : int
        Slot along z, see `slot_of`.

    Returns
    -------
    Region
        On chunk edges: exactly one chunk. Where each field is an image, the place in its own.
    """
    array = layout.levels[level]
    row, column = layout.cells[layout.fields.index(field)]
    place = {"t": layout.timepoints.index(timepoint), "z": z_slot}
    if "c" in array.axes:
        place["c"] = layout.channels.index(channel)
    chunk = (*(place[axis] for axis in array.axes[:-2]), row, column)
    slices = tuple(
        slice(at * size, (at + 1) * size) for at, size in zip(chunk, array.chunks, strict=True)
    )
    return Region(slices, chunk)


def planes_of(layout: ImageLayout) -> int:
    """Return how many planes of a well are written; absent slots do not count."""
    return len(layout.fields) * len(layout.timepoints) * sum(len(s) for s in layout.slots)


def raw_bytes(layout: ImageLayout) -> int:
    """Return the uncompressed bytes that a well's image writes, all levels."""
    sizes = (prod(a.chunks) * np.dtype(a.dtype).itemsize for a in layout.levels)
    return planes_of(layout) * sum(sizes)
