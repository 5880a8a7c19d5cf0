"""A run's own temporary folder, removed at its end; one left by a killed run goes at the next."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

__all__ = ["run_folder"]


@contextmanager
def run_folder(place: str | None = None) -> Iterator[str]:
    """Make a temporary folder for this process, and remove those whose process is gone.

    Parameters
    ----------
    place : str or None
        Folder to make it in; None is the system's.
    """
    root = Path(place or tempfile.gettempdir())
    host = "".join(c if c.isalnum() else "_" for c in socket.gethostname())
    prefix = f"hcsflow-{host}-"  # a shared folder may hold those of other hosts
    for folder in root.glob(f"{prefix}[0-9]*-*"):
        pid = folder.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{prefix}{os.getpid()}-", dir=root, ignore_cleanup_errors=True
    ) as made:
        yield made
