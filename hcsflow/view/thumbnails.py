"""Small pictures of wells out of an OME-Zarr plate, as data URIs for an offline page.

Contrast is one window per channel for the whole plate, so that wells can be compared.
Positions along t: the first; along z: the maximum.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import imagecodecs
import numpy as np

from hcsflow.errors import HcsflowError, PlaneError
from hcsflow.storage.zarr_chunks import DAMAGE, TOO_LARGE
from hcsflow.storage.zarr_nodes import holds_node
from hcsflow.view.levels import Crop, node_at, ome_attributes, read_level

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Picture", "Scene", "paint", "read_scene", "windows_of"]

PALETTE = ("00ffff", "ff00ff", "ffff00", "00ff00", "ff8000", "4080ff")
"""Channel colours (RGB) where the plate gives none."""
ON_COLOURS, ON_GREY = (255, 255, 255), (255, 176, 0)
"""Colours of outlines, RGB."""
_UNREADABLE = (OSError, AttributeError, ArithmeticError, cv2.error, *DAMAGE, *TOO_LARGE)
"""What reading raises on pixels that are damaged, and on documents that are none."""
QUALITIES = (86, 70, 50, 30)


@dataclass(frozen=True, slots=True)
class Scene:
    """Pixels of one picture before contrast.

    Parameters
    ----------
    pixels : ndarray, (c, y, x) float32
        Intensities as stored.
    labels : ndarray, (y, x) uint32, or None
        Objects at the same size.
    colours : tuple of str
        RGB hex per channel.
    """

    pixels: NDArray[np.float32]
    labels: NDArray[np.uint32] | None
    colours: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture ready for a page: base image and transparent outlines, as data URIs."""

    width: int
    height: int
    image: str
    outlines: str | None


def read_scene(
    image_root: Path,
    *,
    side: int,
    labels: str | None = None,
    crop: Crop | None = None,
    axes: Sequence[str] = (),
) -> Scene:
    """Read a well's image, reduced so that its longer side is at most ``side`` pixels.

    Parameters
    ----------
    image_root : Path
        The image group, e.g. ``images.zarr/B/03/0``.
    side : int
        Longest side wanted, in pixels; the smallest pyramid level that holds it is read.
    labels : str, optional
        Label image to read along.
    crop : Crop, optional
        Part of the image; None is all of it.
    axes : sequence of str
        Of the image, for a group that does not say so in NGFF's words.

    Raises
    ------
    PlaneError
        If what is stored cannot be read.
    """
    try:
        return _read_scene(image_root, side, labels, crop, axes)
    except _UNREADABLE as error:
        reason = error.message if isinstance(error, HcsflowError) else error
        raise PlaneError(
            f"{image_root}: the stored image cannot be read: {reason}",
            hint="`hcsflow verify` names what is damaged",
            file=str(image_root),
        ) from error


