"""What flows between a segment's steps, found by plane: in memory, or in files of the task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hcsflow.arrays.counting import convert_planned
from hcsflow.config import Backend, ZarrChunkStrategy, ZarrConfig
from hcsflow.plan import LocalKey
from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.storage.filemanager import FileManager
from hcsflow.storage.lazy import load_object
from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.storage.registry import StorageRegistry
from hcsflow.storage.traffic import TrafficMeter

__all__ = [
    "FiledPlanes",
    "MadePlanes",
    "PlaneStore",
    "Planes",
    "kept",
    "open_planes",
    "task_storage",
]

Stack = NDArray[np.generic]


class MadePlanes(Protocol):
    """The planes of one step's output, or of the plate."""

    def gather(self, keys: Sequence[LocalKey]) -> Stack:
        """Return the stack of some planes, in order."""

    def missing(self, keys: Iterable[LocalKey]) -> list[LocalKey]:
        """Return those of ``keys`` that are not kept."""

    def clear(self) -> None:
        """Forget everything kept."""


class Planes(MadePlanes, Protocol):
    """Planes that are added to."""

    def put(self, keys: Sequence[LocalKey], stack: Stack) -> None:
        """Keep a stack (Z, Y, X); its ownership goes to the store."""


def task_storage(
    memory: MemoryStorageBackend, scratch: Path, meter: TrafficMeter | None = None
) -> FileManager:
    """Return the backends of one task: its memory, and files in its scratch folder."""
    one_plane_each = ZarrConfig(chunk_strategy=ZarrChunkStrategy.FILE)
    registry = StorageRegistry(
        {
            Backend.DISK.value: lambda: DiskStorageBackend(scratch),
            Backend.ZARR.value: lambda: load_object(ZARR)(scratch, config=one_plane_each),
        }
    )
    # A backend, and replaced: for others all installed packages are looked through, 10 ms a worker.
    registry.register_backend(MEMORY, memory, replace=True)
    return FileManager(registry, meter=meter)


def open_planes(files: FileManager, backend: str, namespace: str) -> Planes:
    """Return an empty store of planes on a backend of the task."""
    if backend == Backend.MEMORY.value:
        return PlaneStore(files, namespace)
    return FiledPlanes(files, backend, namespace)


SUFFIXES = {Backend.DISK.value: ".npy", Backend.ZARR.value: ".zarr"}
MEMORY = Backend.MEMORY.value
PLANES_PER_FOLDER = 100
"""Backends look at what lies beside a new file; few files a folder keep that cheap."""
ZARR = "hcsflow.storage.zarr:ZarrStorageBackend"


def kept(value: Any) -> Any:
    """Return a value that its maker cannot change unseen.

    A numpy array that owns its data, or shows what cannot be written, is made read-only, so that
    a function that uses its buffer again fails; any other numpy array is copied. Lists, tuples and
    dicts are copied, with all that they hold treated so. What else there is is returned as it is.
    """
    if type(value) in (list, tuple):
        return type(value)(map(kept, value))
    if type(value) is dict:
        return {key: kept(item) for key, item in value.items()}
    if type(value) is not np.ndarray:
        return value
    if not (value.flags.owndata or _is_frozen(value)):
        value = value.copy()
    value.flags.writeable = False
    return value


def _is_frozen(array: NDArray[np.generic]) -> bool:
    """Tell whether nobody can write an array's memory: nor by what it is a view of."""
    view: Any = array
    while type(view) is np.ndarray and not view.flags.writeable:
        if view.flags.owndata:
            return True
        view = view.base
    return type(view) is bytes


