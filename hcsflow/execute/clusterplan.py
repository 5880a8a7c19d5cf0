"""A cluster as decided: its kind, what it is started with, what it offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hcsflow.execute.profiles import TlsFiles

__all__ = ["ClusterPlan", "ClusterRequest"]

Kind = Literal[
    "serial", "threads", "local", "cuda", "slurm", "pbs", "lsf", "sge", "htcondor",
    "address", "client",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClusterRequest:
    """What a run needs of a cluster.

    Parameters
    ----------
    wells : int
        Wells to process; there are never more workers.
    projected_bytes : int
        Peak of the worst task, above an idle worker.
    workers : int or None
        Asked for; None leaves it to profile and machine.
    """

    wells: int
    projected_bytes: int = 0
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Which cluster, and what it is started with.

    Parameters
    ----------
    kind : str
        ``"address"`` and ``"client"`` are there already; ``"serial"`` is this very thread.
    kwargs : mapping
        Arguments of Dask's cluster class; empty where nothing is started.
    target : str, Client or None
        Address or client.
    workers : int or None
        Workers, at most; None where somebody else decides.
    memory_bytes : int
        Memory of each; 0 where it is not known.
    threads_per_worker : int
        Inner threads of each.
    gpus : int
        Devices of all workers together.
    jobs : tuple of int, or None
        Fewest and most jobs of a batch system.
    security : bool or TlsFiles
        Whether connections are encrypted, and with which certificates.
    place : str or None
        Folder for what workers spill.
    """

    kind: Kind
    kwargs: dict[str, Any] = field(default_factory=dict)
    target: Any = None
    workers: int | None = None
    memory_bytes: int = 0
    threads_per_worker: int = 1
    gpus: int = 0
    jobs: tuple[int, int] | None = None
    security: bool | TlsFiles = False
    place: str | None = None

    @property
    def has_processes(self) -> bool:
        """Whether a worker is a process of its own."""
        return self.kind not in ("serial", "threads")

    @property
    def is_queue(self) -> bool:
        """Whether workers are jobs of a batch system, which come and go."""
        return self.jobs is not None

    def __str__(self) -> str:
        if self.target is not None:
            return f"{self.kind} {self.target if isinstance(self.target, str) else ''}".strip()
        if self.kind == "serial":
            return "serial: one well at a time in this process"
        each = f"{self.memory_bytes / 2**30:.1f} GiB each"
        if self.threads_per_worker > 1:
            each += f", {self.threads_per_worker} threads"
        if self.jobs is not None:
            each += f", {self.kwargs.get('walltime') or 'no'} walltime"
            each += ", TLS" if self.security else ", not encrypted"
            return (
                f"{self.kind}: {self.jobs[0]}–{self.jobs[1]} jobs, {self.workers} workers, {each}"
            )
        what = {"threads": "threads", "cuda": "GPU workers"}.get(self.kind, "processes")
        each += ", TLS" if self.security else ""
        return f"{self.kind}: {self.workers} {what}, {each}"
