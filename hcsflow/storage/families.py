"""How large an object is, to which family it belongs, and a copy that shares nothing mutable.

Works on any array library, tables, and containers of them, without importing any.
"""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np

from hcsflow.arrays.families import copied, nbytes_of
from hcsflow.arrays.libraries import find_memory_type

__all__ = ["Weight", "duplicate", "sizeof"]


class Weight(NamedTuple):
    """An object's family (its library, ``"container"`` or ``"object"``) and size in bytes."""

    family: str
    nbytes: int


def _memory_usage(value: Any) -> int:
    usage = value.memory_usage(deep=True)
    return int(usage if isinstance(usage, int) else usage.sum())


_TABLES: Mapping[str, tuple[str, Callable[[Any], int]]] = {
    "pandas": ("memory_usage", _memory_usage),
    "pyarrow": ("nbytes", lambda value: int(value.nbytes)),
    "xarray": ("nbytes", lambda value: int(value.nbytes)),
}
"""By top-level package of a table's type: attribute it must have, and how to ask it."""


def sizeof(value: Any) -> Weight:
    """Return an object's family and size in bytes.

    Arrays and tables in mappings, sequences, sets and dataclasses are counted, each once.

    Examples
    --------
    >>> import numpy as np
    >>> sizeof(np.zeros((4, 4), np.uint16))
    Weight(family='numpy', nbytes=32)
    """
    if type(value) is np.ndarray:
        return Weight("numpy", value.nbytes)
    name = find_memory_type(value)
    if name is not None:
        return Weight(name, nbytes_of(value) or 0)
    family = type(value).__module__.partition(".")[0]
    attribute, measure = _TABLES.get(family, ("", sys.getsizeof))
    if attribute and hasattr(value, attribute):
        return Weight(family, measure(value))
    if _parts(value) is None:
        return Weight("object", sys.getsizeof(value))
    return Weight("container", sum(map(_own_nbytes, _everything(value))))


def _own_nbytes(value: Any) -> int:
    return sys.getsizeof(value) if _parts(value) is not None else sizeof(value).nbytes


def _parts(value: Any) -> Iterable[Any] | None:
    """Return what a container holds; None for anything that is none."""
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in fields(value)]
    return None


def _everything(value: Any) -> list[Any]:
    """Return an object and all that containers in it hold, each once."""
    found: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if id(item) not in found:
            found[id(item)] = item
            waiting.extend(_parts(item) or ())
    return list(found.values())


def duplicate(value: Any) -> Any:
    """Return a copy in the same memory type; changing either leaves the other.

    Arrays of jax and tensorflow are copied like others: torch and cupy may share their memory by
    DLPack, and write to it. Gradients are not copied.

    Examples
    --------
    >>> nested = {"a": [1, 2]}
    >>> duplicate(nested)["a"] is nested["a"]
    False
    """
    if find_memory_type(value) not in {None, "numpy"}:
        return copied(value)
    # deepcopy finds the copies of arrays that it cannot copy itself, or need not.
    known: dict[int, Any] = {}
    everything = _everything(value)  # keeps all alive, so that no identity is used twice
    for item in everything:
        if find_memory_type(item) not in {None, "numpy"}:
            known[id(item)] = copied(item)
        elif _holds_objects(item):
            known[id(item)] = pickle.loads(pickle.dumps(item))  # noqa: S301 - written just now
    return known[id(value)] if id(value) in known else copy.deepcopy(value, known)


def _holds_objects(table: Any) -> bool:
    """Whether a table is pandas' and has cells of any type, which its own copy would share."""
    if type(table).__module__.partition(".")[0] != "pandas":
        return False
    dtypes = getattr(table, "dtypes", None)
    return dtypes is not None and any(dtype.kind == "O" for dtype in np.atleast_1d(dtypes))
