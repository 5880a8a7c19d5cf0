"""Reading a well's planes in plan order, one group ahead of the computation."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hcsflow.config import Backend, MissingPolicy
from hcsflow.errors import MissingPlaneError, PlaneError
from hcsflow.plan import LocalKey, Plan
from hcsflow.plate import Manifest, Plate
from hcsflow.plate.names import PlaneName, format_plane_name
from hcsflow.storage.tiff import read_plane
from hcsflow.storage.traffic import TrafficMeter

__all__ = ["PlaneFeed", "WellPlanes"]

Stack = NDArray[np.generic]
RETRY_DELAYS_S = (0.1, 0.5, 2.0)
TRANSIENT = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR}


class WellPlanes:
    """Where one well's planes lie, and what is done about those that do not.

    Parameters
    ----------
    plan, manifest : Plan, Manifest
        The run's.
    root : Path
        The plate's folder.
    well : int
        Dense well index.
    meter : TrafficMeter, optional
        Counts what is read.
    """

    def __init__(
        self,
        plan: Plan,
        manifest: Manifest,
        root: Path,
        well: int,
        *,
        meter: TrafficMeter | None = None,
    ) -> None:
        self._meter = TrafficMeter() if meter is None else meter
        self._plate: Plate = plan.plate
        self._config = plan.config
        self._root = root
        self._manifest = manifest
        planes = manifest.well_planes(well)
        self._rows = {LocalKey(*key[2:]): row for key, row in planes.items()}
        self.missing = frozenset(LocalKey(*key[2:]) for key in manifest.missing_of(well))
        self._well = well
        self.bytes_read = 0

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

    def read(self, key: LocalKey) -> NDArray[np.generic]:
        """Return one plane (y, x) of the plate's dtype."""
        plate = self._plate
        row = self._rows.get(key)
        if row is None:
            return np.full(plate.shape_yx, self._config.fill_value, plate.dtype)
        file = self._manifest.path(row)
        start = time.perf_counter()
        try:
            plane = _with_retries(
                lambda: read_plane(
                    self._root / file, shape_yx=plate.shape_yx, dtype=plate.dtype, file=file
                )
            )
        except PlaneError as error:
            self._meter.count(Backend.VIRTUAL_WORKSPACE.value, "load", file, start, 0, error)
            raise
        self.bytes_read += plane.nbytes
        self._meter.count(Backend.VIRTUAL_WORKSPACE.value, "load", file, start, plane.nbytes)
        return plane

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


def _with_retries(read: Callable[[], NDArray[np.generic]]) -> NDArray[np.generic]:
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


class PlaneFeed:
    """Stacks of the plate's planes in a known order, read one ahead by a thread.

    Parameters
    ----------
    planes : WellPlanes
        Reads single planes.
    requests : sequence of sequence of LocalKey
        What will be asked for, in order.

    Notes
    -----
    At most one request beyond the one in use is held. Used as a context manager.
    """

    def __init__(self, planes: WellPlanes, requests: Sequence[Sequence[LocalKey]]) -> None:
        self._planes = planes
        self._requests: Iterator[Sequence[LocalKey]] = iter(requests)
        self._pool: ThreadPoolExecutor | None = None
        if len(requests) > 1:  # else there is nothing to read ahead
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="hcsflow-read")
        self._ahead: Callable[[], Stack] | None = None
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
            return partial(self._read, keys)
        return self._pool.submit(self._read, keys).result

    def _read(self, keys: Sequence[LocalKey]) -> Stack:
        first = self._planes.read(keys[0])
        if len(keys) == 1:
            return _frozen(first)[np.newaxis]
        stack = np.empty((len(keys), *first.shape), first.dtype)
        stack[0] = first
        for i, key in enumerate(keys[1:], 1):
            stack[i] = self._planes.read(key)
        return stack


def _frozen(plane: NDArray[np.generic]) -> NDArray[np.generic]:
    """Make a plane, and what it is a view of, read-only, so that the store need not copy it."""
    view: Any = plane
    while type(view) is np.ndarray:
        view.flags.writeable = False
        view = view.base
    return plane
