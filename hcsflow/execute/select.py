"""Which cluster a run gets: decided from profile, machine and request; nothing is started."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from hcsflow.compiler.budget import with_encoders
from hcsflow.errors import PlanRefusedError, UsageError
from hcsflow.execute.clusterplan import ClusterPlan, ClusterRequest
from hcsflow.execute.cudaplan import cuda_arguments, cuda_devices
from hcsflow.execute.localplan import local_folder, security_arguments
from hcsflow.execute.options import RunOptions
from hcsflow.execute.probe import Probe, probe_machine
from hcsflow.execute.profiles import (
    AddressProfile,
    CudaProfile,
    LocalProfile,
    Profile,
    QueueProfile,
    find_profile,
)
from hcsflow.execute.queueplan import check_queue, max_jobs, queue_arguments, worker_bytes
from hcsflow.plan import Plan, Resources

__all__ = [
    "IDLE_BYTES",
    "cluster_for",
    "default_workers",
    "fitted_resources",
    "largest_resources",
    "select_cluster",
    "with_fitting_encoders",
]

IDLE_BYTES = 256 << 20
"""Allowance for a worker's interpreter and libraries (measured 160–210 MB)."""

MAX_ENCODERS = 8
"""More encode faster than a task makes planes and one thread writes them: 5 GB/s."""


def default_workers(*, cores: int, wells: int, memory_bytes: int, projected_bytes: int) -> int:
    """Return min(cores, wells, RAM ÷ projected peak), at least 1.

    Examples
    --------
    >>> default_workers(cores=8, wells=3, memory_bytes=64 << 30, projected_bytes=1 << 30)
    3
    """
    by_memory = memory_bytes // (projected_bytes + IDLE_BYTES)
    return max(1, min(cores, wells, by_memory))


def select_cluster(profile: Profile, probe: Probe, request: ClusterRequest) -> ClusterPlan:
    """Decide on a cluster; nothing is started or asked.

    Parameters
    ----------
    profile : Profile
        What the user wants.
    probe : Probe
        What the machine has.
    request : ClusterRequest
        What the run needs.

    Raises
    ------
    UsageError
        If the machine lacks what the profile needs: a GPU, a submit command, a package.
    PlanRefusedError
        If a worker's memory cannot hold the worst task.
    """
    if isinstance(profile, AddressProfile):
        security = profile.security or profile.address.startswith(("tls://", "wss://"))
        return ClusterPlan("address", target=profile.address, security=security)
    if isinstance(profile, QueueProfile):
        check_queue(profile, probe)
        return _queue_offer(profile, request)
    if isinstance(profile, CudaProfile):
        return _cuda_plan(profile, probe, request)
    return _local_plan(profile, probe, request)


def _local_plan(profile: LocalProfile, probe: Probe, request: ClusterRequest) -> ClusterPlan:
    memory_bytes = _local_memory(profile, probe)
    if profile.kind == "serial":
        _check_memory(memory_bytes, request.projected_bytes, 1)
        return ClusterPlan("serial", workers=1, memory_bytes=memory_bytes)
    workers = _local_workers(profile, probe, request)
    share = memory_bytes // workers
    common = _on_loopback(workers)
    if profile.kind == "threads":
        # Through sockets: Dask's in-process workers would listen on every interface.
        kwargs = common | {"processes": False, "protocol": "tcp://", "memory_limit": 0}
        _check_memory(memory_bytes, request.projected_bytes * workers, workers)
    else:
        kwargs = common | {"processes": True, "memory_limit": share}
        _check_memory(share, request.projected_bytes, workers)
    return ClusterPlan(
        profile.kind,
        kwargs | security_arguments(profile, probe),
        workers=workers,
        memory_bytes=share,
        threads_per_worker=profile.threads_per_worker,
        security=profile.security,
        place=local_folder(profile.local_directory),
    )


