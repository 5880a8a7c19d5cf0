"""Objects in the fastest of three places that has room: device, host memory, disk.

An object is never changed once it is added, so moving one needs no lock while its bytes are on
their way: it is found in the old place until it is in the new one. One thread moves at a time
(``_moving``); ``lock`` guards what is where and is never held during a transfer. zict's Buffer
does not do here: two threads that load one spilled object at a time break it, and threads that
wait for another's eviction spin.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hcsflow.arrays.families import freeze, lies_on_device, thaw
from hcsflow.errors import MemoryConversionError
from hcsflow.storage.families import Weight
from hcsflow.storage.packing import UNPACKABLE, Part, pack
from hcsflow.storage.spill import SpillFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MemoryUsage", "Tiers"]

_SMALL = 512
"""Plain objects of fewer bytes stay: knowing where they lie on disk would take as much."""

_PLAIN = frozenset({"object", "container"})
_ABSENT = object()


class MemoryUsage(NamedTuple):
    """What a store holds.

    ``host`` and ``device`` are bytes by family; ``spilled`` is the size of all files on disk, and
    ``spilled_uncompressed`` that of the objects in them; ``objects`` counts paths.
    """

    host: dict[str, int]
    spilled: int
    objects: int
    device: dict[str, int]
    spilled_uncompressed: int


class _Frozen(NamedTuple):
    """A device array in host memory."""

    header: dict[str, Any]
    host: NDArray[Any]


class _Tier:
    """One place in memory: objects by number, the least recently used first."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.is_unbounded = limit == inf
        self.nbytes = 0
        self.movable: OrderedDict[int, Any] = OrderedDict()
        self.fixed: dict[int, Any] = {}

    def put(self, number: int, value: Any, nbytes: int) -> None:
        self.nbytes += nbytes
        if self.is_unbounded:
            self.fixed[number] = value
            return
        self.movable[number] = value
        if nbytes > self.limit:  # it goes first, rather than everything else
            self.movable.move_to_end(number, last=False)

    def get(self, number: int) -> Any:
        """Return an object, now the most recently used; `_ABSENT` if it is not here."""
        value = self.fixed.get(number, _ABSENT)
        if value is _ABSENT:
            value = self.movable.get(number, _ABSENT)
            if value is not _ABSENT:
                self.movable.move_to_end(number)
        return value

    def pop(self, number: int, nbytes: int) -> bool:
        for objects in (self.movable, self.fixed):
            if objects.pop(number, _ABSENT) is not _ABSENT:
                self.nbytes -= nbytes
                return True
        return False

    def victim(self, spare: int) -> int | None:
        """Return the next to go if there is no room for ``spare`` bytes more."""
        return next(iter(self.movable), None) if self.nbytes + spare > self.limit else None


