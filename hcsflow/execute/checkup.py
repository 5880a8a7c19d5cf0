"""Trying a cluster out: one task on one worker, in bounded time."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hcsflow.errors import HcsflowError
from hcsflow.execute.clusterplan import ClusterPlan, ClusterRequest
from hcsflow.execute.clusters import open_cluster
from hcsflow.execute.probe import probe_machine
from hcsflow.execute.profiles import find_profile
from hcsflow.execute.select import select_cluster

__all__ = ["Check", "check_cluster"]

VERSIONS = ("hcsflow", "dask", "distributed", "numpy", "cloudpickle", "zarr", "numcodecs")
"""Distributions that should be the same for client and worker."""

SAME_SERIES = ("hcsflow", "dask", "distributed", "cloudpickle")
"""Those without which client and worker may not understand each other."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Parameters
    ----------
    name, detail : str
        What was looked at, and what was found.
    ok : bool or None
        None is worth knowing, but no fault.
    hint : str or None
        What to do about it.
    """

    name: str
    ok: bool | None
    detail: str
    hint: str | None = None


def check_cluster(spec: str | Path, folder: Path, *, timeout_s: float = 120) -> Iterator[Check]:
    """Start a cluster, run one task on one worker, and say what works.

    Parameters
    ----------
    spec : str or Path
        As ``--cluster``.
    folder : Path
        Folder that workers should see too; nothing is left in it.
    timeout_s : float
        Longest to wait for a job, for a worker, and then for its answer, in seconds.

    Yields
    ------
    Check
        In the order in which things are tried; the first that fails may be the last.
    """
    try:
        profile = find_profile(spec)
        probe = probe_machine(gpus=profile.kind == "cuda")
        plan = select_cluster(profile, probe, ClusterRequest(wells=1))
    except HcsflowError as error:
        yield Check("cluster", False, error.message, error.hint)
        return
    yield Check("cluster", True, str(plan))
    if plan.kwargs and not plan.security:
        advice = "security: true in a profile, where other people work on this machine"
        yield Check("encryption", None, "none between client and workers", advice)
    if plan.kind == "serial":
        return
    if plan.jobs is not None:
        plan = replace(plan, jobs=(1, 1))
    try:
        with tempfile.TemporaryDirectory(prefix="hcsflow-doctor-", dir=folder) as place:
            yield from _tried(plan, Path(place), timeout_s)
    except (HcsflowError, OSError) as error:
        hint = error.hint if isinstance(error, HcsflowError) else None
        yield Check("start", False, str(error).partition("\n")[0], hint)


def _tried(plan: ClusterPlan, place: Path, timeout_s: float) -> Iterator[Check]:
    with open_cluster(plan, place, timeout_s=timeout_s) as (client, _):
        yield Check("scheduler", True, str(client.scheduler.address))
        try:
            client.wait_for_workers(1, timeout=timeout_s)
        except TimeoutError:
            yield Check("worker", False, f"none came within {timeout_s:g} s", _why_none(place))
            return
        worker = next(iter(client.scheduler_info(n_workers=-1)["workers"].values()))
        ours, theirs = place / "from-client", place / "from-worker"
        token = uuid.uuid4().hex
        ours.write_text(token)
        task = client.submit(
            _observer(), str(ours), str(theirs), VERSIONS, min(20, timeout_s / 2), pure=False
        )
        try:
            error = task.exception(timeout=timeout_s)
        except TimeoutError:
            yield Check("worker", False, f"it did not answer within {timeout_s:g} s")
            return
        if error is not None:
            yield Check("worker", False, f"its task failed: {type(error).__name__}: {error}")
            return
        seen = task.result(timeout=timeout_s)
        yield from _judged(plan, worker, seen)
        yield _shared(place, token, seen, theirs)


def _why_none(place: Path) -> str:
    """Return the end of a job's log, or where to look."""
    for log in sorted(place.glob("jobs/*")):
        lines = log.read_text(errors="replace").splitlines()
        if lines:
            return f"a job's log ends with: {lines[-1]}"
    return (
        "its job may wait in the queue (squeue, qstat, bjobs); or the node cannot reach the "
        "scheduler: name the interface between them in the profile"
    )


