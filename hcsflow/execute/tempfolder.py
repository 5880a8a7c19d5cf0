"""A run's own temporary folder, removed at its end; one left by a killed run goes at the next."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

import psutil

from hcsflow.execute.namespace import process_namespace

__all__ = ["process_tempdir", "run_folder"]

SOCKET_PATH_BYTES = 103
"""What a socket's path may be long, on macOS; Linux takes four more."""

SHORT_ROOT = Path("/tmp")  # noqa: S108 - a folder with a random name is made in it


@contextmanager
def process_tempdir() -> Iterator[None]:
    """Let what the block makes in the temporary folder lie in one that lasts as this process does.

    Python keeps the socket of its forkserver in a folder of its own, which nobody would remove
    after a kill: here the next run does.
    """
    before, tempfile.tempdir = tempfile.tempdir, _process_folder(os.getpid())
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def run_folder(place: str | None = None) -> Iterator[str]:
    """Make a temporary folder for this process, and remove those whose process is gone.

    Parameters
    ----------
    place : str or None
        Folder to make it in; None is the system's.
    """
    root = Path(place or tempfile.gettempdir())
    for folder in {root, Path(tempfile.gettempdir())}:
        _sweep(folder)
    with tempfile.TemporaryDirectory(
        prefix=f"{_prefix()}{os.getpid()}-", dir=root, ignore_cleanup_errors=True
    ) as made:
        yield made


@cache
def _process_folder(pid: int) -> str:
    root = _root_for_sockets()
    for folder in {root, Path(tempfile.gettempdir())}:
        _sweep(folder)  # a run with nothing left to do opens no cluster
    made = tempfile.mkdtemp(prefix=f"{_prefix()}{pid}-", dir=root)
    # After multiprocessing has removed its own folder inside, whose priority is -100.
    Finalize(None, shutil.rmtree, (made,), {"ignore_errors": True}, exitpriority=-200)
    return made


def _root_for_sockets() -> Path:
    """Return the temporary folder, or ``/tmp`` where a socket's path in it would be too long."""
    root = Path(tempfile.gettempdir())
    longest = root / f"{_prefix()}{2**22}-12345678" / "pymp-12345678" / "listener-12345678"
    if len(os.fsencode(longest)) <= SOCKET_PATH_BYTES or not os.access(SHORT_ROOT, os.W_OK):
        return root
    return SHORT_ROOT


def _sweep(root: Path) -> None:
    """Remove the folders of processes that are gone, of this host and process name space."""
    prefix = _prefix()
    for folder in root.glob(f"{prefix}[0-9]*-*"):
        pid = folder.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _prefix() -> str:
    """Return how names of the folders begin whose process can be looked up from here.

    A shared folder may hold those of other hosts, and of containers with this host's name.
    """
    host = "".join(c if c.isalnum() else "_" for c in socket.gethostname())
    space = "".join(c for c in process_namespace() if c.isdigit())
    return f"hcsflow-{host}{space and f'.{space}'}-"
