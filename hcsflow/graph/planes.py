"""What flows between a segment's steps: stacks in the worker's memory backend, found by plane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from hcsflow.plan import LocalKey
from hcsflow.storage.memory import MemoryStorageBackend

__all__ = ["PlaneStore"]

Stack = NDArray[np.generic]


class PlaneStore:
    """The planes of one step's output (or of the plate), kept as the stacks they came in.

    Parameters
    ----------
    backend : MemoryStorageBackend
        Counts bytes and spills; shared by all stores of a task.
    namespace : str
        Folder in the backend.
    """

    def __init__(self, backend: MemoryStorageBackend, namespace: str) -> None:
        self._backend = backend
        self._namespace = namespace
        self._where: dict[LocalKey, tuple[str, int]] = {}
        self._paths: dict[str, int] = {}
        self._serial = 0
        backend.ensure_directory(namespace)

    def __contains__(self, key: object) -> bool:
        return key in self._where

    def put(self, keys: Sequence[LocalKey], stack: Stack) -> None:
        """Keep a stack (Z, Y, X); its ownership goes to the store."""
        path = f"{self._namespace}/{self._serial:06d}"
        self._serial += 1
        self._backend.save(stack, path, copy=False)
        self._paths[path] = len(keys)
        for i, key in enumerate(keys):
            self._where[key] = (path, i)

    def gather(self, keys: Sequence[LocalKey]) -> Stack:
        """Return the stack of some planes, in order: the stored one itself where it fits."""
        places = [self._where[key] for key in keys]
        path = places[0][0]
        if len(keys) == self._paths[path] and places == [(path, i) for i in range(len(keys))]:
            whole: Stack = self._backend.load(path)
            return whole
        planes: list[Stack] = [self._backend.load(path)[i] for path, i in places]
        if len(planes) == 1:
            one: Stack = planes[0][np.newaxis]
            return one
        return np.stack(planes)

    def clear(self) -> None:
        """Forget everything kept."""
        for path in self._paths:
            self._backend.delete(path)
        self._paths.clear()
        self._where.clear()

    def missing(self, keys: Iterable[LocalKey]) -> list[LocalKey]:
        """Return those of ``keys`` that are not kept."""
        return [key for key in keys if key not in self._where]
