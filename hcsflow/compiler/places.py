"""Pass 4, storage: where each step reads and writes, and which outputs are materialised."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hcsflow.compiler.inputs import Declared
from hcsflow.config import Backend, MaterializationBackend
from hcsflow.errors import PipelineError, PlanRefusedError
from hcsflow.ngff.layout import ImageLayout
from hcsflow.pipeline.step import FunctionStep
from hcsflow.plan import LabelWrite, Plan, SideWrite, StepPlan, TableWrite, WritePlan

__all__ = ["UNPLANNED", "places"]

SAFE_NAME = re.compile(r"\w[\w.\-]*")
RESERVED = frozenset({"final", "held", "spill", "results", "report.html", "hcsflow_metadata.json"})
"""Names in the output folder, or in a task's scratch folder, that are hcsflow's own."""

UNPLANNED = ImageLayout("0", "image", (), (0, 0), (0, 0), (), (), (), (), 1, has_unit=False)
"""Stands for a layout until the regions pass has made it."""


def places(plan: Plan, declared: Declared) -> Plan:
    """Give every step its places and list what is materialised.

    Raises
    ------
    PlanRefusedError
        A backend that cannot hold final results yet.
    PipelineError
        Two outputs of one kind and name.
    """
    last = len(plan.steps) - 1
    _check_settings(plan, declared.pipeline.steps[-1])
    steps: list[StepPlan] = []
    for step, written in zip(plan.steps, declared.pipeline.steps, strict=True):
        durable = step.index == last or written.materialize
        _check_backend(step, written, plan)
        output_dir = (
            _output_dir(step, written, last) if durable else f"memory/{step.index:02d}_{step.name}"
        )
        from_plate = step.source is None
        steps.append(
            replace(
                step,
                input_dir="plate" if from_plate else steps[step.source or 0].output_dir,
                read_backend=(
                    Backend.VIRTUAL_WORKSPACE.value if from_plate else Backend.MEMORY.value
                ),
                output_dir=output_dir,
                write_backend=Backend.ZARR.value if durable else Backend.MEMORY.value,
            )
        )
    writes = [
        WritePlan(
            _output_dir(step, written, last), step.index, _store(step, written, plan), UNPLANNED
        )
        for step, written in zip(steps, declared.pipeline.steps, strict=True)
        if step.write_backend == Backend.ZARR.value
    ]
    final = replace(writes[-1], labels=_labels(steps), tables=_tables(steps), sides=_sides(steps))
    _check_names(final)
    _check_folders(writes, plan)
    return plan.replace(steps=tuple(steps), writes=(*writes[:-1], final))


def _check_settings(plan: Plan, final: FunctionStep) -> None:
    """Refuse settings that nothing follows yet, rather than do something else."""
    zarr, vfs = plan.config.zarr, plan.config.vfs
    unfollowed = {
        "zarr.ome_zarr_metadata: false": not zarr.ome_zarr_metadata,
        "zarr.write_plate_metadata: false": not zarr.write_plate_metadata,
        "vfs.persistent_storage_root_path": vfs.persistent_storage_root_path is not None,
        "a sub_dir of the last step": bool(final.materialization and final.materialization.sub_dir),
    }
    for name, is_asked in unfollowed.items():
        if is_asked:
            raise PlanRefusedError(f"{name} is not there yet", hint="leave it out")


def _output_dir(step: StepPlan, written: FunctionStep, last: int) -> str:
    if step.index == last:
        return ""
    chosen = written.materialization.sub_dir if written.materialization else None
    return chosen or f"{step.index:02d}_{step.name}"


def _store(step: StepPlan, written: FunctionStep, plan: Plan) -> str:
    folder = _output_dir(step, written, len(plan.steps) - 1)
    name = plan.config.zarr.store_name
    return f"{folder}/{name}" if folder else name


def _check_backend(step: StepPlan, written: FunctionStep, plan: Plan) -> None:
    chosen = {written.backend, plan.config.vfs.materialization_backend}
    if written.materialization is not None:
        chosen.add(written.materialization.backend)
    if {Backend.DISK, MaterializationBackend.DISK} & chosen:
        raise PlanRefusedError(
            f"step {step.name!r}: images as TIFF files (backend disk) are not written yet",
            hint="use the zarr backend",
        )
    if written.backend not in {None, Backend.ZARR, Backend.MEMORY}:
        raise PlanRefusedError(
            f"step {step.name!r}: the backend {written.backend} cannot hold a step's output",
            hint="use zarr, or leave it out",
        )
    if plan.config.vfs.intermediate_backend not in {Backend.MEMORY, Backend.DISK, Backend.ZARR}:
        raise PlanRefusedError(
            f"intermediate_backend={plan.config.vfs.intermediate_backend.value} cannot keep what "
            "flows between steps",
            hint="use memory (which spills by itself), disk or zarr",
        )


def _labels(steps: list[StepPlan]) -> tuple[LabelWrite, ...]:
    return tuple(
        LabelWrite(target.stored_as, step.index, target.name, UNPLANNED)
        for step in steps
        for target in step.special_outputs
        if target.kind == "labels"
    )


def _tables(steps: list[StepPlan]) -> tuple[TableWrite, ...]:
    stored = {label.special: label.name for label in _labels(steps)}
    found = []
    for step in steps:
        for target in step.special_outputs:
            if target.kind == "table":
                link = getattr(target.materializer, "labels", None)
                if link is not None and link not in stored:
                    raise PipelineError(
                        f"step {step.name!r}: table {target.stored_as!r} belongs to labels "
                        f"{link!r}, which no step stores; there are: {', '.join(stored) or 'none'}"
                    )
                if link is not None and "field" in step.variable_components:
                    raise PlanRefusedError(
                        f"step {step.name!r} stacks over fields, so rows of table "
                        f"{target.stored_as!r} cannot be tied to labels numbered by field",
                        hint="measure field by field, or leave labels= out of the Table",
                    )
                found.append(
                    TableWrite(target.stored_as, step.index, target.name, stored.get(link or ""))
                )
    return tuple(found)


def _sides(steps: list[StepPlan]) -> tuple[SideWrite, ...]:
    return tuple(
        SideWrite(target.stored_as, step.index, target.name)
        for step in steps
        for target in step.special_outputs
        if target.kind == "function"
    )


def _check_folders(writes: Sequence[WritePlan], plan: Plan) -> None:
    """Refuse output folders that leave the output, are hcsflow's own, or recur."""
    names = [write.output for write in writes[:-1]]
    for name in [*names, plan.config.zarr.store_name]:
        _check_name("a folder", name)
    for name in names:
        if name in RESERVED or name == plan.config.zarr.store_name or names.count(name) > 1:
            raise PipelineError(
                f"no step can be kept in a folder {name!r}: it is taken",
                hint="choose another sub_dir",
            )


def _check_name(what: str, name: str) -> None:
    if not SAFE_NAME.fullmatch(name):
        raise PipelineError(
            f"{what} cannot be named {name!r}",
            hint="use letters, digits, _, - and . (not first)",
        )


def _check_names(write: WritePlan) -> None:
    kinds: tuple[tuple[str, tuple[LabelWrite | TableWrite | SideWrite, ...]], ...] = (
        ("labels", write.labels), ("table", write.tables), ("side output", write.sides),
    )  # fmt: skip
    for kind, items in kinds:
        names = [item.name for item in items]
        for name in names:
            _check_name(f"a {kind}", name)
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise PipelineError(
                f"two steps store a {kind} named {twice[0]!r}",
                hint="rename one: FunctionStep(…, special_outputs={'labels': 'cells'})",
            )
