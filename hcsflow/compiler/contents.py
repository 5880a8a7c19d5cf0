"""What a value is, as a digest: the same in every process, another where it means another."""

from __future__ import annotations

import contextlib
import copyreg
import enum
import hashlib
import inspect
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, singledispatch
from pathlib import Path
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from hcsflow.arrays import find_memory_type, to_numpy
from hcsflow.compiler.dependencies import READY_MADE, dependencies_of, is_installed_at
from hcsflow.compiler.origins import (
    file_of,
    is_found_by_name,
    name_of,
    own_digest,
    travels_by_value,
    uses_of,
)
from hcsflow.errors import PipelineError

__all__ = ["Contents", "contents_of"]

_FAILURES = (TypeError, AttributeError, ValueError, RuntimeError, OSError, pickle.PicklingError)
"""What objects raise that cannot be taken apart."""


class Contents(NamedTuple):
    """The digest of a value, and the installed libraries that it comes from."""

    digest: str
    libraries: frozenset[str]


def contents_of(value: Any, what: str) -> Contents:
    """Return what a value is.

    Functions count by their code, source files and all that they have bound; those that travel
    by value (of a notebook, a script, a loose file) also by the globals that they refer to.
    Arrays and tables count by their contents, objects by class and state.

    Parameters
    ----------
    value : object
        Anything.
    what : str
        What to call it in an error.

    Raises
    ------
    PipelineError
        If it, or something in it, cannot be taken apart: a lock, an open file, a generator.
    """
    walk = _Walk()
    try:
        text = json.dumps(walk.of(value), sort_keys=True)
    except _NoContentsError as error:
        inside = f", at {' → '.join(error.trail)}" if error.trail else ""
        raise PipelineError(
            f"{what}: no digest can be made of a {error.kind}{inside}, so a resume could not tell "
            "whether it has changed",
            hint="give numbers, text, arrays, tables, functions or plain objects; let the function "
            "make the rest itself, or let the class leave it out (__getstate__)",
        ) from error
    except RecursionError as error:
        raise PipelineError(f"{what}: nested too deeply to make a digest of it") from error
    return Contents(_sha256(text.encode()), frozenset(walk.libraries))


class _NoContentsError(Exception):
    """Something has no digest: its class, and where it was met, outermost first."""

    def __init__(self, kind: str, trail: tuple[str, ...] = ()) -> None:
        super().__init__(kind, trail)
        self.kind = kind
        self.trail = trail


class _Walk:
    """Takes one value apart; lists begin with what they are, so nothing is mistaken."""

    def __init__(self) -> None:
        self.libraries: set[str] = set()
        self._open: dict[int, int] = {}
        self._met: dict[int, tuple[int, Any]] = {}

    def of(self, value: Any) -> Any:
        """Return a value as lists, numbers and text."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if id(value) in self._open:
            return ["itself", self._open[id(value)]]
        self._open[id(value)] = len(self._open)
        try:
            return _parts(value, self)
        finally:
            del self._open[id(value)]

    def part(self, label: str, value: Any) -> Any:
        """Return the same of a part; an error says where it was."""
        try:
            return self.of(value)
        except _NoContentsError as error:
            raise _NoContentsError(error.kind, (label, *error.trail)) from error.__cause__

    def once(self, thing: Any, parts: Callable[[], Any]) -> Any:
        """Take a function or class apart where it is met first; later it is only named."""
        if id(thing) in self._met:
            return ["met", self._met[id(thing)][0]]
        self._met[id(thing)] = (len(self._met), thing)
        return parts()

    def unordered(self, values: Iterable[Any]) -> list[str]:
        """Return values whose order differs from process to process."""
        before, found = dict(self._met), []
        for value in values:
            self._met = dict(before)
            found.append(json.dumps(self.of(value), sort_keys=True))
        self._met = before
        return sorted(found)

    def source(self, module: str, file: Path) -> tuple[str, ...]:
        """Return digests of a user's file and of those that it imports."""
        needs = dependencies_of(file, module)
        self.libraries |= needs.libraries
        return needs.digests

    def library(self, module: str) -> None:
        """Note that something of an installed library is used."""
        top = module.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("hcsflow", "__main__", ""):
            self.libraries.add(top)


