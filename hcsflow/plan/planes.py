"""Planes by rule: which there are, how they fall into groups, which groups belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from hcsflow.plate import COMPONENTS

__all__ = ["Group", "LocalKey", "PlaneSet", "agreeing", "groups_of", "in_turns"]


class LocalKey(NamedTuple):
    """A plane within one well: dense indices in the order of `COMPONENTS`."""

    field: int
    timepoint: int
    channel: int
    z: int


@dataclass(frozen=True, slots=True)
class PlaneSet:
    """The planes of every well at one point of a pipeline, by rule.

    Parameters
    ----------
    fields, timepoints, channels : tuple of int
        Dense indices.
    z : tuple of tuple of int
        Heights of each channel, in the order of ``channels``.
    collapsed : tuple of str
        Components that an earlier step reduced to one.
    shape_yx : tuple of int
        Plane size in pixels.
    dtype : str
        Numpy name.
    """

    fields: tuple[int, ...]
    timepoints: tuple[int, ...]
    channels: tuple[int, ...]
    z: tuple[tuple[int, ...], ...]
    shape_yx: tuple[int, int]
    dtype: str
    collapsed: tuple[str, ...] = ()

    def iter_keys(self) -> Iterator[LocalKey]:
        """Iterate over all planes: field, timepoint, channel, z; z fastest."""
        for fld, timepoint in product(self.fields, self.timepoints):
            for channel, heights in zip(self.channels, self.z, strict=True):
                for z in heights:
                    yield LocalKey(fld, timepoint, channel, z)

    @property
    def num_planes(self) -> int:
        """Planes per well."""
        return len(self.fields) * len(self.timepoints) * sum(len(h) for h in self.z)


class Group(NamedTuple):
    """One call of a step: the planes that form its stack, in order."""

    fixed: tuple[tuple[str, int], ...]
    members: tuple[LocalKey, ...]

    def value(self, component: str) -> int | None:
        """Return the fixed value of a component, None where it varies."""
        return dict(self.fixed).get(component)


def groups_of(planes: PlaneSet, variable_components: tuple[str, ...]) -> Iterator[Group]:
    """Split planes into groups: one per combination of the components that do not vary.

    Members are ordered row-major by ``variable_components`` as given.
    """
    fixed = tuple(c for c in COMPONENTS if c not in variable_components)
    buckets: dict[tuple[int, ...], list[LocalKey]] = {}
    for key in planes.iter_keys():
        buckets.setdefault(tuple(getattr(key, c) for c in fixed), []).append(key)
    for values, members in buckets.items():
        members.sort(key=lambda key: tuple(getattr(key, c) for c in variable_components))
        yield Group(tuple(zip(fixed, values, strict=True)), tuple(members))


def in_turns(
    groups: Iterable[Group], loop: tuple[str, ...]
) -> Iterator[tuple[tuple[int | None, ...], list[Group]]]:
    """Share groups out among the turns of a loop over fixed components.

    Yields
    ------
    tuple of (tuple of int, list of Group)
        The turn's values of the components, ascending, and its groups in their own order.
    """
    turns: dict[tuple[int | None, ...], list[Group]] = {}
    for group in groups:
        turns.setdefault(tuple(group.value(c) for c in loop), []).append(group)
    yield from sorted(turns.items())


def agreeing(consumer: Group, producers: Iterable[Group], collapsed: Iterable[str]) -> list[Group]:
    """Return the producer groups whose special output belongs to a consumer's stack.

    A producer agrees if each component that it had fixed (and that was not reduced before) has
    a value among the consumer's planes.
    """
    values = {c: {getattr(m, c) for m in consumer.members} for c in COMPONENTS}
    skipped = set(collapsed)
    return [
        group
        for group in producers
        if all(c in skipped or value in values[c] for c, value in group.fixed)
    ]
