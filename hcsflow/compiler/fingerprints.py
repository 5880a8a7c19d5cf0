"""Fingerprints: of functions, of steps, of a well's input files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from hcsflow.plan import StepPlan, stable_json
from hcsflow.plate import Manifest, Plate

__all__ = ["function_fingerprint", "function_path", "input_fingerprint", "step_fingerprint"]

LIBRARIES = (
    "hcsflow",
    "numpy",
    "numcodecs",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
    "torch",
    "cupy",
)
"""Libraries whose version may change pixels, tables or stored bytes."""


def function_path(func: Callable[..., Any]) -> str:
    """Return ``module:qualname`` of a function."""
    module = getattr(func, "__module__", None) or "?"
    return f"{module}:{getattr(func, '__qualname__', type(func).__qualname__)}"


def function_fingerprint(func: Callable[..., Any]) -> str:
    """Return what a function's results depend on, as text.

    A hash of its file's source (of all of hcsflow's functions, for a ready-made one; for a
    notebook's, of its own source or byte code), of what it has bound (a partial's arguments, a
    closure's values, an object's attributes), and the versions that matter.
    """
    return f"sha256:{_digest_of(func)};{_library_versions()}"


def _digest_of(func: Any) -> str:
    parts: list[Any] = []
    if isinstance(func, partial):
        parts += [_digest_of(func.func), func.args, func.keywords]
    else:
        bare = inspect.unwrap(func)
        if not hasattr(bare, "__code__"):  # an object with __call__
            parts.append([type(bare).__qualname__, _state_of(bare)])
            bare = type(bare)
        parts += [_source_of(bare), _closure_of(bare)]
    return _sha256(stable_json(parts).encode())


def _source_of(func: Any) -> str:
    """Return the source that a function or class comes from, or a digest of it."""
    if (getattr(func, "__module__", None) or "").startswith("hcsflow."):
        return _own_digest()
    file = _file_of(func)
    if file is not None:
        facts = file.stat()
        return _file_digest(str(file), facts.st_mtime_ns, facts.st_size)
    try:
        return inspect.getsource(func)
    except (OSError, TypeError):
        code = getattr(func, "__code__", None)
        return repr(_code_parts(code)) if code else function_path(func)


def _file_of(func: Any) -> Path | None:
    """Return the .py file that a function stands in; a class is found by its module."""
    code = getattr(func, "__code__", None)
    module = sys.modules.get(getattr(func, "__module__", "") or "")
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


@lru_cache(maxsize=256)
def _file_digest(file: str, mtime_ns: int, nbytes: int) -> str:  # noqa: ARG001 - the cache's key
    return _sha256(Path(file).read_bytes())


@lru_cache(maxsize=1)
def _own_digest() -> str:
    """Hash the ready-made functions and materializers with all that they call."""
    package = Path(__file__).resolve().parents[1]
    folders = [package / name for name in ("functions", "arrays", "materialize")]
    files = [file for folder in folders for file in sorted(folder.glob("*.py"))]
    return _sha256(b"".join(file.read_bytes() for file in files))


@lru_cache(maxsize=1)
def _library_versions() -> str:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name}={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ",".join(found)


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


def input_fingerprint(plate: Plate, manifest: Manifest, well: int, policy: str) -> str:
    """Return the hash of a well's input: names, sizes, times, and the plate's geometry.

    Paths are relative, so a plate may be moved; other wells do not matter, nor does what is done
    about missing planes, unless this well lacks some.
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
            digest.update(np.ascontiguousarray(column[start:stop]).tobytes())
    return digest.hexdigest()[:16]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
