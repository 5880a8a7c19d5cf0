"""Small pictures of wells out of an OME-Zarr plate, as data URIs for an offline page.

Contrast is one window per channel for the whole plate, so that wells can be compared.
Positions along t: the first; along z: the maximum.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import zarr

from hcsflow.errors import PlaneError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Crop", "Picture", "Scene", "paint", "read_scene", "windows_of"]

PALETTE = ("00ffff", "ff00ff", "ffff00", "00ff00", "ff8000", "4080ff")
"""Channel colours (RGB) where the plate gives none."""
ON_COLOURS, ON_GREY = (255, 255, 255, 255), (0, 176, 255, 255)
"""Colours of outlines, BGRA."""
_DAMAGE = (OSError, ValueError, RuntimeError, LookupError, TypeError)
"""What zarr and its codecs raise on damaged stores."""
QUALITIES = (86, 70, 50, 30)


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of an image in pixels of full resolution."""

    y: int
    x: int
    height: int
    width: int


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
    except _DAMAGE as error:
        raise PlaneError(
            f"{image_root}: the stored image cannot be read: {error}",
            hint="`hcsflow verify` names what is damaged",
            file=str(image_root),
        ) from error


def _read_scene(
    image_root: Path, side: int, labels: str | None, crop: Crop | None, axes: Sequence[str]
) -> Scene:
    group = zarr.open_group(image_root, mode="r")
    attributes = _ome(group)
    pixels = _read_level(group, side, crop, axes).astype(np.float32)
    channels = attributes.get("omero", {}).get("channels", [])
    colours = tuple(
        str(channels[i].get("color", "")) if i < len(channels) else PALETTE[i % len(PALETTE)]
        for i in range(len(pixels))
    )
    height, width = pixels.shape[1:]
    scale = min(side / max(height, width), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    found = None
    if labels is not None and f"labels/{labels}" in group:
        label_group = zarr.open_group(image_root / "labels" / labels, mode="r")
        stack = _read_level(label_group, side, crop, [axis for axis in axes if axis != "c"])
        found = cv2.resize(
            stack.max(axis=0).astype(np.float64), size, interpolation=cv2.INTER_NEAREST
        ).astype(np.uint32)
    reduced = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in pixels]
    return Scene(np.stack(reduced), found, colours)


def _ome(group: zarr.Group) -> Mapping[str, Any]:
    attributes = dict(group.attrs)
    found: Mapping[str, Any] = attributes.get("ome", attributes)
    return found


def _levels(group: zarr.Group, axes: Sequence[str]) -> tuple[list[str], list[Any]]:
    """Return an image's axes and arrays, full resolution first."""
    multiscales = _ome(group).get("multiscales")
    if multiscales:
        named = [axis["name"] for axis in multiscales[0]["axes"]]
        return named, [group[dataset["path"]] for dataset in multiscales[0]["datasets"]]
    arrays = [group[name] for name in sorted(group.array_keys(), key=int)]
    return list(axes)[-arrays[0].ndim :], arrays


def _read_level(
    group: zarr.Group, side: int, crop: Crop | None, known: Sequence[str]
) -> NDArray[Any]:
    """Read (c, y, x) of the smallest level whose longer side (of the crop) reaches ``side``."""
    axes, levels = _levels(group, known)
    full = levels[0].shape[-2:]
    part = crop or Crop(0, 0, *full)
    longest = max(part.height, part.width)
    fitting = [a for a in levels if longest * a.shape[-1] // full[1] >= side]
    array = min(fitting, key=lambda a: a.shape[-1]) if fitting else levels[0]
    index: dict[str, Any] = {"t": 0}
    for axis, start, extent in (("y", part.y, part.height), ("x", part.x, part.width)):
        ratio = array.shape[axes.index(axis)] / full[axis == "x"]
        index[axis] = slice(round(start * ratio), round((start + extent) * ratio))
    block = np.asarray(array[tuple(index.get(axis, slice(None)) for axis in axes)])
    kept = [axis for axis in axes if axis != "t"]
    if "z" in kept:
        block = block.max(axis=kept.index("z"))
        kept.remove("z")
    return block if "c" in kept else block[None]


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
        pooled = np.concatenate(parts)
        low, high = np.percentile(pooled, (10, 99.8)) if pooled.size else (0.0, 1.0)
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
    colours = [_bgr("ffffff" if is_grey else scene.colours[c]) for c in channels]
    canvas = np.zeros((height, width, 3), np.float32)
    for channel, colour in zip(channels, colours, strict=True):
        low, high = windows[channel]
        share = np.clip((scene.pixels[channel] - low) / (high - low), 0, 1)
        canvas += share[..., None] * colour
    canvas /= np.maximum(np.sum(colours, axis=0), 1)  # all channels together just reach white
    drawn = _outlines(scene.labels, ON_GREY if is_grey else ON_COLOURS, is_bold=has_bold_outlines)
    shown = np.clip(canvas * 255, 0, 255).astype(np.uint8)
    return Picture(width, height, _webp(shown, max_bytes), drawn)


def _bgr(colour: str) -> NDArray[np.float32]:
    text = colour.lstrip("#")[:6]
    if len(text) != 6:
        text = PALETTE[0]
    return np.array([int(text[i : i + 2], 16) / 255 for i in (4, 2, 0)], np.float32)


def _webp(image: NDArray[np.uint8], max_bytes: int) -> str:
    for quality in QUALITIES:
        encoded = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
        if encoded.size <= max_bytes:
            break
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()


def _outlines(
    labels: NDArray[np.uint32] | None, colour: tuple[int, int, int, int], *, is_bold: bool
) -> str | None:
    """Draw the border of every object on a transparent PNG."""
    if labels is None or not labels.any():
        return None
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    drawn = np.zeros((*labels.shape, 4), np.uint8)
    drawn[edge if is_bold else edge & (labels > 0)] = colour
    encoded = cv2.imencode(".png", drawn, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode()
