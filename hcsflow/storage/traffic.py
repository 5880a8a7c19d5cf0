"""What goes through storage: counters that are always on, and a log of the last operations.

Each thread counts in cells of its own, so that no lock is taken and no count is lost; the cells
are summed when somebody asks. A thread's number is given to another only when it has ended, which
then counts on in its cells.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from logging import DEBUG
from threading import get_ident
from time import perf_counter
from typing import Any, NamedTuple

from hcsflow.arrays.families import nbytes_of
from hcsflow.storage.paths import StrPath

__all__ = ["Operation", "Totals", "Traffic", "TrafficMeter", "weigh"]

_log = logging.getLogger(__name__)
_is_logged = _log.isEnabledFor

LOG_LENGTH = 1000
MAX_PARTS = 256

_Key = tuple[int, str, Any]  # the thread's number, operation, backend
_Cell = list[Any]  # operations, errors, nbytes, seconds: written by one thread at a time


class Operation(NamedTuple):
    """One operation that took place.

    ``time`` is in seconds since 1970; ``nbytes`` is uncompressed, 0 where it failed; ``error`` is
    the name of the error's type, None where it succeeded.
    """

    time: float
    backend: str
    name: str
    path: str
    nbytes: int
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Calls, how many of them failed, bytes given or taken (uncompressed), seconds.

    Examples
    --------
    >>> Totals(2, 0, 64, 0.5) + Totals(1, 1, 0, 0.25)
    Totals(operations=3, errors=1, nbytes=64, seconds=0.75)
    """

    operations: int = 0
    errors: int = 0
    nbytes: int = 0
    seconds: float = 0.0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.operations + other.operations,
            self.errors + other.errors,
            self.nbytes + other.nbytes,
            self.seconds + other.seconds,
        )


