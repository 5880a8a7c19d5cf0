"""Where tasks run: threads, local processes, or a scheduler that is already there.

`select_cluster` decides and does nothing; `open_cluster` starts what was decided. This file alone
imports `distributed` late, because starting the forkserver must not wait for it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hcsflow.errors import PlanRefusedError, UsageError, nearest
from hcsflow.execute.quiet import ctrl_c_withheld, environment, interrupts_deferred
from hcsflow.execute.tempfolder import run_folder
from hcsflow.graph.process import THREAD_VARIABLES

__all__ = [
    "IDLE_BYTES",
    "KINDS",
    "ClusterPlan",
    "default_workers",
    "machine_limits",
    "open_cluster",
    "prestart",
    "select_cluster",
]

KINDS = ("local", "threads")
"""Names of clusters that hcsflow starts itself."""

IDLE_BYTES = 256 << 20
"""Allowance for a worker's interpreter and libraries (measured 160–210 MB)."""

USABLE_SHARE = 0.8
"""Share of the memory that a run plans with; the rest is the client's and the system's."""

PRELOAD = (
    "distributed.nanny",
    "distributed.worker",
    "hcsflow.graph.tasks",
    "hcsflow.functions",
    "cv2",
    "numcodecs.blosc",
    "pyarrow.parquet",
)
"""Imported once by the forkserver; nothing here may touch a GPU."""

THREAD_LIMITS = dict.fromkeys(THREAD_VARIABLES, "1")
NO_LEAK_WARNING = "ignore:resource_tracker:UserWarning"
"""Workers that are killed leave semaphores; Python's tracker removes them and need not say so."""

CLOSE_TIMEOUT_S = 10.0
REACH_TIMEOUT_S = 10.0
MAX_DEATHS = 3


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Which cluster, and what it is started with.

    Parameters
    ----------
    kind : "local", "threads", "address" or "client"
        Processes or threads of this machine, a scheduler elsewhere, a client given.
    kwargs : mapping
        Arguments of `distributed.LocalCluster`; empty for the last two.
    target : str or Client
        Address or client.
    """

    kind: Literal["local", "threads", "address", "client"]
    kwargs: dict[str, Any] = field(default_factory=dict)
    target: Any = None

    @property
    def has_processes(self) -> bool:
        """Whether a worker is a process of its own."""
        return self.kind != "threads"


def machine_limits() -> tuple[int, int]:
    """Return the cores and the bytes of memory that a run may use here.

    Dask knows a container's limits (cgroups), the affinity and resource limits.
    """
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    return CPU_COUNT, int(MEMORY_LIMIT * USABLE_SHARE)


def default_workers(*, cores: int, wells: int, memory_bytes: int, projected_bytes: int) -> int:
    """Return min(cores, wells, RAM ÷ projected peak), at least 1.

    Examples
    --------
    >>> default_workers(cores=8, wells=3, memory_bytes=64 << 30, projected_bytes=1 << 30)
    3
    """
    by_memory = memory_bytes // (projected_bytes + IDLE_BYTES)
    return max(1, min(cores, wells, by_memory))


def select_cluster(
    spec: Any, *, workers: int, memory_bytes: int, projected_bytes: int = 0
) -> ClusterPlan:
    """Decide on a cluster; nothing is started or asked.

    Parameters
    ----------
    spec : str or distributed.Client
        ``"local"``, ``"threads"``, ``"tcp://…"``, ``"tls://…"`` or a client.
    workers : int
        Workers to start.
    memory_bytes, projected_bytes : int
        Memory that all may use together; peak of the worst task above an idle worker.

    Raises
    ------
    UsageError
        If the name means nothing.
    PlanRefusedError
        If a worker's share of the memory cannot hold the worst task.
    """
    if not isinstance(spec, str):
        return _client_plan(spec)
    if spec.startswith(("tcp://", "tls://", "ws://", "wss://")):
        return ClusterPlan("address", target=spec)
    share = memory_bytes // workers
    common: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": None,
        # Given a port of its own choice: two runs on one machine must not meet on 8787.
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "silence_logs": logging.CRITICAL,
    }
    if spec == "threads":
        # Through sockets: Dask's in-process workers would listen on every interface.
        own = {"processes": False, "protocol": "tcp://", "memory_limit": 0}
        _check_memory(memory_bytes, projected_bytes * workers, workers)
        return ClusterPlan("threads", common | own)
    if spec == "local":
        _check_memory(share, projected_bytes, workers)
        return ClusterPlan("local", common | {"processes": True, "memory_limit": share})
    raise UsageError(f"no cluster is called {spec!r}", hint=_cluster_hint(spec))


def _client_plan(spec: Any) -> ClusterPlan:
    if not hasattr(spec, "register_plugin"):
        raise UsageError(
            f"a cluster is a name, an address or a dask Client, got {type(spec).__name__}"
        )
    return ClusterPlan("client", target=spec)


def _cluster_hint(spec: str) -> str:
    close = nearest(spec, KINDS)
    if close is not None:
        return f"did you mean {close!r}?"
    return "use local, threads, or a scheduler's address such as tcp://host:8786"


def _check_memory(share: int, projected_bytes: int, workers: int) -> None:
    need = projected_bytes + IDLE_BYTES
    if share < need:
        raise PlanRefusedError(
            f"the worst task needs {need / 2**30:.1f} GiB, each of {workers} workers has "
            f"{share / 2**30:.1f} GiB",
            hint="use fewer workers, or stack fewer planes at a time",
        )


def prestart(*modules: str) -> None:
    """Start the forkserver of the local workers in the background; returns at once.

    Call it first thing, before any thread is started: the workers' libraries are then imported
    while the plan is compiled, and each worker is a fork of that process.

    Parameters
    ----------
    *modules : str
        Imported besides `PRELOAD`, e.g. what the main script imports.
    """
    if _start_method() != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker

    multiprocessing.get_context("forkserver").set_forkserver_preload([*PRELOAD, *modules])
    quiet = f"{os.environ.get('PYTHONWARNINGS', '')},{NO_LEAK_WARNING}".lstrip(",")
    with environment(THREAD_LIMITS | {"PYTHONWARNINGS": quiet}):
        resource_tracker.ensure_running()
        with ctrl_c_withheld():
            forkserver.ensure_running()


def _start_method() -> str:
    """Forkserver where there is one; spawn elsewhere."""
    methods = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in methods and sys.platform == "linux" else "spawn"


@contextmanager
def open_cluster(plan: ClusterPlan) -> Iterator[tuple[Any, Any]]:
    """Start or reach a cluster; yield (client, cluster or None) and always close again.

    What was found running is left running; what was started here is gone afterwards, also after
    an error or Ctrl-C, within `CLOSE_TIMEOUT_S` or a little more.
    """
    from distributed import Client

    if plan.kind == "client":
        yield plan.target, None
        return
    if plan.kind == "address":
        client = _reach(plan.target)
        try:
            yield client, None
        finally:
            _close(client)
        return
    with _settings(), _local_cluster(plan) as cluster:
        client = Client(cluster, set_as_default=False)
        try:
            yield client, cluster
        finally:
            _close(client)


def _reach(address: str) -> Any:
    """Return a client of a scheduler that is already there.

    Raises
    ------
    UsageError
        If none answers.
    """
    from distributed import Client

    try:
        return Client(address, set_as_default=False, timeout=REACH_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no scheduler answers at {address}: {error}",
            hint="is `dask scheduler` running there, and is the port open?",
        ) from error


@contextmanager
def _local_cluster(plan: ClusterPlan) -> Iterator[Any]:
    from distributed import LocalCluster

    if plan.kind == "local":
        _check_main_module()
        _prepare_forkserver()
    cluster = None
    try:
        with interrupts_deferred():  # one half started could not be closed
            cluster = LocalCluster(**plan.kwargs)
        yield cluster
    finally:
        if cluster is not None:
            pids = _worker_pids(cluster)
            _close(cluster)
            _end_processes(pids | _worker_pids(cluster))


def _check_main_module() -> None:
    """Refuse a script without a guard, which every worker would run again from its top."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is None or getattr(main, "__spec__", None) is not None or not path.endswith(".py"):
        return
    try:
        text = Path(path).read_text("utf-8", errors="replace")
    except OSError:
        return
    if "__name__" not in text:
        raise UsageError(
            f"{path}: worker processes import this script, and it would run itself again",
            hint="put what it does under `if __name__ == '__main__':`, or use cluster='threads'",
        )


