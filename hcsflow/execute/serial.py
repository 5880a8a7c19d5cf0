"""Running wells one after the other in this thread: the plainly correct twin of a cluster."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from importlib import import_module
from typing import Any

from hcsflow.errors import FencedError
from hcsflow.graph.build import Task
from hcsflow.graph.plugin import Bundle, held_bundle
from hcsflow.graph.worker import heard_by
from hcsflow.journal import Outcome

__all__ = ["SerialLoop"]

StepEvent = dict[str, Any]


class SerialLoop:
    """Runs wells in this process and thread, in plate order; nothing is started for it.

    Parameters
    ----------
    bundle : Bundle
        What the tasks need.
    hear : callable
        Told what a task emits, while it runs: a generator could hand it on only afterwards.
    task : callable or None
        What runs a segment; None is `hcsflow.graph.tasks.run_segment`.

    Notes
    -----
    A function that hangs hangs the run, and one that kills its process ends it.
    """

    def __init__(
        self, bundle: Bundle, *, hear: Callable[[StepEvent], None], task: Task | None = None
    ) -> None:
        self._bundle = bundle
        self._hear = hear
        # Late: a run on workers has no need of all that a task needs.
        self._task: Task = task or import_module("hcsflow.graph.tasks").run_segment
        self._plan_id = uuid.uuid4().hex[:12]

    def run(
        self, todo: Mapping[str, Sequence[str]], *, retries: int
    ) -> Generator[Outcome, None, None]:
        """Process wells; yield an outcome for each as it is through.

        Parameters
        ----------
        todo : mapping of str to sequence of str
            Names of the segments to run, by well.
        retries : int
            How often a failed well is tried again.

        Raises
        ------
        FencedError
            If a task finds that another run holds the output.
        """
        with held_bundle(self._plan_id, self._bundle):
            for well, segments in todo.items():
                attempt = 0
                outcome = self._run_well(well, segments, attempt)
                while outcome.status == "failed" and attempt < retries:
                    attempt += 1
                    outcome = self._run_well(well, segments, attempt)
                yield outcome

    def _run_well(self, well: str, segments: Sequence[str], attempt: int) -> Outcome:
        upstream: tuple[Any, ...] = ()
        with heard_by(self._hear):
            for segment in segments:
                upstream = (self._task(self._plan_id, segment, well, attempt, *upstream),)
        outcome = upstream[0] if isinstance(upstream[0], Outcome) else upstream[0].outcome
        if outcome.error == FencedError.__name__:
            raise FencedError(outcome.message or "another run holds the output")
        return outcome
