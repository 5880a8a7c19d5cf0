"""What a worker process is set to before its first task. Light: the forkserver needs it early."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

__all__ = ["THREAD_VARIABLES", "limit_threads", "tune_allocator"]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_THRESHOLD_BYTES = 1 << 30
TRIM_THRESHOLD_BYTES = 512 << 20


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
    )


def limit_threads(threads: int, *, set_environment: bool = True) -> None:
    """Hold every library to some inner threads; blosc always to one.

    Libraries that are imported later read the environment; those that are loaded are told. With
    inner threads blosc's bytes differ from run to run, so it has none whatever is asked.
    """
    if set_environment:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    loaded: dict[str, Any] = dict(sys.modules)
    if "cv2" in loaded:
        loaded["cv2"].setNumThreads(threads)
    if "torch" in loaded:
        loaded["torch"].set_num_threads(threads)
    if "numcodecs.blosc" in loaded:
        loaded["numcodecs.blosc"].use_threads = False
