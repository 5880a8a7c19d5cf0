"""Behaviour around any backend: each wrapper is one small class, and keeps the backend's abilities.

A wrapper of a `DataSource` is a `DataSource` and nothing more, one of a `StorageBackend` is a
`StorageBackend`. Options of the inner backend pass through. What a backend offers beyond the
types of `hcsflow.storage.abc` is reached by ``inner``, past the wrapper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from hcsflow.errors import ReadOnlyError
from hcsflow.storage.abc import (
    DataSink,
    DataSource,
    FileStat,
    StorageBackend,
    StreamingBackend,
    VerifiableBackend,
    Verification,
    VirtualBackend,
)
from hcsflow.storage.paths import StrPath
from hcsflow.storage.traffic import Operation, Traffic, TrafficMeter, weigh

__all__ = ["BackendWrapper", "Call", "CountingBackend", "ReadOnlyBackend"]

WRITES = frozenset(
    {"save", "save_batch", "ensure_directory", "delete", "delete_all", "move", "copy"}
    | {"mirror_directory"}
)
"""Operations that change what is stored."""


class Call(NamedTuple):
    """One call of a backend: the method's name, its arguments and options."""

    operation: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = {}

    @property
    def path(self) -> str:
        """What it is about, for messages: the path, or how many there are."""
        if not self.arguments:
            return ""
        paths = (
            self.arguments[-1] if self.operation in ("save", "save_batch") else self.arguments[0]
        )
        return f"{len(paths)} paths" if isinstance(paths, (list, tuple)) else str(paths)

    @property
    def writes(self) -> bool:
        """Whether it changes what is stored."""
        return self.operation in WRITES


class BackendWrapper:
    """A backend around another: subclasses say in `_call` what happens around each call.

    Parameters
    ----------
    inner : backend
        Any; the wrapper has its abilities.
    """

    inner: Any

    def __new__(cls, inner: Any, *_arguments: Any, **_options: Any) -> Self:  # noqa: D102
        made: Self = object.__new__(_shaped(cast("Any", cls), _abilities(inner)))
        return made

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self).__base__, self.inner, self.__dict__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    if TYPE_CHECKING:  # which abilities there are is known when a wrapper is made

        def __getattr__(self, name: str) -> Any: ...

    def _call(self, call: Call) -> Any:
        return getattr(self.inner, call.operation)(*call.arguments, **call.options)


class ReadOnlyBackend(BackendWrapper):
    """A backend whose contents cannot be changed through it.

    Loading gives copies also with ``copy=False``: the stored object itself could be changed.

    Examples
    --------
    >>> from hcsflow.storage.memory import MemoryStorageBackend
    >>> memory = MemoryStorageBackend()
    >>> memory.save([1], "/a")
    >>> ReadOnlyBackend(memory).load("/a")
    [1]
    """

    def _call(self, call: Call) -> Any:
        if call.writes:
            raise ReadOnlyError(
                f"{call.operation} of {call.path}: this {type(self.inner).__name__} is read-only",
                hint="write to another backend",
            )
        if call.options.get("copy") is False:
            call = call._replace(options={**call.options, "copy": True})
        return super()._call(call)


class CountingBackend(BackendWrapper):
    """A backend that counts and logs its operations, for use without a `FileManager`.

    Parameters
    ----------
    inner : backend
        Any.
    name : str, optional
        What it is called in counters and log; the default is its class's name.

    Examples
    --------
    >>> from hcsflow.storage.memory import MemoryStorageBackend
    >>> memory = CountingBackend(MemoryStorageBackend(), name="memory")
    >>> memory.save(b"1234", "/a")
    >>> memory.traffic()["memory"].nbytes
    4
    """

    def __init__(self, inner: Any, *, name: str | None = None) -> None:
        super().__init__(inner)
        self.name = type(inner).__name__ if name is None else name
        self._meter = TrafficMeter()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(CountingBackend, name=self.name), (self.inner,)

    def traffic(self) -> Traffic:
        """Return what went through so far."""
        return self._meter.traffic()

    def log(self) -> list[Operation]:
        """Return the last operations, oldest first."""
        return self._meter.log()

    def _call(self, call: Call) -> Any:
        start = perf_counter()
        try:
            result = super()._call(call)
        except BaseException as error:
            self._meter.count(self.name, call.operation, call.path, start, 0, error)
            raise
        self._meter.count(self.name, call.operation, call.path, start, _moved(call, result))
        return result


