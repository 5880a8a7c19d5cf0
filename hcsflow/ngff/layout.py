"""Arrays, chunks, shards and regions of an OME-Zarr image. Pure geometry."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, Protocol

import numpy as np

from hcsflow.config import FieldLayout, ZarrChunkStrategy, ZarrCompressor, ZarrConfig
from hcsflow.errors import PlanRefusedError
from hcsflow.ngff.pyramid import plan_pyramid
from hcsflow.plate import FieldGrid

__all__ = [
    "ArrayLayout",
    "Codec",
    "ImageLayout",
    "Planes",
    "Region",
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


@dataclass(frozen=True, slots=True)
class Codec:
    """A compressor as OME-Zarr readers know it.

    Parameters
    ----------
    name : str
        ``"blosc"``, ``"gzip"``, ``"zstd"`` or ``"none"``.
    cname : str
        Inner codec of blosc (``"zstd"``, ``"lz4"``).
    level : int
        Compression level.
    shuffle : bool
        Byte shuffle (blosc only).
    """

    name: Literal["blosc", "gzip", "zstd", "none"] = "blosc"
    cname: str = "zstd"
    level: int = 1
    shuffle: bool = True


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One zarr array: a level of an image or of a label.

    Parameters
    ----------
    path : str
        Relative to the well's group, e.g. ``"0/0"`` or ``"0/labels/nuclei/1"``.
    axes : tuple of str
        A subsequence of ``t c z y x``.
    shape, chunks : tuple of int
        Array shape; inner chunk (one field's plane).
    shards : tuple of int or None
        Outer chunk, one stored object; None: each chunk is an object.
    dtype : str
        Numpy name.
    codec : Codec
        Compressor of the inner chunks.
    scale : tuple of float
        Physical size of a pixel by axis (µm, s; 1 where unknown).
    """

    path: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    dtype: str
    codec: Codec
    scale: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """Where one plane of one field lies in an array: a slice per axis, on chunk edges."""

    slices: tuple[slice, ...]
    chunk: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """A multiscale image (or label) of a well: all levels and the tiles of its fields.

    Parameters
    ----------
    path : str
        Relative to the well's group: ``"0"`` or ``"0/labels/nuclei"``.
    kind : "image" or "label"
        Labels are downsampled by nearest, images by mean.
    levels : tuple of ArrayLayout
        Full resolution first; factor 2 each.
    field_yx : tuple of int
        A field's size in pixels at full resolution.
    pitch_yx : tuple of int
        A tile's size at full resolution (``field_yx``, or padded).
    cells : tuple of (int, int)
        (row, column) of each field's tile, by position in ``fields``.
    fields, timepoints, channels : tuple of int
        Dense plate indices held, in storage order.
    z : int
        Slots along z (1: the axis is omitted).
    has_unit : bool
        Whether ``scale`` is in µm.
    has_z_unit : bool
        Whether the scale along z is in µm too.
    heights : tuple of int
        Dense z index of each slot.
    slots : tuple of tuple of int
        Slots that are written, for each channel (labels: once). The others are absent.
    """

    path: str
    kind: Literal["image", "label"]
    levels: tuple[ArrayLayout, ...]
    field_yx: tuple[int, int]
    pitch_yx: tuple[int, int]
    cells: tuple[tuple[int, int], ...]
    fields: tuple[int, ...]
    timepoints: tuple[int, ...]
    channels: tuple[int, ...]
    z: int
    has_unit: bool
    has_z_unit: bool = False
    heights: tuple[int, ...] = ()
    slots: tuple[tuple[int, ...], ...] = ()


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
    """Lay a well's planes out as one multiscale image, a mosaic of its fields.

    Parameters
    ----------
    path : str
        Relative to the well's group: ``"0"`` or ``"0/labels/nuclei"``.
    kind : "image" or "label"
        Labels have no channel axis, dtype uint32 and one shard a level.
    planes : Planes
        The planes of every well.
    grid : FieldGrid
        Place of each field, by dense field index.
    config : ZarrConfig
        Codec, chunks, pyramid.
    pixel_size_um, z_step_um : float or None
        None: scale 1 without unit.

    Returns
    -------
    ImageLayout
        Axes are a subsequence of ``t c z y x``: t and z only where longer than 1.

    Raises
    ------
    PlanRefusedError
        Settings that are not written yet, a dtype or plane that cannot be stored, a field
        without a place in the grid.
    """
    _refuse_config(config)
    _refuse_planes(path, kind, planes)
    rows, columns, cells = _tiles(path, planes, grid)
    heights, slots = _slots(kind, planes)
    pitch, num_levels = plan_pyramid(planes.shape_yx, (rows, columns), is_pyramid=config.pyramid)
    has_z_unit = pixel_size_um is not None and z_step_um is not None
    sizes = {"t": len(planes.timepoints), "c": len(planes.channels), "z": len(heights)}
    axes = tuple(a for a in "tcz" if _is_kept(a, kind, sizes[a])) + ("y", "x")
    scale = {"z": float(z_step_um or 1.0) if has_z_unit else 1.0}
    levels = []
    for level in range(num_levels):
        tile = (pitch[0] >> level, pitch[1] >> level)
        pixel = float(pixel_size_um or 1.0) * (1 << level)
        shape = (*(sizes[a] for a in axes[:-2]), rows * tile[0], columns * tile[1])
        is_plain = kind == "image" and level == 0 and _is_file(config)
        levels.append(
            ArrayLayout(
                path=f"{path}/{level}",
                axes=axes,
                shape=shape,
                chunks=(*(1 for _ in axes[:-2]), *tile),
                shards=None if is_plain else shape,
                dtype="uint32" if kind == "label" else planes.dtype,
                codec=_codec(config, kind),
                scale=(*(scale.get(a, 1.0) for a in axes[:-2]), pixel, pixel),
            )
        )
    return ImageLayout(
        path=path,
        kind=kind,
        levels=tuple(levels),
        field_yx=planes.shape_yx,
        pitch_yx=pitch,
        cells=cells,
        fields=planes.fields,
        timepoints=planes.timepoints,
        channels=planes.channels,
        z=len(heights),
        has_unit=pixel_size_um is not None,
        has_z_unit=has_z_unit,
        heights=heights,
        slots=slots,
    )


