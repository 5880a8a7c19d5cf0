"""What happens during a run: told to whoever listens, and kept in ``log.jsonl``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hcsflow.journal import ControlFolder, Event, Outcome, append_log

__all__ = ["EventLog", "Listener"]

Listener = Callable[[Event], None]


class EventLog:
    """Passes events on and logs them.

    Parameters
    ----------
    control : ControlFolder
        Of the output.
    listener : callable, optional
        Called with every event, in the thread that runs the plan.
    """

    def __init__(self, control: ControlFolder, listener: Listener | None) -> None:
        self._control = control
        self._listener = listener

    def tell(self, kind: str, well: str | None = None, **data: object) -> None:
        """Report that something happened."""
        event = Event(kind, well, dict(data))
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        append_log(self._control, {"time": time, "kind": kind, "well": well, **data})
        if self._listener is not None:
            self._listener(event)

    def tell_message(self, message: dict[str, Any]) -> None:
        """Report what a task said by `hcsflow.graph.worker.emit`."""
        self.tell(message["kind"], message["well"], **message["data"])

    def tell_outcome(self, outcome: Outcome) -> None:
        """Report what became of a well."""
        if outcome.status == "done":
            steps = dict(outcome.step_seconds)
            self.tell("well_done", outcome.well, seconds=outcome.seconds, steps=steps)
        elif outcome.status == "skipped":
            self.tell("well_skipped", outcome.well)
        else:
            self.tell(
                "well_failed",
                outcome.well,
                status=outcome.status,
                step=outcome.step,
                error=outcome.error,
                message=outcome.message,
                file=outcome.file,
            )
