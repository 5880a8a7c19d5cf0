"""Pass 4, storage: where each step reads and writes, and which outputs are materialised."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hcsflow.compiler.inputs import Declared
from hcsflow.config import Backend, for_step
from hcsflow.errors import PipelineError, PlanRefusedError
from hcsflow.ngff.layout import ImageLayout
from hcsflow.pipeline.step import FunctionStep
from hcsflow.plan import LabelWrite, Plan, SideWrite, StepPlan, TableWrite, WritePlan

__all__ = ["UNPLANNED", "places"]

SAFE_NAME = re.compile(r"\w[\w.\-]*")
RESERVED = frozenset(
    {"final", "handover", "held", "spill", "results", "report.html", "hcsflow_metadata.json"}
)
"""Names in the output, in a kept step's folder or in a task's scratch folder, that are hcsflow's
own; in lower case, because some file systems know no other."""

UNPLANNED = ImageLayout("0", "image", (), (0, 0), (0, 0), (), (), (), (), 1, has_unit=False)
"""Stands for a layout until the regions pass has made it."""

PLANES = "images"
"""Folder of an output whose planes are TIFF files."""


def places(plan: Plan, declared: Declared) -> Plan:
    """Give every step its places and list what is materialised.

    Materialised are the last step, those that ask for it, and those that a step reads which
    requires its input on disk.

    Raises
    ------
    PipelineError
        Two outputs of one kind and name, a folder that is taken.
    PlanRefusedError
        A backend that cannot hold a step's output, or what flows between steps.
    """
    _check_between(plan)
    durable = _durable(plan, declared.pipeline.steps)
    steps: list[StepPlan] = []
    for step, written in zip(plan.steps, declared.pipeline.steps, strict=True):
        is_durable = step.index in durable
        source = None if step.source is None else steps[step.source]
        virtual = Backend.VIRTUAL_WORKSPACE.value
        steps.append(
            replace(
                step,
                input_dir="plate" if source is None else source.output_dir,
                read_backend=virtual if source is None else source.write_backend,
                output_dir=_folder(step, written, plan) if is_durable else _held(step),
                write_backend=_backend(written, plan) if is_durable else Backend.MEMORY.value,
            )
        )
    writes = [
        _write(step, written, plan)
        for step, written in zip(steps, declared.pipeline.steps, strict=True)
        if step.index in durable
    ]
    final = replace(writes[-1], labels=_labels(steps), tables=_tables(steps), sides=_sides(steps))
    _check_names(final)
    _check_folders(writes)
    return plan.replace(steps=tuple(steps), writes=(*writes[:-1], final))


def _durable(plan: Plan, steps: Sequence[FunctionStep]) -> set[int]:
    """Return the steps whose output is kept in files."""
    asked = {step.index for step in plan.steps if steps[step.index].materialize}
    read = {
        step.source
        for step in plan.steps
        if steps[step.index].requires_disk_input and step.source is not None
    }
    return asked | read | {len(plan.steps) - 1}


def _held(step: StepPlan) -> str:
    return f"memory/{step.index:02d}_{step.name}"


def _folder(step: StepPlan, written: FunctionStep, plan: Plan) -> str:
    """Return where a step's output lies below the output folder; "" is the folder itself."""
    chosen = written.materialization.sub_dir if written.materialization else None
    is_last = step.index == len(plan.steps) - 1
    return chosen or ("" if is_last else f"{step.index:02d}_{step.name}")


def _backend(written: FunctionStep, plan: Plan) -> str:
    """Return the backend that keeps a step's output.

    Raises
    ------
    PlanRefusedError
        If the step asks for one that cannot.
    """
    if written.backend not in {None, Backend.ZARR, Backend.DISK, Backend.MEMORY}:
        raise PlanRefusedError(
            f"step {written.name!r}: the backend {written.backend} cannot hold a step's output",
            hint="use zarr or disk, or leave it out",
        )
    kept = written.materialization
    if (kept is None or kept.backend is None) and written.backend in {Backend.ZARR, Backend.DISK}:
        return str(written.backend)
    _, vfs = for_step(plan.config, kept)
    return vfs.materialization_backend.value


def _write(step: StepPlan, written: FunctionStep, plan: Plan) -> WritePlan:
    """Return an output without its layout, which the regions pass makes."""
    zarr, _ = for_step(plan.config, written.materialization)
    is_zarr = step.write_backend == Backend.ZARR.value
    name = zarr.store_name if is_zarr else PLANES
    folder = step.output_dir
    has_ngff = is_zarr and zarr.ome_zarr_metadata
    return WritePlan(
        output="" if step.index == len(plan.steps) - 1 else folder,
        step=step.index,
        store=f"{folder}/{name}" if folder else name,
        image=UNPLANNED,
        backend=step.write_backend,
        has_ngff=has_ngff,
        lists_wells=has_ngff and zarr.write_plate_metadata,
    )


def _check_between(plan: Plan) -> None:
    """Refuse a backend that cannot keep what flows between steps."""
    chosen = plan.config.vfs.intermediate_backend
    if chosen not in {Backend.MEMORY, Backend.DISK, Backend.ZARR}:
        raise PlanRefusedError(
            f"intermediate_backend={chosen.value} cannot keep what flows between steps",
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


def _check_folders(writes: Sequence[WritePlan]) -> None:
    """Refuse output folders that leave the output, are hcsflow's own, or recur but for case."""
    folders = [write.store.rpartition("/")[0] for write in writes]
    stores = [write.store for write in writes]
    for name in filter(None, {*folders, *(store.rpartition("/")[2] for store in stores)}):
        _check_name("a folder", name)
    taken = [folder.casefold() for folder in folders]
    beside = {store.casefold() for store in stores}
    for folder in filter(None, folders):
        name = folder.casefold()
        if name in RESERVED or name in beside or taken.count(name) > 1:
            raise PipelineError(
                f"no step can be kept in a folder {folder!r}: it is taken",
                hint="choose another sub_dir",
            )
    for store in stores:
        if store.rpartition("/")[2].casefold() in RESERVED:
            raise PipelineError(
                f"a plate cannot be stored as {store!r}: it is taken",
                hint="choose another store_name",
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
