"""From a cluster plan to the wells' outcomes: in this thread, or on workers that have the plan."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcsflow.errors import HcsflowError, UsageError
from hcsflow.execute.census import WorkerCensus
from hcsflow.execute.closing import asked
from hcsflow.execute.clusterplan import ClusterPlan
from hcsflow.execute.clusters import open_cluster
from hcsflow.execute.dashboard import is_remote, offer_dashboard, tunnel_command
from hcsflow.execute.events import EventLog
from hcsflow.execute.loop import WellLoop
from hcsflow.execute.options import RunOptions
from hcsflow.execute.performance import reporting
from hcsflow.execute.probe import machine_limits
from hcsflow.execute.quiet import interrupts_deferred
from hcsflow.execute.serial import SerialLoop
from hcsflow.graph.families import register_families
from hcsflow.graph.plugin import Bundle, PlanPlugin
from hcsflow.journal import ControlFolder, Outcome

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["outcomes_of"]


def outcomes_of(
    cluster: ClusterPlan,
    bundle: Bundle,
    options: RunOptions,
    todo: Mapping[str, Sequence[str]],
    events: EventLog,
) -> Generator[Outcome, None, None]:
    """Run wells where the cluster plan says; yield an outcome for each.

    Closing the generator cancels what is still to do and closes what was started.

    Parameters
    ----------
    cluster : ClusterPlan
        Where.
    bundle : Bundle
        What tasks need.
    options : RunOptions
        How.
    todo : mapping of str to sequence of str
        Names of the segments to run, by well, in the order in which wells shall be begun.
    events : EventLog
        Told what the tasks and the cluster say meanwhile.
    """
    if cluster.kind == "serial":
        offered = machine_limits()[1]
        bundle = replace(bundle, memory_bytes=min(bundle.memory_bytes or offered, offered))
        loop = SerialLoop(bundle, hear=events.tell_message, task=options.task)
        yield from loop.run(todo, retries=options.retries)
    else:
        yield from _on_workers(cluster, bundle, options, todo, events)


def _on_workers(
    cluster: ClusterPlan,
    bundle: Bundle,
    options: RunOptions,
    todo: Mapping[str, Sequence[str]],
    events: EventLog,
) -> Generator[Outcome, None, None]:
    plan = bundle.plan
    plan_id = uuid.uuid4().hex[:12]
    # On a scheduler that others use too, two runs must not share keys.
    label = plan.plate.name if cluster.kwargs else f"{plan.plate.name} ({plan_id})"
    with _closed_in_peace() as stack:
        client, own = stack.enter_context(
            open_cluster(cluster, ControlFolder(Path(bundle.output)).root)
        )
        has_limit = options.timeout_s is not None
        names = {name for names in todo.values() for name in names}
        has_gpu_steps = any(plan.segment(name).needs_gpu for name in names)
        census = WorkerCensus(
            client,
            plan,
            events.tell,
            needs_nannies=has_limit,
            needs_gpus=has_gpu_steps and own is None,
        )
        bundle = replace(bundle, memory_bytes=census.memory_per_task())
        plugin = PlanPlugin(plan_id, bundle)
        stack.enter_context(_shipped(client, plugin, is_shared=own is None))
        stack.enter_context(reporting(client, options.performance_report))
        link = offer_dashboard(own.scheduler) if own else client.dashboard_link
        tunnel = (
            tunnel_command(link) if cluster.is_queue or options.detached or is_remote() else None
        )
        events.tell("cluster_started", dashboard=link, tunnel=tunnel)
        refusals = _Refusals(own, events)

        def look() -> None:
            census.look()
            refusals.tell()

        loop = WellLoop(client, plan, plan_id=plan_id, label=label, task=options.task, look=look)
        news = loop.run(todo, retries=options.retries, timeout_s=options.timeout_s)
        for item in stack.enter_context(closing(news)):
            if isinstance(item, Outcome):
                yield item
            else:
                events.tell_message(item)


class _Refusals:
    """Tells of jobs that the batch system did not take, each time it says something new."""

    def __init__(self, own: Any, events: EventLog) -> None:
        self._said: list[str] = getattr(getattr(own, "job_cls", None), "refusals", [])
        self._events = events
        self._told = ""

    def tell(self) -> None:
        if self._said and self._said[-1] != self._told:
            self._told = self._said[-1]
            self._events.tell("job_refused", message=self._told)


@contextmanager
def _closed_in_peace() -> Iterator[ExitStack]:
    """Give a stack that a second Ctrl-C does not stop from closing; that takes bounded time."""
    stack = ExitStack()
    try:
        yield stack
    finally:
        with interrupts_deferred():
            stack.close()


@contextmanager
def _shipped(client: Client, plugin: PlanPlugin, *, is_shared: bool) -> Iterator[None]:
    """Give all workers the plan, and take it back at the end."""
    register_families()
    try:
        client.register_plugin(plugin)
    except ImportError as error:
        raise UsageError(
            f"a worker of the cluster cannot load the plan: {error}",
            hint="install hcsflow and the step functions' packages where the workers run",
        ) from error
    except OSError as error:
        raise HcsflowError(
            f"the cluster is gone: {error}",
            hint="run the same command again: what is done is skipped",
        ) from error
    try:
        yield
    finally:
        if is_shared:
            with suppress(OSError, TimeoutError, RuntimeError, ValueError):
                asked(client, client.unregister_worker_plugin, plugin.name)
