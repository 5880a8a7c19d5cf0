"""Clusters whose workers are jobs of a batch system, by dask-jobqueue."""

from __future__ import annotations

import logging
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from hcsflow.errors import HcsflowError
from hcsflow.execute.closing import close_within
from hcsflow.execute.clusterplan import ClusterPlan
from hcsflow.execute.jobs import SUBMIT_TIMEOUT_S, resubmitted
from hcsflow.execute.profiles import TlsFiles
from hcsflow.execute.queueplan import quotable
from hcsflow.execute.quiet import interrupts_deferred
from hcsflow.execute.tempfolder import run_folder

__all__ = ["job_queue_cluster", "job_script", "security_of"]

CLASSES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
    "htcondor": "HTCondorCluster",
}

CLOSE_TIMEOUT_S = 30.0
"""Each job is cancelled by a command of its own, and batch systems may be slow."""

IDLE_ROUNDS = 30
"""Seconds for which a job may be one too many before it is ended."""

WELL_GUESS_S = 0.5
"""Dask takes a task of unknown length for so long: every waiting well is then worth a worker."""


@contextmanager
def job_queue_cluster(
    plan: ClusterPlan, folder: Path, *, timeout_s: float = SUBMIT_TIMEOUT_S
) -> Iterator[Any]:
    """Submit jobs as there is work; end all of them at the end.

    Parameters
    ----------
    plan : ClusterPlan
        Of a batch system.
    folder : Path
        Folder that the nodes see too, for logs and certificates.
    timeout_s : float
        Longest that the batch system may take over submitting a job, in seconds.

    Yields
    ------
    cluster : dask_jobqueue.JobQueueCluster
        Its first job is submitted; a lost one is replaced.

    Raises
    ------
    HcsflowError
        If the batch system takes none of the first jobs, with what it said.
    UsageError
        If a folder's name cannot stand in a job script.
    """
    fewest, most = plan.jobs or (0, 1)
    with run_folder(_made(plan.place or folder)) as private:
        cluster = None
        try:
            with interrupts_deferred():  # one half started could not be closed
                cluster = _cluster(plan, folder, private, timeout_s)
            _submit_first(cluster, max(fewest, 1))
            cluster.adapt(
                minimum_jobs=fewest,
                maximum_jobs=most,
                wait_count=IDLE_ROUNDS,
                target_duration=WELL_GUESS_S,
            )
            yield cluster
        finally:
            if cluster is not None:
                _end(cluster)


def job_script(plan: ClusterPlan) -> str:
    """Return the text that is submitted for a job, but its certificates.

    Examples
    --------
    >>> from hcsflow.execute.profiles import find_profile
    >>> from hcsflow.execute.queueplan import queue_arguments
    >>> script = job_script(ClusterPlan("slurm", queue_arguments(find_profile("slurm"))))
    >>> "#SBATCH --cpus-per-task=4" in script
    True
    """
    of_scheduler = ("scheduler_options", "silence_logs")
    kwargs = {name: value for name, value in plan.kwargs.items() if name not in of_scheduler}
    protocol = "tls://" if plan.security else "tcp://"
    job = _class_of(plan).job_cls(
        f"{protocol}SCHEDULER", name="WORKER", protocol=protocol, **kwargs
    )
    return str(job.job_script())


def _class_of(plan: ClusterPlan) -> Any:
    ctrl_c = signal.getsignal(signal.SIGINT)
    module = import_module("dask_jobqueue")
    if ctrl_c not in (None, signal.getsignal(signal.SIGINT)):  # it makes Ctrl-C a silent exit
        signal.signal(signal.SIGINT, ctrl_c)
    return getattr(module, CLASSES[plan.kind])


def _made(place: str | Path) -> str:
    """Make a folder that is named in job scripts."""
    path = Path(place).expanduser().resolve()
    hint = "choose another output, or set shared_directory and log_directory in the profile"
    quotable(str(path), what="folder", hint=hint)
    path.mkdir(parents=True, exist_ok=True)
    return str(path)


def _cluster(plan: ClusterPlan, folder: Path, private: str, timeout_s: float) -> Any:
    logs = _made(plan.kwargs.get("log_directory") or folder / "jobs")
    security = None
    if isinstance(plan.security, TlsFiles):
        security = security_of(plan.security)
    elif plan.security:
        security = _security_of_run(Path(private))
    start = _class_of(plan)
    kwargs = plan.kwargs | {"log_directory": logs, "job_cls": resubmitted(start.job_cls, timeout_s)}
    return start(**kwargs, security=security)


def security_of(files: TlsFiles) -> Any:
    """Return Dask's `Security` with certificates that somebody else made."""
    names = {"tls_ca_file": files.ca_file}
    for role in ("client", "scheduler", "worker"):
        names |= {f"tls_{role}_cert": files.cert, f"tls_{role}_key": files.key}
    return import_module("distributed").Security(**names, require_encryption=True)


def _security_of_run(folder: Path) -> Any:
    """Make certificates; what workers need lies in a folder that only this user reads."""
    security = import_module("distributed").Security.temporary()
    for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        file = folder / f"{name}.pem"
        file.touch(mode=0o600)
        file.write_text(getattr(security, name))
        setattr(security, name, str(file))
    return security


def _submit_first(cluster: Any, jobs: int) -> None:
    """Submit the first jobs here, where a refusal is seen; later ones are adaptive's."""
    cluster.scale(jobs=jobs)
    cluster.sync(cluster._correct_state)  # noqa: SLF001 - as LocalCUDACluster does
    refused = cluster.job_cls.refusals
    if refused and not _jobs_of(cluster):
        raise HcsflowError(
            f"the batch system took no job: {refused[0]}",
            hint="compare queue, account and limits in the profile with what the site offers",
        )


def _end(cluster: Any) -> None:
    """Close a cluster and see that its jobs are cancelled."""
    jobs = _jobs_of(cluster)
    if not close_within(cluster, CLOSE_TIMEOUT_S):
        _cancel(cluster.job_cls.cancel_command, jobs | _jobs_of(cluster))


def _jobs_of(cluster: Any) -> set[str]:
    found = {getattr(job, "job_id", None) for job in cluster.workers.values()}
    return {job for job in found if job}


def _cancel(command: str, jobs: set[str]) -> None:
    if not jobs:
        return
    words = [*shlex.split(command), *sorted(jobs)]
    try:
        subprocess.run(words, capture_output=True, timeout=CLOSE_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        logging.getLogger(__name__).warning("%s: %s", " ".join(words), error)
