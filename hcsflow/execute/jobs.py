"""Jobs that are submitted again when the batch system does not take them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar

__all__ = ["SUBMIT_TIMEOUT_S", "resubmitted"]

SUBMIT_TIMEOUT_S = 300.0
"""A controller under load may keep the submit command waiting for minutes."""

RETRY_S = 15.0
"""Until another job is submitted in the place of a refused one."""


def resubmitted(job_class: type[Any], timeout_s: float = SUBMIT_TIMEOUT_S) -> type[Any]:
    """Return a job class of dask-jobqueue whose refused and lost jobs give up their place.

    Dask counts a job whose submission failed, or that is gone, as one of the cluster: adaptive
    scaling would not ask for another, and a run would lose its workers one by one.

    Parameters
    ----------
    job_class : type
        Such as `dask_jobqueue.slurm.SLURMJob`.
    timeout_s : float
        Longest that a command of the batch system may take, in seconds; then it is ended, and a
        submission counts as refused.

    Returns
    -------
    type
        With ``refusals``, what the batch system has said, oldest first.
    """
    status = import_module("distributed.core").Status

    class ResubmittedJob(job_class):  # type: ignore[misc]
        refusals: ClassVar[list[str]] = []

        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, OSError, ValueError) as error:
                said = _said(error)
                self.refusals.append(said)
                logging.getLogger("dask_jobqueue").warning("a job was refused: %s", said)
                asyncio.get_running_loop().call_later(RETRY_S, self._give_up_place)
                self.status = status.running  # else Dask's own bookkeeping ends with an error

        @staticmethod
        async def _call(words: list[str], *, shell: bool = False) -> str:
            return await _answer(words, is_shell=shell, timeout_s=timeout_s)

        async def close(self) -> None:
            await super().close()
            self.status = status.closed
            self._give_up_place()

        def _give_up_place(self) -> None:
            """Leave the cluster's list, so that adaptive scaling sees that a job is wanted."""
            reference = getattr(self, "_cluster", None)
            cluster = reference() if reference is not None else None
            if cluster is not None and cluster.workers.get(self.name, self) is self:
                cluster.workers.pop(self.name, None)
                cluster.worker_spec.pop(self.name, None)

    return ResubmittedJob


async def _answer(words: list[str], *, is_shell: bool, timeout_s: float) -> str:
    """Return what a command of the batch system prints; end it where it takes too long.

    It is out of the terminal's reach: a Ctrl-C in the middle would lose a job's number.
    """
    process = await asyncio.create_subprocess_exec(
        *(["/bin/sh", "-c", *words] if is_shell else words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        raise RuntimeError(f"{words[0]} has not ended within {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{words[0]}: exit {process.returncode}\nstderr:\n{err.decode()}")
    return out.decode()


def _said(error: Exception) -> str:
    """Return the last line that the submit command wrote, or the whole error on one line."""
    _, _, said = str(error).rpartition("stderr:")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else " ".join(str(error).split())
