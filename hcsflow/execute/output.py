"""The output folder: whose it is, whether it may be written to, and clearing it."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcsflow.errors import OutputError
from hcsflow.journal import CONTROL, ControlFolder, read_json, write_text_atomic
from hcsflow.plan import Plan

__all__ = [
    "Identity",
    "check_output",
    "check_place",
    "clear_output",
    "clear_scratch",
    "prepare_output",
]

RESULTS = ("results", "report.html", "hcsflow_metadata.json")

DRAFTS = (
    "results/.*.parquet.*.tmp",
    "results/.*.csv.*.tmp",
    ".hcsflow_metadata.json.*.tmp",
    f"{CONTROL}/.plan.json.*.tmp",
    f"{CONTROL}/.epoch.*.tmp",
    f"{CONTROL}/.lock.*.tmp",
    f"{CONTROL}/.estimates.json.*.tmp",
    f"{CONTROL}/failures/.*.json.*.tmp",
    f"{CONTROL}/journal/*/.*.json.*.tmp",
)
"""Temporary files of what only the lock's holder and its tasks write."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an output folder is of; contents count in the units' fingerprints only.

    Parameters
    ----------
    microscope, plate, acquisition, pipeline : str
        ``plate`` is the instrument's UUID, or the plate's name where it has none.
    """

    microscope: str
    plate: str
    acquisition: str
    pipeline: str

    @classmethod
    def of_plan(cls, plan: Plan) -> Identity:
        """Return the identity that a plan gives its output."""
        plate = plan.plate
        name = plate.uuid or plate.name
        return cls(plate.microscope, name, plate.acquisition, plan.pipeline)

    @classmethod
    def of_output(cls, output: Path) -> Identity | None:
        """Return the identity of an output folder, None where it has none yet."""
        plan: Any = read_json(ControlFolder(output).plan)
        try:
            plate = plan["plate"]
            name = plate["uuid"] or plate["name"]
            return cls(plate["microscope"], name, plate["acquisition"], plan["pipeline"])
        except (KeyError, TypeError):
            return None


def check_output(plan: Plan, plate_root: Path, output: Path, *, fresh: bool = False) -> None:
    """Refuse an output folder that must not be written to. Reads only.

    Raises
    ------
    OutputError
        If plate and output lie in each other, the path is no folder, the folder holds something
        that is not hcsflow's, or it is the output of another plate or pipeline.
    """
    check_place(plate_root, output)
    found, wanted = Identity.of_output(output), Identity.of_plan(plan)
    if found not in (None, wanted) and not fresh:
        raise OutputError(
            f"{output} belongs to another run: {_difference(found, wanted)}",
            hint="choose another output, or remove what it holds with --fresh",
        )


def check_place(plate_root: Path, output: Path) -> None:
    """Refuse an output folder by its place and its content, whatever shall be run. Reads only.

    Raises
    ------
    OutputError
        If plate and output lie in each other, the path is no folder, or the folder holds
        something that is not hcsflow's.
    """
    _check_apart(plate_root.resolve(), output.resolve())
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file, expected a folder", hint="choose another output")
    if not output.is_dir():
        return
    control = ControlFolder(output)
    if not control.root.is_dir() and any(p.name[0] != "." for p in output.iterdir()):
        raise OutputError(
            f"{output} is not empty and holds no run of hcsflow",
            hint="choose an empty or new folder",
        )


def prepare_output(plan: Plan, output: Path) -> None:
    """Write the plan; remove what killed runs left and what only the plan before made.

    Needs the lock. The plan is replaced last: killed before that, the next run removes the rest.
    """
    control = ControlFolder(output)
    text = plan.to_json()
    for superseded in sorted(_made_by(read_json(control.plan)) - _made_by(json.loads(text))):
        _remove_inside(output, superseded)
    clear_scratch(output)
    for pattern in DRAFTS:
        for path in output.glob(pattern):
            path.unlink(missing_ok=True)
    write_text_atomic(control.plan, text)


def clear_scratch(output: Path) -> None:
    """Remove what tasks left half done. Needs the lock."""
    shutil.rmtree(ControlFolder(output).scratch, ignore_errors=True)


def clear_output(plan: Plan, output: Path) -> None:
    """Remove what earlier runs wrote, and nothing else. Needs the lock; the epoch stays.

    The plan that names it goes last: killed before that, a run can still tell what is to go.
    """
    control = ControlFolder(output)
    for made in sorted(_made_by(read_json(control.plan)) | _made_by(json.loads(plan.to_json()))):
        _remove_inside(output, made)
    for path in (*(output / name for name in RESULTS), control.root / "journal", control.failures):
        _remove(path, control.scratch)
    clear_scratch(output)
    control.plan.unlink(missing_ok=True)


def _check_apart(plate: Path, output: Path) -> None:
    if output == plate or plate in output.parents:
        raise OutputError(
            f"the output {output} lies inside the plate {plate}: a plate is never written to",
            hint="choose an output outside the plate's folder",
        )
    if output in plate.parents:
        raise OutputError(
            f"the plate {plate} lies inside the output {output}",
            hint="choose an output folder of its own",
        )


def _difference(found: Any, wanted: Identity) -> str:
    names = ("microscope", "plate", "acquisition", "pipeline")
    pairs = [(name, getattr(found, name), getattr(wanted, name)) for name in names]
    return ", ".join(f"its {n} is {a!r}, not {b!r}" for n, a, b in pairs if a != b)


def _made_by(plan: Any) -> set[str]:
    """Return what a plan's own text says that it makes: paths relative to the output."""
    found: set[str] = set()
    for write in plan.get("writes", []) if isinstance(plan, dict) else []:
        found.add(write["store"])
        if write["output"]:
            found.add(f"{CONTROL}/journal/{write['output']}")
        if write.get("carried"):
            found.add(f"{write['output']}/handover")
        for table in write.get("tables", []):
            found |= {f"results/{table['name']}{suffix}" for suffix in (".parquet", ".csv")}
        found |= {f"results/{side['name']}" for side in write.get("sides", [])}
    return found


def _remove_inside(output: Path, relative: str) -> None:
    """Remove a thing, and its folder if that is empty then; nothing that lies elsewhere."""
    path = output / relative
    parts = Path(relative).parts
    is_plain = relative == Path(relative).as_posix() and ".." not in parts and relative != CONTROL
    if not is_plain or not path.parent.resolve().is_relative_to(output.resolve()):
        return
    _remove(path, ControlFolder(output).scratch)
    if len(parts) > 1:
        with suppress(OSError):  # not empty, or never made
            path.parent.rmdir()


def _remove(path: Path, scratch: Path) -> None:
    """Remove a thing; a folder goes whole, by way of scratch, so that no kill leaves part of it."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with suppress(OSError):  # no room for a folder, or a file system of its own: then it goes here
        scratch.mkdir(exist_ok=True)
        path = path.rename(Path(tempfile.mkdtemp(prefix="removed-", dir=scratch), path.name))
    shutil.rmtree(path)