def _moved(call: Call, result: Any) -> int:
    """Return the bytes that a call gave or took."""
    if call.operation in ("save_batch", "load_batch"):
        return sum(map(weigh, result if result is not None else call.arguments[0]))
    if call.operation == "save":
        return weigh(call.arguments[0])
    return weigh(result) if call.operation == "load" else 0


class _SinkShape(BackendWrapper, DataSink):
    def save(self, data: Any, path: StrPath, **options: Any) -> None:
        self._call(Call("save", (data, path), options))

    def save_batch(self, data: Sequence[Any], paths: Sequence[StrPath], **options: Any) -> None:
        self._call(Call("save_batch", (data, paths), options))


class _SourceShape(BackendWrapper, DataSource):
    def load(self, path: StrPath, **options: Any) -> Any:
        return self._call(Call("load", (path,), options))

    def load_batch(self, paths: Sequence[StrPath], **options: Any) -> list[Any]:
        loaded: list[Any] = self._call(Call("load_batch", (paths,), options))
        return loaded

    def is_file(self, path: StrPath) -> bool:
        return bool(self._call(Call("is_file", (path,))))

    def is_dir(self, path: StrPath) -> bool:
        return bool(self._call(Call("is_dir", (path,))))

    def exists(self, path: StrPath) -> bool:
        return bool(self._call(Call("exists", (path,))))

    def list_files(self, directory: StrPath, **options: Any) -> list[str]:
        listed: list[str] = self._call(Call("list_files", (directory,), options))
        return listed

    def list_dir(self, directory: StrPath) -> list[str]:
        listed: list[str] = self._call(Call("list_dir", (directory,)))
        return listed


class _StorageShape(_SinkShape, _SourceShape, StorageBackend):
    def ensure_directory(self, directory: StrPath) -> str:
        return str(self._call(Call("ensure_directory", (directory,))))

    def delete(self, path: StrPath) -> None:
        self._call(Call("delete", (path,)))

    def delete_all(self, path: StrPath) -> None:
        self._call(Call("delete_all", (path,)))

    def move(self, source: StrPath, target: StrPath, **options: Any) -> None:
        self._call(Call("move", (source, target), options))

    def copy(self, source: StrPath, target: StrPath, **options: Any) -> None:
        self._call(Call("copy", (source, target), options))

    def stat(self, path: StrPath) -> FileStat:
        found: FileStat = self._call(Call("stat", (path,)))
        return found

    def mirror_directory(self, source: StrPath, target: StrPath, **options: Any) -> int:
        return int(self._call(Call("mirror_directory", (source, target), options)))


class _VirtualShape(_SourceShape, VirtualBackend):
    def generate_filename(self, metadata: Mapping[str, Any]) -> str:
        return str(self._call(Call("generate_filename", (metadata,))))


class _StreamShape(_SinkShape, StreamingBackend):
    def close(self) -> None:
        self._call(Call("close", ()))


class _VerifiableShape(BackendWrapper, VerifiableBackend):
    def verify(self, directory: StrPath = "") -> Verification:
        found: Verification = self._call(Call("verify", (directory,)))
        return found


_SHAPES: Mapping[type, type[BackendWrapper]] = {
    StorageBackend: _StorageShape,
    VirtualBackend: _VirtualShape,
    StreamingBackend: _StreamShape,
    DataSink: _SinkShape,
    DataSource: _SourceShape,
    VerifiableBackend: _VerifiableShape,
}
"""How each ability is forwarded; the wider ones first."""


def _abilities(inner: Any) -> tuple[type[BackendWrapper], ...]:
    return tuple(shape for ability, shape in _SHAPES.items() if isinstance(inner, ability))


@lru_cache(maxsize=256)
def _shaped(wrapper: type, shapes: tuple[type, ...]) -> Any:
    """Return a wrapper's class with the abilities of what it wraps."""
    names = {"__module__": wrapper.__module__, "__doc__": wrapper.__doc__}
    return type(wrapper.__name__, (wrapper, *shapes), names)


def _rebuild(wrapper: type[BackendWrapper], inner: Any, state: Mapping[str, Any]) -> Any:
    made = wrapper.__new__(wrapper, inner)
    made.__dict__.update(state)
    return made
