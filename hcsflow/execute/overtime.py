"""Wells that take too long: since when each is at work, and where."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from hcsflow.graph.build import Key

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Overtime"]

LOOK_S = 1.0


class Overtime:
    """Finds wells whose segment has been at work for longer than a limit.

    Parameters
    ----------
    client : Client
        Connected to the cluster. Only its scheduler is asked: a worker whose function holds the
        interpreter's lock would not answer.
    limit_s : float
        Longest that one segment of one well may take, in seconds.
    clock : callable
        Monotonic time in seconds.

    Notes
    -----
    A task counts from when its worker says that it begins. Where that cannot be heard, it counts
    from when the worker was given it, unless another task there is known to be at work.
    """

    def __init__(
        self, client: Client, limit_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self.limit_s = limit_s
        self._clock = clock
        self._looked = float("-inf")
        self._begun: set[str] = set()
        self._place: dict[str, str | None] = {}
        self._since: dict[str, float] = {}

    def hear(self, well: str) -> None:
        """Note that a segment of a well has begun."""
        self._begun.add(well)
        self._since[well] = self._clock()

    def forget(self, well: str) -> None:
        """Start anew with a well that has been submitted again."""
        self._begun.discard(well)
        self._place.pop(well, None)
        self._since.pop(well, None)

    def late(self, open_wells: Mapping[str, Iterable[Key]]) -> dict[str, str]:
        """Return the wells over the limit, each with its worker; looks once a second at most.

        Parameters
        ----------
        open_wells : mapping of str to keys
            The tasks of each well that is still open.
        """
        now = self._clock()
        if now - self._looked < LOOK_S:
            return {}
        self._looked = now
        given = self._client.processing()
        at = {key: worker for worker, keys in given.items() for key in keys}
        for well, keys in open_wells.items():
            self._move(well, next((at[key] for key in keys if key in at), None), now)
        places = {well: self._place.get(well) for well in open_wells}
        busy = {place for well, place in places.items() if well in self._begun}
        return {
            well: place
            for well, place in places.items()
            if place is not None and now - self._since[well] > self.limit_s
            if well in self._begun or place not in busy
        }

    def _move(self, well: str, place: str | None, now: float) -> None:
        """Start anew where a well is given to another worker, or to none."""
        before = self._place.get(well)
        self._place[well] = place
        if place is None:
            self.forget(well)
        elif well not in self._since or before not in (None, place):
            self._begun.discard(well)
            self._since[well] = now
