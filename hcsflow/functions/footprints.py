"""Flat structuring elements, and erosion and dilation by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from hcsflow.functions.planes import Plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SHAPES", "close_plane", "footprint", "octagon_run", "open_plane"]

SHAPES = ("disk", "octagon", "square")
"""``disk``: x² + y² ≤ r², as `skimage.morphology.disk`. ``octagon``: nearly regular, of the same
extent, made of a square and two diagonals: close to the disk and 15 times as fast at radius 25.
``square``: side 2r + 1, the fastest."""

MORPHOLOGY_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")


def _parts(radius: int, shape: str) -> list[NDArray[np.uint8]]:
    """Return elements whose Minkowski sum is the footprint, cheapest sequence first."""
    if shape == "square":
        return [np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)]
    if shape == "disk":
        y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        return [(x * x + y * y <= radius * radius).astype(np.uint8)]
    if shape != "octagon":
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}; got {shape!r}")
    run = octagon_run(radius)
    square = _parts(radius - 2 * run, "square")
    line = np.eye(2 * run + 1, dtype=np.uint8)
    return [*square, line, np.ascontiguousarray(line[:, ::-1])] if run else square


def octagon_run(radius: int) -> int:
    """Return how far an octagon's two diagonals reach, in pixels; a square reaches the rest.

    Examples
    --------
    >>> octagon_run(25)
    7
    """
    # Sides of equal length: half of the square is √2 times half of a diagonal's run. The square
    # must be at least 3 × 3, or the diagonals alone would leave a chequerboard of holes.
    return min(round(radius / (2 + 2**0.5)), max(radius - 1, 0) // 2)


def footprint(radius: int, shape: str = "disk") -> NDArray[np.uint8]:
    """Return a footprint as an image of 0 and 1, of side 2 × radius + 1.

    Examples
    --------
    >>> footprint(1, "disk").tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    image = np.zeros((2 * radius + 1, 2 * radius + 1), np.uint8)
    image[radius, radius] = 1
    for part in _parts(radius, shape):
        image = cv2.dilate(image, part)
    return image


def open_plane(plane: Plane, radius: int, shape: str) -> Plane:
    """Open a plane (Y, X); pixels outside are ignored. Of a dtype in `MORPHOLOGY_DTYPES`."""
    return _dilated(_eroded(plane, radius, shape), radius, shape)


def close_plane(plane: Plane, radius: int, shape: str) -> Plane:
    """Close a plane (Y, X); pixels outside are ignored. Of a dtype in `MORPHOLOGY_DTYPES`."""
    return _eroded(_dilated(plane, radius, shape), radius, shape)


def _eroded(plane: Plane, radius: int, shape: str) -> Plane:
    return _swept(plane, radius, shape, cv2.erode, _ends(plane.dtype)[1])


def _dilated(plane: Plane, radius: int, shape: str) -> Plane:
    return _swept(plane, radius, shape, cv2.dilate, _ends(plane.dtype)[0])


def _ends(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the lowest and highest value of a dtype."""
    info: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return float(info.min), float(info.max)


def _swept(plane: Plane, radius: int, shape: str, operation: Any, neutral: float) -> Plane:
    parts = _parts(radius, shape)
    if len(parts) == 1:
        result: Plane = operation(plane, parts[0])
        return result
    # A sequence of parts equals their sum only if what lies outside is kept between them.
    edge = (radius, radius, radius, radius)
    padded = cv2.copyMakeBorder(plane, *edge, cv2.BORDER_CONSTANT, value=neutral)
    for part in parts:
        padded = operation(padded, part)
    height, width = plane.shape
    inner: Plane = padded[radius : radius + height, radius : radius + width]
    return inner
