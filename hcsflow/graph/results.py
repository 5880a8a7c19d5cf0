"""What a segment's task returns. Light: the client needs it before anything else of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hcsflow.journal import Outcome
from hcsflow.plan import Carried, LocalKey

__all__ = ["HandedStack", "HandedValue", "Handover", "Stack", "outcome_of"]

Stack = NDArray[np.generic]


class HandedStack(NamedTuple):
    """Planes as one stack (Z, Y, X), with the key of each."""

    keys: tuple[LocalKey, ...]
    stack: Stack


class HandedValue(NamedTuple):
    """A special output of one group, by the group's number among its step's groups."""

    carried: Carried
    group: int
    value: Any


@dataclass(frozen=True, slots=True)
class Handover:
    """The result of a segment that is not a well's last.

    Parameters
    ----------
    outcome : Outcome
        Of the well so far: of this run's segments up to this one.
    uncommitted : tuple of Outcome
        Of each segment since the last one that committed a unit; goes into the next one's record.
    planes : tuple of HandedStack
        Main output, where the next segment takes it from here rather than from a checkpoint.
    specials : tuple of HandedValue
        Special outputs that later segments need, likewise.
    committed : Outcome or None
        Of the segments before those of ``uncommitted``, where there are both.
    positions : tuple of (int, (y, x) or None)
        Fields and their stage positions in µm, of those fields whose files were read so far.
    """

    outcome: Outcome
    uncommitted: tuple[Outcome, ...] = ()
    planes: tuple[HandedStack, ...] = ()
    specials: tuple[HandedValue, ...] = ()
    committed: Outcome | None = None
    positions: tuple[tuple[int, tuple[float, float] | None], ...] = ()


def outcome_of(result: Outcome | Handover) -> Outcome:
    """Return the outcome in what a segment's task returned."""
    return result.outcome if isinstance(result, Handover) else result