def _is_kept(axis: str, kind: str, size: int) -> bool:
    return kind == "image" if axis == "c" else size > 1


def _is_file(config: ZarrConfig) -> bool:
    return config.chunk_strategy is ZarrChunkStrategy.FILE


def _refuse_config(config: ZarrConfig) -> None:
    if config.ngff_version != "0.5":
        raise PlanRefusedError(
            f"NGFF {config.ngff_version} is not yet written, only 0.5 (Zarr 3)",
            hint="leave ngff_version (--ngff) at 0.5",
        )
    if config.field_layout is not FieldLayout.MOSAIC:
        raise PlanRefusedError(
            f"field layout {config.field_layout.value!r} is not yet written, only 'mosaic'",
            hint="leave field_layout (--layout) at mosaic",
        )
    if config.chunk_strategy is ZarrChunkStrategy.ADAPTIVE:
        raise PlanRefusedError(
            "chunk strategy 'adaptive' is not yet written, only 'well' and 'file'",
            hint="choose chunk_strategy (--chunks) well or file",
        )
    if not 1 <= config.compression_level <= 9:
        raise PlanRefusedError(
            f"compression_level {config.compression_level} is not in 1 to 9",
            hint="1 is fast, 9 is small",
        )


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
) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """Return rows, columns and the cell of each field; collapsed fields are one tile."""
    if "field" in planes.collapsed:
        return 1, 1, ((0, 0),)
    if max(planes.fields) >= len(grid.cells):
        raise PlanRefusedError(
            f"image {path!r}: field {max(planes.fields)} has no place in the grid of "
            f"{len(grid.cells)} fields"
        )
    return grid.rows, grid.columns, tuple(grid.cells[f] for f in planes.fields)


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
    level = config.compression_level
    if config.compressor is ZarrCompressor.NONE:
        return Codec("none", cname="", level=0, shuffle=False)
    if kind == "label":
        return Codec("zstd", cname="", level=1, shuffle=False)
    if config.compressor in (ZarrCompressor.ZLIB, ZarrCompressor.GZIP):
        return Codec("gzip", cname="", level=level, shuffle=False)
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


