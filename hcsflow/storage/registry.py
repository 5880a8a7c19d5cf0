"""Backends by name: a table of ours, entry points of others, and what a program registers."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from hcsflow.config import Backend, MaterializationBackend
from hcsflow.errors import StorageResolutionError, nearest
from hcsflow.storage.abc import ABILITIES, DataSink, DataSource, VerifiableBackend
from hcsflow.storage.lazy import load_object

__all__ = ["AnyName", "StorageRegistry", "create_storage_registry", "storage_registry"]

ENTRY_POINTS = "hcsflow.storage"

_BUILTIN = {
    "memory": "hcsflow.storage.memory:MemoryStorageBackend",
    "disk": "hcsflow.storage.disk:DiskStorageBackend",
    "zarr": "hcsflow.storage.zarr:ZarrStorageBackend",
}
_BOUND_BY_USERS = {
    "virtual_workspace": (
        "belongs to one plate, and none is bound to this name",
        "use hcsflow.open_workspace(folder), or register_backend('virtual_workspace', backend)",
    )
}
"""Names of ours whose backend needs to be told what to present: reason and advice."""

_FAILURES = (
    ImportError, AttributeError, SyntaxError, OSError, RuntimeError, ValueError, TypeError,
    LookupError,
)  # fmt: skip
"""What the code of others may raise while it is imported and called."""

Ability = TypeVar("Ability")
AnyBackend = DataSink | DataSource
AnyName = Backend | MaterializationBackend | str
Maker = Callable[[], Any] | str


class StorageRegistry:
    """Backends by name; each is imported and made when it is first asked for.

    Packages add theirs by an entry point in the group ``hcsflow.storage``, whose name is the
    backend's and whose object is a class or function without arguments. Pickled, a registry goes
    with what was registered; backends that it made itself are made anew in the other process.

    Examples
    --------
    >>> create_storage_registry().get_available_backends()
    ['disk', 'memory', 'virtual_workspace', 'zarr']
    """

    def __init__(self, makers: Mapping[str, Maker] | None = None) -> None:
        self._lock = RLock()
        self._makers: dict[str, Maker] = dict(makers or {})
        self._given: dict[str, AnyBackend] = {}
        self._made: dict[str, AnyBackend] = {}
        self._able: dict[type, dict[Any, Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        with self._lock:
            return _restore, (self is storage_registry, self._makers | self._given)

    def register_backend(
        self,
        name: AnyName,
        backend: AnyBackend | Callable[[], AnyBackend] | str,
        *,
        replace: bool = False,
    ) -> None:
        """Add a backend.

        Parameters
        ----------
        name : Backend or str
            A name not yet taken.
        backend : backend, callable or str
            A backend, a class or function that makes one, or ``"module:Class"``.
        replace : bool
            Take over the name of another backend, which itself stays as it is.

        Raises
        ------
        StorageResolutionError
            If the name is taken and ``replace`` is not set, or what is given neither is a backend
            nor makes one.
        """
        key = name_of(name)
        _refuse_useless(key, backend)
        with self._lock:
            if not replace and (key in self._names() or _entry_points(key)):
                raise StorageResolutionError(
                    f"a storage backend is already called {key!r}",
                    hint="choose another name, or say replace=True",
                )
            tables: list[dict[str, Any]] = [self._makers, self._given, self._made]
            for table in (*tables, *self._able.values()):
                table.pop(key, None)
            if isinstance(backend, (DataSink, DataSource)):
                self._given[key] = backend
            else:
                self._makers[key] = backend

    def get_backend(self, name: AnyName) -> Any:
        """Return the backend of a name: always the same one of this registry.

        Raises
        ------
        StorageResolutionError
            If there is none, or what it needs is not installed; it names those there are.
        """
        key = name_of(name)
        with self._lock:
            if key in self._given:
                return self._given[key]
            if key not in self._made:
                self._made[key] = self._make(key)
            return self._made[key]

    def get_available_backends(self) -> list[str]:
        """List the names of all backends; imports none of them.

        Warns
        -----
        UserWarning
            If an installed package offers one by a name of hcsflow's own: it is not used.
        """
        outside = _offered(_installed())
        for point in outside:
            _warn_of_taken(point)
        return sorted({point.name for point in outside} | self._names() | _BOUND_BY_USERS.keys())

    def require(self, name: AnyName, kind: type[Ability]) -> Ability:
        """Return the backend of a name if it has an ability.

        Raises
        ------
        StorageResolutionError
            If there is none, or it lacks the ability.
        """
        key = name_of(name)
        with self._lock:
            found = self.get_backend(key)
            if isinstance(found, kind):
                self.able(kind)[key] = found
                return found
        can = " and ".join(
            text for ability, text in ABILITIES.items() if isinstance(found, ability)
        )
        raise StorageResolutionError(
            f"storage backend {key!r} cannot {ABILITIES[kind]}: a {type(found).__name__} can {can}",
            hint=self._advice(kind),
        )

    def _advice(self, kind: type) -> str:
        with self._lock:
            able = sorted(key for key in self._names() if self._has_ability(key, kind))
        use = f"use another of {', '.join(able)}" if able else ""
        if kind is VerifiableBackend:
            wrap = "wrap it: hcsflow.storage.ChecksumBackend(backend) keeps checksums"
            return f"{use}; or {wrap}" if use else wrap
        return use or "register one that can"

    def _has_ability(self, key: str, kind: type) -> bool:
        """Tell whether a backend can do something, without making it."""
        found = self._given.get(key) or self._made.get(key) or self._makers[key]
        if isinstance(found, str):
            try:
                found = load_object(found)
            except (ImportError, AttributeError):  # its library is not installed
                return False
        return isinstance(found, kind) or (isinstance(found, type) and issubclass(found, kind))

    def able(self, kind: type[Ability]) -> dict[Any, Ability]:
        """Return the backends found so far to have an ability: a table kept up to date."""
        with self._lock:
            return self._able.setdefault(kind, {})

    def _names(self) -> set[str]:
        with self._lock:
            return {*self._makers, *self._given}

    def _make(self, key: str) -> AnyBackend:
        points = _entry_points(key)
        if key not in self._makers:
            return self._made_by_others(key, points)
        for point in points:
            _warn_of_taken(point)
        maker = self._makers[key]
        try:
            made = (load_object(maker) if isinstance(maker, str) else maker)()
        except ImportError as error:
            raise StorageResolutionError(
                f"storage backend {key!r} needs {error.name or error}, which is not installed"
            ) from error
        return _checked(made, f"storage backend {key!r}")

    def _made_by_others(self, key: str, points: list[EntryPoint]) -> AnyBackend:
        if key in _BOUND_BY_USERS:
            reason, advice = _BOUND_BY_USERS[key]
            raise StorageResolutionError(f"storage backend {key!r} {reason}", hint=advice)
        if not points:
            raise self._unknown(key)
        packages = ", ".join(sorted(map(_package, points)))
        who = f"storage backend {key!r} of package {packages}"
        if len(points) > 1:
            raise StorageResolutionError(
                f"{len(points)} packages offer a storage backend {key!r}: {packages}",
                hint="uninstall all but one",
            )
        try:
            made = points[0].load()()
        except _FAILURES as error:
            raise StorageResolutionError(
                f"{who} cannot be made from {points[0].value}: {type(error).__name__}: {error}",
                hint="repair, update or uninstall that package",
            ) from error
        return _checked(made, who)

    def _unknown(self, key: str) -> StorageResolutionError:
        there = self.get_available_backends()
        close = nearest(key, there)
        if close is None and key in [member.value for member in Backend]:
            hint = "a package must offer it by an entry point in hcsflow.storage; none does"
        else:
            hint = f"did you mean {close!r}?" if close else "name one of them"
        return StorageResolutionError(
            f"no storage backend {key!r}; there are {', '.join(there)}", hint=hint
        )


def create_storage_registry() -> StorageRegistry:
    """Return a new registry that knows the built-in backends."""
    return StorageRegistry(_BUILTIN)


def name_of(name: AnyName) -> str:
    """Return a backend's name as plain text.

    Examples
    --------
    >>> name_of(Backend.DISK)
    'disk'
    """
    return name if type(name) is str else str(getattr(name, "value", name))


def _refuse_useless(key: str, backend: object) -> None:
    """Refuse what can never become a backend, before anybody asks for it."""
    what = f"{type(backend).__name__} {backend!r}"
    if isinstance(backend, str):
        is_fit = ":" in backend
    elif isinstance(backend, type):
        what = f"class {backend.__name__}"
        is_fit = issubclass(backend, (DataSink, DataSource))
    else:
        is_fit = callable(backend) or isinstance(backend, (DataSink, DataSource))
    if not is_fit:
        raise StorageResolutionError(
            f"storage backend {key!r} cannot be {what}",
            hint="give a backend, a class or function that makes one, or 'module:Class'; backends "
            "derive from a class of hcsflow.storage.abc",
        )


def _entry_points(key: str) -> list[EntryPoint]:
    return [point for point in _offered(_installed()) if point.name == key]


@lru_cache(maxsize=4)
def _offered(installed: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:  # noqa: ARG001
    """Return all packages' backends; looking through them takes 10 ms, so while nothing changes."""
    return tuple(entry_points(group=ENTRY_POINTS))


