"""What a worker process is set to before its first task. Light: the forkserver needs it early."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from threading import Lock
from typing import Any

__all__ = [
    "GPU_VARIABLES",
    "LIBRARIES",
    "THREAD_VARIABLES",
    "limit_threads",
    "load_libraries",
    "restore_threads",
    "trim_allocator",
    "tune_allocator",
]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)

GPU_VARIABLES = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
"""What keeps jax and tensorflow from taking a GPU's whole memory; a user's own setting stays."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MMAP_THRESHOLD_BYTES = 1 << 30
TRIM_THRESHOLD_BYTES = 512 << 20


LIBRARIES = (
    "hcsflow.functions",
    "hcsflow.microscopes.imagexpress",
    "cv2",
    "numcodecs.blosc",
    "pyarrow.parquet",
)
"""What nearly every task needs; nothing here may touch a GPU."""


def load_libraries() -> None:
    """Load what tasks need, so that it counts as the idle worker and not as the first task."""
    for name in LIBRARIES:
        import_module(name)


def tune_allocator() -> bool:
    """Let glibc keep plane-sized blocks instead of mapping each anew; False where not glibc.

    Every temporary plane would otherwise be mapped, faulted in and unmapped: 1.5 × the CPU time.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is None or not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        and mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
        # What one thread frees another uses: an encoder would keep four planes of its own.
        and mallopt(M_ARENA_MAX, 1)
    )


def trim_allocator() -> None:
    """Give the system what glibc keeps between blocks that are in use; nothing where not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


_undo: dict[str, Callable[[], object]] = {}
_holders = 0
_lock = Lock()


def limit_threads(threads: int, *, set_environment: bool = True) -> None:
    """Hold every library to some inner threads, blosc always to one, until `restore_threads`.

    Libraries that are imported later read the environment; those that are loaded are told. With
    inner threads blosc's bytes differ from run to run, so it has none whatever is asked.
    """
    global _holders  # noqa: PLW0603 - the state is the process's
    with _lock:
        _holders += 1
        for name in THREAD_VARIABLES if set_environment else ():
            _undo.setdefault(name, partial(_set_variable, name, os.environ.get(name)))
            os.environ[name] = str(threads)
        for name, value in GPU_VARIABLES.items() if set_environment else ():
            _undo.setdefault(name, partial(_set_variable, name, os.environ.get(name)))
            os.environ.setdefault(name, value)
        loaded: dict[str, Any] = dict(sys.modules)
        if cv2 := loaded.get("cv2"):
            _undo.setdefault("cv2", partial(cv2.setNumThreads, cv2.getNumThreads()))
            cv2.setNumThreads(threads)
        if torch := loaded.get("torch"):
            _undo.setdefault("torch", partial(torch.set_num_threads, torch.get_num_threads()))
            torch.set_num_threads(threads)
        if blosc := loaded.get("numcodecs.blosc"):
            before = blosc.use_threads
            _undo.setdefault("blosc", partial(setattr, blosc, "use_threads", before))
            blosc.use_threads = False


def restore_threads() -> None:
    """Set back what `limit_threads` set, once called as often."""
    global _holders  # noqa: PLW0603 - the state is the process's
    with _lock:
        _holders -= 1
        if _holders == 0:
            for undo in _undo.values():
                undo()
            _undo.clear()


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