class Traffic(Mapping[str, Totals]):
    """Totals by backend, and in each by operation; a value that does not change.

    Parameters
    ----------
    by_operation : mapping
        Totals by backend and operation.

    Examples
    --------
    >>> traffic = Traffic({"memory": {"save": Totals(2, 0, 64, 0.5), "load": Totals(1)}})
    >>> traffic["memory"].operations, traffic.by_operation["memory"]["save"].nbytes
    (3, 64)
    >>> traffic
    <Traffic: 1 backend, 3 operations, 0 errors, 64 bytes>
    >>> print(traffic)
    backend  operation  operations  errors  bytes  seconds
    memory   load                1       0      0    0.000
    memory   save                2       0     64    0.500
    """

    def __init__(self, by_operation: Mapping[str, Mapping[str, Totals]] | None = None) -> None:
        given = {} if by_operation is None else by_operation
        self.by_operation: Mapping[str, Mapping[str, Totals]] = {
            backend: dict(sorted(given[backend].items())) for backend in sorted(given)
        }

    def __getitem__(self, backend: str) -> Totals:
        return sum(self.by_operation[backend].values(), Totals())

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_operation)

    def __len__(self) -> int:
        return len(self.by_operation)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Traffic) and self.by_operation == other.by_operation

    __hash__ = None  # type: ignore[assignment]  # as of any mapping

    def __repr__(self) -> str:
        total = sum((self[backend] for backend in self), Totals())
        backends, operations = (
            _counted(len(self), "backend"),
            _counted(total.operations, "operation"),
        )
        failed, moved = _counted(total.errors, "error"), _counted(total.nbytes, "byte")
        return f"<Traffic: {backends}, {operations}, {failed}, {moved}>"

    def __str__(self) -> str:
        """Return a table: one line for each operation of each backend."""
        rows: list[tuple[str, ...]] = [
            ("backend", "operation", "operations", "errors", "bytes", "seconds")
        ]
        for backend, found in self.by_operation.items():
            for name, t in found.items():
                counts = (t.operations, t.errors, t.nbytes)
                rows.append((backend, name, *(f"{n:,}" for n in counts), f"{t.seconds:,.3f}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(_aligned(row, widths)) for row in rows)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _aligned(row: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    """Give two names, then numbers, in columns."""
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if place < 2 else cell.rjust(width)


class TrafficMeter:
    """Counts and logs operations; any number of threads may do so at once.

    Parameters
    ----------
    log_length : int
        How many of the last operations are kept.

    Examples
    --------
    >>> meter = TrafficMeter()
    >>> meter.count("memory", "save", "/a", perf_counter(), 64)
    >>> meter.traffic()["memory"].nbytes
    64
    >>> meter.log()[-1].path
    '/a'
    """

    def __init__(self, log_length: int = LOG_LENGTH) -> None:
        self._cells: dict[_Key, _Cell] = {}
        self._log: deque[tuple[Any, ...]] = deque(maxlen=log_length)
        self._append = self._log.append
        self._epoch = time.time() - perf_counter()

    def count(
        self,
        backend: Any,
        operation: str,
        path: StrPath,
        start: float,
        nbytes: int,
        error: BaseException | None = None,
    ) -> None:
        """Count an operation that has just ended.

        Parameters
        ----------
        backend : str or enum
            Name of the backend.
        operation, path : str
            What was done, and to what.
        start : float
            `time.perf_counter` at its beginning.
        nbytes : int
            Bytes given or taken; 0 where it failed.
        error : exception, optional
            Why it failed.
        """
        seconds = perf_counter() - start
        try:
            cell = self._cells[get_ident(), operation, backend]
        except KeyError:
            cell = self._cells[get_ident(), operation, backend] = [0, 0, 0, 0.0]
        cell[0] += 1
        cell[2] += nbytes
        cell[3] += seconds
        failure = None
        if error is not None:
            cell[1] += 1
            failure = type(error).__name__
        self._append((start, backend, operation, path, nbytes, seconds, failure))
        if _is_logged(DEBUG):
            outcome = f"{nbytes} bytes" if failure is None else failure
            _log.debug("%s %s %s: %s, %.6f s", backend, operation, path, outcome, seconds)

    def traffic(self) -> Traffic:
        """Return the totals so far."""
        totals: dict[str, dict[str, Totals]] = {}
        for (_, operation, backend), cell in list(self._cells.items()):
            found = totals.setdefault(str(backend), {})
            found[operation] = found.get(operation, Totals()) + Totals(*cell)
        return Traffic(totals)

    def log(self) -> list[Operation]:
        """Return the last operations, oldest first."""
        return [
            Operation(self._epoch + start, str(backend), name, str(path), nbytes, seconds, error)
            for start, backend, name, path, nbytes, seconds, error in self._snapshot()
        ]

    def _snapshot(self) -> list[tuple[Any, ...]]:
        while True:
            try:
                return list(self._log)
            except RuntimeError:  # another thread appended meanwhile
                continue


def weigh(value: Any) -> int:
    """Return an object's bytes at a cost that does not grow with it.

    Arrays, bytes and text count exactly, tables without their strings' contents, and of
    containers the first 256 parts. What raises when it is asked for its size counts 0.

    Examples
    --------
    >>> import numpy as np
    >>> weigh({"plane": np.zeros((4, 4), np.uint16), "name": "A01"})
    35
    """
    total, waiting = 0, [value]
    with suppress(Exception):  # a property of it may raise anything; it is stored already
        for _ in range(MAX_PARTS):
            if not waiting:
                break
            part = waiting.pop()
            if isinstance(part, Mapping):
                waiting.extend(_first(part.values()))
            elif isinstance(part, (list, tuple, set, frozenset)):
                waiting.extend(_first(part))
            else:
                total += _weigh_one(part)
    return total


def _first(parts: Iterable[Any]) -> list[Any]:
    return [part for part, _ in zip(parts, range(MAX_PARTS), strict=False)]


def _weigh_one(value: Any) -> int:
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    nbytes = nbytes_of(value)
    if nbytes is None:
        nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    if hasattr(value, "columns") and hasattr(value, "memory_usage"):
        return int(value.memory_usage(deep=False).sum())
    return sys.getsizeof(value)
