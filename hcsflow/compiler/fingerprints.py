"""Fingerprints: of functions, of steps, of a well's input files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from hcsflow.plan import StepPlan, stable_json
from hcsflow.plate import Manifest, Plate

__all__ = ["function_fingerprint", "function_path", "input_fingerprint", "step_fingerprint"]

NUMERIC_LIBRARIES = ("numpy", "scipy", "scikit-image", "opencv-python-headless", "torch", "cupy")


def function_path(func: Callable[..., Any]) -> str:
    """Return ``module:qualname`` of a function."""
    module = getattr(func, "__module__", None) or "?"
    return f"{module}:{getattr(func, '__qualname__', type(func).__qualname__)}"


def function_fingerprint(func: Callable[..., Any]) -> str:
    """Return what a function's results depend on, as text.

    A hash of its module's source (of all of hcsflow's, for a ready-made function; for a notebook's,
    of its own source or byte code) and the versions of the numeric libraries.
    """
    return f"{_source_digest(func)};{_library_versions()}"


def _source_digest(func: Callable[..., Any]) -> str:
    bare = inspect.unwrap(func)
    if (getattr(bare, "__module__", None) or "").startswith("hcsflow.functions."):
        return "sha256:" + _own_digest()
    module = sys.modules.get(getattr(bare, "__module__", "") or "")
    file = getattr(module, "__file__", None) or _code_file(bare)
    if file and Path(file).suffix == ".py" and Path(file).is_file():
        return "sha256:" + _file_digest(file)
    try:
        text = inspect.getsource(bare)
    except (OSError, TypeError):
        code = getattr(bare, "__code__", None)
        text = repr((code.co_code, code.co_consts)) if code else function_path(bare)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16]


def _code_file(func: Callable[..., Any]) -> str | None:
    code = getattr(func, "__code__", None)
    return code.co_filename if code else None


@lru_cache(maxsize=256)
def _file_digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _own_digest() -> str:
    """Hash the ready-made functions with all that they call."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for folder in ("functions", "arrays"):
        for file in sorted((package / folder).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def _library_versions() -> str:
    found = []
    for name in NUMERIC_LIBRARIES:
        try:
            found.append(f"{name}={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ",".join(found)


def step_fingerprint(step: StepPlan, label_stride: int) -> str:
    """Return the hash of everything in a step that its results depend on."""
    parts = [
        step.variable_components, step.group_by, step.source, step.branches,
        step.input, step.output, step.special_inputs,
        [(t.name, t.kind, t.stored_as) for t in step.special_outputs], label_stride,
    ]  # fmt: skip
    return hashlib.sha256(stable_json(parts).encode()).hexdigest()[:16]


def input_fingerprint(plate: Plate, manifest: Manifest, well: int, policy: str) -> str:
    """Return the hash of a well's input: names, sizes, times, and the plate's geometry.

    Paths are relative, so a plate may be moved.
    """
    rows = manifest.rows_of(well)
    start, stop = rows.start, rows.stop
    digest = hashlib.sha256()
    facts = (
        plate.channels, plate.fields, plate.timepoints, plate.z, plate.shape_yx, plate.dtype,
        plate.pixel_size.um, plate.z_step.um, plate.grid, plate.name, policy,
    )  # fmt: skip
    digest.update(stable_json(facts).encode())
    if stop > start:
        low, high = manifest.name_offsets[start], manifest.name_offsets[stop]
        digest.update(manifest.name_blob[int(low) : int(high)])
        used = sorted({int(i) for i in manifest.folder_ids[start:stop]})
        digest.update("\n".join(manifest.folders[i] for i in used).encode("utf-8", "replace"))
        for column in (manifest.keys, manifest.nbytes, manifest.mtime_ns):
            digest.update(column[start:stop].tobytes())
    return digest.hexdigest()[:16]
