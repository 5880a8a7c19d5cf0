"""One door to all backends: the backend is named at each call, and each call is counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from hcsflow.arrays import convert
from hcsflow.config import Backend, MaterializationBackend
from hcsflow.errors import StorageResolutionError, UsageError
from hcsflow.storage.abc import DataSink, DataSource, StorageBackend
from hcsflow.storage.families import sizeof
from hcsflow.storage.paths import StrPath
from hcsflow.storage.registry import StorageRegistry, storage_registry

__all__ = ["FileManager", "Traffic"]

_log = logging.getLogger(__name__)

IMAGE_EXTENSIONS = (".tif", ".tiff", ".png")
_SYMLINK_OPTIONS = ("overwrite_symlinks_only", "replace_symlinks")

Ability = TypeVar("Ability")
AnyName = Backend | MaterializationBackend | str


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through a backend: calls, bytes given or taken (uncompressed), seconds."""

    operations: int = 0
    nbytes: int = 0
    seconds: float = 0.0


class FileManager:
    """Save, load, list and rearrange data on any backend.

    The same logical path works on every backend; listings are in natural order. A backend that
    fails raises: nothing falls back to another one.

    Parameters
    ----------
    registry : StorageRegistry, optional
        Where backends come from; the default is this process's `storage_registry`.

    Examples
    --------
    >>> import hcsflow.storage as storage
    >>> files = FileManager(storage.create_storage_registry())
    >>> files.save([1, 2], "/result", "memory")
    >>> files.load("/result", "memory")
    [1, 2]
    """

    def __init__(self, registry: StorageRegistry | None = None) -> None:
        self.registry = storage_registry if registry is None else registry
        self._lock = Lock()
        self._traffic: dict[str, Traffic] = {}

    def get_backend(self, backend: AnyName) -> Any:
        """Return a backend by name.

        Raises
        ------
        StorageResolutionError
            If there is none of that name.
        """
        return self.registry.get_backend(_name(backend))

    def traffic(self) -> dict[str, Traffic]:
        """Return what went through each backend so far."""
        with self._lock:
            return dict(self._traffic)

    def save(self, data: Any, path: StrPath, backend: AnyName, **options: Any) -> None:
        """Store data; see the backend's ``save`` for options such as ``overwrite``."""
        sink = self._sink(backend)
        with self._counted("save", path, backend, data):
            sink.save(data, path, **options)

    def load(self, path: StrPath, backend: AnyName, **options: Any) -> Any:
        """Return what is stored at a path; arrays as numpy."""
        source = self._source(backend)
        with self._counted("load", path, backend) as taken:
            data = source.load(path, **options)
            taken.append(data)
        return data

    def save_batch(
        self, data: Sequence[Any], paths: Sequence[StrPath], backend: AnyName, **options: Any
    ) -> None:
        """Store several objects in one operation."""
        sink = self._sink(backend)
        with self._counted("save_batch", f"{len(paths)} paths", backend, list(data)):
            sink.save_batch(data, paths, **options)

    def load_batch(self, paths: Sequence[StrPath], backend: AnyName, **options: Any) -> list[Any]:
        """Return what is stored at each path, in order."""
        source = self._source(backend)
        with self._counted("load_batch", f"{len(paths)} paths", backend) as taken:
            data = source.load_batch(paths, **options)
            taken.extend(data)
        return data

    def save_array(self, data: Any, path: StrPath, backend: AnyName, **options: Any) -> None:
        """Store an array of any memory type.

        Raises
        ------
        UsageError
            If ``data`` is not an array.
        """
        if not hasattr(data, "shape"):
            raise UsageError(f"{path}: expected an array, got {type(data).__name__}")
        self.save(data, path, backend, **options)

    def load_array(
        self,
        path: StrPath,
        backend: AnyName,
        *,
        memory_type: str = "numpy",
        device: str | None = None,
    ) -> Any:
        """Return an array in the memory type asked for.

        Raises
        ------
        UsageError
            If what is stored is not an array.
        MemoryConversionError
            If it cannot become one of that type.
        """
        data = self.load(path, backend)
        if not hasattr(data, "shape"):
            raise UsageError(f"{path}: expected an array, found {type(data).__name__}")
        return data if memory_type == "numpy" else convert(data, memory_type, device=device)

    def save_image(self, data: Any, path: StrPath, backend: AnyName, **options: Any) -> None:
        """Store one plane, (y, x).

        Raises
        ------
        UsageError
            If ``data`` has not two axes.
        """
        if np.ndim(data) != 2:
            raise UsageError(f"{path}: an image has two axes, got shape {np.shape(data)}")
        self.save_array(data, path, backend, **options)

    def load_image(self, path: StrPath, backend: AnyName, *, memory_type: str = "numpy") -> Any:
        """Return one plane, (y, x), in the memory type asked for."""
        image = self.load_array(path, backend, memory_type=memory_type)
        if image.ndim != 2:
            raise UsageError(f"{path}: an image has two axes, found shape {tuple(image.shape)}")
        return image

    def exists(self, path: StrPath, backend: AnyName) -> bool:
        """Whether a path is a file or folder."""
        return self._source(backend).exists(path)

    def is_file(self, path: StrPath, backend: AnyName) -> bool:
        """Whether a path can be loaded."""
        return self._source(backend).is_file(path)

    def is_dir(self, path: StrPath, backend: AnyName) -> bool:
        """Whether a path is a folder."""
        return self._source(backend).is_dir(path)

    def list_files(
        self,
        directory: StrPath,
        backend: AnyName,
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
    ) -> list[str]:
        """List files in natural order; see `DataSource.list_files`."""
        return self._source(backend).list_files(
            directory, pattern=pattern, extensions=extensions, recursive=recursive
        )

    def list_image_files(
        self,
        directory: StrPath,
        backend: AnyName,
        *,
        pattern: str | None = None,
        extensions: Iterable[str] = IMAGE_EXTENSIONS,
        recursive: bool = False,
    ) -> list[str]:
        """List image files (TIFF and PNG, or the extensions given) in natural order."""
        return self.list_files(
            directory, backend, pattern=pattern, extensions=extensions, recursive=recursive
        )

    def list_dir(self, directory: StrPath, backend: AnyName) -> list[str]:
        """List names in a folder, in natural order."""
        return self._source(backend).list_dir(directory)

    def ensure_directory(self, directory: StrPath, backend: AnyName) -> str:
        """Make a folder and its parents; return its path."""
        return self._storage(backend).ensure_directory(directory)

    def delete(self, path: StrPath, backend: AnyName) -> None:
        """Remove a file or an empty folder."""
        with self._counted("delete", path, backend):
            self._storage(backend).delete(path)

    def delete_all(self, path: StrPath, backend: AnyName) -> None:
        """Remove a file, or a folder and everything in it."""
        with self._counted("delete_all", path, backend):
            self._storage(backend).delete_all(path)

    def move(self, source: StrPath, target: StrPath, backend: AnyName, **options: Any) -> None:
        """Rename a file or folder."""
        _refuse_symlinks(options)
        with self._counted("move", source, backend):
            self._storage(backend).move(source, target, **options)

    def copy(self, source: StrPath, target: StrPath, backend: AnyName, **options: Any) -> None:
        """Copy a file or folder."""
        with self._counted("copy", source, backend):
            self._storage(backend).copy(source, target, **options)

    def mirror_directory(
        self, source: StrPath, target: StrPath, backend: AnyName, **options: Any
    ) -> int:
        """Copy a folder's files to the same names below another; return how many.

        Raises
        ------
        UsageError
            If symlinks are asked for: hcsflow makes none.
        """
        _refuse_symlinks(options)
        with self._counted("mirror_directory", source, backend):
            return self._storage(backend).mirror_directory(source, target, **options)

    def mirror_directory_structure(
        self, source_dir: StrPath, target_dir: StrPath, backend: AnyName, **options: Any
    ) -> int:
        """Do as `mirror_directory`."""
        return self.mirror_directory(source_dir, target_dir, backend, **options)

    def _sink(self, backend: AnyName) -> DataSink:
        return self._able(backend, DataSink, "take data")  # type: ignore[type-abstract]

    def _source(self, backend: AnyName) -> DataSource:
        return self._able(backend, DataSource, "give data")  # type: ignore[type-abstract]

    def _storage(self, backend: AnyName) -> StorageBackend:
        return self._able(backend, StorageBackend, "rearrange files")  # type: ignore[type-abstract]

    def _able(self, backend: AnyName, kind: type[Ability], ability: str) -> Ability:
        found: object = self.get_backend(backend)
        if isinstance(found, kind):
            return found
        names = self.registry.get_available_backends()
        raise StorageResolutionError(
            f"storage backend {_name(backend)!r} cannot {ability}",
            hint=f"use another of {', '.join(names)}",
        )

    @contextmanager
    def _counted(
        self, operation: str, path: StrPath, backend: AnyName, given: Any = None
    ) -> Iterator[list[Any]]:
        """Count and log one operation, whether it succeeds or not."""
        taken: list[Any] = []
        start = time.perf_counter()
        try:
            yield taken
        finally:
            seconds = time.perf_counter() - start
            name = _name(backend)
            nbytes = sum(sizeof(item).nbytes for item in (taken if given is None else [given]))
            with self._lock:
                old = self._traffic.get(name, Traffic())
                self._traffic[name] = replace(
                    old,
                    operations=old.operations + 1,
                    nbytes=old.nbytes + nbytes,
                    seconds=old.seconds + seconds,
                )
            _log.debug("%s %s %s: %d bytes, %.6f s", name, operation, path, nbytes, seconds)


def _name(backend: AnyName) -> str:
    return backend if type(backend) is str else str(getattr(backend, "value", backend))


def _refuse_symlinks(options: dict[str, Any]) -> None:
    for option in _SYMLINK_OPTIONS:
        if option in options:
            raise UsageError(
                f"{option} is not an option: hcsflow makes no symlinks",
                hint="files are copied, or presented by the virtual workspace without a copy",
            )
