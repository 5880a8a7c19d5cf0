"""Who works for a run: workers that come, go, are too small, or are still waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from hcsflow.errors import PlanRefusedError, UsageError
from hcsflow.execute.closing import asked
from hcsflow.execute.probe import machine_limits
from hcsflow.plan import Plan

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["WorkerCensus"]

LOOK_S = 1.0
"""Least time between two looks; each is one small question to the scheduler."""

WAITING_LOOK_S = 0.1
"""The same while there is no worker: the first one must not work for long if it is too small."""


class WorkerCensus:
    """Counts the workers of a cluster and refuses those that are too small.

    Parameters
    ----------
    client : Client
        Connected to the cluster.
    plan : Plan
        Its worst task must fit into each thread of each worker.
    tell : callable
        Told ``("workers", count=n)`` when their number changes; 0 means that they are waited for.
    needs_nannies : bool
        Whether workers must be such as can be restarted.
    needs_gpus : bool
        Whether a worker with a GPU must be among the first: nobody starts one later.
    """

    def __init__(
        self,
        client: Client,
        plan: Plan,
        tell: Callable[..., None],
        *,
        needs_nannies: bool = False,
        needs_gpus: bool = False,
    ) -> None:
        self._client = client
        self._plan = plan
        self._tell = tell
        self._needs_nannies = needs_nannies
        self._needs_gpus = needs_gpus
        self._known: frozenset[str] = frozenset()
        self._told: int | None = None
        self._looked = float("-inf")

    def memory_per_task(self) -> int:
        """Return what a task may use, in bytes: the plan's resources or the cluster's, the lesser.

        A worker runs as many tasks at a time as it has threads. Where there is no worker yet, the
        plan's: each worker lowers it to its own share.

        Raises
        ------
        PlanRefusedError
            If that cannot hold the worst task.
        UsageError
            If workers must be such as can be restarted, and one is not; or one must have a GPU,
            and none has.
        """
        identity = asked(self._client, self._client.scheduler.identity, n_workers=-1)
        workers = identity["workers"].values()
        if self._needs_nannies and not all(worker.get("nanny") for worker in workers):
            raise UsageError(
                "a worker that no nanny looks after cannot be restarted: --timeout needs nannies",
                hint="start the workers with `dask worker --nanny`",
            )
        if self._needs_gpus and workers and not any(w["resources"].get("GPU") for w in workers):
            raise UsageError(
                "the plan has steps for a GPU, and no worker of this cluster offers one",
                hint="start workers with `dask worker --resources GPU=1`, "
                "or compile the plan for a cluster without GPUs",
            )
        threads = [max(1, int(worker["nthreads"])) for worker in workers]
        limits = [int(worker.get("memory_limit") or 0) for worker in workers]
        shares = [limit // n for limit, n in zip(limits, threads, strict=True) if limit]
        if not workers:
            return self._plan.resources.memory_bytes
        offered = min(shares) if shares else machine_limits()[1] // sum(threads)
        if offered < self._plan.projected_bytes:
            raise PlanRefusedError(
                f"the worst task needs {self._plan.projected_bytes / 2**30:.1f} GiB, a thread of "
                f"this cluster's workers has {offered / 2**30:.1f} GiB",
                hint="use workers with more memory or fewer threads, "
                "or stack fewer planes at a time",
            )
        return min(offered, self._plan.resources.memory_bytes or offered)

    def look(self) -> None:
        """See who is there, at most once a second; a cluster that is gone says nothing.

        Raises
        ------
        PlanRefusedError
            If a worker has come that cannot hold the worst task.
        UsageError
            If one has come that cannot be restarted and must be such.
        """
        now = time.monotonic()
        if now - self._looked < (LOOK_S if self._known else WAITING_LOOK_S):
            return
        self._looked = now
        with suppress(OSError, TimeoutError, RuntimeError):
            found = frozenset(asked(self._client, self._client.nthreads))
            if found - self._known:
                self.memory_per_task()
            self._known = found
            if len(found) != self._told:
                self._told = len(found)
                self._tell("workers", count=len(found))
