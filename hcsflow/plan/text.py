"""Frozen values as JSON that is the same for the same values."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

__all__ = ["stable_json"]


def stable_json(value: Any, indent: int | None = None) -> str:
    """Render frozen values as JSON with sorted keys; arrays by a hash of their contents.

    What JSON has no word for is named, by its class at worst: enough to print, not to compare.
    """
    return json.dumps(_plain(value), sort_keys=True, indent=indent, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        # callables are declared compare=False
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.compare}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(v) for v in value), key=repr)  # their order differs by process
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return _leaf(value)


def _leaf(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"dtype": str(value.dtype), "shape": list(value.shape), "sha256": digest}
    return _words(value)


def _words(value: Any) -> str:
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    text = repr(value)
    # an address says nothing, and a table's text is cut short: what counts is in Call.fingerprint
    if "\n" in text or " at 0x" in text:
        return f"{type(value).__module__}:{type(value).__qualname__}"
    return text
