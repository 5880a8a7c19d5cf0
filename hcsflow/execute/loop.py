"""Submitting wells and turning what comes back into outcomes, until none is left."""

from __future__ import annotations

import queue
import time
import traceback
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from dask import annotate
from distributed import Client, Future, KilledWorker

from hcsflow.errors import FencedError
from hcsflow.graph.build import Key, Task, build_graph, final_keys
from hcsflow.graph.worker import topic_of
from hcsflow.journal import Outcome
from hcsflow.plan import Plan

__all__ = ["WellLoop"]

POLL_S = 0.5
WATCH_S = 1.0
RESULT_TIMEOUT_S = 60.0
NOT_DONE = ("pending", "lost")

StepEvent = dict[str, Any]


@dataclass(slots=True)
class _Submission:
    """A well on its way: which attempt, its tasks' keys, and its last segment's future."""

    well: str
    attempt: int
    keys: frozenset[Key]
    future: Future
    is_timed_out: bool = False


class WellLoop:
    """Runs wells on a cluster.

    Parameters
    ----------
    client : Client
        Connected to the cluster; the plan has been shipped.
    plan : Plan
        What is done.
    plan_id : str
        Under which the workers know it.
    label : str
        Stands for the plate in the keys.
    task : callable or None
        What runs a segment; None is `hcsflow.graph.tasks.run_segment`.

    Notes
    -----
    Worker death is mended by Dask, up to the scheduler's ``allowed-failures`` per task. Where
    several wells run out of that, an innocent one may have shared its worker with a killer: each
    is tried once more, alone.
    """

    def __init__(
        self, client: Client, plan: Plan, *, plan_id: str, label: str, task: Task | None = None
    ) -> None:
        self._client = client
        self._plan = plan
        self._plan_id = plan_id
        self._label = label
        self._task = task
        self._open: dict[str, _Submission] = {}
        self._news: queue.SimpleQueue[_Submission | StepEvent] = queue.SimpleQueue()
        self._running_since: dict[Key, float] = {}
        self._watched = 0.0

    def run(
        self, wells: Sequence[str], *, retries: int, timeout_s: float | None
    ) -> Generator[Outcome | StepEvent, None, None]:
        """Process wells; yield an outcome for each, and what workers tell meanwhile.

        Closing the generator cancels what is still to do; functions at work are not interrupted.

        Raises
        ------
        FencedError
            If a task finds that another run holds the output.
        """
        crashed: list[Outcome] = []
        with self._listening():
            try:
                self._submit(wells, attempt=0)
                yield from self._drain(retries, timeout_s, crashed)
                yield from self._second_chances(crashed, retries, timeout_s)
            finally:
                self._cancel_open()

    def _second_chances(
        self, crashed: list[Outcome], retries: int, timeout_s: float | None
    ) -> Iterator[Outcome | StepEvent]:
        if len(crashed) < 2:
            yield from crashed
            return
        for outcome in crashed:
            again: list[Outcome] = []
            self._submit([outcome.well], attempt=retries + 1)
            yield from self._drain(0, timeout_s, again)
            yield from again

    def _drain(
        self, retries: int, timeout_s: float | None, crashed: list[Outcome]
    ) -> Iterator[Outcome | StepEvent]:
        """Yield until nothing is open; wells whose worker kept dying go to ``crashed``."""
        while self._open:
            news = self._next_news()
            if timeout_s is not None:
                self._restart_late(timeout_s)
            if isinstance(news, dict):
                yield news
            if not isinstance(news, _Submission) or self._open.get(news.well) is not news:
                continue
            if news.future.status in NOT_DONE and not news.is_timed_out:
                self._watch(news)
                continue
            del self._open[news.well]
            outcome = self._outcome(news)
            news.future.release()  # or Dask would do the well again if this worker died later
            if outcome.status in ("failed", "crashed") and news.attempt < retries and self._is_up:
                self._submit([news.well], attempt=news.attempt + 1)
            elif outcome.error == KilledWorker.__name__:
                crashed.append(outcome)
            else:
                yield outcome

    @property
    def _is_up(self) -> bool:
        return bool(self._client.status == "running")

    def _next_news(self) -> _Submission | StepEvent | None:
        try:
            return self._news.get(timeout=POLL_S)
        except queue.Empty:
            return None

    def _submit(self, wells: Iterable[str], *, attempt: int) -> None:
        wells = list(wells)
        graph = build_graph(
            self._plan_id, self._plan, wells, attempt=attempt, label=self._label, task=self._task
        )
        keys = final_keys(self._plan, wells, attempt=attempt, label=self._label)
        place = {well: -number for number, well in enumerate(self._plan.plate.wells)}
        with annotate(priority=lambda key: place[key[2]]):
            futures = self._client.get(graph, list(keys.values()), sync=False)
        for well, future in zip(keys, futures, strict=True):
            chain = frozenset(key for key in graph if key[2] == well)
            submission = _Submission(well, attempt, chain, future)
            self._open[well] = submission
            self._watch(submission)

    def _watch(self, item: _Submission) -> None:
        """Have the future put into the news once it is done; again if its result got lost."""
        item.future.add_done_callback(lambda _: self._news.put(item))

    def _outcome(self, item: _Submission) -> Outcome:
        future, segment = item.future, self._plan.segments[-1].name
        if item.is_timed_out:
            return _failure(item.well, segment, "TimeoutError", "took longer than the timeout")
        if future.status == "error":
            return _error_outcome(item.well, segment, future.exception(), future.traceback())
        try:
            outcome: Outcome = future.result(timeout=RESULT_TIMEOUT_S)
        except KilledWorker as error:
            return _error_outcome(item.well, segment, error, None)
        except (CancelledError, TimeoutError, OSError) as error:
            return _lost_outcome(item.well, segment, error)
        if outcome.error == FencedError.__name__:
            raise FencedError(outcome.message or "another run holds the output")
        return outcome

    def _restart_late(self, timeout_s: float) -> None:
        """Restart the workers whose task has been running for too long."""
        now = time.monotonic()
        if now - self._watched < WATCH_S:
            return
        self._watched = now
        running = self._executing()
        self._running_since = {key: self._running_since.get(key, now) for key in running}
        for item in list(self._open.values()):
            since = [self._running_since.get(key, now) for key in item.keys]
            if not item.is_timed_out and now - min(since) > timeout_s:
                item.is_timed_out = True
                workers = [running[key] for key in item.keys if key in running]
                self._client.cancel([item.future], force=True)
                self._client.restart_workers(workers, timeout=30, raise_for_error=False)
                self._news.put(item)

    def _executing(self) -> dict[Key, str]:
        """Return which worker executes which task at this moment."""
        stacks = self._client.call_stack() or {}
        return {key: worker for worker, found in stacks.items() for key in found}

    def _cancel_open(self) -> None:
        futures = [item.future for item in self._open.values()]
        self._open.clear()
        if futures:
            with suppress(OSError, TimeoutError, RuntimeError):
                self._client.cancel(futures, force=True)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Hear what workers tell by `hcsflow.graph.worker.emit`."""

        def hear(event: tuple[float, StepEvent]) -> None:
            self._news.put(event[1])

        topic = topic_of(self._plan_id)
        self._client.subscribe_topic(topic, hear)
        try:
            yield
        finally:
            with suppress(OSError, ValueError, RuntimeError):
                self._client.unsubscribe_topic(topic)


def _error_outcome(well: str, segment: str, error: BaseException, trace: Any) -> Outcome:
    """Return what is recorded of a task that was killed, or that raised, though none does."""
    if isinstance(error, KilledWorker):
        message = f"its worker died {error.allowed_failures + 1} times while on it"
        hint = "it may need more memory than a worker has: use fewer workers"
        return Outcome(well, segment, "crashed", error="KilledWorker", message=message, hint=hint)
    text = "".join(traceback.format_exception(type(error), error, trace))
    return _failure(well, segment, type(error).__name__, str(error), text)


def _lost_outcome(well: str, segment: str, error: BaseException) -> Outcome:
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
