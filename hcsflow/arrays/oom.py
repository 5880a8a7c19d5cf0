"""Out of memory: what it looks like in each library, and the ladder of what is tried then.

Free pools → cut the stack → the CPU variant → fail. Each rung is logged and counted.
"""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from hcsflow.arrays.cleanup import cleanup_all_gpu_frameworks
from hcsflow.arrays.counting import OomRecord, Rung, note_oom
from hcsflow.errors import MemoryConversionError, OutOfMemoryError

__all__ = ["is_out_of_memory", "recover"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_TYPES = frozenset(
    {
        ("cupy", "OutOfMemoryError"),
        ("torch", "OutOfMemoryError"),
        ("tensorflow", "ResourceExhaustedError"),
        ("pyopencl", "MemoryError"),
    }
)
"""Top-level package and name of error types that say nothing else."""

_ROOTS = (("tensorflow.errors", "OpError"), ("pyopencl", "MemoryError"))
"""Modules and names of error types that inherit nothing more special than Exception."""

_SIGNS = (
    "out of memory",  # torch, CUDA's own cudaErrorMemoryAllocation
    "RESOURCE_EXHAUSTED",  # jax
    "DefaultCPUAllocator: ",  # torch on the host
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUFFT_ALLOC_FAILED",
    "Dst tensor is not initialized",  # tensorflow, where a copy to the GPU finds no room
    "CL_MEM_OBJECT_ALLOCATION_FAILURE",
    "CL_OUT_OF_RESOURCES",
    "CL_OUT_OF_HOST_MEMORY",
    "CL_INVALID_BUFFER_SIZE",  # larger than the device takes in one piece
)
"""What the messages of general errors say."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or one that caused it, says that memory ran out. Imports nothing.

    Host memory and a device's count alike.

    Examples
    --------
    >>> is_out_of_memory(MemoryError())
    True
    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    True
    >>> is_out_of_memory(RuntimeError("expected scalar type Float"))
    False
    """
    found: BaseException | None = error
    seen: set[int] = set()  # causes may go round in a circle
    while found is not None and id(found) not in seen:
        if isinstance(found, MemoryError) or _says_so(found):
            return True
        seen.add(id(found))
        found = found.__cause__
    return False


def _says_so(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    return bool(kinds & _TYPES) or any(sign in str(error) for sign in _SIGNS)


def _candidates() -> tuple[type[BaseException], ...]:
    """Return the types of error that may say that memory ran out, of libraries that are loaded."""
    found = [_loaded(module, name) for module, name in _ROOTS]
    own = (kind for kind in found if isinstance(kind, type))
    return (MemoryError, RuntimeError, OSError, MemoryConversionError, *own)


def _loaded(module: str, name: str) -> Any:
    package, _, attribute = module.partition(".")
    found = sys.modules.get(package)
    return getattr(getattr(found, attribute, None) if attribute else found, name, None)


@dataclass(frozen=True, slots=True)
class _Exhausted:
    """An attempt that ran out of memory. Not the error itself: its frames would hold the arrays."""

    reason: str
    trace: str


def recover(
    attempt: Callable[[slice], T],
    planes: int,
    *,
    where: str,
    join: Callable[[list[T]], T] | None = None,
    on_cpu: Callable[[], Callable[[], T] | None] | None = None,
    is_spent: Callable[[], bool] | None = None,
) -> T:
    """Return what an attempt makes of a stack, by smaller means if memory runs out.

    Parameters
    ----------
    attempt : callable
        Takes a slice of planes and works on these; must leave its input as it was, or ``is_spent``
        must tell.
    planes : int
        Planes of the stack; the first attempt takes all.
    where : str
        Step and function, for the log and the error.
    join : callable, optional
        Puts the results of consecutive pieces together. None: the stack is never cut. Otherwise
        into halves, quarters … down to one plane; what got through is not done again.
    on_cpu : callable, optional
        Asked last of all; returns what makes the whole result on the CPU, or None.
    is_spent : callable, optional
        Asked before each rung: whether attempts have changed the input, so that another one would
        make something else of it.

    Raises
    ------
    OutOfMemoryError
        If no rung helps, or the input is spent; a note of it is the traceback of the last attempt.
        Any other error of an attempt passes through at once.

    Examples
    --------
    >>> def attempt(planes):
    ...     if planes.stop - planes.start > 1:
    ...         raise MemoryError
    ...     return [planes.start]
    >>> recover(attempt, 3, where="example", join=lambda parts: sum(parts, []))
    [0, 1, 2]
    """
    whole = partial(attempt, slice(0, planes))
    take = partial(_take, where, is_spent or _never)
    result = _tried(whole)
    if isinstance(result, _Exhausted):
        take("free", planes, result)
        result = _tried(whole)
    if isinstance(result, _Exhausted) and join is not None and planes > 1:
        result = _by_pieces(attempt, planes, join, take, result)
    instead = on_cpu() if isinstance(result, _Exhausted) and on_cpu is not None else None
    if isinstance(result, _Exhausted) and instead is not None:
        take("cpu", planes, result)
        result = _tried(instead)
    if not isinstance(result, _Exhausted):
        return result
    cleanup_all_gpu_frameworks()
    cut = "plane by plane" if join is not None and planes > 1 else "uncut"
    cpu = "and on the CPU" if instead is not None else "without a CPU variant"
    how = f"ran out of memory on {planes} planes, with free pools, {cut}, {cpu}"
    advice = "use fewer workers on this GPU or machine, or stack fewer planes at a time"
    raise _error(f"{where} {how}", result, advice)


def _never() -> bool:
    return False


def _error(message: str, last: _Exhausted, hint: str) -> OutOfMemoryError:
    error = OutOfMemoryError(f"{message}: {last.reason}", hint=hint)
    error.add_note(f"The last attempt:\n{last.trace}")
    return error


def _tried(attempt: Callable[[], T]) -> T | _Exhausted:
    try:
        return attempt()
    except _candidates() as error:
        if not is_out_of_memory(error):
            raise
        first = str(error).strip().partition("\n")[0]
        reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
        return _Exhausted(reason, "".join(traceback.format_exception(error)))


def _by_pieces(
    attempt: Callable[[slice], T],
    planes: int,
    join: Callable[[list[T]], T],
    take: Callable[[Rung, int, _Exhausted], None],
    failed: _Exhausted,
) -> T | _Exhausted:
    """Cut the stack; a piece that fails is cut again, and so are those after it."""
    pieces: list[T] = []
    start = 0
    size = planes // 2
    take("halve", size, failed)
    while start < planes:
        stop = min(start + size, planes)
        piece = _tried(partial(attempt, slice(start, stop)))
        if not isinstance(piece, _Exhausted):
            pieces.append(piece)
            start = stop
        elif size > 1:
            size //= 2
            take("halve", size, piece)
        else:
            return piece
    return _tried(partial(join, pieces))


def _take(
    where: str, is_spent: Callable[[], bool], rung: Rung, planes: int, failed: _Exhausted
) -> None:
    """Log and count a rung, and begin it with free pools; refuse it where the input is spent."""
    cleanup_all_gpu_frameworks()
    if is_spent():
        advice = "the function works in place: declare oom_recovery=False, or work on a copy"
        message = f"{where} ran out of memory, and had changed its input by then"
        raise _error(message, failed, advice)
    _log.warning("%s: %s; next: %s, %d planes", where, failed.reason, rung, planes)
    note_oom(OomRecord(where, rung, planes, failed.reason))