class Tiers:
    """Objects by number, counted in bytes, moved down past a limit and up when they are used.

    Arrays on a device go to host memory, everything in host memory goes to disk, least recently
    used first, and comes back equal and in its memory type. Only what cannot be written (an open
    file, a lambda) and plain objects under 512 bytes stay. Safe to use from several threads.

    Parameters
    ----------
    disk : SpillFolder
        The lowest tier.
    host_bytes, device_bytes : float
        Where moving down begins; ``math.inf`` for never.
    """

    def __init__(self, disk: SpillFolder, *, host_bytes: float, device_bytes: float) -> None:
        self._disk = disk
        self._host = _Tier(host_bytes)
        self._device = _Tier(device_bytes)
        self._sizes: dict[int, int] = {}
        self._families: dict[int, str] = {}  # of all but numpy arrays
        self._next = count().__next__
        self.lock = Lock()
        """Guards what is where, for microseconds: never held while bytes are on their way."""
        self._moving = Lock()
        self.is_bounded = not (self._host.is_unbounded and self._device.is_unbounded)

    def add(self, value: Any, weight: Weight | None) -> int:
        """Take an object where it lies and return its number; moves nothing.

        The caller holds `lock` and has weighed the object (`sizeof`), unless it is plain numpy.
        """
        number = self._next()
        tier = self._host
        if weight is None:
            nbytes, stays = value.nbytes, tier.is_unbounded
        else:
            self._families[number], nbytes = weight
            tier = self._device if lies_on_device(value) else tier
            stays = tier.is_unbounded or (weight.family in _PLAIN and nbytes < _SMALL)
        self._sizes[number] = nbytes
        if stays:
            tier.fixed[number] = value
            tier.nbytes += nbytes
        else:
            tier.put(number, value, nbytes)
        return number

    def weight(self, number: int) -> Weight:
        """Return an object's family and size; the caller holds `lock`."""
        return Weight(self._families.get(number, "numpy"), self._sizes[number])

    @property
    def is_over(self) -> bool:
        """Whether there is something to move down."""
        host, device = self._host, self._device
        return host.nbytes > host.limit or device.nbytes > device.limit

    def make_room(self) -> None:
        """Move objects down until every tier is within its limit.

        Raises
        ------
        OSError
            If the disk cannot take more; no object is lost, some may have moved down.
        """
        with self._moving:
            self._shrink_device(0)
            self._shrink_host(0)

    def get(self, number: int) -> Any:
        """Return an object itself; if it had been moved down, moved up again where it fits.

        Raises
        ------
        KeyError
            If there is none of this number.
        OSError
            If it cannot be read from disk.
        """
        found = self._host.fixed.get(number, _ABSENT)
        if found is _ABSENT:
            with self.lock:
                found = self._resident(number)
        if found is not _ABSENT and type(found) is not _Frozen:
            return found
        with self._moving:
            return self._restore(number)

    def drop(self, number: int) -> None:
        """Forget an object."""
        with self.lock:
            is_resident = self.forget(number)
        if not is_resident:
            self._disk.discard(number)

    def forget(self, number: int) -> bool:
        """Forget an object that is not on disk; the caller holds `lock`. Tell if it was there."""
        nbytes = self._sizes.pop(number, 0)
        self._families.pop(number, None)
        return self._host.pop(number, nbytes) or self._device.pop(number, nbytes)

    def usage(self, objects: int) -> MemoryUsage:
        """Return what is held, by place and family."""
        host: dict[str, int] = {}
        device: dict[str, int] = {}
        on_disk = 0
        with self.lock:
            for number, nbytes in self._sizes.items():
                family = self._families.get(number, "numpy")
                if number in self._device.movable or number in self._device.fixed:
                    device[family] = device.get(family, 0) + nbytes
                elif number in self._host.movable or number in self._host.fixed:
                    host[family] = host.get(family, 0) + nbytes
                else:
                    on_disk += nbytes
            return MemoryUsage(host, self._disk.nbytes, objects, device, on_disk)

    def close(self) -> None:
        """Forget everything and remove what is on disk."""
        with self._moving:
            with self.lock:
                self._sizes.clear()
                self._families.clear()
                self._host = _Tier(self._host.limit)
                self._device = _Tier(self._device.limit)
            self._disk.close()

    def _resident(self, number: int) -> Any:
        value = self._device.get(number)
        if value is _ABSENT:
            value = self._host.get(number)
        return _ABSENT if type(value) is _Frozen else value

    def _victim(self, tier: _Tier, spare: int) -> tuple[int, Any, int] | None:
        with self.lock:
            number = tier.victim(spare)
            if number is None:
                return None
            return number, tier.movable[number], self._sizes[number]

    def _shrink_host(self, spare: int) -> None:
        while victim := self._victim(self._host, spare):
            number, value, nbytes = victim
            try:
                parts = pack(value)
            except UNPACKABLE:
                self._fix(self._host, number, value)
                continue
            self._write(self._host, number, parts, nbytes)

    def _write(self, tier: _Tier, number: int, parts: list[Part], nbytes: int) -> None:
        """Move an object of a tier to disk, unless it is dropped meanwhile."""
        self._disk.put(number, parts)
        with self.lock:
            is_alive = tier.pop(number, nbytes)
        if not is_alive:
            self._disk.discard(number)

    def _fix(self, tier: _Tier, number: int, value: Any) -> None:
        with self.lock:
            if tier.movable.pop(number, _ABSENT) is not _ABSENT:
                tier.fixed[number] = value

    def _shrink_device(self, spare: int) -> None:
        while victim := self._victim(self._device, spare):
            number, value, nbytes = victim
            try:
                frozen = _Frozen(*freeze(value))
            except MemoryConversionError:  # numpy has no such dtype
                self._fix(self._device, number, value)
                continue
            if nbytes > self._host.limit:
                self._write(self._device, number, pack(frozen), nbytes)
                continue
            self._shrink_host(nbytes)
            with self.lock:
                if self._device.pop(number, nbytes):
                    self._host.put(number, frozen, nbytes)

    def _restore(self, number: int) -> Any:
        with self.lock:
            value = self._resident(number)
            if value is not _ABSENT:  # another thread has brought it up meanwhile
                return value
            nbytes = self._sizes[number]
            value = self._host.get(number)
        if value is _ABSENT:
            value = self._disk.get(number)
        tier, shrink = self._host, self._shrink_host
        if type(value) is _Frozen:
            value = thaw(value.header, value.host)
            tier, shrink = self._device, self._shrink_device
        elif type(value) is np.ndarray:
            value.setflags(write=False)
        if nbytes <= tier.limit:
            try:
                shrink(nbytes)
            except OSError:  # nothing can make room for it: it stays where it is
                return value
            self._promote(tier, number, value, nbytes)
        return value

    def _promote(self, tier: _Tier, number: int, value: Any, nbytes: int) -> None:
        """Put an object into a higher tier, unless it was dropped meanwhile."""
        with self.lock:
            if number not in self._sizes:
                return
            self._host.pop(number, nbytes)
            tier.put(number, value, nbytes)
        self._disk.discard(number)
