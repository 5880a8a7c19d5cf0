"""Which device a worker's arrays go to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from hcsflow.arrays.libraries import adapter_of

__all__ = ["using_gpus", "worker_device"]

_uses_gpus: ContextVar[bool] = ContextVar("_uses_gpus", default=False)


@contextmanager
def using_gpus(allowed: bool) -> Iterator[None]:
    """Let `worker_device` name a GPU inside the block, in this thread, or not.

    Examples
    --------
    >>> with using_gpus(False):
    ...     print(worker_device("torch"))
    None
    """
    token = _uses_gpus.set(allowed)
    try:
        yield
    finally:
        _uses_gpus.reset(token)


def worker_device(memory_type: str) -> int | None:
    """Return the number of the GPU to ask for when arrays of a memory type are made.

    None where there is none to ask for: outside of `using_gpus`, without a GPU, and for libraries
    that take their current device unasked. torch leaves what comes from the host there.
    """
    if memory_type != "torch" or not _uses_gpus.get():
        return None
    adapter_of("torch")
    cuda = sys.modules["torch"].cuda
    return int(cuda.current_device()) if cuda.is_available() else None
