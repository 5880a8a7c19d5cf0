"""What share of its pixels' bytes a stored array takes, as typical of its codec and pixels. Pure.

The figures are those of ``benchmarks/codec_table.py`` (``benchmarks/results/codec_table.md``):
planes of an Operetta, an Opera Phenix and an ImageXpress, as acquired, smoothed and halved, and
labels of their nuclei. The lowest and highest leave room for what was not among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hcsflow.ngff.model import ArrayLayout, Codec

__all__ = ["Share", "codec_name", "typical_share"]


@dataclass(frozen=True, slots=True)
class Share:
    """Encoded over raw bytes: typical, and what it may well be instead."""

    typical: float
    low: float
    high: float


_WHOLE = Share(1.0, 1.0, 1.0)

_IMAGES = {
    "blosc-zstd shuffled": Share(0.51, 0.25, 0.75),
    "blosc-zstd": Share(0.63, 0.3, 0.9),
    "blosc-lz4 shuffled": Share(0.61, 0.4, 0.9),
    "blosc-lz4": Share(0.93, 0.5, 1.0),
    "zstd": Share(0.64, 0.3, 0.9),
    "gzip": Share(0.61, 0.3, 0.9),
    "zlib": Share(0.61, 0.3, 0.9),
}
"""Of 16-bit planes. Higher levels than 1 take at most 0.03 less."""

_LABELS = {
    "blosc-zstd shuffled": Share(0.012, 0.0, 0.1),
    "blosc-zstd": Share(0.005, 0.0, 0.05),
    "blosc-lz4 shuffled": Share(0.033, 0.0, 0.2),
    "blosc-lz4": Share(0.019, 0.0, 0.1),
    "zstd": Share(0.005, 0.0, 0.05),
    "gzip": Share(0.009, 0.0, 0.1),
    "zlib": Share(0.009, 0.0, 0.1),
}
"""Of labels that cover 0.4 to 15 % of the area."""

FLOATS = 1.4
"""Share of smoothed float32 planes over that of 16-bit ones."""

_SIXTEEN_BITS = ("uint16", "int16")
_THIRTY_TWO_BITS = ("uint32", "int32")


def codec_name(codec: Codec) -> str:
    """Return what a codec is called: its kind, its inner codec, its level.

    Examples
    --------
    >>> codec_name(Codec()), codec_name(Codec("zstd", cname=""))
    ('blosc-zstd-1', 'zstd-1')
    """
    if codec.name == "none":
        return "uncompressed"
    return "-".join(filter(None, (codec.name, codec.cname, str(codec.level))))


def typical_share(array: ArrayLayout, kind: Literal["image", "label"]) -> Share:
    """Return what share of its pixels' bytes an array will take, without seeing any.

    Parameters
    ----------
    array : ArrayLayout
        Its dtype and codec count.
    kind : "image" or "label"
        An image of 32-bit integers is most often labels that a step hands on. 8-bit images may be
        masks and floats may be anything: there the range says that little is known.

    Examples
    --------
    >>> array = ArrayLayout("0/0", ("y", "x"), (64, 64), (64, 64), None, "uint16", Codec(), (1, 1))
    >>> typical_share(array, "image").typical
    0.51
    """
    if array.codec.name == "none":
        return _WHOLE
    family = _family(array.codec)
    if kind == "label":
        return _LABELS[family]
    images = _IMAGES[family]
    if array.dtype in _SIXTEEN_BITS:
        return images
    if array.dtype in _THIRTY_TWO_BITS:
        return Share(_LABELS[family].typical, 0.0, images.high)
    factor = FLOATS if array.dtype.startswith("float") else 1.0
    return Share(min(factor * images.typical, 1.0), 0.0, 1.0)


def _family(codec: Codec) -> str:
    if codec.name != "blosc":
        return codec.name
    return f"blosc-{codec.cname}{' shuffled' if codec.shuffle else ''}"