def region_of(  # noqa: PLR0913, PLR0917 - a plane's key is four numbers
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
        On chunk edges: exactly one chunk.
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


def objects_of(layout: ImageLayout) -> int:
    """Return the stored objects (shards or chunks) of a well's image, all levels."""
    planes = planes_of(layout)
    return sum(planes if array.shards is None else 1 for array in layout.levels)


def raw_bytes(layout: ImageLayout) -> int:
    """Return the uncompressed bytes that a well's image writes, all levels."""
    sizes = (prod(a.chunks) * np.dtype(a.dtype).itemsize for a in layout.levels)
    return planes_of(layout) * sum(sizes)


def prove_regions(layout: ImageLayout) -> None:
    """Prove that regions are disjoint, lie on chunk edges and cover all but absent slots.

    A region is one chunk, found by (timepoint, channel, slot, cell). If the chunk grid is the
    product of these axes, each index occurs once and each is inside the grid, then different
    planes have different chunks, and a chunk without a plane is an absent slot or an empty
    cell. So it is enough to check axes and index lists; no region is enumerated.

    Raises
    ------
    PlanRefusedError
        Naming the array and what does not hold.
    """
    _prove_indices(layout)
    rows, columns = (
        size // pitch
        for size, pitch in zip(layout.levels[0].shape[-2:], layout.pitch_yx, strict=True)
    )
    if not all(0 <= row < rows and 0 <= column < columns for row, column in layout.cells):
        raise PlanRefusedError(f"image {layout.path!r}: a field lies outside its mosaic")
    sizes = {"t": len(layout.timepoints), "c": len(layout.channels), "z": layout.z}
    for level, array in enumerate(layout.levels):
        tile = (layout.pitch_yx[0] >> level, layout.pitch_yx[1] >> level)
        lead = tuple(sizes[axis] for axis in array.axes[:-2])
        found = (array.chunks, array.shape)
        expected = (
            (*(1 for _ in lead), *tile),
            (*lead, rows * tile[0], columns * tile[1]),
        )
        halves = all(t << level == p for t, p in zip(tile, layout.pitch_yx, strict=True))
        if found != expected or not halves or array.shards not in (None, array.shape):
            raise PlanRefusedError(
                f"array {array.path!r}: chunks and shape {found} do not tile the fields, "
                f"expected {expected}"
            )


def _prove_indices(layout: ImageLayout) -> None:
    lists: tuple[tuple[object, ...], ...] = (
        layout.cells,
        layout.fields,
        layout.timepoints,
        layout.channels,
        layout.heights,
        *layout.slots,
    )
    if any(len(set(one)) != len(one) for one in lists):
        raise PlanRefusedError(f"image {layout.path!r}: two planes would share a region")
    stacks = 1 if layout.kind == "label" else len(layout.channels)
    if (len(layout.fields), stacks, layout.z) != (
        len(layout.cells),
        len(layout.slots),
        len(layout.heights),
    ):
        raise PlanRefusedError(f"image {layout.path!r}: a plane has no region")
    if any(not 0 <= slot < layout.z for stack in layout.slots for slot in stack):
        raise PlanRefusedError(f"image {layout.path!r}: a z slot lies outside the stack")


def prove_labels(image: ImageLayout, labels: ImageLayout) -> None:
    """Prove that labels lie on their image: same mosaic, levels and times; z equal or flat.

    Raises
    ------
    PlanRefusedError
        Naming both and what differs.
    """
    for what, ours, theirs in (
        ("levels", [a.shape[-2:] for a in labels.levels], [a.shape[-2:] for a in image.levels]),
        ("timepoints", labels.timepoints, image.timepoints),
        ("z", labels.heights if labels.z > 1 else (), image.heights if labels.z > 1 else ()),
    ):
        if ours != theirs:
            raise PlanRefusedError(
                f"labels {labels.path!r} do not fit image {image.path!r}: {what} {ours}, "
                f"the image has {theirs}",
                hint="make labels of the planes that the last step returns",
            )