class PlaneStore:
    """The planes of one step's output (or of the plate), kept as the stacks they came in.

    Parameters
    ----------
    files : FileManager
        Its memory backend counts bytes and spills; shared by all stores of a task.
    namespace : str
        Folder in the backend.
    """

    def __init__(self, files: FileManager, namespace: str) -> None:
        self._files = files
        self._namespace = namespace
        self._where: dict[LocalKey, tuple[str, int]] = {}
        self._paths: dict[str, int] = {}
        self._serial = 0
        files.ensure_directory(namespace, MEMORY)

    def put(self, keys: Sequence[LocalKey], stack: Stack) -> None:
        """Keep a stack (Z, Y, X); see `kept` for when it is copied."""
        path = f"{self._namespace}/{self._serial:06d}"
        self._serial += 1
        self._files.save(kept(stack), path, MEMORY, copy=False)
        self._paths[path] = len(keys)
        for i, key in enumerate(keys):
            self._where[key] = (path, i)

    def gather(self, keys: Sequence[LocalKey]) -> Stack:
        """Return the stack of some planes, in order: the stored one itself where it fits."""
        places = [self._where[key] for key in keys]
        path = places[0][0]
        if len(keys) == self._paths[path] and places == [(path, i) for i in range(len(keys))]:
            whole: Stack = self._files.load(path, MEMORY)
            return whole
        if len(places) == 1:
            at = places[0][1]
            one: Stack = self._files.load(path, MEMORY)[at : at + 1]
            return one
        return self._regrouped(places)

    def _regrouped(self, places: list[tuple[str, int]]) -> Stack:
        """Put planes of several stacks together on the host, each loaded once and let go."""
        wanted: dict[str, list[tuple[int, int]]] = {}
        for at, (path, i) in enumerate(places):
            wanted.setdefault(path, []).append((at, i))
        result: Stack = np.empty(0)
        for path, pairs in wanted.items():
            stack = convert_planned(self._files.load(path, MEMORY), "numpy")
            if not result.size:
                result = np.empty((len(places), *stack.shape[1:]), stack.dtype)
            for at, i in pairs:
                result[at] = stack[i]
            del stack  # before the next is brought back from disk
        return result

    def clear(self) -> None:
        """Forget everything kept."""
        for path in self._paths:
            self._files.delete(path, MEMORY)
        self._paths.clear()
        self._where.clear()

    def missing(self, keys: Iterable[LocalKey]) -> list[LocalKey]:
        """Return those of ``keys`` that are not kept."""
        return [key for key in keys if key not in self._where]


class FiledPlanes:
    """The planes of one step's output, each in a file, so that any stack can be put together.

    Parameters
    ----------
    files : FileManager
        The task's backends.
    backend : str
        Which of them keeps the files; the task removes them all at its end.
    namespace : str
        Folder in the backend.
    """

    def __init__(self, files: FileManager, backend: str, namespace: str) -> None:
        self._files = files
        self._backend = backend
        self._namespace = namespace
        self._suffix = SUFFIXES[backend]
        self._where: dict[LocalKey, str] = {}
        self._serial = 0

    def put(self, keys: Sequence[LocalKey], stack: Stack) -> None:
        """Write each plane of a stack (Z, Y, X) to a file."""
        for key, plane in zip(keys, stack, strict=True):
            folder = f"{self._namespace}/{self._serial // PLANES_PER_FOLDER:04d}"
            path = f"{folder}/{self._serial:06d}{self._suffix}"
            self._serial += 1
            self._files.save(plane, path, self._backend)
            self._where[key] = path

    def gather(self, keys: Sequence[LocalKey]) -> Stack:
        """Return the stack of some planes, in order, read from their files; read-only."""
        first = self._files.load(self._where[keys[0]], self._backend)
        stack: Stack = np.empty((len(keys), *first.shape), first.dtype)
        stack[0] = first
        for i, key in enumerate(keys[1:], 1):
            stack[i] = self._files.load(self._where[key], self._backend)
        stack.flags.writeable = False
        return stack

    def clear(self) -> None:
        """Remove all files."""
        if self._where:
            self._files.delete_all(self._namespace, self._backend)
        self._where.clear()

    def missing(self, keys: Iterable[LocalKey]) -> list[LocalKey]:
        """Return those of ``keys`` that are not kept."""
        return [key for key in keys if key not in self._where]