def _local_workers(profile: LocalProfile, probe: Probe, request: ClusterRequest) -> int:
    wanted = request.workers or profile.workers
    if wanted:
        return min(wanted, max(request.wells, 1))
    return default_workers(
        cores=max(1, probe.cores // profile.threads_per_worker),
        wells=request.wells,
        memory_bytes=_local_memory(profile, probe),
        projected_bytes=request.projected_bytes,
    )


def _local_memory(profile: LocalProfile | CudaProfile, probe: Probe) -> int:
    """Return the memory of all workers together; a container may have less than is asked for."""
    return min(profile.memory or probe.memory_bytes, probe.memory_bytes)


def _on_loopback(workers: int) -> dict[str, Any]:
    """Return arguments of a cluster on this machine that nobody else can reach."""
    return {
        "n_workers": workers,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": None,
        # Given a port of its own choice: two runs on one machine must not meet on 8787.
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "silence_logs": logging.CRITICAL,
    }


def _cuda_plan(profile: CudaProfile, probe: Probe, request: ClusterRequest) -> ClusterPlan:
    devices = cuda_devices(profile, probe)
    wanted = request.workers or profile.workers
    if wanted and wanted > len(devices):
        raise UsageError(
            f"{wanted} workers are asked for, there are {len(devices)} GPUs: a worker has one",
            hint=f"use --workers {len(devices)} or fewer",
        )
    workers = min(wanted or len(devices), max(request.wells, 1))
    place = local_folder(profile.local_directory)
    secured = security_arguments(profile, probe)
    share = _local_memory(profile, probe) // workers
    _check_memory(share, request.projected_bytes, workers)
    return ClusterPlan(
        "cuda",
        _on_loopback(workers)
        | cuda_arguments(profile, devices)
        | {"local_directory": place, "memory_limit": share}
        | secured,
        workers=workers,
        memory_bytes=share,
        threads_per_worker=profile.threads_per_worker,
        gpus=workers,
        security=profile.security,
        place=place,
    )


def _queue_offer(profile: QueueProfile, request: ClusterRequest) -> ClusterPlan:
    """Return what a batch system is asked for, whether or not it can be from here."""
    share = worker_bytes(profile)
    _check_memory(share, request.projected_bytes, profile.workers_per_job)
    most = max_jobs(profile, wells=request.wells, workers=request.workers)
    return ClusterPlan(
        profile.kind,
        queue_arguments(profile),
        workers=most * profile.workers_per_job,
        memory_bytes=share,
        threads_per_worker=profile.threads_per_worker,
        gpus=most * profile.gpus_per_job,
        jobs=(min(profile.minimum_jobs, most), most),
        security=profile.security,
        place=profile.shared_directory,
    )


def _check_memory(share: int, projected_bytes: int, workers: int) -> None:
    need = projected_bytes + IDLE_BYTES
    if share < need:
        raise PlanRefusedError(
            f"the worst task needs {need / 2**30:.1f} GiB, each of {workers} workers has "
            f"{share / 2**30:.1f} GiB",
            hint="use fewer workers, or stack fewer planes at a time",
        )


def _check_idle(profile: Profile, memory_bytes: int) -> None:
    """Refuse what does not even hold a worker that does nothing.

    Raises
    ------
    PlanRefusedError
        If it is less.
    """
    if memory_bytes <= IDLE_BYTES:
        asked = not isinstance(profile, AddressProfile) and profile.memory
        raise PlanRefusedError(
            f"a worker has {memory_bytes / 1e6:.0f} MB; its process takes about "
            f"{IDLE_BYTES / 1e6:.0f} MB before it has any task",
            hint=f"raise memory in the cluster's profile {profile.name!r}"
            if asked
            else "take a machine or a container with more memory",
        )


def largest_resources(profile: Profile, probe: Probe, workers: int | None) -> Resources:
    """Return what a single worker could have at most; a plan is compiled against that.

    Parameters
    ----------
    profile, probe : Profile, Probe
        Cluster and machine; of a batch system the machine need not know.
    workers : int or None
        Asked for.

    Raises
    ------
    PlanRefusedError
        If the memory does not even hold an idle worker.
    """
    if isinstance(profile, QueueProfile):
        _check_idle(profile, worker_bytes(profile))
        offer = _queue_offer(profile, ClusterRequest(wells=sys.maxsize, workers=workers))
        return _resources(offer, offer.memory_bytes - IDLE_BYTES)
    if isinstance(profile, CudaProfile):
        _check_idle(profile, _local_memory(profile, probe))
        alone = select_cluster(replace(profile, workers=1), probe, ClusterRequest(wells=1))
        gpus = workers or profile.workers or len(cuda_devices(profile, probe))
        return replace(_resources(alone, alone.memory_bytes - IDLE_BYTES), workers=gpus, gpus=gpus)
    local = _known(profile)
    _check_idle(local, _local_memory(local, probe))
    cores = 1 if local.kind == "serial" else max(1, probe.cores // local.threads_per_worker)
    return Resources(
        workers=workers or local.workers or cores,
        memory_bytes=_local_memory(local, probe) - IDLE_BYTES,
        threads_per_worker=local.threads_per_worker,
    )


def fitted_resources(profile: Profile, probe: Probe, request: ClusterRequest) -> Resources:
    """Return what a cluster gives to a plan: how many workers, the memory of each.

    Raises
    ------
    UsageError
        If more workers are asked for than fit, or as `select_cluster`.
    PlanRefusedError
        As `select_cluster`.
    """
    if isinstance(profile, QueueProfile):
        offer = _queue_offer(profile, request)
    elif isinstance(profile, CudaProfile):
        offer = select_cluster(profile, probe, request)
    else:
        local = _known(profile)
        _check_asked(local, probe, request)
        # As many as were asked for, also where there are fewer wells just now.
        many = replace(request, wells=max(request.workers or 0, request.wells))
        offer = select_cluster(local, probe, many)
    encoders = _encoders(profile, probe, offer, wells=request.wells)
    devices = probe.gpus if isinstance(profile, CudaProfile) else ()
    return replace(
        _resources(offer, offer.memory_bytes),
        encoders=encoders,
        device_memory_bytes=min((gpu.memory_bytes for gpu in devices), default=0),
    )


def _encoders(profile: Profile, probe: Probe, offer: ClusterPlan, wells: int) -> int:
    """Return how many cores each worker has for encoding: its own, and those that are idle.

    Only of workers on this machine it is known what they share.
    """
    if offer.kind == "serial":
        return 1
    cores = 0
    if isinstance(profile, (LocalProfile, CudaProfile)):
        cores = probe.cores // max(1, min(offer.workers or 1, wells))
    return min(max(cores, offer.threads_per_worker), MAX_ENCODERS)


def _known(profile: LocalProfile | AddressProfile) -> LocalProfile:
    """Return the profile to plan for; a scheduler elsewhere is taken to be as this machine."""
    if isinstance(profile, LocalProfile):
        return profile
    return LocalProfile(kind="local", threads_per_worker=profile.threads_per_worker)


def _check_asked(profile: LocalProfile, probe: Probe, request: ClusterRequest) -> None:
    """Refuse more workers than the memory holds."""
    asked, usable = request.workers or profile.workers, _local_memory(profile, probe)
    if not asked or profile.kind == "serial":
        return
    peak = request.projected_bytes
    fit = default_workers(cores=asked, wells=asked, memory_bytes=usable, projected_bytes=peak)
    if asked > fit:
        raise UsageError(
            f"{asked} workers of {peak / 1e9:.2f} GB each do not fit into {usable / 1e9:.1f} GB",
            hint=f"use --workers {fit} or fewer",
        )


def _resources(plan: ClusterPlan, memory_bytes: int) -> Resources:
    return Resources(
        workers=plan.workers or 1,
        memory_bytes=memory_bytes,
        threads_per_worker=plan.threads_per_worker,
        gpus=plan.gpus,
    )


def with_fitting_encoders(plan: Plan, options: RunOptions) -> Plan:
    """Return a plan with no more encoders than the cluster has room for that it is run on.

    They were chosen for the workers that it was compiled for: one thread has none beside it, and
    more workers leave fewer cores idle.
    """
    resources = plan.resources
    workers = options.workers or plan.config.num_workers or resources.workers
    most = resources.encoders * max(resources.workers, 1) // max(workers, 1)
    if options.cluster == "serial":
        most = 1
    fitting = min(resources.encoders, max(most, 1))
    if fitting == resources.encoders:
        return plan
    return with_encoders(plan, fitting)


def cluster_for(plan: Plan, options: RunOptions, wells: int) -> ClusterPlan:
    """Decide where a plan runs.

    Parameters
    ----------
    plan : Plan
        What to do.
    options : RunOptions
        How to run; ``cluster`` and ``workers`` matter here.
    wells : int
        Wells to process; there are never more workers.

    Raises
    ------
    UsageError
        If the cluster is unknown, lacks something on this machine, or cannot keep time limits.
    PlanRefusedError
        If it offers too little.
    """
    if not isinstance(options.cluster, (str, Path)):
        return _client_plan(options.cluster)
    profile = find_profile(options.cluster)
    probe = probe_machine(gpus=profile.kind == "cuda")
    if isinstance(profile, LocalProfile) and plan.resources.workers:
        cores = plan.resources.workers * profile.threads_per_worker
        probe = replace(probe, cores=min(probe.cores, cores))
    wanted = options.workers or plan.config.num_workers
    request = ClusterRequest(wells, plan.projected_bytes, wanted)
    cluster = select_cluster(profile, probe, request)
    _check_offer(plan, options, cluster)
    return cluster


def _client_plan(client: Any) -> ClusterPlan:
    if not hasattr(client, "register_plugin"):
        raise UsageError(
            "a cluster is a name, a profile's file, an address or a dask Client, "
            f"got {type(client).__name__}"
        )
    return ClusterPlan("client", target=client)


def _check_offer(plan: Plan, options: RunOptions, cluster: ClusterPlan) -> None:
    """Refuse a cluster that offers less than the plan needs."""
    if options.timeout_s is not None and not cluster.has_processes:
        raise UsageError(
            "a thread cannot be stopped: --timeout needs worker processes",
            hint="use the cluster 'local'",
        )
    if plan.resources.gpus and cluster.target is None and not cluster.gpus:
        raise PlanRefusedError(
            f"the plan needs {plan.resources.gpus} GPUs, the cluster {options.cluster!r} has none",
            hint="compile it for CPUs, or use --cluster cuda or a profile with gpus_per_job",
        )
