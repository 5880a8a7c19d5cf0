"""Which variants of the ready-made functions made what an output folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hcsflow.compiler.inputs import Recorded
from hcsflow.functions import catalogue
from hcsflow.journal import ControlFolder, has_entry_of_plan, read_json

__all__ = ["recorded_variants"]


def recorded_variants(output: Path, pipeline: str) -> Recorded:
    """Read the variants from an output's plan, so that a resume gives the same numbers.

    Parameters
    ----------
    output : Path
        Output folder; it need not exist.
    pipeline : str
        Name of the pipeline; another one's plan says nothing.

    Returns
    -------
    Recorded
        (step, catalogue name) → memory types, in the order in which the step names them; empty
        where there is no plan or it cannot be read. Only of steps that a well on record went
        through: what was planned, but made nothing, binds nobody.
    """
    control = ControlFolder(output)
    plan: Any = read_json(control.plan)
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    try:
        if plan["pipeline"] != pipeline:
            return {}
        for step in plan["steps"][: _num_steps_done(control, plan)]:
            for call in (call for branch in step["branches"] for call in branch["calls"]):
                name = catalogue.name_of(call["function"])
                if name is not None:
                    key = (str(step["name"]), name)
                    found[key] = (*found.get(key, ()), str(call["input_type"]))
    except (KeyError, TypeError):
        return {}
    return found


def _num_steps_done(control: ControlFolder, plan: Any) -> int:
    """Return how many steps, from the first, at least one well on record went through."""
    writes = sorted(plan["writes"], key=lambda write: int(write["step"]), reverse=True)
    done = (w for w in writes if has_entry_of_plan(control, plan, w["output"]))
    return next((int(write["step"]) + 1 for write in done), 0)
