"""Which pictures a report shows: a thumbnail of every finished well, and a closer look at some."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hcsflow.errors import PlaneError
from hcsflow.view.heat import HeatMap
from hcsflow.view.record import RunRecord
from hcsflow.view.scenes import has_images, read_first_field, read_well
from hcsflow.view.thumbnails import Picture, Scene, paint, windows_of

__all__ = ["Pictures", "Shown", "choose_pictures", "label_name"]

THUMBNAIL_BYTES = 2_400_000
"""All thumbnails together; base64 and the rest of the page stay below 5 MB."""
BYTES_PER_PIXEL = 0.25
"""Of a typical thumbnail, encoded."""
CLOSER_SIDE = 460
CLOSER_BYTES = 90_000


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture with its caption."""

    well: str
    caption: str
    picture: Picture


@dataclass(frozen=True, slots=True)
class Pictures:
    """All pictures of a report.

    Parameters
    ----------
    wells : tuple of Shown
        Every finished well, small.
    closer : tuple of Shown
        The first field of up to three wells.
    channel : str
        Name of the channel that the closer look shows; "" for all in colours.
    unreadable : tuple of str
        What is said of wells whose stored image is damaged.
    """

    wells: tuple[Shown, ...] = ()
    closer: tuple[Shown, ...] = ()
    channel: str = ""
    unreadable: tuple[str, ...] = ()


def label_name(record: RunRecord) -> str | None:
    """Return the name of the first label image of the final output, None without one."""
    labels = record.final.get("labels", [])
    return str(labels[0]["name"]) if labels else None


def choose_pictures(record: RunRecord, ranked: HeatMap | None) -> Pictures:
    """Read and render the pictures.

    Parameters
    ----------
    record : RunRecord
        The run.
    ranked : HeatMap or None
        Whose lowest, middle and highest well are looked at more closely; None takes wells spread
        over the plate.
    """
    finished = [w.well for w in record.with_status("done") if has_images(record, w.well)]
    if not finished:
        return Pictures()
    share = THUMBNAIL_BYTES // len(finished)
    side = int(min(max(math.sqrt(share / BYTES_PER_PIXEL), 48), 360))
    label = label_name(record)
    scenes, unreadable = _read_scenes(record, finished, side, label)
    windows = windows_of(scenes.values())
    values = ranked.cells if ranked else {}
    wells = tuple(
        Shown(well, values.get(well, ("", ""))[1], paint(scene, windows, max_bytes=share))
        for well, scene in scenes.items()
    )
    channel = _segmented_channel(record)
    names = [str(c["name"]) for c in record.plate.get("channels", [])]
    shown = "" if channel is None else names[channel]
    closer = _closer(record, _chosen(list(scenes), ranked), windows, channel, unreadable)
    return Pictures(wells, closer, shown, tuple(unreadable))


def _read_scenes(
    record: RunRecord, wells: Sequence[str], side: int, label: str | None
) -> tuple[dict[str, Scene], list[str]]:
    """Read what can be read, and say what cannot."""
    scenes: dict[str, Scene] = {}
    unreadable: list[str] = []
    for well in wells:
        try:
            scenes[well] = read_well(record, well, side=side, labels=label)
        except PlaneError as error:
            unreadable.append(f"{well}: {error.message}; {error.hint}")
    return scenes, unreadable


def _segmented_channel(record: RunRecord) -> int | None:
    """Return the position in the image of the channel that the labels were found in."""
    steps, labels = record.plan.get("steps", []), record.final.get("labels", [])
    stored = record.final.get("image", {}).get("channels", [])
    if not labels or len(stored) < 2:
        return None
    found = steps[labels[0]["step"]]["input"]["channels"]
    return stored.index(found[0]) if len(found) == 1 and found[0] in stored else None


def _chosen(wells: Sequence[str], ranked: HeatMap | None) -> dict[str, str]:
    """Return up to three wells and what is said about them."""
    order = list(wells)
    words = ("", "", "")
    if ranked is not None:
        order.sort(key=lambda well: (_as_float(ranked.cells.get(well, ("", ""))[1]), well))
        words = ("lowest", "middle", "highest") if len(order) > 2 else ("lowest", "highest", "")
    places = (0, len(order) // 2, len(order) - 1) if len(order) > 2 else range(len(order))
    chosen = {}
    for word, place in zip(words, places, strict=False):
        well = order[place]
        said = f" · {word}: {ranked.cells[well][1]} ({ranked.name})" if ranked else ""
        chosen[well] = f"First field{said}"
    return chosen


def _as_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.inf


def _closer(
    record: RunRecord,
    chosen: Mapping[str, str],
    windows: Sequence[tuple[float, float]],
    channel: int | None,
    unreadable: list[str],
) -> tuple[Shown, ...]:
    """Render one field of each chosen well at higher resolution."""
    image: Mapping[str, Any] = record.final.get("image", {})
    if not image.get("cells"):
        return ()
    label = label_name(record)
    shown = []
    for well, caption in chosen.items():
        try:
            scene = read_first_field(record, well, side=CLOSER_SIDE, labels=label)
        except PlaneError as error:
            unreadable.append(f"{well}: {error.message}; {error.hint}")
            continue
        picture = paint(
            scene, windows, max_bytes=CLOSER_BYTES, only=channel, has_bold_outlines=True
        )
        shown.append(Shown(well, caption, picture))
    return tuple(shown)