def _observer() -> Callable[..., dict[str, Any]]:
    """Return the task. A function inside a function travels by value: hcsflow may be absent."""

    def look_around(
        readable: str, writable: str, names: tuple[str, ...], gpu_timeout_s: float
    ) -> dict[str, Any]:
        versions: dict[str, str | None] = {"Python": platform.python_version()}
        for name in names:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                versions[name] = None
        seen: dict[str, Any] = {
            "host": socket.gethostname(),
            "executable": sys.executable,
            "versions": versions,
            "hcsflow": importlib.util.find_spec("hcsflow") is not None,
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "gpus": [],
        }
        if shutil.which("nvidia-smi"):
            words = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
            try:
                told = subprocess.run(  # noqa: S603 - fixed words
                    words, capture_output=True, text=True, timeout=gpu_timeout_s, check=False
                )
                seen["gpus"] = told.stdout.splitlines() if told.returncode == 0 else []
            except (OSError, subprocess.TimeoutExpired) as error:
                seen["gpu_fault"] = f"nvidia-smi does not answer: {error}"
        try:
            seen["read"] = Path(readable).read_text()
            Path(writable).write_text(seen["read"])
        except OSError as error:
            seen["fault"] = str(error)
        return seen

    return look_around


def _judged(
    plan: ClusterPlan, worker: Mapping[str, Any], seen: Mapping[str, Any]
) -> Iterator[Check]:
    """Say what the worker is like."""
    yield Check("worker", True, f"on {seen['host']}, {seen['executable']}")
    nthreads, limit = int(worker["nthreads"]), int(worker["memory_limit"] or 0)
    yield Check(
        "memory of a worker",
        True if limit else None,
        f"{limit / 2**30:.1f} GiB for {nthreads} tasks at a time" if limit else "not limited",
        None if limit else "start workers with --memory-limit",
    )
    if plan.has_processes:
        nanny = bool(worker.get("nanny"))
        hint = None if nanny else "start workers with --nanny: --timeout cannot restart others"
        yield Check("restarts", nanny or None, "by a nanny" if nanny else "none", hint)
    yield _hcsflow(seen)
    yield _versions(seen["versions"])
    gpus = seen["gpus"]
    ok = bool(gpus) if plan.gpus else bool(gpus) or None
    hint = "the profile promises one: is the NVIDIA driver there?" if ok is False else None
    yield Check("GPU", ok, "; ".join(gpus) or seen.get("gpu_fault", "none"), hint)


def _hcsflow(seen: Mapping[str, Any]) -> Check:
    """Say whether tasks can be loaded."""
    if not seen["hcsflow"]:
        hint = "install hcsflow where workers run, or set python in the profile"
        return Check("hcsflow on the worker", False, "not there", hint)
    return Check("hcsflow on the worker", True, seen["versions"]["hcsflow"] or "from its source")


def _versions(theirs: Mapping[str, str | None]) -> Check:
    """Compare the worker's versions with this process's."""
    differ, is_grave = [], False
    for name, there in theirs.items():
        here = platform.python_version() if name == "Python" else _version(name)
        if here == there:
            continue
        differ.append(f"{name} {here or 'absent'} here, {there or 'absent'} there")
        minor = name == "Python" and _minor(here) != _minor(there)
        is_grave = is_grave or minor or name in SAME_SERIES
    if not differ:
        return Check("versions", True, f"the same: {', '.join(theirs)}")
    hint = "give client and workers the same environment"
    return Check("versions", False if is_grave else None, "; ".join(differ), hint)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _minor(version: str | None) -> list[str]:
    return (version or "").split(".")[:2]


def _shared(place: Path, token: str, seen: Mapping[str, Any], theirs: Path) -> Check:
    """Say whether client and worker see each other's files."""
    where = str(place.parent)
    hint = "plate and output must lie where client and workers see them by the same path"
    if seen.get("read") != token:
        fault = seen.get("fault", "it found other contents")
        return Check("shared folder", False, f"{where}: the worker cannot use it: {fault}", hint)
    if not theirs.is_file() or theirs.read_text() != token:
        return Check("shared folder", False, f"{where}: a worker's file is not seen here", hint)
    return Check("shared folder", True, f"{where}: read and written from both sides")
