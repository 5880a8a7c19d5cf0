"""What a run records: outcomes of tasks, units done, events, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Event", "JournalEntry", "ObjectRecord", "Outcome"]

Status = Literal["done", "failed", "crashed", "skipped", "cancelled"]


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One stored object: path relative to the output's root, size, ``crc32c:<8 hex>``."""

    path: str
    nbytes: int
    checksum: str


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
        Decoded input; stored output; the worker's peak above its idle size.
    outputs : tuple of str
        Outputs committed ("" is the final one).
    objects : int
        Stored objects committed.
    notes : tuple of str
        Things recorded without failing, e.g. planes filled.
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


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A finished unit, (well, output): written atomically after its commit."""

    well: str
    output: str
    fingerprint: str
    attempt: int
    epoch: int
    objects: tuple[ObjectRecord, ...]
    outcome: Outcome
    time: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened during a run, for progress and the log."""

    kind: str
    well: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
