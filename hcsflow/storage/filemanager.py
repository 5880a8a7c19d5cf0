"""One door to all backends: the backend is named at each call, and each call is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, TypeVar

from numpy import ndarray, ndim, shape

from hcsflow.arrays import convert, find_memory_type
from hcsflow.errors import UsageError
from hcsflow.storage.abc import (
    DataSink,
    DataSource,
    StorageBackend,
    VerifiableBackend,
    Verification,
)
from hcsflow.storage.paths import StrPath
from hcsflow.storage.registry import AnyName, StorageRegistry, name_of, storage_registry
from hcsflow.storage.traffic import Operation, Traffic, TrafficMeter, weigh

__all__ = ["FileManager"]

IMAGE_EXTENSIONS = (".tif", ".tiff", ".png")
_SYMLINK_OPTIONS = ("overwrite_symlinks_only", "replace_symlinks")

T = TypeVar("T")


class FileManager:
    """Save, load, list and rearrange data on any backend.

    The same logical path works on every backend; listings are in natural order. A backend that
    fails raises: nothing falls back to another one. Any number of threads may share one; pickled,
    it goes with its registry and counts from nothing.

    Parameters
    ----------
    registry : StorageRegistry, optional
        Where backends come from; the default is this process's `storage_registry`.
    meter : TrafficMeter, optional
        Where operations are counted together with others'; the default is one of its own.

    Examples
    --------
    >>> import hcsflow.storage as storage
    >>> files = FileManager(storage.create_storage_registry())
    >>> files.save([1, 2], "/result", "memory")
    >>> files.load("/result", "memory")
    [1, 2]
    """

    def __init__(
        self, registry: StorageRegistry | None = None, *, meter: TrafficMeter | None = None
    ) -> None:
        self.registry = storage_registry if registry is None else registry
        self._meter = TrafficMeter() if meter is None else meter
        self._count = self._meter.count
        self._sinks = self.registry.able(DataSink)  # type: ignore[type-abstract]
        self._sources = self.registry.able(DataSource)  # type: ignore[type-abstract]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.registry,)

    def get_backend(self, backend: AnyName) -> Any:
        """Return a backend by name.

        Raises
        ------
        StorageResolutionError
            If there is none of that name.
        """
        return self.registry.get_backend(backend)

    def traffic(self) -> Traffic:
        """Return what went through each backend so far: operations, errors, bytes, seconds."""
        return self._meter.traffic()

    def log(self) -> list[Operation]:
        """Return the last 1000 operations, oldest first."""
        return self._meter.log()

    def save(self, data: Any, path: StrPath, backend: AnyName, **options: Any) -> None:
        """Store data; see the backend's ``save`` for options such as ``overwrite``."""
        try:
            sink = self._sinks[backend]
        except KeyError:
            sink = self._sink(backend)
        start = perf_counter()
        try:
            if options:
                sink.save(data, path, **options)
            else:  # unpacking nothing costs as much as counting
                sink.save(data, path)
        except BaseException as error:
            self._count(name_of(backend), "save", path, start, 0, error)
            raise
        nbytes = data.nbytes if type(data) is ndarray else weigh(data)
        self._count(backend, "save", path, start, nbytes)

    def load(self, path: StrPath, backend: AnyName, **options: Any) -> Any:
        """Return what is stored at a path; arrays in files as numpy."""
        try:
            source = self._sources[backend]
        except KeyError:
            source = self._source(backend)
        start = perf_counter()
        try:
            data = source.load(path, **options) if options else source.load(path)
        except BaseException as error:
            self._count(name_of(backend), "load", path, start, 0, error)
            raise
        nbytes = data.nbytes if type(data) is ndarray else weigh(data)
        self._count(backend, "load", path, start, nbytes)
        return data

    def save_batch(
        self, data: Sequence[Any], paths: Sequence[StrPath], backend: AnyName, **options: Any
    ) -> None:
        """Store several objects in one operation."""
        sink = self._sink(backend)
        self._do(
            ("save_batch", f"{len(paths)} paths", backend),
            lambda: sink.save_batch(data, paths, **options),
            lambda _: sum(map(weigh, data)),
        )

    def load_batch(self, paths: Sequence[StrPath], backend: AnyName, **options: Any) -> list[Any]:
        """Return what is stored at each path, in order."""
        source = self._source(backend)
        return self._do(
            ("load_batch", f"{len(paths)} paths", backend),
            lambda: source.load_batch(paths, **options),
            lambda loaded: sum(map(weigh, loaded)),
        )

    def verify(self, path: StrPath, backend: AnyName) -> Verification:
        """Check what is stored at and below a path against its checksums.

        Raises
        ------
        StorageResolutionError
            If the backend keeps none: `hcsflow.storage.ChecksumBackend` adds them to any. The
            error names the backends that keep their own.
        """
        checked = self.registry.require(backend, VerifiableBackend)  # type: ignore[type-abstract]
        return self._do(("verify", path, backend), lambda: checked.verify(path))

    def save_array(self, data: Any, path: StrPath, backend: AnyName, **options: Any) -> None:
        """Store an array of any memory type.

        Raises
        ------
        UsageError
            If ``data`` is not an array.
        """
        if find_memory_type(data) is None:
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
        if find_memory_type(data) is None:
            raise UsageError(f"{path}: expected an array, found {type(data).__name__}")
        return convert(data, memory_type, device=device)

    def save_image(self, data: Any, path: StrPath, backend: AnyName, **options: Any) -> None:
        """Store one plane, (y, x).

        Raises
        ------
        UsageError
            If ``data`` has not two axes.
        """
        if ndim(data) != 2:
            raise UsageError(f"{path}: an image has two axes, got shape {shape(data)}")
        self.save_array(data, path, backend, **options)

    def load_image(self, path: StrPath, backend: AnyName, *, memory_type: str = "numpy") -> Any:
        """Return one plane, (y, x), in the memory type asked for."""
        image = self.load_array(path, backend, memory_type=memory_type)
        if image.ndim != 2:
            raise UsageError(f"{path}: an image has two axes, found shape {tuple(image.shape)}")
        return image

    def exists(self, path: StrPath, backend: AnyName) -> bool:
        """Whether a path is a file or folder."""
        source = self._source(backend)
        return self._do(("exists", path, backend), lambda: source.exists(path))

    def is_file(self, path: StrPath, backend: AnyName) -> bool:
        """Whether a path can be loaded."""
        source = self._source(backend)
        return self._do(("is_file", path, backend), lambda: source.is_file(path))

    def is_dir(self, path: StrPath, backend: AnyName) -> bool:
        """Whether a path is a folder."""
        source = self._source(backend)
        return self._do(("is_dir", path, backend), lambda: source.is_dir(path))

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
        source = self._source(backend)
        return self._do(
            ("list_files", directory, backend),
            lambda: source.list_files(
                directory, pattern=pattern, extensions=extensions, recursive=recursive
            ),
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
        source = self._source(backend)
        return self._do(("list_dir", directory, backend), lambda: source.list_dir(directory))

    def ensure_directory(self, directory: StrPath, backend: AnyName) -> str:
        """Make a folder and its parents; return its path."""
        storage = self._storage(backend)
        return self._do(
            ("ensure_directory", directory, backend), lambda: storage.ensure_directory(directory)
        )

    def delete(self, path: StrPath, backend: AnyName) -> None:
        """Remove a file or an empty folder."""
        storage = self._storage(backend)
        self._do(("delete", path, backend), lambda: storage.delete(path))

    def delete_all(self, path: StrPath, backend: AnyName) -> None:
        """Remove a file, or a folder and everything in it; of a root, its contents."""
        storage = self._storage(backend)
        self._do(("delete_all", path, backend), lambda: storage.delete_all(path))

    def move(self, source: StrPath, target: StrPath, backend: AnyName, **options: Any) -> None:
        """Rename a file or folder."""
        _refuse_symlinks(options)
        storage = self._storage(backend)
        self._do(("move", source, backend), lambda: storage.move(source, target, **options))

    def copy(self, source: StrPath, target: StrPath, backend: AnyName, **options: Any) -> None:
        """Copy a file or folder."""
        _refuse_symlinks(options)
        storage = self._storage(backend)
        self._do(("copy", source, backend), lambda: storage.copy(source, target, **options))

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
        storage = self._storage(backend)
        return self._do(
            ("mirror_directory", source, backend),
            lambda: storage.mirror_directory(source, target, **options),
        )

    def mirror_directory_structure(
        self, source_dir: StrPath, target_dir: StrPath, backend: AnyName, **options: Any
    ) -> int:
        """Do as `mirror_directory`."""
        return self.mirror_directory(source_dir, target_dir, backend, **options)

    def _sink(self, backend: AnyName) -> DataSink:
        return self.registry.require(backend, DataSink)  # type: ignore[type-abstract]

    def _source(self, backend: AnyName) -> DataSource:
        return self.registry.require(backend, DataSource)  # type: ignore[type-abstract]

    def _storage(self, backend: AnyName) -> StorageBackend:
        return self.registry.require(backend, StorageBackend)  # type: ignore[type-abstract]

    def _do(
        self,
        what: tuple[str, StrPath, AnyName],
        call: Callable[[], T],
        weigh_result: Callable[[T], int] | None = None,
    ) -> T:
        """Carry out, count and log an operation: its name, path and backend."""
        operation, path, backend = what
        name, start = name_of(backend), perf_counter()
        try:
            result = call()
        except BaseException as error:
            self._count(name, operation, path, start, 0, error)
            raise
        nbytes = 0 if weigh_result is None else weigh_result(result)
        self._count(name, operation, path, start, nbytes)
        return result


def _refuse_symlinks(options: dict[str, Any]) -> None:
    for option in _SYMLINK_OPTIONS:
        if option in options:
            raise UsageError(
                f"{option} is not an option: hcsflow makes no symlinks",
                hint="files are copied, or presented by the virtual workspace without a copy",
            )
