"""Images of synthetic nuclei: blur out of focus, uneven illumination, camera noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcsflow.testing.truth import Nucleus, window_of

__all__ = ["expose", "illumination", "place_nuclei", "render"]

BACKGROUND = 400.0
CAMERA_OFFSET = 100.0
READ_NOISE = 3.0

Image = NDArray[np.float32]


def place_nuclei(
    rng: np.random.Generator, size: int, count: int, *, touching: float = 0.08
) -> tuple[Nucleus, ...]:
    """Scatter ellipses of radius 6 to 10 px; a few touch a neighbour, none overlap otherwise.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    size : int
        Side of the field in pixels.
    count : int
        How many; fewer where they do not fit.
    touching : float
        Share of nuclei that get a partner.
    """
    nuclei: list[Nucleus] = []
    singles = round(count / (1 + touching))
    for _ in range(50 * count):
        if len(nuclei) == singles:
            break
        _place(nuclei, _shape(rng, *rng.uniform(14, max(size - 14, 15), 2)), size)
    for nucleus in nuclei[: count - len(nuclei)]:
        angle = rng.uniform(0, 2 * np.pi)
        partner = _shape(rng, 0.0, 0.0)
        reach = _mean_radius(nucleus) + _mean_radius(partner) - 0.5
        partner = partner._replace(
            y=nucleus.y + reach * np.sin(angle), x=nucleus.x + reach * np.cos(angle)
        )
        _place(nuclei, partner, size, partner_of=nucleus)
    return tuple(nuclei)


def _shape(rng: np.random.Generator, y: float, x: float) -> Nucleus:
    radius, stretch = rng.uniform(7, 9.2), rng.uniform(0.86, 1.0) ** 0.5
    values = (y, x, radius * stretch, radius / stretch, rng.uniform(0, np.pi))
    return Nucleus(*(round(float(v), 2) for v in values))


def _mean_radius(nucleus: Nucleus) -> float:
    return (nucleus.radius_1 + nucleus.radius_2) / 2


def _place(
    nuclei: list[Nucleus], new: Nucleus, size: int, *, partner_of: Nucleus | None = None
) -> None:
    """Add a nucleus if it lies inside the field and clear of all but its partner."""
    is_inside = all(12 <= centre <= size - 13 for centre in (new.y, new.x))
    is_clear = all(
        np.hypot(n.y - new.y, n.x - new.x) > _mean_radius(n) + _mean_radius(new) + 7
        for n in nuclei
        if n is not partner_of
    )
    if is_inside and is_clear:
        nuclei.append(new._replace(y=round(new.y, 2), x=round(new.x, 2)))


def illumination(size: int) -> Image:
    """Return the gain of uneven illumination: 1 left of the centre, down to 0.65 in a corner."""
    y, x = np.ogrid[-1 : 1 : size * 1j, -0.8 : 1.2 : size * 1j]
    gain = 1.0 - 0.35 * (y**2 + x**2) / (1 + 1.2**2)
    return np.asarray(gain, np.float32)


def render(
    nuclei: tuple[Nucleus, ...], brightness: NDArray[Any], *, size: int, defocus: float, wide: bool
) -> Image:
    """Draw nuclei (or, wider and dimmer, the cells around them) as a camera would see them.

    Parameters
    ----------
    nuclei : tuple of Nucleus
        What to draw.
    brightness : ndarray, (n,)
        Photoelectrons in the middle of each, in focus.
    size : int
        Side of the image in pixels.
    defocus : float
        Planes away from focus; blurs the edge and dims.
    wide : bool
        Draw cells instead of nuclei.
    """
    image = np.zeros((size, size), np.float32)
    blur, grow = np.float32(0.6 + 0.9 * defocus), np.float32(1.5 if wide else 1.0)
    for nucleus, peak in zip(nuclei, brightness / (1 + 0.3 * defocus), strict=True):
        radius = _mean_radius(nucleus) * grow
        window = window_of(nucleus, size, margin=float(radius - _mean_radius(nucleus) + 6 * blur))
        yy, xx = (axis.astype(np.float32) for axis in np.ogrid[window])
        edge_px = (nucleus.distance(yy, xx) / grow - 1) * radius
        profile = peak / (1 + np.exp(np.clip(edge_px / blur, -20, 20)))
        np.maximum(image[window], profile, out=image[window])
    return image


def expose(signal: Image, gain: Image, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Turn photoelectrons into camera counts: offset, shot noise, read noise; 1 count each.

    Shot noise is drawn from the normal limit of the Poisson distribution, which it meets well
    above 100 electrons.
    """
    electrons = (signal + np.float32(BACKGROUND)) * gain
    noise = rng.standard_normal(electrons.shape, dtype=np.float32)
    noise *= np.sqrt(electrons + np.float32(READ_NOISE**2))
    electrons += noise
    electrons += np.float32(CAMERA_OFFSET + 0.5)
    counts: NDArray[np.uint16] = np.clip(electrons, 0, 65535).astype(np.uint16)
    return counts
