"""Reading a well's planes in plan order, one group ahead of the computation where it waits."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hcsflow.config import Backend, MissingPolicy
from hcsflow.errors import MissingPlaneError, PlaneError
from hcsflow.graph.positions import StagePositions
from hcsflow.plan import READING_BYTES, LocalKey, Plan, Resources
from hcsflow.plate import Manifest, Plate
from hcsflow.plate.names import PlaneName, format_plane_name
from hcsflow.storage.traffic import TrafficMeter

__all__ = ["PlaneFeed", "WellPlanes", "reading_threads"]

Stack = NDArray[np.generic]
RETRY_DELAYS_S = (0.1, 0.5, 2.0)
PATIENCE_S = 0.01
"""What a task on one core waits while it reads before a thread reads ahead of it.

For storage as a rule; time in which another process has the core counts too."""

TRANSIENT = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR}


class WellPlanes:
    """Where one well's planes lie, and what is done about those that do not.

    Parameters
    ----------
    plan, manifest : Plan, Manifest
        The run's.
    well : int
        Dense well index.
    positions : StagePositions
        Opens the files.
    meter : TrafficMeter, optional
        Counts what is read.
    """

    def __init__(
        self,
        plan: Plan,
        manifest: Manifest,
        well: int,
        *,
        positions: StagePositions,
        meter: TrafficMeter | None = None,
    ) -> None:
        self._meter = TrafficMeter() if meter is None else meter
        self._plate: Plate = plan.plate
        self._config = plan.config
        self._manifest = manifest
        self._files = positions
        planes = manifest.well_planes(well)
        self._rows = {LocalKey(*key[2:]): row for key, row in planes.items()}
        self.missing = frozenset(LocalKey(*key[2:]) for key in manifest.missing_of(well))
        self._well = well
        self._lock = Lock()
        self.bytes_read = 0
        self.threads = reading_threads(plan.resources, self.empty(1).nbytes)

    def check(self) -> None:
        """Refuse a well that lacks planes, where the policy says so.

        Raises
        ------
        MissingPlaneError
            Names the first and counts the rest.
        """
        if not self.missing or self._config.missing is not MissingPolicy.ERROR:
            return
        first = min(self.missing)
        more = f" and {len(self.missing) - 1} more planes" if len(self.missing) > 1 else ""
        name = self._name(first)
        raise MissingPlaneError(
            f"{name}{more}: expected by the plate, but there is no file ({self._words(first)})",
            hint="complete the plate, or run with --missing skip or --missing fill",
            file=name,
        )

    def expect(self, keys: Iterable[LocalKey]) -> None:
        """Be told which planes will be read."""
        self._files.expect({self._rows[key] for key in keys if key in self._rows})

    def close(self) -> None:
        """Close files that were to be read."""
        self._files.close()

    def empty(self, count: int) -> Stack:
        """Return a stack (count, y, x) of the plate's dtype that holds anything."""
        return np.empty((count, *self._plate.shape_yx), self._plate.dtype)

    def read(self, key: LocalKey, out: Stack) -> None:
        """Read one plane into ``out`` (y, x) of the plate's dtype; any number of threads may.

        Raises
        ------
        PlaneError
            If its file cannot be read as the plate has it; ``out`` then holds anything.
        """
        row = self._rows.get(key)
        if row is None:
            np.copyto(out, self._config.fill_value, casting="unsafe")
            return
        file = self._manifest.path(row)
        start = time.perf_counter()
        try:
            _with_retries(partial(self._read, row, out))
        except PlaneError as error:
            self._meter.count(Backend.VIRTUAL_WORKSPACE.value, "load", file, start, 0, error)
            raise
        with self._lock:
            self.bytes_read += out.nbytes
        self._meter.count(Backend.VIRTUAL_WORKSPACE.value, "load", file, start, out.nbytes)

    def _read(self, row: int, out: Stack) -> None:
        with self._files.open_plane(row) as opened:
            opened.read_into(out)

    def _words(self, key: LocalKey) -> str:
        """Say which plane, in the instrument's labels."""
        plate = self._plate
        return (
            f"field {plate.fields[key.field]}, channel {plate.channels[key.channel].label}, "
            f"z {plate.z[key.z]}, timepoint {plate.timepoints[key.timepoint]}"
        )

    def _name(self, key: LocalKey) -> str:
        well = self._plate.wells[self._well]
        plane = PlaneName(well, key.field, key.channel, key.z, key.timepoint)
        return format_plane_name(plane)