@singledispatch
def _parts(value: Any, walk: _Walk) -> Any:
    wrapped = getattr(value, "__wrapped__", None)
    if callable(value) and isinstance(wrapped, FunctionType):  # a cache, or compiled anew
        return ["wrapper", name_of(type(value)), walk.of(wrapped)]
    if is_found_by_name(value):
        walk.library(value.__module__)
        return ["name", name_of(value)]
    if type(value) is not np.ndarray and find_memory_type(value) not in (None, "numpy"):
        return ["array of", walk.of(type(value)), walk.of(to_numpy(value))]
    table = _table(value, walk)
    return _object(value, walk) if table is None else table


def _object(value: Any, walk: _Walk) -> Any:
    """Return an object's class and state, as it would be pickled."""
    kind = walk.of(type(value))
    try:
        registered = copyreg.dispatch_table.get(type(value))
        reduced = registered(value) if registered else value.__reduce_ex__(4)
        if isinstance(reduced, str):
            return ["object", kind, reduced]
        make, args, *rest = reduced
        state, items, pairs = [*rest, None, None, None][:3]
        items, pairs = [list(each or ()) for each in (items, pairs)]
    except _FAILURES as error:
        raise _NoContentsError(name_of(type(value))) from error
    return ["object", kind, *(walk.of(each) for each in (make, args, state, items, pairs))]


@_parts.register
def _(value: list, walk: _Walk) -> Any:  # type: ignore[type-arg]
    return ["list", *map(walk.of, value)] if type(value) is list else _object(value, walk)


@_parts.register
def _(value: tuple, walk: _Walk) -> Any:  # type: ignore[type-arg]
    return ["tuple", *map(walk.of, value)] if type(value) is tuple else _object(value, walk)


@_parts.register(set)
@_parts.register(frozenset)
def _(value: Any, walk: _Walk) -> Any:
    exact = type(value) in (set, frozenset)
    return [type(value).__name__, *walk.unordered(value)] if exact else _object(value, walk)


@_parts.register(dict)
@_parts.register(MappingProxyType)
def _(value: Mapping[Any, Any], walk: _Walk) -> Any:
    if type(value) not in (dict, MappingProxyType):
        return _object(value, walk)
    keys = sorted((json.dumps(walk.of(key)), index) for index, key in enumerate(value))
    values = list(value.items())
    return ["dict", *([text, walk.part(str(values[i][0]), values[i][1])] for text, i in keys)]


@_parts.register(bytes)
@_parts.register(bytearray)
def _(value: bytes | bytearray, _walk: _Walk) -> Any:
    return [type(value).__name__, _sha256(bytes(value))]


@_parts.register(complex)
@_parts.register(type(...))
def _(value: Any, _walk: _Walk) -> Any:
    return ["value", repr(value)]


@_parts.register
def _(value: os.PathLike, _walk: _Walk) -> Any:  # type: ignore[type-arg]
    return ["path", os.fspath(value)]


@_parts.register
def _(value: enum.Enum, walk: _Walk) -> Any:
    return ["member", walk.of(type(value)), value.name, walk.of(value.value)]


@_parts.register
def _(value: np.generic, walk: _Walk) -> Any:
    return ["scalar", walk.of(np.asarray(value))]


@_parts.register
def _(value: np.ndarray, walk: _Walk) -> Any:
    if type(value) not in (np.ndarray, np.memmap):
        return _object(value, walk)
    if value.dtype.hasobject:
        return ["array", repr(value.dtype), list(value.shape), walk.of(value.tolist())]
    data = np.ascontiguousarray(value).tobytes()
    return ["array", repr(value.dtype), list(value.shape), _sha256(data)]


@_parts.register
def _(value: ModuleType, walk: _Walk) -> Any:
    file = file_of(value.__name__)
    if file is not None and not value.__name__.startswith("hcsflow"):
        return ["module", *walk.source(value.__name__, file)]
    walk.library(value.__name__)
    return ["module", value.__name__]


@_parts.register
def _(value: MethodType, walk: _Walk) -> Any:
    return ["method", walk.of(value.__func__), walk.part("self", value.__self__)]


@_parts.register
def _(value: property, walk: _Walk) -> Any:
    return ["property", *map(walk.of, (value.fget, value.fset, value.fdel))]


@_parts.register
def _(value: cached_property, walk: _Walk) -> Any:  # type: ignore[type-arg]
    return ["cached_property", walk.of(value.func)]


@_parts.register(staticmethod)
@_parts.register(classmethod)
def _(value: Any, walk: _Walk) -> Any:
    return [type(value).__name__, walk.of(value.__func__)]


