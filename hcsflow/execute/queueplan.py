"""What dask-jobqueue is asked for by a profile, and whether this machine can submit jobs."""

from __future__ import annotations

import logging
import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from hcsflow.errors import PlanRefusedError, UsageError, nearest
from hcsflow.execute.dasksettings import worker_exports
from hcsflow.execute.probe import SUBMIT, Probe
from hcsflow.execute.profiles import QUEUES, QueueProfile, TlsFiles

__all__ = ["check_queue", "max_jobs", "queue_arguments", "quotable", "worker_bytes"]

NANNY_BYTES = 160 << 20
"""Of a job's memory, for each worker's nanny, which Dask does not count."""

LONGEST_MARGIN_S = 120
LONGEST_STAGGER_S = 300
LONGEST_NAME = dict.fromkeys(QUEUES, 60) | {"pbs": 15}
LOST_WORKER_S = 60
"""A worker that finds no scheduler for so long ends its job."""


def check_queue(profile: QueueProfile, probe: Probe) -> None:
    """See whether jobs can be submitted from a machine.

    Raises
    ------
    UsageError
        If a command, a package or the network interface is not there, or a job script cannot
        name a path.
    """
    _check_paths(profile)
    command = SUBMIT[profile.kind]
    if command not in probe.commands:
        raise UsageError(
            f"--cluster {profile.name}: {command} is not on PATH on {probe.hostname}",
            hint="run hcsflow where jobs are submitted, on a login node for example",
        )
    needed = {"dask-jobqueue": True, "cryptography": profile.security is True}
    for package, is_needed in needed.items():
        if is_needed and package not in probe.packages:
            raise UsageError(
                f"--cluster {profile.name}: {package} is not installed",
                hint="pip install 'hcsflow[hpc]'",
            )
    if profile.interface is not None and profile.interface not in probe.interfaces:
        close = nearest(profile.interface, probe.interfaces)
        raise UsageError(
            f"--cluster {profile.name}: {probe.hostname} has no network interface "
            f"{profile.interface!r}; there are {', '.join(probe.interfaces)}",
            hint=f"did you mean {close!r}?" if close else "`ip addr` lists them",
        )


def quotable(path: str, *, what: str, hint: str = "choose another name") -> str:
    """Return a path that means itself in a job script.

    Parameters
    ----------
    path : str
        As it stands in the script.
    what : str
        What it is, for the message.
    hint : str
        What to do.

    Raises
    ------
    UsageError
        If a shell would read something else: a space, a quote, a bracket.

    Examples
    --------
    >>> quotable("/data/plate_1", what="output")
    '/data/plate_1'
    """
    if shlex.quote(path) != path:
        odd = "".join(sorted(set(re.sub(r"[\w@%+=:,./-]", "", path, flags=re.ASCII))))
        raise UsageError(f"{what} {path}: a job script cannot name a path with {odd!r}", hint=hint)
    return path


def _check_paths(profile: QueueProfile) -> None:
    """Refuse what a job script would not name rightly; a node's shell fills in variables."""
    for name in ("python", "local_directory"):
        text = getattr(profile, name) or ""
        plain = re.sub(r"^~(?=/)|\$\w+|\$\{\w+\}", "", text, flags=re.ASCII)
        if shlex.quote(plain or "x") != (plain or "x"):
            quotable(text, what=name)
    if profile.python is None:
        quotable(sys.executable, what="python", hint="set python in the profile")
    for name in ("log_directory", "shared_directory"):
        if (folder := getattr(profile, name)) is not None:
            quotable(str(Path(folder).expanduser().absolute()), what=name)
    if isinstance(profile.security, TlsFiles):
        for name in ("ca_file", "cert", "key"):
            quotable(getattr(profile.security, name), what=f"security.{name}")


def max_jobs(profile: QueueProfile, *, wells: int, workers: int | None) -> int:
    """Return the most jobs that a run shall have at a time."""
    wanted = min(max(wells, 1), workers or profile.maximum_jobs * profile.workers_per_job)
    return min(profile.maximum_jobs, math.ceil(wanted / profile.workers_per_job))


def worker_bytes(profile: QueueProfile) -> int:
    """Return the memory limit of one worker, in bytes.

    Raises
    ------
    PlanRefusedError
        If a job's memory is too little for its workers.
    """
    share = profile.memory // profile.workers_per_job - NANNY_BYTES
    if share <= 0:
        raise PlanRefusedError(
            f"a job of {profile.memory / 2**30:.1f} GiB cannot hold {profile.workers_per_job} "
            "workers",
            hint="give jobs more memory, or fewer cores",
        )
    return share


