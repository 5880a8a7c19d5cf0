"""The output folder: whose it is, whether it may be written to, and clearing it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcsflow.errors import OutputError
from hcsflow.journal import CONTROL, ControlFolder, read_json, write_text_atomic
from hcsflow.plan import Plan

__all__ = ["Identity", "check_output", "clear_output", "clear_scratch", "prepare_output"]

RESULTS = ("results", "report.html", "hcsflow_metadata.json")


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
    found, wanted = Identity.of_output(output), Identity.of_plan(plan)
    if found not in (None, wanted) and not fresh:
        raise OutputError(
            f"{output} belongs to another run: {_difference(found, wanted)}",
            hint="choose another output, or remove what it holds with --fresh",
        )


def prepare_output(plan: Plan, output: Path) -> None:
    """Write the plan and remove what killed runs left in scratch. Needs the lock."""
    clear_scratch(output)
    write_text_atomic(ControlFolder(output).plan, plan.to_json())


def clear_scratch(output: Path) -> None:
    """Remove what tasks left half done. Needs the lock."""
    shutil.rmtree(ControlFolder(output).scratch, ignore_errors=True)


def clear_output(plan: Plan, output: Path) -> None:
    """Remove what earlier runs wrote, and nothing else. Needs the lock; the epoch stays."""
    control = ControlFolder(output)
    stores = set(_stores_of(read_json(control.plan)))
    for store in sorted(stores | {write.store for write in plan.writes}):
        top = Path(store).parts[0]
        if (output / top).resolve().parent == output.resolve() and top != CONTROL:
            _remove(output / store)
    for name in RESULTS:
        _remove(output / name)
    for path in (control.root / "journal", control.failures, control.scratch, control.plan):
        _remove(path)


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


def _stores_of(plan: Any) -> Iterator[str]:
    writes = plan.get("writes", []) if isinstance(plan, dict) else []
    for write in writes:
        store = write.get("store") if isinstance(write, dict) else None
        if isinstance(store, str) and store and ".." not in Path(store).parts:
            yield store


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
