"""Numbers, times and channels in words. Light: nothing here makes pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcsflow.view.tally import format_duration

if TYPE_CHECKING:
    from hcsflow.plate import Channel

__all__ = ["counted", "format_time", "planes_in_words"]


def format_time(seconds: float) -> str:
    """Render a time span, in milliseconds below one second.

    Examples
    --------
    >>> format_time(0.0123), format_time(95)
    ('12 ms', '1 min 35 s')
    """
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else format_duration(seconds)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "plane"), counted(1200, "plane")
    ('1 plane', '1,200 planes')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def planes_in_words(channel: Channel) -> str:
    """Say what a channel's planes are."""
    if channel.is_projection:
        return f"1, a stored projection ({channel.projection or 'method unknown'})"
    beside = f", stored projection beside ({channel.projection})" if channel.projection else ""
    height = f" at {channel.z_um:g} µm" if channel.z == 1 and channel.z_um is not None else ""
    return f"{channel.z}{height}{beside}"
