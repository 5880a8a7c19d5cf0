"""What is recorded of wells whose own task cannot say it: killed, late, lost."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

from distributed import KilledWorker

from hcsflow.journal import Outcome

__all__ = ["error_outcome", "late_outcome", "lost_outcome", "outlived_outcome"]


def error_outcome(
    well: str, segment: str, steps: Sequence[str], error: BaseException, trace: Any
) -> Outcome:
    """Return what is recorded of a task that was killed, or that raised, though none does."""
    if isinstance(error, KilledWorker):
        at = f"step {steps[0]}" if len(steps) == 1 else f"one of the steps {', '.join(steps)}"
        return Outcome(
            well,
            segment,
            "crashed",
            step=steps[0] if len(steps) == 1 else None,
            error="KilledWorker",
            message=f"its worker died {error.allowed_failures + 1} times, at {at}",
            hint="it may need more memory than a worker has: use fewer workers; if it is not "
            "memory, see the crash itself with --cluster serial on this well alone",
        )
    text = "".join(traceback.format_exception(type(error), error, trace))
    return _failure(well, segment, type(error).__name__, str(error), text)


def late_outcome(well: str, segment: str, step: str | None, limit_s: float) -> Outcome:
    """Return what is recorded of a well whose segment took longer than its limit, in seconds."""
    return Outcome(
        well,
        segment,
        "failed",
        step=step,
        error="TimeoutError",
        message=f"took longer than the {limit_s:g} s that it is allowed",
        hint="give it more with --timeout, or look at what the step waits for",
        seconds=limit_s,
    )


def outlived_outcome(well: str, segment: str, starts: int, step: str | None) -> Outcome:
    """Return what is recorded of a well that so many workers began and none finished."""
    return Outcome(
        well,
        segment,
        "crashed",
        step=step,
        error="WorkerEnded",
        message=f"{starts} workers ended, one after another, before it was done",
        hint="where workers have a lifetime, raise walltime (or lifetime) in the cluster's "
        "profile, or cut the well's steps into more tasks: keep one, or use --granularity step",
    )


def lost_outcome(well: str, segment: str, error: BaseException) -> Outcome:
    """Return what is recorded of a well whose cluster went away."""
    return Outcome(
        well,
        segment,
        "crashed",
        error="SchedulerLost",
        message=f"the cluster is gone: {error}",
        hint="run the same command again: what is done is skipped",
    )


def _failure(
    well: str, segment: str, error: str, message: str, trace: str | None = None
) -> Outcome:
    return Outcome(well, segment, "failed", error=error, message=message, traceback=trace)
