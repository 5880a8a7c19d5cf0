"""What a run is asked for and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hcsflow.errors import UsageError
from hcsflow.execute.resume import SegmentShare
from hcsflow.journal import Outcome

__all__ = ["RunOptions", "RunResult"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a plan is run; what it computes does not depend on any of this.

    Parameters
    ----------
    cluster : str or distributed.Client
        ``"serial"``, ``"threads"``, ``"local"``, ``"cuda"``, ``"slurm"`` and its like, a profile's
        file, a scheduler's address, or a client.
    workers : int or None
        None is min(cores, wells, RAM ÷ projected peak).
    retries : int
        How often a failed well is tried again.
    timeout_s : float or None
        Longest that one segment of a well may take, in seconds. Its worker is restarted then, and
        the well has failed; needs workers that are processes.
    fail_fast : bool
        Stop at the first well that fails.
    fresh : bool
        Remove what an earlier run left, instead of resuming.
    performance_report : Path or None
        File for Dask's own report of the run, as HTML.
    detached : bool
        Whether no terminal belongs to the run; told by ``hcsflow status``.
    task : callable or None
        Runs one segment of one well; None is `hcsflow.graph.tasks.run_segment`.
    """

    cluster: Any = "local"
    workers: int | None = None
    retries: int = 0
    timeout_s: float | None = None
    fail_fast: bool = False
    fresh: bool = False
    performance_report: Path | None = None
    detached: bool = False
    task: Callable[..., Outcome] | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers must be at least 1, got {self.workers}")
        if self.retries < 0:
            raise UsageError(f"retries must not be negative, got {self.retries}")
        if self.timeout_s is not None and not self.timeout_s > 0:  # nor NaN
            raise UsageError(f"the timeout must be over 0 seconds, got {self.timeout_s}")


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of each well of a run.

    Parameters
    ----------
    outcomes : tuple of Outcome
        One per well asked for, in plate order: done, failed, crashed, skipped or cancelled.
    output : Path
        The output folder.
    seconds : float
        Wall time.
    segments : tuple of SegmentShare
        Of how many wells each segment's work was kept, and of how many it was to do.
    """

    outcomes: tuple[Outcome, ...]
    output: Path
    seconds: float
    segments: tuple[SegmentShare, ...] = ()
    counts: dict[str, int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        counts: dict[str, int] = {}
        for outcome in self.outcomes:
            counts[outcome.status] = counts.get(outcome.status, 0) + 1
        object.__setattr__(self, "counts", counts)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """Outcomes of wells that failed or crashed."""
        return tuple(o for o in self.outcomes if o.status in ("failed", "crashed"))
