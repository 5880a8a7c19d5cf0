"""Where functions and classes come from: whose file, by name or by value, what code looks up."""

from __future__ import annotations

import dis
import hashlib
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

from hcsflow.compiler.dependencies import is_installed_at

__all__ = [
    "file_of",
    "is_found_by_name",
    "name_of",
    "own_digest",
    "travels_by_value",
    "uses_of",
]


def name_of(thing: Any) -> str:
    """Return ``module:qualname`` of a function or class, of an object's class otherwise."""
    module = getattr(thing, "__module__", None) or "?"
    return f"{module}:{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def uses_of(code: CodeType) -> list[tuple[bool, str]]:
    """Return what code looks up by name, sorted: (whether it is an import, name)."""
    found = {
        (step.opname == "IMPORT_NAME", str(step.argval))
        for part in _codes(code)
        for step in dis.get_instructions(part)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME")
    }
    return sorted(found)


def travels_by_value(module: str, namespace: Mapping[str, Any] | None = None) -> bool:
    """Tell whether a module's things go to workers whole: none there can import it."""
    loaded = sys.modules.get(module)
    if module == "__main__" or loaded is None:
        return True
    return namespace is not None and vars(loaded) is not namespace


def file_of(module: str) -> Path | None:
    """Return the .py file of a user's own module."""
    name = getattr(sys.modules.get(module), "__file__", None)
    path = Path(name) if name else None
    is_source = path is not None and path.suffix == ".py" and path.is_file()
    return path if path and is_source and not is_installed_at(path) else None


def is_found_by_name(thing: Any) -> bool:
    """Tell whether a module holds something under its own name."""
    module = getattr(thing, "__module__", None)
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    if found is None or module == "__main__":
        return False
    for name in str(getattr(thing, "__qualname__", "")).split("."):
        found = getattr(found, name, None)
    return found is thing


@lru_cache(maxsize=1)
def own_digest() -> str:
    """Hash the ready-made functions and materializers with all that they call."""
    package = Path(__file__).resolve().parents[1]
    folders = [package / name for name in ("functions", "arrays", "materialize")]
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