def _installed() -> tuple[tuple[str, int], ...]:
    """Return where packages lie, with times that change as some are added."""
    return tuple((place, _mtime_ns(place)) for place in sys.path)


def _mtime_ns(place: str) -> int:
    try:
        return Path(place).stat().st_mtime_ns
    except OSError:
        return 0


def _package(point: EntryPoint) -> str:
    return repr(point.dist.name if point.dist is not None else point.value)


def _warn_of_taken(point: EntryPoint) -> None:
    if point.name in _BUILTIN or point.name in _BOUND_BY_USERS:
        warnings.warn(
            f"package {_package(point)} offers a storage backend {point.name!r}, a name of "
            f"hcsflow's own: it is not used",
            stacklevel=4,
        )


def _checked(made: object, who: str) -> AnyBackend:
    if not isinstance(made, (DataSink, DataSource)):
        raise StorageResolutionError(
            f"{who} is {type(made).__name__}, neither a sink nor a source",
            hint="derive it from a class of hcsflow.storage.abc",
        )
    return made


def _restore(is_shared: bool, backends: Mapping[str, Any]) -> StorageRegistry:
    """Make a registry from a pickle; that of a whole process becomes that of this one."""
    registry = storage_registry if is_shared else StorageRegistry()
    for name, backend in backends.items():
        if not is_shared or name not in registry._names():  # noqa: SLF001
            registry.register_backend(name, backend, replace=True)
    return registry


storage_registry = create_storage_registry()
"""The registry of this process. Its memory backend is shared by all that use it."""