@_parts.register
def _(value: CodeType, walk: _Walk) -> Any:
    # what it does, without file names and line numbers
    names = (value.co_names, value.co_varnames, value.co_freevars, value.co_consts)
    return ["code", value.co_code.hex(), value.co_exceptiontable.hex(), *map(walk.of, names)]


@_parts.register
def _(value: type, walk: _Walk) -> Any:
    return walk.once(value, lambda: _class(value, walk))


@_parts.register
def _(value: FunctionType, walk: _Walk) -> Any:
    return walk.once(value, lambda: _function(value, walk))


def _class(kind: type, walk: _Walk) -> Any:
    module = kind.__module__
    by_value = travels_by_value(module)
    file = None if module.startswith("hcsflow.") else file_of(module)
    if module.startswith("hcsflow."):
        return ["class", name_of(kind), own_digest()]
    source = () if file is None else walk.source(module, file)
    if not by_value:
        walk.library("" if file else module)
        return ["class", kind.__qualname__ if file else name_of(kind), *source]
    members = {
        name: value
        for name, value in vars(kind).items()
        if isinstance(value, FunctionType) or not (name.startswith("__") or name == "_abc_impl")
    }
    slots = {name for name, value in members.items() if inspect.ismemberdescriptor(value)}
    counted = {name: value for name, value in members.items() if name not in slots}
    bases = [walk.of(base) for base in kind.__bases__ if base is not object]
    return ["class", kind.__qualname__, *source, bases, sorted(slots), walk.of(counted)]


def _function(func: FunctionType, walk: _Walk) -> Any:
    module = str(func.__globals__.get("__name__", ""))
    path = Path(func.__code__.co_filename)
    if module.startswith("hcsflow."):
        if module.startswith(READY_MADE):
            walk.source(module, path)
        source: Any = [func.__qualname__, own_digest()]
    elif path.suffix == ".py" and path.is_file() and not is_installed_at(path):
        line = func.__code__.co_firstlineno
        source = [func.__qualname__, line, *walk.source(module, path)]
    elif path.is_file():
        walk.library(module)
        if is_found_by_name(func):
            return ["name", name_of(func)]
        source = [name_of(func)]
    else:
        source = [_text_of(func)]
    if func.__name__ == "<lambda>" or source == [None]:
        source += [walk.of(func.__code__)]
    return ["function", *source, *_bound(func, walk), _referred(func, walk)]


def _text_of(func: FunctionType) -> str | None:
    """Return a notebook function's source; None where there is none."""
    try:
        return inspect.getsource(func)
    except (OSError, TypeError):
        return None


def _bound(func: FunctionType, walk: _Walk) -> Iterator[Any]:
    """Yield what a function brings along: defaults, attributes, a closure's values."""
    parts = {"its defaults": [func.__defaults__, func.__kwdefaults__], "its attributes": vars(func)}
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not set yet
            parts[name] = cell.cell_contents
    for name, value in parts.items():
        try:
            yield [name, walk.part(name, value)]
        except _NoContentsError as error:
            if not is_found_by_name(func):
                raise
            yield [name, error.kind]  # made anew by each worker's import, as the source says


def _referred(func: FunctionType, walk: _Walk) -> Any:
    """Return the globals and modules that a function uses, where it travels with them."""
    here = func.__globals__
    if not travels_by_value(str(here.get("__name__", "")), here):
        return []
    found: list[Any] = []
    for is_import, name in uses_of(func.__code__):
        if is_import and name not in sys.modules:
            walk.library(name)
        elif is_import or name in here:
            value = sys.modules[name] if is_import else here[name]
            found.append([name, walk.part(name, value)])
    return found


def _table(value: Any, walk: _Walk) -> Any:
    """Return a pandas table's contents, however it holds them; None for anything else."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series, pandas.Index)):
        return None
    walk.library("pandas")
    if isinstance(value, pandas.DataFrame):
        columns = [_column(value.iloc[:, i], walk) for i in range(value.shape[1])]
        return ["frame", walk.of(value.index), walk.of(value.columns), columns]
    if isinstance(value, pandas.Series):
        return ["series", walk.of(value.name), walk.of(value.index), _column(value, walk)]
    return ["index", walk.of(list(value.names)), _column(value, walk)]


def _column(values: Any, walk: _Walk) -> Any:
    if isinstance(values.dtype, np.dtype):
        return walk.of(values.to_numpy())
    categories = getattr(values.dtype, "categories", None)
    known = None if categories is None else [list(categories), values.dtype.ordered]
    return [str(values.dtype), walk.of(known), walk.of(list(values))]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
