"""What the client writes once tasks are through: joined tables, metadata; plates are listed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hcsflow.config import Backend
from hcsflow.execute.consolidate import consolidate_tables
from hcsflow.execute.listing import list_wells
from hcsflow.execute.resume import Ledger
from hcsflow.graph.commit import unit_folder
from hcsflow.journal import ControlFolder, Outcome, read_failures
from hcsflow.ngff.layout import images_of
from hcsflow.plan import Plan, WritePlan, stable_json
from hcsflow.plate import Manifest
from hcsflow.storage.virtual_workspace import VirtualWorkspaceBackend, WorkspaceMapping

__all__ = ["METADATA", "finalise"]

METADATA = "hcsflow_metadata.json"
SCHEMA = "hcsflow.metadata/1"

LIBRARIES = (
    "hcsflow", "numpy", "scipy", "scikit-image", "opencv-python-headless", "zarr", "numcodecs",
    "tifffile", "imagecodecs", "dask", "distributed", "pandas", "pyarrow", "torch", "cupy",
)  # fmt: skip


def _remove_sides(write: WritePlan, output: Path, wells: Collection[str]) -> None:
    """Remove the files beside a plate of wells that are not whole: no document unlists them."""
    for side in write.sides:
        folder = output / "results" / side.name
        for found in folder.iterdir() if folder.is_dir() else ():
            if found.name in wells:
                shutil.rmtree(found, ignore_errors=True)


def finalise(plan: Plan, manifest: Manifest, output: Path, ledger: Ledger) -> None:
    """Write all that is of the whole plate; from the journal and the stores alone.

    Called after every run, also one that was interrupted; again with nothing new it writes the
    same bytes. Nothing depends on time, attempts or the order in which wells were done.
    """
    ledger.refresh()
    listed = list_wells(plan, output, ledger)
    for write in plan.writes:
        _remove_sides(write, output, {*plan.plate.wells} - {*listed[write.output]})
    tables = {
        write.output: consolidate_tables(plan, output, write, listed[write.output])
        for write in plan.writes
    }
    document = {
        "schema": SCHEMA,
        "microscope_handler_name": plan.plate.microscope,
        "subdirectories": {
            write.store: _subdirectory(plan, write, listed[write.output]) for write in plan.writes
        },
        "results": sorted({name for names in tables.values() for name in names}),
        "provenance": _provenance(plan, manifest, read_failures(ControlFolder(output))),
    }
    workspace = VirtualWorkspaceBackend(manifest, plan.plate)
    _write_metadata(output / METADATA, document, WorkspaceMapping(workspace))


def _subdirectory(plan: Plan, write: WritePlan, wells: list[str]) -> dict[str, Any]:
    """Describe one plate that was written."""
    plate = plan.plate
    image = write.image
    return {
        "available_backends": {write.backend: True},
        "main": write.output == "",
        "step": plan.steps[write.step].name,
        "wells": wells,
        "image_files": [path for well in wells for path in _image_files(plan, write, well)],
        "axes": list(image.levels[0].axes),
        "shape": list(image.levels[0].shape),
        "dtype": image.levels[0].dtype,
        "labels": [label.name for label in write.labels],
        "tables": [table.name for table in write.tables],
        "pixel_size": plate.pixel_size.um,
        "z_step": plate.z_step.um,
        "grid_dimensions": [plate.grid.rows, plate.grid.columns],
        "channels": {plate.channels[i].label: plate.channels[i].name for i in image.channels},
        "sites": [plate.fields[i] for i in image.fields],
        "timepoints": [plate.timepoints[i] for i in image.timepoints],
    }


def _image_files(plan: Plan, write: WritePlan, well: str) -> Iterator[str]:
    """Yield the images of a well, relative to the plate's folder; of files the well's folder."""
    folder = unit_folder(plan, write, well).removeprefix(f"{write.store}/")
    if write.backend == Backend.DISK.value:
        yield folder
        return
    for image in images_of(write.image):
        yield f"{folder}/{image.path}"


def _provenance(plan: Plan, manifest: Manifest, failures: list[Outcome]) -> dict[str, Any]:
    plate = plan.plate
    return {
        "versions": _versions(),
        "pipeline": plan.pipeline,
        "parameters": dict(plan.parameters),
        "steps": [_step(step) for step in plan.steps],
        "inputs": {
            "name": plate.name,
            "uuid": plate.uuid,
            "microscope": plate.microscope,
            "layout": plate.layout,
            "acquisition": plate.acquisition,
            "folder": Path(manifest.root).name,
            "planes": len(manifest),
            "bytes": int(manifest.nbytes.sum()),
            "fingerprint": _inputs_fingerprint(plan),
            "pixel_size_origin": plate.pixel_size.origin,
            "z_step_origin": plate.z_step.origin,
        },
        "failures": [
            {
                "well": o.well,
                "step": o.step,
                "error": o.error,
                "message": o.message,
                "file": o.file,
            }
            for o in failures
        ],
        "missing_wells": list(manifest.missing_wells),
        "warnings": list(plan.warnings),
    }


def _step(step: Any) -> dict[str, Any]:
    calls = [call for branch in step.branches for call in branch.calls]
    return {
        "name": step.name,
        "functions": [call.function for call in calls],
        "parameters": [
            {name: stable_json(value) for name, value in call.parameters} for call in calls
        ],
        "memory_types": [call.input_type for call in calls],
        "fingerprint": step.fingerprint,
    }


@cache
def _versions() -> dict[str, str]:
    """Return the versions installed; looking them up takes longer than a small well."""
    return dict(_installed())


def _installed() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _inputs_fingerprint(plan: Plan) -> str:
    text = json.dumps(dict(sorted(plan.fingerprints.items())))
    return hashlib.sha256(text.encode()).hexdigest()


def _write_metadata(path: Path, document: dict[str, Any], mapping: Mapping[str, str]) -> None:
    """Write the metadata, one line per plane of the mapping, never holding it as a whole."""
    text = json.dumps(document, indent=1, ensure_ascii=False, default=str)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            file.write(text.removesuffix("\n}"))
            file.write(',\n "workspace_mapping": {')
            for i, (name, target) in enumerate(mapping.items()):
                file.write(f"{',' if i else ''}\n{json.dumps(name)}:{json.dumps(target)}")
            file.write("}\n}\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
