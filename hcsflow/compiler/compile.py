"""The passes, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

import numpy as np

from hcsflow.compiler.axes import axes
from hcsflow.compiler.bind import bind
from hcsflow.compiler.budget import budget
from hcsflow.compiler.fingerprints import input_fingerprint, missing_policy
from hcsflow.compiler.inputs import Declared, Granularity, Recorded
from hcsflow.compiler.intermediates import intermediates
from hcsflow.compiler.memory_types import memory_types
from hcsflow.compiler.places import places
from hcsflow.compiler.regions import regions
from hcsflow.compiler.segments import segments
from hcsflow.config import GlobalPipelineConfig, MissingPolicy
from hcsflow.errors import PlanRefusedError, PlateError, UsageError, nearest
from hcsflow.pipeline import Pipeline
from hcsflow.plan import Plan, PlaneSet, Resources
from hcsflow.plate import Manifest, Plate
from hcsflow.plate.names import canonical_well

__all__ = ["PASSES", "compile_plan"]

PASSES: tuple[Callable[[Plan, Declared], Plan], ...] = (
    bind,
    axes,
    memory_types,
    places,
    regions,
    segments,
    intermediates,
    budget,
)


def compile_plan(  # noqa: PLR0913 - what a plan is made from
    pipeline: Pipeline,
    plate: Plate,
    manifest: Manifest,
    *,
    config: GlobalPipelineConfig,
    resources: Resources,
    wells: Iterable[str] | None = None,
    granularity: Granularity = "segment",
    recorded: Recorded | None = None,
) -> Plan:
    """Compile a pipeline against a plate. Reads no pixel and touches no file of the plate.

    Parameters
    ----------
    pipeline, plate, manifest : Pipeline, Plate, Manifest
        What to do, with what.
    config : GlobalPipelineConfig
        Settings in force.
    resources : Resources
        What the run may use.
    wells : iterable of str, optional
        Names or patterns (``"B*"``); default all.
    granularity : "segment" or "step"
        A task for as many steps as can be, or for each step. Results are the same.
    recorded : Recorded, optional
        Variants of catalogue functions that made what the output holds; they are kept.

    Returns
    -------
    Plan
        Frozen; the same inputs give an equal plan with the same text.

    Raises
    ------
    PipelineError, PlanRefusedError, UsageError
        See the passes.
    """
    plan = Plan(
        pipeline=pipeline.name,
        plate=plate,
        wells=(),
        failed_wells=(),
        source=_source(plate),
        steps=(),
        writes=(),
        segments=(),
        config=config,
        resources=resources,
        parameters=tuple(sorted(pipeline.parameters.items())),
    )
    _check_fill(plan)
    plan = _with_wells(plan, manifest, wells)
    declared = Declared(pipeline, manifest, granularity, recorded or {})
    for compiler_pass in PASSES:
        plan = compiler_pass(plan, declared)
    return plan


def _source(plate: Plate) -> PlaneSet:
    return PlaneSet(
        fields=tuple(range(len(plate.fields))),
        timepoints=tuple(range(len(plate.timepoints))),
        channels=tuple(range(len(plate.channels))),
        z=tuple(tuple(channel.heights) for channel in plate.channels),
        shape_yx=plate.shape_yx,
        dtype=plate.dtype,
    )


def _check_fill(plan: Plan) -> None:
    value, dtype = plan.config.fill_value, np.dtype(plan.plate.dtype)
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        raise PlanRefusedError(
            f"fill_value {value} is no {dtype.name}",
            hint=f"choose {np.iinfo(dtype).min} to {np.iinfo(dtype).max}",
        )


def _with_wells(plan: Plan, manifest: Manifest, wells: Iterable[str] | None) -> Plan:
    """Choose wells; those that are known to fail are listed instead of given a task."""
    plate, config = plan.plate, plan.config
    promised = [*plate.wells, *manifest.missing_wells]
    chosen = set(promised) if wells is None else _matching(wells, promised)
    failed = {fault.well: (fault.well, fault.reason, fault.file) for fault in manifest.faults}
    if config.missing is MissingPolicy.ERROR:
        for well in manifest.missing_wells:
            failed.setdefault(
                well, (well, "promised by the plate, but there is no file of it", None)
            )
    policy = missing_policy(config)
    numbers = {well: i for i, well in enumerate(plate.wells)}
    tasks = tuple(w for w in plate.wells if w in chosen and w not in failed)
    return plan.replace(
        wells=tasks,
        failed_wells=tuple(failed[w] for w in promised if w in failed and w in chosen),
        fingerprints={w: input_fingerprint(plate, manifest, numbers[w], policy) for w in tasks},
        warnings=_warnings(plate, manifest),
    )


def _matching(wells: Iterable[str], promised: list[str]) -> set[str]:
    chosen: set[str] = set()
    for pattern in wells.split(",") if isinstance(wells, str) else wells:
        hits = {w for w in promised if fnmatchcase(w, _canonical(pattern))}
        if not hits:
            meant = nearest(_canonical(pattern), promised)
            raise UsageError(
                f"no well matches {pattern!r}",
                hint=f"did you mean {meant!r}?"
                if meant
                else f"there are: {', '.join(promised[:12])}",
            )
        chosen |= hits
    return chosen


def _canonical(pattern: str) -> str:
    """Return a well's name as the plate has it (``"B03"`` for ``"b3"``); patterns in upper case."""
    text = pattern.strip().upper()
    try:
        return canonical_well(text)
    except PlateError:
        return text


def _warnings(plate: Plate, manifest: Manifest) -> tuple[str, ...]:
    found = []
    if plate.grid.overlap_px is not None and plate.grid.overlap_px >= 1:
        found.append(
            f"fields overlap by {plate.grid.overlap_px:.0f} px; the overlap is kept twice "
            "(a field atlas is not a stitched image)"
        )
    if plate.pixel_size.um is None:
        found.append(
            "the pixel size is unknown; sizes are in pixels until --pixel-size-um is given"
        )
    if len(manifest.missing):
        wells = len({int(w) for w in manifest.missing[:, 0]})
        found.append(f"planes missing: {len(manifest.missing)} (wells touched: {wells})")
    if manifest.missing_wells:
        found.append(f"promised wells without any file: {', '.join(manifest.missing_wells[:12])}")
    return tuple(found)
