"""Giving back GPU memory that libraries keep in their pools. Touches only libraries in use."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hcsflow.arrays.libraries import MEMORY_TYPES, check_memory_type

__all__ = ["FreedMemory", "cleanup_all_gpu_frameworks", "cleanup_gpu_memory_by_framework"]


@dataclass(frozen=True, slots=True)
class FreedMemory:
    """What a clean-up gave back.

    Parameters
    ----------
    memory_type : str
        The library.
    freed_bytes : int or None
        Device memory given back; None where the library does not tell, or was not in use.
    """

    memory_type: str
    freed_bytes: int | None


def cleanup_gpu_memory_by_framework(memory_type: str, device: int | None = None) -> FreedMemory:
    """Free what a library keeps of device memory without using it. No array is touched.

    ====================  =======================================================
    cupy                  device and pinned pools
    torch                 cached blocks of CUDA
    jax                   compiled functions (they are compiled again when called)
    tensorflow            has no call for it: its pool lasts as long as the process
    pyclesperanto, numpy  keep no pool
    ====================  =======================================================

    All: what Python's garbage still holds is collected first.

    Parameters
    ----------
    memory_type : str
        Which library. One that is not imported, or has not used a GPU, is left alone.
    device : int, optional
        GPU number; None is the current one. jax has one cache for all.

    Returns
    -------
    FreedMemory
        Bytes given back where the library tells.

    Raises
    ------
    MemoryConversionError
        If there is no such memory type.

    Examples
    --------
    >>> cleanup_gpu_memory_by_framework("numpy")
    FreedMemory(memory_type='numpy', freed_bytes=None)
    """
    check_memory_type(memory_type)
    gc.collect()
    return _clean(memory_type, device)


def cleanup_all_gpu_frameworks(device: int | None = None) -> tuple[FreedMemory, ...]:
    """Free what every imported library keeps; see `cleanup_gpu_memory_by_framework`.

    Returns
    -------
    tuple of FreedMemory
        One for each memory type, numpy first.
    """
    gc.collect()
    return tuple(_clean(name, device) for name in MEMORY_TYPES)


def _clean(name: str, device: int | None) -> FreedMemory:
    module = sys.modules.get(name)
    free = _FREE.get(name)
    return FreedMemory(name, free(module, device) if module is not None and free else None)


def _free_cupy(cupy: Any, device: int | None) -> int | None:
    cuda = getattr(cupy, "cuda", None)  # missing while another thread is importing cupy
    if cuda is None or not cuda.is_available():
        return None
    with cuda.Device(device):
        pool = cupy.get_default_memory_pool()
        before = pool.total_bytes()
        pool.free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()
        return int(before - pool.total_bytes())


def _free_torch(torch: Any, device: int | None) -> int | None:
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None
    with cuda.device(device if device is not None else cuda.current_device()):
        before = cuda.memory_reserved()
        cuda.empty_cache()
        return int(before - cuda.memory_reserved())


def _free_jax(jax: Any, device: int | None) -> None:
    del device  # the caches are those of all
    clear = getattr(jax, "clear_caches", None)
    if clear is not None:
        clear()  # what that frees jax tells only of a device that is then started, if it was not


_FREE: Mapping[str, Callable[[Any, int | None], int | None]] = {
    "cupy": _free_cupy,
    "torch": _free_torch,
    "jax": _free_jax,
}