def _read_scene(
    image_root: Path, side: int, labels: str | None, crop: Crop | None, axes: Sequence[str]
) -> Scene:
    group = node_at(image_root)
    pixels = read_level(group, side, crop, axes)
    channels = ome_attributes(group).get("omero", {}).get("channels", [])
    colours = tuple(
        str(channels[i].get("color", "")) if i < len(channels) else PALETTE[i % len(PALETTE)]
        for i in range(len(pixels))
    )
    height, width = pixels.shape[1:]
    scale = min(side / max(height, width), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    found = None
    if labels is not None and holds_node(image_root / "labels" / labels):
        label_group = node_at(image_root / "labels" / labels)
        stack = read_level(label_group, side, crop, [axis for axis in axes if axis != "c"])
        objects = stack.max(axis=0).astype(np.uint32, copy=False).view(np.int32)  # as cv2 has them
        found = cv2.resize(objects, size, interpolation=cv2.INTER_NEAREST).view(np.uint32)
    reduced = np.empty((len(pixels), *size[::-1]), np.float32)
    for plane, small in zip(pixels, reduced, strict=True):
        cv2.resize(plane.astype(np.float32), size, dst=small, interpolation=cv2.INTER_AREA)
    return Scene(reduced, found, colours)


def windows_of(scenes: Iterable[Scene]) -> list[tuple[float, float]]:
    """Return one contrast window per channel: 10 % to 99.8 % of the pixels that were acquired."""
    samples: list[list[NDArray[np.float32]]] = []
    for scene in scenes:
        samples.extend([] for _ in range(len(scene.pixels) - len(samples)))
        for channel, plane in enumerate(scene.pixels):
            acquired = plane[plane > 0]
            samples[channel].append(acquired[:: max(acquired.size // 4096, 1)])
    windows = []
    for parts in samples:
        pooled = np.sort(np.concatenate(parts))
        places = np.array((0.1, 0.998)) * (pooled.size - 1)
        # between neighbours; np.percentile does the same and loads masked arrays first
        low, high = np.interp(places, np.arange(pooled.size), pooled) if pooled.size else (0.0, 1.0)
        windows.append((float(low), float(max(high, low + 1))))
    return windows


def paint(
    scene: Scene,
    windows: Sequence[tuple[float, float]],
    *,
    max_bytes: int,
    only: int | None = None,
    has_bold_outlines: bool = False,
) -> Picture:
    """Render a scene: channels added in their colours (a single one grey), outlines apart.

    Parameters
    ----------
    scene : Scene
        What was read.
    windows : sequence of (float, float)
        Intensities shown as black and as full colour, by channel.
    max_bytes : int
        Quality is lowered until the encoded image fits, or no lower quality is left.
    only : int, optional
        The one channel to show, in grey.
    has_bold_outlines : bool
        Outlines of two pixels, on both sides of an object's border; else of one, inside.
    """
    height, width = scene.pixels.shape[1:]
    channels = range(len(scene.pixels)) if only is None else (only,)
    is_grey = len(channels) == 1
    colours = [_rgb("ffffff" if is_grey else scene.colours[c]) for c in channels]
    shares = []
    for channel in channels:
        low, high = windows[channel]
        shares.append(np.clip((scene.pixels[channel] - low) / (high - low), 0, 1))
    drawn = _outlines(scene.labels, ON_GREY if is_grey else ON_COLOURS, is_bold=has_bold_outlines)
    return Picture(width, height, _webp(_mixed(shares, colours), max_bytes), drawn)


def _mixed(
    shares: Sequence[NDArray[np.float32]], colours: Sequence[NDArray[np.float32]]
) -> NDArray[np.uint8]:
    """Add channels (y, x) of 0 to 1 in their colours; all together just reach white."""
    mixed = np.empty((*shares[0].shape, 3), np.uint8)
    white = np.maximum(np.sum(colours, axis=0), 1)
    for part in range(3):
        plane = np.zeros(shares[0].shape, np.float32)
        for share, colour in zip(shares, colours, strict=True):
            plane += share * colour[part]
        mixed[..., part] = plane / white[part] * 255
    return mixed


def _rgb(colour: str) -> NDArray[np.float32]:
    text = colour.lstrip("#")[:6]
    if len(text) != 6:
        text = PALETTE[0]
    return np.array([int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)], np.float32)


def _webp(image: NDArray[np.uint8], max_bytes: int) -> str:
    """Encode a picture (y, x, RGB); more effort than the least takes thrice the time for 9 %."""
    for quality in QUALITIES:
        encoded = imagecodecs.webp_encode(image, level=quality, lossless=False, method=0)
        if len(encoded) <= max_bytes:
            break
    return "data:image/webp;base64," + base64.b64encode(encoded).decode()


def _outlines(
    labels: NDArray[np.uint32] | None, colour: tuple[int, int, int], *, is_bold: bool
) -> str | None:
    """Draw the border of every object on a transparent PNG."""
    if labels is None or not labels.any():
        return None
    below, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= below
    edge[:-1] |= below
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    encoded = _png(edge if is_bold else edge & (labels > 0), colour)
    return "data:image/png;base64," + base64.b64encode(encoded).decode()


def _png(mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> bytes:
    """Encode a mask at one bit a pixel: a colour (RGB), and transparent where it is not set."""
    height, width = mask.shape
    rows = np.pad(np.packbits(mask, axis=1), ((0, 0), (1, 0)))  # 0, then the row as it is
    compressor = zlib.compressobj(strategy=zlib.Z_RLE)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0),
        b"PLTE": bytes((0, 0, 0, *colour)),
        b"tRNS": bytes((0, 255)),
        b"IDAT": compressor.compress(rows.tobytes()) + compressor.flush(),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts.items()
    )
