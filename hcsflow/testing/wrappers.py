"""Wrappers of backends for tests: slow ones, and ones that must not be read.

>>> from hcsflow.storage.memory import MemoryStorageBackend
>>> NoReadBackend(MemoryStorageBackend()).list_files("/")
[]
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hcsflow.storage.wrappers import BackendWrapper, Call

__all__ = ["LatencyBackend", "NoReadBackend"]


class LatencyBackend(BackendWrapper):
    """A backend each of whose operations takes longer, as over a network.

    Parameters
    ----------
    inner : backend
        Any.
    seconds : float or mapping
        How much longer; by operation, those left out take no longer.

    Examples
    --------
    >>> from hcsflow.storage.memory import MemoryStorageBackend
    >>> LatencyBackend(MemoryStorageBackend(), {"load": 0.1}).save([1], "/a")
    """

    def __init__(self, inner: Any, seconds: float | Mapping[str, float] = 0.01) -> None:
        super().__init__(inner)
        self.seconds = seconds

    def _call(self, call: Call) -> Any:
        given = self.seconds
        time.sleep(given.get(call.operation, 0.0) if isinstance(given, Mapping) else given)
        return super()._call(call)


class NoReadBackend(BackendWrapper):
    """A backend from which nothing may be loaded: for what must do with names and sizes.

    Loading raises AssertionError, which no code under test takes for an error of its own.

    Parameters
    ----------
    inner : backend
        Any.
    """

    def _call(self, call: Call) -> Any:
        if call.operation in ("load", "load_batch"):
            raise AssertionError(f"{call.operation} of {call.path}, where nothing is to be read")
        return super()._call(call)