def _prepare_forkserver() -> None:
    """Start the forkserver unless it runs, and keep Dask from importing all it knows instead."""
    if _start_method() != "forkserver":
        return
    prestart()
    from distributed import utils

    utils._forkserver_preload_set = True  # noqa: SLF001 - Dask has no setting for its preload list


@contextmanager
def _settings() -> Iterator[None]:
    """Dask settings of a local cluster; a worker takes them along when it is restarted."""
    import dask

    limits: dict[str, Any] = {name: int(value) for name, value in THREAD_LIMITS.items()}
    values = {
        "distributed.worker.multiprocessing-method": _start_method(),
        # glibc's trim threshold costs 1.5 × the CPU on planes; the plugin sets the allocator.
        "distributed.nanny.pre-spawn-environ": {"MALLOC_TRIM_THRESHOLD_": None} | limits,
        "distributed.scheduler.allowed-failures": MAX_DEATHS,
        "distributed.scheduler.worker-saturation": 1.0,
        # Most of a worker's memory is its task's; Dask holds outcomes only.
        "distributed.worker.memory.target": 0.2,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95,
        "distributed.admin.tick.limit": "60s",
        # How long the result of a well is asked for from a worker that has died meanwhile.
        "distributed.comm.timeouts.connect": "10s",
    }
    place = dask.config.get("temporary-directory", None)
    with (
        run_folder(place) as folder,
        dask.config.set(values | {"temporary-directory": folder}),
    ):
        yield


def _worker_pids(cluster: Any) -> set[int]:
    found = {getattr(worker, "pid", None) for worker in cluster.workers.values()}
    return {pid for pid in found if isinstance(pid, int) and pid != os.getpid()}


def _close(closable: Any) -> None:
    """Close a client or cluster; a hang is Dask's known race after a worker's death, so bounded."""
    try:
        closable.close(timeout=CLOSE_TIMEOUT_S)
    except (TimeoutError, OSError, RuntimeError) as error:
        logging.getLogger(__name__).debug("closing %s: %s", type(closable).__name__, error)


def _end_processes(pids: set[int]) -> None:
    """Kill workers that outlived their cluster."""
    import psutil

    for pid in pids:
        try:
            process = psutil.Process(pid)
            if any("multiprocessing" in word for word in process.cmdline()):
                process.kill()
        except psutil.Error:
            continue
