"""Submitting wells and turning what comes back into outcomes, until none is left."""

from __future__ import annotations

import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dask import annotate
from distributed import Client, Future, KilledWorker

from hcsflow.errors import FencedError
from hcsflow.execute.closing import asked
from hcsflow.execute.dasksettings import MAX_DEATHS
from hcsflow.execute.overtime import Overtime
from hcsflow.execute.verdicts import (
    error_outcome,
    late_outcome,
    lost_outcome,
    outlived_outcome,
)
from hcsflow.execute.window import changes_worker, wells_at_once
from hcsflow.graph.build import Key, Task, build_graph, final_keys, task_resources
from hcsflow.graph.results import outcome_of
from hcsflow.graph.worker import topic_of
from hcsflow.journal import Outcome
from hcsflow.plan import Plan

__all__ = ["WellLoop"]

POLL_S = 0.5
RESTART_S = 30.0
GATHER_S = 0.02
"""How long the news of other wells are waited for, so that results are fetched together."""

FETCH_S = 2.0
"""How long all else waits for one result: a function may keep its worker from answering."""

RESULT_TIMEOUT_S = 60.0
NOT_DONE = ("pending", "lost")

MAX_STARTS = MAX_DEATHS + 2
"""Times that a segment may begin; Dask itself counts deaths, but not workers that retire."""

StepEvent = dict[str, Any]


