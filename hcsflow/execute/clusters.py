"""Starting, reaching and closing clusters; `hcsflow.execute.select` decides which.

Dask is imported late here: starting the forkserver must not wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from hcsflow.errors import UsageError
from hcsflow.execute.closing import close_within
from hcsflow.execute.clusterplan import ClusterPlan
from hcsflow.execute.cudaplan import INSTALL
from hcsflow.execute.dasksettings import cluster_settings
from hcsflow.execute.forkserver import check_main_module, prepare_forkserver, start_method
from hcsflow.execute.jobqueue import job_queue_cluster, security_of
from hcsflow.execute.jobs import SUBMIT_TIMEOUT_S
from hcsflow.execute.profiles import TlsFiles
from hcsflow.execute.quiet import interrupts_deferred
from hcsflow.execute.tempfolder import run_folder

__all__ = ["open_cluster"]

REACH_TIMEOUT_S = 10.0

CUDA_SETTINGS = {
    "distributed.worker.multiprocessing-method": "spawn",  # a fork cannot use a GPU
    # dask-cuda's host tier is the whole of a worker's memory: only this moves it to disk in time.
    "distributed.worker.memory.spill": 0.5,
}


@contextmanager
def open_cluster(
    plan: ClusterPlan, folder: Path | None = None, *, timeout_s: float = SUBMIT_TIMEOUT_S
) -> Iterator[tuple[Any, Any]]:
    """Start or reach a cluster; yield (client, cluster or None) and always close again.

    What was found running is left running; what was started here is gone afterwards, also after
    an error or Ctrl-C, within `CLOSE_TIMEOUT_S` or a little more.

    Parameters
    ----------
    plan : ClusterPlan
        From `select_cluster`; not ``"serial"``, which has no workers.
    folder : Path or None
        Folder that workers on other machines see too: for their logs and certificates. None is
        the current one.
    timeout_s : float
        Longest that a batch system may take over submitting a job, in seconds.

    Raises
    ------
    UsageError
        If no scheduler answers, or a library does not load.
    HcsflowError
        If the batch system refuses a job.
    """
    from distributed import Client

    if plan.kind == "client":
        yield plan.target, None
        return
    if plan.kind == "address":
        client = _reach(plan)
        try:
            yield client, None
        finally:
            close_within(client)
        return
    with _settings(plan), _started(plan, folder or Path.cwd(), timeout_s) as cluster:
        client = Client(cluster, set_as_default=False)
        try:
            yield client, cluster
        finally:
            close_within(client)


def _reach(plan: ClusterPlan) -> Any:
    """Return a client of a scheduler that is already there.

    Raises
    ------
    UsageError
        If none answers.
    """
    from distributed import Client

    security = None
    if isinstance(plan.security, TlsFiles):
        security = security_of(plan.security)
    elif plan.security:
        security = _security_of_dask(plan)
    try:
        return Client(plan.target, set_as_default=False, timeout=REACH_TIMEOUT_S, security=security)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no scheduler answers at {plan.target}: {error}",
            hint="is `dask scheduler` running there, and is the port open?",
        ) from error


def _security_of_dask(plan: ClusterPlan) -> Any:
    """Return the certificates that Dask's own configuration names."""
    from distributed import Security

    security = Security()
    if security.tls_ca_file is None or security.tls_client_cert is None:
        raise UsageError(
            f"{plan.target} asks for certificates, and none are known",
            hint="use a profile's file with kind: address, address, and security: "
            "{ca_file, cert, key}; or set distributed.comm.tls in Dask's configuration",
        )
    return security


@contextmanager
def _settings(plan: ClusterPlan) -> Iterator[None]:
    """Dask's settings of a cluster; a worker takes them along when it is restarted."""
    import dask

    values = cluster_settings(plan.threads_per_worker)
    values["distributed.worker.multiprocessing-method"] = start_method()
    if plan.kind == "cuda":
        values |= CUDA_SETTINGS
    place = None if plan.is_queue else plan.place
    with (
        run_folder(place or dask.config.get("temporary-directory", None)) as folder,
        dask.config.set(values | {"temporary-directory": folder}),
    ):
        yield


@contextmanager
def _started(plan: ClusterPlan, folder: Path, timeout_s: float) -> Iterator[Any]:
    """Start a cluster that is the run's own, and end it with all its workers."""
    if plan.is_queue:
        with job_queue_cluster(plan, folder, timeout_s=timeout_s) as jobs:
            yield jobs
        return
    if plan.kind in ("local", "cuda"):
        check_main_module()
    if plan.kind == "local":
        prepare_forkserver()
    cluster = None
    try:
        start = _cluster_class(plan)
        with _driver_faults(plan), interrupts_deferred():  # one half started cannot be closed
            cluster = start(**plan.kwargs)
        yield cluster
    finally:
        if cluster is not None:
            pids = _worker_pids(cluster)
            close_within(cluster)
            _end_processes(pids | _worker_pids(cluster))


@contextmanager
def _driver_faults(plan: ClusterPlan) -> Iterator[None]:
    """Turn what driver and dask-cuda say at the start into an error of the user's machine."""
    faults: tuple[type[Exception], ...] = ()
    if plan.kind == "cuda":
        faults = (import_module("pynvml").NVMLError, RuntimeError, ValueError, OSError)
    try:
        yield
    except faults as error:
        raise UsageError(
            f"--cluster cuda: the GPU workers do not start: {error}",
            hint="does nvidia-smi show the GPUs? `hcsflow doctor --cluster cuda` says more",
        ) from error


def _cluster_class(plan: ClusterPlan) -> Any:
    """Return Dask's class for clusters of one machine.

    Raises
    ------
    UsageError
        If dask-cuda does not load.
    """
    if plan.kind != "cuda":
        return import_module("distributed").LocalCluster
    try:
        return import_module("dask_cuda").LocalCUDACluster
    except ImportError as error:
        raise UsageError(
            f"--cluster cuda: dask-cuda does not load: {error}", hint=INSTALL
        ) from error


def _worker_pids(cluster: Any) -> set[int]:
    found = {getattr(worker, "pid", None) for worker in cluster.workers.values()}
    return {pid for pid in found if isinstance(pid, int) and pid != os.getpid()}


def _end_processes(pids: set[int]) -> None:
    """Kill workers that outlived their cluster."""
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if any("multiprocessing" in word for word in process.cmdline()):
                process.kill()
        except psutil.Error:
            continue
