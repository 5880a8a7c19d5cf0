"""What is known about a synthetic plate, and how well a segmentation finds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Match", "Nucleus", "PlantedFault", "Truth", "match_labels"]

SCHEMA = "hcsflow.truth/1"


class Nucleus(NamedTuple):
    """An ellipse: centre and half axes in pixels, angle of the first axis in radians."""

    y: float
    x: float
    radius_1: float
    radius_2: float
    angle: float

    def distance(self, yy: NDArray[Any], xx: NDArray[Any]) -> NDArray[Any]:
        """Return the normalised distance of pixels from the centre: 1 on the edge."""
        along, across = np.cos(self.angle), np.sin(self.angle)
        dy, dx = yy - self.y, xx - self.x
        first = (dy * along + dx * across) / self.radius_1
        second = (dx * along - dy * across) / self.radius_2
        distance: NDArray[Any] = np.hypot(first, second)
        return distance


class PlantedFault(NamedTuple):
    """What was made wrong: well, kind (``"missing plane"``), file where it is one file."""

    well: str
    kind: str
    file: str | None


@dataclass(frozen=True, slots=True)
class Truth:
    """A synthetic plate's contents.

    Parameters
    ----------
    root : str
        Its folder.
    layout : str
        ``"exported"``, ``"flat"`` or ``"database"``.
    wells : tuple of str
        Canonical names.
    fields, channels, timepoints, size : int
        Per well; ``size`` is a field's side in pixels.
    z : tuple of int
        Planes of each channel.
    pixel_size_um, z_step_um : float
        As its metadata say.
    nuclei : dict of str to tuple of tuple of Nucleus
        Well → per dense field → its nuclei.
    faults : tuple of PlantedFault
        What was made wrong.
    """

    root: str
    layout: str
    wells: tuple[str, ...]
    fields: int
    channels: int
    timepoints: int
    size: int
    z: tuple[int, ...]
    pixel_size_um: float
    z_step_um: float
    nuclei: dict[str, tuple[tuple[Nucleus, ...], ...]]
    faults: tuple[PlantedFault, ...] = ()

    @property
    def intact_wells(self) -> tuple[str, ...]:
        """Wells without a planted fault."""
        faulty = {fault.well for fault in self.faults}
        return tuple(well for well in self.wells if well not in faulty)

    def count(self, well: str) -> int:
        """Return the number of nuclei in a well."""
        return sum(map(len, self.nuclei[well]))

    def label_image(self, well: str, field: int) -> NDArray[np.uint32]:
        """Draw a field's nuclei as labels 1, 2, …: (y, x) uint32, 0 between them.

        Where two touch, each pixel goes to the one that it lies deeper in.
        """
        return draw_labels(self.nuclei[well][field], self.size)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read what `save` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        data.pop("schema")
        nuclei = {
            well: tuple(tuple(Nucleus(*n) for n in field) for field in fields)
            for well, fields in data.pop("nuclei").items()
        }
        faults = tuple(PlantedFault(*fault) for fault in data.pop("faults"))
        wells, z = tuple(data.pop("wells")), tuple(data.pop("z"))
        return cls(**data, wells=wells, z=z, nuclei=nuclei, faults=faults)


def draw_labels(nuclei: tuple[Nucleus, ...], size: int) -> NDArray[np.uint32]:
    """Draw nuclei as labels in the order given, from 1."""
    labels = np.zeros((size, size), np.uint32)
    depth = np.full((size, size), np.inf, np.float32)
    for number, nucleus in enumerate(nuclei, start=1):
        window = window_of(nucleus, size, margin=1)
        distance = nucleus.distance(*np.ogrid[window])
        is_mine = (distance <= 1) & (distance < depth[window])
        labels[window][is_mine] = number
        depth[window][is_mine] = distance[is_mine]
    return labels


def window_of(nucleus: Nucleus, size: int, *, margin: float) -> tuple[slice, slice]:
    """Return the part of a square image that a nucleus and a margin around it cover."""
    reach = max(nucleus.radius_1, nucleus.radius_2) + margin
    spans = [
        (max(int(centre - reach), 0), min(int(centre + reach) + 2, size))
        for centre in (nucleus.y, nucleus.x)
    ]
    return slice(*spans[0]), slice(*spans[1])


class Match(NamedTuple):
    """Objects found and true: matched, found in vain, not found."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def f1(self) -> float:
        """Return 2 TP / (2 TP + FP + FN); 1 where there is nothing to find and nothing found."""
        errors = self.false_positives + self.false_negatives
        return 2 * self.true_positives / (2 * self.true_positives + errors) if sum(self) else 1.0


def match_labels(true: NDArray[Any], found: NDArray[Any], *, iou: float = 0.5) -> Match:
    """Match objects of two label images by intersection over union.

    Parameters
    ----------
    true, found : ndarray, (y, x) integer
        Label images of one shape; 0 is no object.
    iou : float
        Least overlap of a match, at least 0.5 so that no object matches twice.

    Examples
    --------
    >>> true = np.array([[1, 1, 0, 2, 2]])
    >>> match_labels(true, np.array([[7, 7, 0, 0, 9]]))
    Match(true_positives=2, false_positives=0, false_negatives=0)
    """
    true_ids, true_index, true_sizes = _objects(true)
    found_ids, found_index, found_sizes = _objects(found)
    shared = np.zeros((len(true_ids), len(found_ids)), np.int64)
    np.add.at(shared, (true_index, found_index), 1)
    union = true_sizes[:, None] + found_sizes[None, :] - shared
    is_match = (shared >= iou * union) & (true_ids[:, None] != 0) & (found_ids[None, :] != 0)
    matched = min(int(is_match.any(axis=1).sum()), int(is_match.any(axis=0).sum()))
    total, claimed = int((true_ids != 0).sum()), int((found_ids != 0).sum())
    return Match(matched, claimed - matched, total - matched)


def _objects(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    ids, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return ids, index.reshape(-1), sizes
