"""How large an object is, and to which array library it belongs, without importing any."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["Weight", "sizeof"]


class Weight(NamedTuple):
    """An object's family (its library, ``"container"`` or ``"object"``) and size in bytes."""

    family: str
    nbytes: int


def _nbytes(value: Any) -> int:
    return int(value.nbytes)


def _memory_usage(value: Any) -> int:
    usage = value.memory_usage(deep=True)
    return int(usage if isinstance(usage, int) else usage.sum())


_SIZES: Mapping[str, tuple[str, Callable[[Any], int]]] = {
    "numpy": ("nbytes", _nbytes),
    "cupy": ("nbytes", _nbytes),
    "torch": ("nbytes", _nbytes),
    "jax": ("nbytes", _nbytes),
    "jaxlib": ("nbytes", _nbytes),
    "tensorflow": ("nbytes", _nbytes),
    "pyclesperanto": ("nbytes", _nbytes),
    "pyarrow": ("nbytes", _nbytes),
    "pandas": ("memory_usage", _memory_usage),
}
"""By top-level package of an object's type: attribute it must have, and how to ask it."""


def sizeof(value: Any) -> Weight:
    """Return an object's family and size in bytes; arrays in containers are counted.

    Examples
    --------
    >>> import numpy as np
    >>> sizeof(np.zeros((4, 4), np.uint16))
    Weight(family='numpy', nbytes=32)
    """
    family = type(value).__module__.partition(".")[0]
    attribute, measure = _SIZES.get(family, ("", sys.getsizeof))
    if attribute and hasattr(value, attribute):
        return Weight(family, measure(value))
    if isinstance(value, Mapping):
        inside = sum(sizeof(item).nbytes for item in value.values())
        return Weight("container", sys.getsizeof(value) + inside)
    if isinstance(value, (list, tuple, set, frozenset)):
        inside = sum(sizeof(item).nbytes for item in value)
        return Weight("container", sys.getsizeof(value) + inside)
    return Weight("object", sys.getsizeof(value))
