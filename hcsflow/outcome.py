"""What tasks say of the wells that they processed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ["Outcome", "merged"]

Status = Literal["done", "failed", "crashed", "skipped", "cancelled"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a segment task returns. It never raises for a bad well.

    Parameters
    ----------
    well, segment : str
        Well name and segment name.
    status : str
        ``"done"``, ``"failed"`` (the well's fault), ``"crashed"`` (its worker died),
        ``"skipped"`` (already whole) or ``"cancelled"``.
    step : str or None
        Step at which it failed.
    error, message, hint, file, traceback : str or None
        Error class, what it says, what to do, file at fault (relative to the plate), trace.
    seconds : float
        Wall time of the task.
    step_seconds : tuple of (str, float)
        Wall time by step, plus ``"read"`` and ``"write"``.
    bytes_read, bytes_written, peak_bytes : int
        Decoded input; stored output; the worker's peak above its idle size, 0 where unknown.
    step_peaks : tuple of (str, int)
        The same peak by step, plus ``"read"`` and ``"write"``.
    outputs : tuple of str
        Outputs committed ("" is the final one).
    objects : int
        Stored objects committed.
    notes : tuple of str
        Things recorded without failing, e.g. planes filled.
    traffic : tuple of (str, int, int, float)
        By storage backend: operations, bytes given or taken (uncompressed), seconds.
    """

    well: str
    segment: str
    status: Status
    step: str | None = None
    error: str | None = None
    message: str | None = None
    hint: str | None = None
    file: str | None = None
    traceback: str | None = None
    seconds: float = 0.0
    step_seconds: tuple[tuple[str, float], ...] = ()
    bytes_read: int = 0
    bytes_written: int = 0
    peak_bytes: int = 0
    outputs: tuple[str, ...] = ()
    objects: int = 0
    notes: tuple[str, ...] = ()
    worker: str = ""
    traffic: tuple[tuple[str, int, int, float], ...] = ()
    step_peaks: tuple[tuple[str, int], ...] = ()


def merged(outcomes: Sequence[Outcome]) -> Outcome:
    """Return what segments of one well came to together: the last one's fate, sums of the rest.

    Examples
    --------
    >>> first = Outcome("A01", "smooth", "done", seconds=2.0, step_seconds=(("read", 1.0),))
    >>> merged([first, Outcome("A01", "count", "failed", step="count", seconds=1.0)]).seconds
    3.0
    """
    peaks: dict[str, int] = {}
    for step, nbytes in (pair for o in outcomes for pair in o.step_peaks):
        peaks[step] = max(peaks.get(step, 0), nbytes)
    return replace(
        outcomes[-1],
        seconds=sum(o.seconds for o in outcomes),
        step_seconds=_summed(row for o in outcomes for row in o.step_seconds),
        bytes_read=sum(o.bytes_read for o in outcomes),
        bytes_written=sum(o.bytes_written for o in outcomes),
        peak_bytes=max(o.peak_bytes for o in outcomes),
        step_peaks=tuple(peaks.items()),
        outputs=tuple(dict.fromkeys(name for o in outcomes for name in o.outputs)),
        objects=sum(o.objects for o in outcomes),
        notes=tuple(dict.fromkeys(note for o in outcomes for note in o.notes)),
        traffic=_summed(row for o in outcomes for row in o.traffic),
    )


def _summed(rows: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Add up rows of a name and numbers by name, in the order of first appearance."""
    sums: dict[str, list[Any]] = {}
    for name, *numbers in rows:
        known = sums.setdefault(name, [0] * len(numbers))
        sums[name] = [a + b for a, b in zip(known, numbers, strict=True)]
    return tuple((name, *numbers) for name, numbers in sums.items())