@dataclass(slots=True)
class _Submission:
    """A well on its way: which attempt, its tasks' keys, and its last segment's future.

    ``verdict`` is what became of it where that was decided here, not by its task.
    """

    well: str
    attempt: int
    keys: frozenset[Key]
    future: Future
    verdict: Outcome | None = None
    waited_s: float = 0.0
    starts: Counter[str] = field(default_factory=Counter)


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
    look : callable
        Called about once a second while wells are open; what it raises ends the run.

    Notes
    -----
    Worker death is mended by Dask, up to the scheduler's ``allowed-failures`` per task. Where
    several wells run out of that, an innocent one may have shared its worker with a killer: each
    is tried once more, alone.
    """

    def __init__(
        self,
        client: Client,
        plan: Plan,
        *,
        plan_id: str,
        label: str,
        task: Task | None = None,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._plan = plan
        self._plan_id = plan_id
        self._label = label
        self._task = task
        self._look = look
        self._open: dict[str, _Submission] = {}
        self._news: queue.SimpleQueue[_Submission | StepEvent] = queue.SimpleQueue()
        self._overtime: Overtime | None = None
        self._steps: dict[str, str] = {}
        self._todo: Mapping[str, Sequence[str]] = {}
        self._waiting: deque[str] = deque()

    def run(
        self, todo: Mapping[str, Sequence[str]], *, retries: int, timeout_s: float | None
    ) -> Generator[Outcome | StepEvent, None, None]:
        """Process wells; yield an outcome for each, and what workers tell meanwhile.

        ``todo`` names the segments to run, by well.

        Closing the generator cancels what is still to do; functions at work are not interrupted.

        Raises
        ------
        FencedError
            If a task finds that another run holds the output.
        """
        crashed: list[Outcome] = []
        self._todo, self._waiting = todo, deque(todo)
        self._overtime = Overtime(self._client, timeout_s) if timeout_s is not None else None
        with self._listening():
            try:
                self._submit(self._next_wells(), attempt=0)
                yield from self._drain(retries, crashed)
                gone = ConnectionError("nobody is there to give this well to")
                for well in self._waiting:
                    yield lost_outcome(well, self._plan.segments[-1].name, gone)
                yield from self._second_chances(crashed, retries)
            finally:
                self._cancel_open()

    def _second_chances(
        self, crashed: list[Outcome], retries: int
    ) -> Iterator[Outcome | StepEvent]:
        if len(crashed) < 2:
            yield from crashed
            return
        for outcome in crashed:
            again: list[Outcome] = []
            self._submit([outcome.well], attempt=retries + 1)
            yield from self._drain(0, again)
            yield from again

    def _drain(self, retries: int, crashed: list[Outcome]) -> Iterator[Outcome | StepEvent]:
        """Yield until nothing is open; wells whose worker kept dying go to ``crashed``."""
        while self._open:
            news = self._next_news()
            self._look()
            self._restart_late()
            results, before = self._results(news), len(self._open)
            for item in news:
                if isinstance(item, dict):
                    self._note(item)
                    yield item
                    continue
                outcome = self._settled(item, results, retries)
                if outcome is not None and outcome.error == KilledWorker.__name__:
                    crashed.append(outcome)
                elif outcome is not None:
                    yield outcome
            if self._waiting and len(self._open) < before and self._is_up:
                self._submit(self._next_wells(), attempt=0)

    def _settled(
        self, item: _Submission, results: Mapping[str, Any], retries: int
    ) -> Outcome | None:
        """Return what became of a well; None where it is not over: still at work, or once more."""
        if self._open.get(item.well) is not item:
            return None
        if item.future.status in NOT_DONE and item.verdict is None:
            self._watch(item)
            return None
        outcome = self._outcome(item, results)
        if outcome is None:
            self._news.put(item)
            return None
        del self._open[item.well]
        item.future.release()  # or Dask would do the well again if this worker died later
        if outcome.status in ("failed", "crashed") and item.attempt < retries and self._is_up:
            self._submit([item.well], attempt=item.attempt + 1)
            return None
        return outcome

    @property
    def _is_up(self) -> bool:
        return bool(self._client.status == "running")

    def _next_news(self) -> list[_Submission | StepEvent]:
        """Wait for news; return all there are."""
        found: list[_Submission | StepEvent] = []
        with suppress(queue.Empty):
            found.append(self._news.get(timeout=POLL_S))
            if len(self._open) > 1:
                time.sleep(GATHER_S)
            while True:
                found.append(self._news.get_nowait())
        return found

    def _results(self, news: Iterable[_Submission | StepEvent]) -> dict[str, Any]:
        """Fetch results of several wells at once: one by one takes longer than a small well."""
        futures = {
            item.well: item.future
            for item in news
            if isinstance(item, _Submission) and item.future.status == "finished"
            if not item.waited_s
        }

        async def fetch() -> dict[str, Any]:
            found: dict[str, Any] = await self._client.gather(futures, asynchronous=True)
            return found

        found: dict[str, Any] = {}
        if len(futures) > 1:
            with suppress(KilledWorker, CancelledError, TimeoutError, OSError):
                found = self._client.sync(fetch, callback_timeout=FETCH_S)
        return found

    def _next_wells(self) -> list[str]:
        """Return the wells to submit now: all, except where their results would pile up."""
        room = len(self._waiting)
        if changes_worker(self._plan):
            found: dict[str, Any] = {}
            with suppress(OSError, TimeoutError, RuntimeError):
                found = asked(self._client, self._client.scheduler.identity, n_workers=-1)
            limit = wells_at_once(self._plan, found.get("workers", {}).values())
            room = min(room, max(0, limit - len(self._open)))
        return [self._waiting.popleft() for _ in range(room)]

    def _submit(self, wells: Sequence[str], *, attempt: int) -> None:
        if not wells:
            return
        todo = {well: self._todo[well] for well in wells}
        graph = build_graph(
            self._plan_id, self._plan, todo, attempt=attempt, label=self._label, task=self._task
        )
        keys = final_keys(self._plan, todo, attempt=attempt, label=self._label)
        place = {well: -number for number, well in enumerate(self._plan.plate.wells)}
        needs = {segment.name: task_resources(segment) for segment in self._plan.segments}
        with annotate(priority=lambda key: place[key[2]], resources=lambda key: needs[str(key[0])]):
            futures = self._client.get(graph, list(keys.values()), sync=False)
        chains: dict[str | int, list[Key]] = {}
        for key in graph:
            chains.setdefault(key[2], []).append(key)
        for well, future in zip(keys, futures, strict=True):
            submission = _Submission(well, attempt, frozenset(chains[well]), future)
            self._open[well] = submission
            if self._overtime is not None:
                self._overtime.forget(well)
            self._watch(submission)

    def _watch(self, item: _Submission) -> None:
        """Have the future put into the news once it is done; again if its result got lost."""
        item.future.add_done_callback(lambda _: self._news.put(item))

    def _outcome(self, item: _Submission, results: Mapping[str, Any]) -> Outcome | None:
        """Return what became of a well; None while the worker that knows it does not answer."""
        future, segment = item.future, self._plan.segments[-1].name
        if item.verdict is not None:
            return item.verdict
        if future.status == "error":
            steps = self._last_steps(item.well)
            return error_outcome(item.well, segment, steps, future.exception(), future.traceback())
        try:
            known = results.get(item.well)
            outcome = outcome_of(known or future.result(timeout=FETCH_S))
        except KilledWorker as error:
            return error_outcome(item.well, segment, self._last_steps(item.well), error, None)
        except (CancelledError, TimeoutError, OSError) as error:
            item.waited_s += FETCH_S
            if isinstance(error, TimeoutError) and item.waited_s < RESULT_TIMEOUT_S:
                return None
            return lost_outcome(item.well, segment, error)
        if outcome.error == FencedError.__name__:
            raise FencedError(outcome.message or "another run holds the output")
        return outcome

    def _last_steps(self, well: str) -> list[str]:
        """Return the step that a well was last heard from, or else all that it may have been at."""
        if well in self._steps:
            return [self._steps[well]]
        segments = [s for s in self._plan.segments if s.name in self._todo[well]]
        return [step.name for s in segments for step in self._plan.steps[s.first : s.last + 1]]

    def _note(self, news: StepEvent) -> None:
        """Remember where each well is: a worker that is killed cannot say it."""
        if news["kind"] in ("well_started", "segment_started"):
            segment = news["data"].get("segment", "")
            if self._overtime is not None:
                self._overtime.hear(news["well"], segment)
            self._count_start(news["well"], segment)
        if news["kind"] == "step":
            self._steps[news["well"]] = news["data"]["step"]

    def _count_start(self, well: str, segment: str) -> None:
        """Give a well up that workers begin again and again: they end before it does."""
        item = self._open.get(well)
        if item is None or item.verdict is not None:
            return
        item.starts[segment] += 1
        if item.starts[segment] > MAX_STARTS:
            with suppress(OSError, TimeoutError):
                self._give_up(
                    item, outlived_outcome(well, segment, MAX_STARTS, self._steps.get(well))
                )

    def _give_up(self, item: _Submission, verdict: Outcome) -> None:
        """Settle a well that is still at work."""
        item.verdict = verdict
        self._news.put(item)
        asked(self._client, self._client.cancel, [item.future], force=True)

    def _restart_late(self) -> None:
        """Restart the workers whose task has been at work for too long."""
        if self._overtime is None:
            return
        waiting = {well: item.keys for well, item in self._open.items() if item.verdict is None}
        with suppress(OSError, TimeoutError):  # a cluster that is gone is seen by its futures
            for well, worker in self._overtime.late(waiting).items():
                item = self._open[well]
                segment, limit_s = self._plan.segments[-1].name, self._overtime.limit_s
                self._give_up(item, late_outcome(well, segment, self._steps.get(well), limit_s))
                restart = partial(self._client.restart_workers, timeout=RESTART_S)
                asked(
                    self._client, restart, [worker], raise_for_error=False, timeout_s=2 * RESTART_S
                )

    def _cancel_open(self) -> None:
        futures = [item.future for item in self._open.values()]
        self._open.clear()
        if futures:
            with suppress(OSError, TimeoutError, RuntimeError):
                asked(self._client, self._client.cancel, futures, force=True)

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
