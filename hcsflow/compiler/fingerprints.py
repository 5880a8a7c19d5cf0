"""Fingerprints: of functions, of steps, of a well's input files."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from hcsflow.compiler.dependencies import dependencies_of, versions_of
from hcsflow.config import GlobalPipelineConfig
from hcsflow.contracts import contract_of
from hcsflow.plan import StepPlan, stable_json
from hcsflow.plate import Manifest, Plate

__all__ = [
    "function_fingerprint",
    "function_path",
    "input_fingerprint",
    "missing_policy",
    "step_fingerprint",
]


def function_path(func: Callable[..., Any]) -> str:
    """Return ``module:qualname`` of a function."""
    module = getattr(func, "__module__", None) or "?"
    return f"{module}:{getattr(func, '__qualname__', type(func).__qualname__)}"


def function_fingerprint(func: Callable[..., Any]) -> str:
    """Return what a function's results depend on, as text.

    A hash of its file's source and of the user's own files that this imports (of all of hcsflow's
    functions, for a ready-made one; of a notebook's function, its source and what it refers to),
    of what it has bound (a partial's arguments, a closure's values, an object's attributes), and
    the versions of the libraries that it imports and of its memory types.
    """
    declared = contract_of(func)
    libraries = {declared.input_type, declared.output_type} | _libraries_of(func)
    return f"sha256:{_digest_of(func)};{versions_of(sorted(libraries))}"


def _digest_of(func: Any, seen: frozenset[int] = frozenset()) -> str:
    parts: list[Any] = []
    if isinstance(func, partial):
        parts += [_digest_of(func.func, seen), func.args, func.keywords]
    else:
        bare = _bare(func)
        if inspect.isclass(bare) and not inspect.isclass(func):
            parts.append([bare.__qualname__, _state_of(func)])
        parts += [_source_of(bare, seen), _closure_of(bare)]
    return _sha256(stable_json(parts).encode())


def _bare(func: Any) -> Any:
    """Return the function inside wrappers, or the class of an object with ``__call__``."""
    while isinstance(func, partial):
        func = func.func
    bare = inspect.unwrap(func)
    return bare if hasattr(bare, "__code__") or inspect.isclass(bare) else type(bare)


def _source_of(func: Any, seen: frozenset[int]) -> Any:
    """Return the source that a function or class comes from, or digests of it."""
    if _module_of(func).startswith("hcsflow."):
        return _own_digest()
    file = _file_of(func)
    if file is not None:
        return dependencies_of(file, _module_of(func)).digests
    code = getattr(func, "__code__", None)
    used = {} if code is None else _referred(func, code, seen | {id(func)})
    try:
        return [inspect.getsource(func), used]
    except (OSError, TypeError):
        return [repr(_code_parts(code)) if code else function_path(func), used]


def _referred(func: Any, code: CodeType, seen: frozenset[int]) -> dict[str, Any]:
    """Return the functions and values of its notebook that a function refers to."""
    here = getattr(func, "__globals__", {})
    names = sorted({name for part in _codes(code) for name in part.co_names} & set(here))
    found: dict[str, Any] = {}
    for name in names:
        value = here[name]
        if inspect.isfunction(value) and value.__module__ == func.__module__:
            found[name] = "" if id(value) in seen else _digest_of(value, seen)
        elif isinstance(value, (bool, int, float, str, bytes, tuple, list, dict, np.ndarray)):
            found[name] = value
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _libraries_of(func: Any) -> frozenset[str]:
    """Return the installed libraries that a function's file, or it itself, imports."""
    bare = _bare(func)
    file = _file_of(bare)
    if file is not None:
        return dependencies_of(file, _module_of(bare)).libraries
    code = getattr(bare, "__code__", None)
    if code is None:
        return frozenset()
    here = getattr(bare, "__globals__", {})
    used = (here.get(name) for part in _codes(code) for name in part.co_names)
    owners = (
        getattr(value, "__module__", None) or getattr(value, "__name__", "") for value in used
    )
    tops = {str(owner).partition(".")[0] for owner in owners if owner}
    return frozenset(tops - sys.stdlib_module_names - {"__main__", "hcsflow"})


def _module_of(func: Any) -> str:
    return getattr(func, "__module__", None) or ""


def _file_of(func: Any) -> Path | None:
    """Return the .py file that a function stands in; a class is found by its module."""
    code = getattr(func, "__code__", None)
    module = sys.modules.get(_module_of(func))
    name = code.co_filename if code else getattr(module, "__file__", None)
    path = Path(name) if name else None
    return path if path and path.suffix == ".py" and path.is_file() else None


def _closure_of(func: Any) -> list[Any]:
    values = [cell.cell_contents for cell in getattr(func, "__closure__", None) or ()]
    return [_digest_of(value) if inspect.isfunction(value) else value for value in values]


def _state_of(thing: Any) -> Any:
    return thing if is_dataclass(thing) else getattr(thing, "__dict__", {})


def _code_parts(code: CodeType) -> tuple[Any, ...]:
    """Return what byte code does, without addresses, file names and line numbers."""
    constants = tuple(_code_parts(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, constants


@lru_cache(maxsize=1)
def _own_digest() -> str:
    """Hash the ready-made functions and materializers with all that they call."""
    package = Path(__file__).resolve().parents[1]
    folders = [package / name for name in ("functions", "arrays", "materialize")]
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    return _sha256(b"".join(file.read_bytes() for file in files))


def step_fingerprint(step: StepPlan, label_stride: int) -> str:
    """Return the hash of everything in a step that its results depend on."""
    stored = [
        (t.name, t.kind, t.stored_as, t.materializer and function_fingerprint(t.materializer))
        for t in step.special_outputs
    ]
    parts = [
        step.name,
        step.variable_components,
        step.group_by,
        step.source,
        step.branches,
        step.input,
        step.output,
        step.special_inputs,
        stored,
        label_stride,
    ]
    return _sha256(stable_json(parts).encode())


def missing_policy(config: GlobalPipelineConfig) -> str:
    """Return what is done about missing planes, as text."""
    return f"{config.missing.value}:{config.fill_value}"


def input_fingerprint(
    plate: Plate,
    manifest: Manifest,
    well: int,
    policy: str,
    *,
    contents: Sequence[str] | None = None,
) -> str:
    """Return the hash of a well's input: names, sizes, times, and the plate's geometry.

    Paths are relative, so a plate may be moved; other wells do not matter, nor does what is done
    about missing planes, unless this well lacks some. With ``contents``, a digest for each of the
    well's planes, these stand for their times.
    """
    rows = manifest.rows_of(well)
    start, stop = rows.start, rows.stop
    missing = [tuple(key[2:]) for key in manifest.missing_of(well)]
    facts = [
        [(c.label, c.name, c.heights) for c in plate.channels],
        (plate.grid.rows, plate.grid.columns, plate.grid.cells),
        (plate.name, plate.fields, plate.timepoints, plate.z, plate.shape_yx, plate.dtype),
        (plate.pixel_size.um, plate.z_step.um),
        (missing, policy if missing else ""),
    ]
    digest = hashlib.sha256(stable_json(facts).encode())
    if stop > start:
        low, high = manifest.name_offsets[start], manifest.name_offsets[stop]
        digest.update(manifest.name_blob[int(low) : int(high)])
        used = sorted({int(i) for i in manifest.folder_ids[start:stop]})
        digest.update("\n".join(manifest.folders[i] for i in used).encode("utf-8", "replace"))
        for column in (manifest.keys[:, 1:], manifest.nbytes, manifest.mtime_ns):
            if contents is None or column is not manifest.mtime_ns:
                digest.update(np.ascontiguousarray(column[start:stop]).tobytes())
        digest.update("\n".join(contents or ()).encode())
    return digest.hexdigest()[:16]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