def queue_arguments(profile: QueueProfile) -> dict[str, Any]:
    """Return the arguments of a dask-jobqueue cluster, but certificates and folders.

    A worker runs one task at a time whatever cores it has: Dask is told of one core per worker,
    the batch system of all.
    """
    workers = profile.workers_per_job
    prologue = [*worker_exports(profile.threads_per_worker), *profile.prologue]
    arguments: dict[str, Any] = {
        "cores": workers,
        "processes": workers,
        "memory": worker_bytes(profile) * workers,
        "nanny": True,
        "job_name": _job_name(profile),
        "python": profile.python or sys.executable,
        "interface": profile.interface,
        "death_timeout": LOST_WORKER_S,
        "local_directory": profile.local_directory,
        "job_script_prologue": prologue,
        "worker_extra_args": _worker_words(profile),
        "job_extra_directives": list(profile.job_directives),
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "silence_logs": logging.CRITICAL,
    }
    if profile.log_directory:
        arguments["log_directory"] = profile.log_directory
    return arguments | _DIALECTS[profile.kind](profile, arguments["job_extra_directives"])


def _job_name(profile: QueueProfile) -> str:
    """Return a name that queues show; every batch system takes such letters."""
    own = profile.name if profile.name != profile.kind else ""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", f"hcsflow-{own}").strip("-")
    return name[: LONGEST_NAME[profile.kind]].strip("-")


def _worker_words(profile: QueueProfile) -> list[str]:
    """Return words of a worker's command line."""
    words = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    lifetime, stagger = _lifetimes(profile)
    if lifetime:
        words += ["--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{stagger}s"]
    resources = dict(profile.worker_resources)
    if profile.gpus_per_job:
        resources.setdefault("GPU", 1.0)
    if resources:
        pairs = ",".join(f"{name}={amount:g}" for name, amount in resources.items())
        words += ["--resources", pairs]
    return words


def _lifetimes(profile: QueueProfile) -> tuple[int | None, int]:
    """Return when a worker ends by itself: before its job is ended, and not all at once."""
    whole = profile.lifetime or profile.walltime
    if whole is None:
        return None, 0
    stagger = profile.lifetime_stagger or min(LONGEST_STAGGER_S, whole // 10)
    if profile.lifetime:
        return profile.lifetime, stagger
    return whole - stagger - min(LONGEST_MARGIN_S, whole // 10), stagger


def _clock(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


def _mebibytes(profile: QueueProfile) -> int:
    return math.ceil(profile.memory / (1 << 20))


def _slurm(profile: QueueProfile, directives: list[str]) -> dict[str, Any]:
    if profile.gpus_per_job:
        directives.insert(0, f"--gres=gpu:{profile.gpus_per_job}")
    return {
        "queue": profile.queue,
        "account": profile.account,
        "walltime": _clock(profile.walltime),
        "job_cpu": profile.cores,
        "job_mem": f"{_mebibytes(profile)}M",
    }


def _pbs(profile: QueueProfile, _directives: list[str]) -> dict[str, Any]:
    gpus = f":ngpus={profile.gpus_per_job}" if profile.gpus_per_job else ""
    asked = f"select=1:ncpus={profile.cores}{gpus}:mem={_mebibytes(profile)}mb"
    return {
        "queue": profile.queue,
        "account": profile.account,
        "walltime": _clock(profile.walltime),
        "resource_spec": profile.resource_spec or asked,
    }


def _lsf(profile: QueueProfile, directives: list[str]) -> dict[str, Any]:
    if profile.gpus_per_job:
        directives.insert(0, f'-gpu "num={profile.gpus_per_job}"')
    clock = _clock(math.ceil(profile.walltime / 60) * 60 if profile.walltime else None)
    return {
        "queue": profile.queue,
        "project": profile.account,
        "walltime": clock[:-3] if clock else None,
        "ncpus": profile.cores,
        "mem": profile.memory,
    }


def _sge(profile: QueueProfile, directives: list[str]) -> dict[str, Any]:
    if profile.gpus_per_job:
        directives.insert(0, f"-l gpu={profile.gpus_per_job}")
    return {
        "queue": profile.queue,
        "project": profile.account,
        "walltime": _clock(profile.walltime),
        "resource_spec": profile.resource_spec,
    }


def _htcondor(profile: QueueProfile, _directives: list[str]) -> dict[str, Any]:
    pairs = (directive.partition("=") for directive in profile.job_directives)
    extra = {name.strip(): value.strip() for name, _, value in pairs}
    extra |= {"RequestCpus": str(profile.cores), "RequestMemory": str(_mebibytes(profile))}
    if profile.gpus_per_job:
        extra["RequestGPUs"] = str(profile.gpus_per_job)
    if profile.account:
        extra["accounting_group"] = profile.account
    return {"disk": profile.disk, "job_extra_directives": extra}


_DIALECTS = {"slurm": _slurm, "pbs": _pbs, "lsf": _lsf, "sge": _sge, "htcondor": _htcondor}
