"""What a stored image is: arrays, codecs, regions. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ArrayLayout", "Codec", "ImageLayout", "Region"]


@dataclass(frozen=True, slots=True)
class Codec:
    """A compressor as OME-Zarr readers know it.

    Parameters
    ----------
    name : str
        ``"blosc"``, ``"gzip"``, ``"zstd"``, ``"none"``, and in Zarr 2 ``"zlib"``.
    cname : str
        Inner codec of blosc (``"zstd"``, ``"lz4"``).
    level : int
        Compression level.
    shuffle : bool
        Byte shuffle (blosc only).
    block_bytes : int
        Blosc's block.

    Notes
    -----
    The defaults are what ``benchmarks/codec_table.py`` supports, on whole 16-bit planes of three
    instruments, acquired, smoothed and halved (means, one thread, encoding and decoding in MB/s of
    pixels; the newest figures are in ``benchmarks/results/codec_table.md``):

    ==================================  =====  ====  =====
    codec                               share    in    out
    ==================================  =====  ====  =====
    blosc-zstd-1, bytes, 256 KiB         0.51   700   1520
    the same, level 3                    0.50   220   1530
    the same, bits shuffled              0.53   580   1320
    the same, not shuffled               0.63   430   1180
    the same, blosc's own block, 32 KiB  0.53   490   1030
    the same, 1 MiB                      0.51   810   1750
    blosc-lz4-1, bytes                   0.61  1670   3920
    gzip-1                               0.62    70    270
    ==================================  =====  ====  =====

    Blocks above 256 KiB save nothing and, alone on a machine with 1 MiB of cache a core, encode
    3 to 7 % faster; 256 KiB fit the cache of smaller ones, and a reader of part of a plane decodes
    less. LZ4 is worth it where the disk takes more than 0.7 GB/s for each core.

    Labels (uint32, 0.4 to 15 % of the area) are stored unshuffled as zstd-1: 0.44 % of their
    bytes at 3.7 GB/s; shuffled they take 1.2 %, and zstd-6 0.42 % at 2.0 GB/s.
    """

    name: Literal["blosc", "gzip", "zlib", "zstd", "none"] = "blosc"
    cname: str = "zstd"
    level: int = 1
    shuffle: bool = True
    block_bytes: int = 1 << 18


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
        Pixels of one stored object, a multiple of ``chunks``; None: each chunk is an object. In
        Zarr 3 a shard, in Zarr 2 a plain chunk that is encoded as a whole.
    dtype : str
        Numpy name.
    codec : Codec
        Compressor of the inner chunks, in Zarr 2 of the objects.
    scale : tuple of float
        Physical size of a pixel by axis (µm, s; 1 where unknown).
    zarr_format : 2 or 3
        2 for NGFF 0.4, 3 for 0.5.
    """

    path: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    dtype: str
    codec: Codec
    scale: tuple[float, ...]
    zarr_format: Literal[2, 3] = 3


@dataclass(frozen=True, slots=True)
class Region:
    """Where one plane of one field lies in an array: a slice per axis, on chunk edges."""

    slices: tuple[slice, ...]
    chunk: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """A well's multiscale image (or label): all levels and the tiles of its fields.

    Where each field is an image of its own, the layout is that of the first one, and
    `hcsflow.ngff.fields.images_of` gives them all.

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
    is_per_field : bool
        Whether each field is an image of its own.
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
    is_per_field: bool = False

    @property
    def ngff_version(self) -> Literal["0.4", "0.5"]:
        """The version of NGFF that its arrays' format belongs to."""
        return "0.4" if self.levels[0].zarr_format == 2 else "0.5"
