"""Fingerprints: of functions, of steps, of a well's input files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hcsflow.compiler.contents import contents_of
from hcsflow.compiler.dependencies import versions_of
from hcsflow.compiler.origins import name_of
from hcsflow.config import GlobalPipelineConfig
from hcsflow.contracts import contract_of
from hcsflow.errors import PipelineError
from hcsflow.plan import StepPlan, stable_json
from hcsflow.plate import Manifest, Plate

__all__ = [
    "call_fingerprint",
    "function_fingerprint",
    "input_fingerprint",
    "missing_policy",
    "step_fingerprint",
]


def function_fingerprint(func: Callable[..., Any]) -> str:
    """Return what a function's results depend on, as text.

    A hash of its file's source and of the user's own files that this imports (of all of hcsflow's
    functions, for a ready-made one; of a notebook's function, its source and what it refers to),
    of what it has bound (a partial's arguments, defaults, a closure's values, an object's
    attributes), and the versions of the libraries that it imports and of its memory types.

    Raises
    ------
    PipelineError
        If it has bound, or refers to, something that has no digest, e.g. a lock.
    """
    declared = contract_of(func)
    found = contents_of(func, f"function {name_of(func)}")
    libraries = {declared.input_type, declared.output_type} | found.libraries
    return f"sha256:{found.digest};{versions_of(sorted(libraries))}"


def call_fingerprint(func: Callable[..., Any], parameters: Mapping[str, Any]) -> str:
    """Return what a call's results depend on, its stack apart: the function, and its parameters.

    Raises
    ------
    PipelineError
        If the function or a parameter has no digest.
    """
    given = []
    for name, value in sorted(parameters.items()):
        what = f"parameter {name!r} of {name_of(func)} ({type(value).__qualname__})"
        found = contents_of(value, what)
        versions = versions_of(sorted(found.libraries)) if found.libraries else ""
        given.append((name, found.digest, versions))
    return f"{function_fingerprint(func)};parameters:{_sha256(stable_json(given))}"


def step_fingerprint(step: StepPlan, label_stride: int) -> str:
    """Return the hash of everything in a step that its results depend on.

    Raises
    ------
    PipelineError
        If a materializer has no digest.
    """
    try:
        stored = [
            (t.name, t.kind, t.stored_as, t.materializer and function_fingerprint(t.materializer))
            for t in step.special_outputs
        ]
    except PipelineError as error:
        raise PipelineError(f"step {step.name!r}: {error.message}", hint=error.hint) from error
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
    return _sha256(stable_json(parts))


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
    digest = hashlib.sha256(stable_json(facts).encode("utf-8", "surrogatepass"))
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


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
