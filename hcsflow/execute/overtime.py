"""Wells that take too long: since when each is at work, and where."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from hcsflow.execute.closing import asked
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
    Each segment counts by itself, from when its worker says that it begins. Where that cannot be
    heard, it counts from when the worker was given it, unless another task there is known to be at
    work.
    """

    def __init__(
        self, client: Client, limit_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self.limit_s = limit_s
        self._clock = clock
        self._looked = float("-inf")
        self._begun: dict[str, str] = {}
        self._place: dict[str, tuple[str, str]] = {}
        self._since: dict[str, float] = {}

    def hear(self, well: str, segment: str) -> None:
        """Note that a segment of a well has begun."""
        self._begun[well] = segment
        self._since[well] = self._clock()

    def forget(self, well: str) -> None:
        """Start anew with a well that has been submitted again."""
        self._begun.pop(well, None)
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
        given = asked(self._client, self._client.processing)
        at = {key: (worker, str(key[0])) for worker, keys in given.items() for key in keys}
        for well, keys in open_wells.items():
            self._move(well, next((at[key] for key in keys if key in at), None), now)
        workers = {well: self._place[well][0] for well in open_wells if well in self._place}
        busy = {worker for well, worker in workers.items() if well in self._begun}
        return {
            well: worker
            for well, worker in workers.items()
            if now - self._since[well] > self.limit_s
            if well in self._begun or worker not in busy
        }

    def _move(self, well: str, place: tuple[str, str] | None, now: float) -> None:
        """Start anew where a well is given to another worker, with another segment, or to none."""
        if place is None:
            self.forget(well)
            return
        before = self._place.get(well, place)
        self._place[well] = place
        is_heard = before[1] != place[1] == self._begun.get(well)
        if well not in self._since or (before != place and not is_heard):
            self._begun.pop(well, None)
            self._since[well] = now
