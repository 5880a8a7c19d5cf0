"""Colours of channels and labels, as viewers show them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["channel_color", "label_rgb", "unique_colors"]

_COLORS = (
    (r"dapi|hoechst|blue|405|w?bfp|cfp", "0000FF"),
    (r"fitc|gfp|green|488|alexa ?488|yfp", "00FF00"),
    (r"tritc|cy3|orange|555|568|rfp|561", "FF8000"),
    (r"texas|mcherry|red|594", "FF0000"),
    (r"cy5|far|647|640|cy7", "FF00FF"),
    (r"bright|phase|dic|trans|\bbf\b|\btl\b", "FFFFFF"),
)
_CYCLE = ("00FFFF", "FF00FF", "FFFF00", "00FF00", "FF0000", "0000FF", "FF8000", "FFFFFF")


def channel_color(name: str) -> str | None:
    """Return a fluorophore's or light path's usual colour as 6 hex digits, None if unknown.

    Examples
    --------
    >>> channel_color("DAPI"), channel_color("Cy5 confocal"), channel_color("w4")
    ('0000FF', 'FF00FF', None)
    """
    found = (color for pattern, color in _COLORS if re.search(pattern, name.lower()))
    return next(found, None)


def unique_colors(names: Sequence[str]) -> list[str]:
    """Return a colour for each channel name, as 6 hex digits; none twice while there are enough.

    Examples
    --------
    >>> unique_colors(["DAPI", "Hoechst"])
    ['0000FF', '00FFFF']
    """
    chosen: list[str] = []
    for name in names:
        usual = channel_color(name)
        free = [color for color in _CYCLE if color not in chosen]
        chosen.append(usual if usual and usual not in chosen else (free or _CYCLE)[0])
    return chosen


@lru_cache(maxsize=1 << 14)  # fields and wells have the same numbers
def label_rgb(value: int) -> tuple[int, int, int]:
    """Return a label value's colour, saturated; neighbouring values differ most.

    Examples
    --------
    >>> label_rgb(1), label_rgb(2)
    ((0, 74, 255), (149, 255, 0))
    """
    # steps of the golden ratio around the hue circle
    hue = (value * 0.6180339887498949) % 1.0 * 6.0
    rise = round(255 * (hue % 1.0))
    wheel = (
        (255, rise, 0),
        (255 - rise, 255, 0),
        (0, 255, rise),
        (0, 255 - rise, 255),
        (rise, 0, 255),
        (255, 0, 255 - rise),
    )
    return wheel[int(hue) % 6]
