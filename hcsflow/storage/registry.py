"""Backends by name: a table of ours, entry points of others, and what a program registers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from threading import RLock
from typing import Any

from hcsflow.config import Backend
from hcsflow.errors import StorageResolutionError, nearest
from hcsflow.storage.abc import DataSink, DataSource
from hcsflow.storage.lazy import load_object

__all__ = ["StorageRegistry", "create_storage_registry", "storage_registry"]

ENTRY_POINTS = "hcsflow.storage"

_BUILTIN = {
    "memory": "hcsflow.storage.memory:MemoryStorageBackend",
    "disk": "hcsflow.storage.disk:DiskStorageBackend",
    "zarr": "hcsflow.storage.zarr:ZarrStorageBackend",
}

AnyBackend = DataSink | DataSource


class StorageRegistry:
    """Backends by name; each is imported and made when it is first asked for.

    Packages add theirs by an entry point in the group ``hcsflow.storage``, whose name is the
    backend's and whose object is a class or function without arguments.

    Examples
    --------
    >>> create_storage_registry().get_available_backends()
    ['disk', 'memory', 'zarr']
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._makers: dict[str, Callable[[], Any] | str] = {}
        self._made: dict[str, AnyBackend] = {}

    def register_backend(
        self, name: Backend | str, backend: AnyBackend | Callable[[], AnyBackend] | str
    ) -> None:
        """Add a backend.

        Parameters
        ----------
        name : Backend or str
            A name not yet taken.
        backend : backend, callable or str
            A backend, a class or function that makes one, or ``"module:Class"``.

        Raises
        ------
        StorageResolutionError
            If the name is taken.
        """
        key = _text(name)
        with self._lock:
            if key in self.get_available_backends():
                raise StorageResolutionError(
                    f"a storage backend is already called {key!r}", hint="choose another name"
                )
            if isinstance(backend, (DataSink, DataSource)):
                self._made[key] = backend
            else:
                self._makers[key] = backend

    def get_backend(self, name: Backend | str) -> Any:
        """Return the backend of a name: always the same one of this registry.

        Raises
        ------
        StorageResolutionError
            If there is none, or what it needs is not installed; it names those there are.
        """
        key = _text(name)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(key)
            return self._made[key]

    def get_available_backends(self) -> list[str]:
        """List the names of all backends; imports none of them."""
        outside = {point.name for point in entry_points(group=ENTRY_POINTS)}
        with self._lock:
            return sorted(outside | self._makers.keys() | self._made.keys())

    def _make(self, key: str) -> AnyBackend:
        maker = self._makers.get(key) or self._from_entry_point(key)
        try:
            made = (load_object(maker) if isinstance(maker, str) else maker)()
        except ImportError as error:
            raise StorageResolutionError(
                f"storage backend {key!r} needs {error.name}, which is not installed"
            ) from error
        if not isinstance(made, (DataSink, DataSource)):
            raise StorageResolutionError(
                f"storage backend {key!r} is {type(made).__name__}, neither a sink nor a source"
            )
        return made

    def _from_entry_point(self, key: str) -> Callable[[], Any] | str:
        for point in entry_points(group=ENTRY_POINTS, name=key):
            return point.value
        there = self.get_available_backends()
        close = nearest(key, there)
        if key == Backend.VIRTUAL_WORKSPACE.value:
            hint = "it belongs to one plate: register VirtualWorkspaceBackend(manifest, plate)"
        else:
            hint = f"did you mean {close!r}?" if close else "name one of them"
        raise StorageResolutionError(
            f"no storage backend {key!r}; there are {', '.join(there)}", hint=hint
        )


def create_storage_registry() -> StorageRegistry:
    """Return a new registry that knows the built-in backends."""
    registry = StorageRegistry()
    for name, spec in _BUILTIN.items():
        registry.register_backend(name, spec)
    return registry


def _text(name: Backend | str) -> str:
    return name.value if isinstance(name, Backend) else str(name)


storage_registry = create_storage_registry()
"""The registry of this process. Its memory backend is shared by all that use it."""