def _with_retries(read: Callable[[], None]) -> None:
    """Try again what a network file system may grant later; a damaged file stays damaged."""
    for delay in RETRY_DELAYS_S:
        try:
            return read()
        except PlaneError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in TRANSIENT:
                raise
            time.sleep(delay)
    return read()


def reading_threads(resources: Resources, plane_nbytes: int) -> int:
    """Return how many planes a task reads at once: one for each core that its worker has.

    Each thread holds a plane's compressed bytes: no more threads than hold a few MB together.

    Parameters
    ----------
    resources : Resources
        What the plan may use.
    plane_nbytes : int
        Bytes of a plane.

    Examples
    --------
    >>> reading_threads(Resources(workers=2, memory_bytes=1, encoders=4), 2_000_000)
    4
    """
    return max(1, min(resources.encoders, 1 + READING_BYTES // plane_nbytes))


class PlaneFeed:
    """Stacks of the plate's planes in a known order, read one ahead where that saves time.

    Threads read ahead where the worker has cores for them. On one core a thread only takes turns
    with the task (3 % of a conversion), unless the task waits for the storage meanwhile: planes
    are read when they are due until it has waited for `PATIENCE_S`, and ahead from then on.

    Parameters
    ----------
    planes : WellPlanes
        Reads single planes.
    requests : sequence of sequence of LocalKey
        What will be asked for, in order.

    Notes
    -----
    At most one request beyond the one in use is held. Where several planes cannot be read, the
    error is that of the first. Used as a context manager.
    """

    def __init__(self, planes: WellPlanes, requests: Sequence[Sequence[LocalKey]]) -> None:
        self._planes = planes
        self._requests: Iterator[Sequence[LocalKey]] = iter(requests)
        self._pool = _reading(planes.threads) if planes.threads > 1 else None
        planes.expect(key for keys in requests for key in keys)
        self._ahead: Callable[[], Stack] | None = None
        self._idle_s = 0.0
        self.seconds_waited = 0.0

    def __enter__(self) -> Self:
        self._ahead = self._submit()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._planes.close()

    def take(self) -> Stack:
        """Return the next request's stack (n, y, x) and start on the one after."""
        current = self._ahead
        if current is None:
            raise LookupError("all planes have been read")
        start = time.perf_counter()
        stack = current()
        self.seconds_waited += time.perf_counter() - start
        self._ahead = self._submit()
        return stack

    def _submit(self) -> Callable[[], Stack] | None:
        keys = next(self._requests, None)
        if keys is None:
            return None
        if self._pool is None:
            return partial(self._read_now, keys)
        if self._planes.threads == 1:
            return self._pool.submit(self._read, keys).result
        stack = self._planes.empty(len(keys))
        read = self._planes.read
        under_way = [self._pool.submit(read, *each) for each in zip(keys, stack, strict=True)]
        return partial(_whole, stack, under_way)

    def _read_now(self, keys: Sequence[LocalKey]) -> Stack:
        """Read on this thread; see whether another one would have spared time."""
        start, busy = time.perf_counter(), time.thread_time()
        stack = self._read(keys)
        self._idle_s += time.perf_counter() - start - (time.thread_time() - busy)
        if self._idle_s > PATIENCE_S:
            self._pool = _reading(1)
        return stack

    def _read(self, keys: Sequence[LocalKey]) -> Stack:
        stack = self._planes.empty(len(keys))
        for key, plane in zip(keys, stack, strict=True):
            self._planes.read(key, plane)
        return stack


def _reading(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="hcsflow-read")


def _whole(stack: Stack, under_way: list[Future[None]]) -> Stack:
    """Return a stack once all its planes are read; raise what befell the first that is not."""
    for reading in under_way:
        reading.result()
    return stack
