"""Dask's settings in a run: one list, for clusters of this process and for jobs elsewhere."""

from __future__ import annotations

import shlex
from typing import Any

from hcsflow.graph.process import THREAD_VARIABLES

__all__ = ["MAX_DEATHS", "cluster_settings", "thread_limits", "worker_exports", "worker_settings"]

MAX_DEATHS = 3
"""Workers that a task may lose before it counts as what kills them."""


def thread_limits(threads: int) -> dict[str, str]:
    """Return the environment variables that hold libraries to some inner threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def worker_settings(threads: int = 1) -> dict[str, Any]:
    """Return Dask's settings of a worker and its nanny.

    Parameters
    ----------
    threads : int
        Inner threads.
    """
    limits: dict[str, Any] = {name: int(text) for name, text in thread_limits(threads).items()}
    return {
        # glibc's trim threshold costs 1.5 × the CPU on planes; the plugin sets the allocator.
        "distributed.nanny.pre-spawn-environ": {"MALLOC_TRIM_THRESHOLD_": None} | limits,
        # Most of a worker's memory is its task's; Dask holds outcomes only.
        "distributed.worker.memory.target": 0.2,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95,
        "distributed.admin.tick.limit": "60s",
        # How long the result of a well is asked for from a worker that has died meanwhile.
        "distributed.comm.timeouts.connect": "10s",
    }


def cluster_settings(threads: int = 1) -> dict[str, Any]:
    """Return Dask's settings in the process of client and scheduler, the workers' among them.

    Parameters
    ----------
    threads : int
        Inner threads of a worker.
    """
    return worker_settings(threads) | {
        "distributed.scheduler.allowed-failures": MAX_DEATHS,
        "distributed.scheduler.worker-saturation": 1.0,
        # By default a worker wakes 150 times a second to look at itself; long wells need less.
        "distributed.admin.tick.interval": "500ms",
        "distributed.worker.profile.interval": "100ms",
        # A worker that its nanny starts again has time to load its libraries from a slow disk.
        "distributed.deploy.lost-worker-timeout": "30s",
    }


def worker_exports(threads: int = 1) -> tuple[str, ...]:
    """Return `worker_settings` as lines of a job's shell script.

    Examples
    --------
    >>> worker_exports()[1]
    'export DASK_DISTRIBUTED__WORKER__MEMORY__TARGET=0.2'
    """
    return tuple(
        f"export {_variable(name)}={_word(value)}"
        for name, value in worker_settings(threads).items()
    )


def _variable(name: str) -> str:
    return "DASK_" + name.replace(".", "__").replace("-", "_").upper()


def _word(value: object) -> str:
    """Return a value as Dask reads it from the environment: as Python writes it."""
    if not isinstance(value, dict):
        return shlex.quote(str(value))
    # With double quotes inside, so that the shell's stay readable.
    return shlex.quote("{" + ", ".join(f'"{name}": {each}' for name, each in value.items()) + "}")
