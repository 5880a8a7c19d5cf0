"""Import on first use, by a name in a table: keeps listing what there is free of heavy imports."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

__all__ = ["load_object"]


@lru_cache(maxsize=256)
def load_object(spec: str) -> Any:
    """Import ``"module:name"`` and return the object.

    Raises
    ------
    ImportError
        If the module is not installed.
    AttributeError
        If it has no such name.

    Examples
    --------
    >>> load_object("json:dumps")([1])
    '[1]'
    """
    module, _, name = spec.partition(":")
    return getattr(import_module(module), name)
