"""The process that local workers are forks of, started before anything else is loaded."""

from __future__ import annotations

import multiprocessing
import os
import sys
from importlib import import_module
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from hcsflow.errors import UsageError
from hcsflow.execute.dasksettings import thread_limits
from hcsflow.execute.quiet import ctrl_c_withheld, environment
from hcsflow.execute.tempfolder import process_tempdir

__all__ = ["check_main_module", "prepare_forkserver", "prestart", "start_method"]

PRELOAD = "hcsflow.execute.preload"

NO_LEAK_WARNING = "ignore:resource_tracker:UserWarning"
"""Workers that are killed leave semaphores; Python's tracker removes them and need not say so."""


def prestart(*modules: str) -> None:
    """Start the forkserver of the local workers in the background; returns at once.

    Call it first thing, before any thread is started: the workers' libraries are then imported
    while the plan is compiled, and each worker is a fork of that process.

    Parameters
    ----------
    *modules : str
        Imported after `hcsflow.execute.preload`, e.g. what the main script imports.
    """
    if start_method() != "forkserver":
        return
    forkserver = import_module("multiprocessing.forkserver")  # there is none on Windows
    multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOAD, *modules])
    quiet = f"{os.environ.get('PYTHONWARNINGS', '')},{NO_LEAK_WARNING}".lstrip(",")
    with environment(thread_limits(1) | {"PYTHONWARNINGS": quiet}):
        resource_tracker.ensure_running()
        with ctrl_c_withheld(), process_tempdir():
            forkserver.ensure_running()


def start_method() -> str:
    """Forkserver where there is one; spawn elsewhere."""
    methods = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in methods and sys.platform == "linux" else "spawn"


def prepare_forkserver() -> None:
    """Start the forkserver unless it runs, and keep Dask from importing all it knows instead."""
    if start_method() != "forkserver":
        return
    prestart()
    utils: Any = import_module("distributed.utils")
    utils._forkserver_preload_set = True  # noqa: SLF001 - Dask has no setting for its preload list


def check_main_module() -> None:
    """Refuse a script without a guard, which every worker would run again from its top.

    Raises
    ------
    UsageError
        If the main script's text has no ``__name__``.
    """
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
