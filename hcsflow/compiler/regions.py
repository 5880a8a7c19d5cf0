"""Pass 5, regions: arrays, chunk grids, who writes what; proved disjoint and covering."""

from __future__ import annotations

from dataclasses import replace

from hcsflow.compiler.inputs import Declared
from hcsflow.config import (
    Backend,
    FieldLayout,
    ZarrChunkStrategy,
    ZarrCompressor,
    ZarrConfig,
    for_step,
)
from hcsflow.errors import PlanRefusedError
from hcsflow.ngff.layout import ImageLayout, objects_of, plan_image, planes_of, raw_bytes
from hcsflow.ngff.proof import prove_labels, prove_regions
from hcsflow.pipeline.step import FunctionStep
from hcsflow.plan import Call, LabelWrite, Plan, PlaneSet, StepPlan, WritePlan, agreeing, groups_of

__all__ = ["regions"]


def regions(plan: Plan, declared: Declared) -> Plan:
    """Lay out every stored array.

    Raises
    ------
    PlanRefusedError
        A layout that cannot be written, labels that do not fit their image.
    """
    _check_links(plan)
    steps = declared.pipeline.steps
    return plan.replace(
        writes=tuple(_laid_out(plan, write, steps[write.step]) for write in plan.writes)
    )


def _laid_out(plan: Plan, write: WritePlan, written: FunctionStep) -> WritePlan:
    planes = plan.steps[write.step].output
    config = _config(plan, write, written)
    image = _image(plan, "0", "image", planes, config)
    labels = tuple(_label(plan, label, planes, config) for label in write.labels)
    layouts = [image, *(label.layout for label in labels)]
    for layout in layouts:
        prove_regions(layout)
    for label in labels:
        prove_labels(image, label.layout)
    return replace(
        write,
        image=image,
        labels=labels,
        objects_per_well=sum(_objects(layout, write) for layout in layouts),
        raw_bytes_per_well=sum(raw_bytes(layout) for layout in layouts),
    )


def _config(plan: Plan, write: WritePlan, written: FunctionStep) -> ZarrConfig:
    """Return the settings of an output; files are planes of fields, at full size alone."""
    config, _ = for_step(plan.config, written.materialization)
    if write.backend == Backend.ZARR.value:
        return config
    return config.replace(
        field_layout=FieldLayout.IMAGES,
        chunk_strategy=ZarrChunkStrategy.FILE,
        compressor=ZarrCompressor.NONE,
        ngff_version="0.5",
        pyramid=False,
    )


def _objects(layout: ImageLayout, write: WritePlan) -> int:
    return objects_of(layout) if write.backend == Backend.ZARR.value else planes_of(layout)


def _label(plan: Plan, label: LabelWrite, image_planes: PlaneSet, config: ZarrConfig) -> LabelWrite:
    step = plan.steps[label.step]
    planes = step.output
    if len(planes.channels) > 1 and "channel" not in step.variable_components:
        raise PlanRefusedError(
            f"step {step.name!r} makes labels {label.name!r} in {len(planes.channels)} channels; "
            "one label image holds one",
            hint='treat one channel: a dict pattern {"w1": …, "*": "DROP"} in an earlier step',
        )
    if planes.shape_yx != image_planes.shape_yx:
        raise PlanRefusedError(
            f"labels {label.name!r} are {planes.shape_yx} (y, x), their image is "
            f"{image_planes.shape_yx}",
            hint="labels are stored at their image's size",
        )
    layout = _image(plan, f"0/labels/{label.name}", "label", planes, config)
    return replace(label, layout=layout)


def _image(plan: Plan, path: str, kind: str, planes: PlaneSet, config: ZarrConfig) -> ImageLayout:
    return plan_image(
        path=path,
        kind="label" if kind == "label" else "image",
        planes=planes,
        grid=plan.plate.grid,
        config=config,
        pixel_size_um=plan.plate.pixel_size.um,
        z_step_um=plan.plate.z_step.um,
    )


def _check_links(plan: Plan) -> None:
    """Refuse a consumer whose groups no producer's groups agree with."""
    for step in plan.steps:
        for link in step.special_inputs:
            if link.producer is not None:
                _check_link(step, link.name, plan.steps[link.producer])


def _check_link(step: StepPlan, name: str, producer: StepPlan) -> None:
    made = [
        group
        for group in groups_of(producer.input, producer.variable_components)
        if any(name in _made_by(producer, call) for call in producer.branch_for(group).calls)
    ]
    seen: set[int | None] = set()
    for group in groups_of(step.input, step.variable_components):
        channel = group.value("channel")
        if channel in seen or step.branch_for(group).action != "call":
            continue  # fields and timepoints are alike: one stands for all
        seen.add(channel)
        if not agreeing(group, made, {*producer.input.collapsed, *step.input.collapsed}):
            where = ", ".join(f"{c} {v}" for c, v in group.fixed)
            raise PlanRefusedError(
                f"step {step.name!r} needs {name!r} for {where}, but step {producer.name!r} "
                "makes none for it",
                hint="stack over the component too, e.g. variable_components=('channel', 'z')",
            )


def _made_by(step: StepPlan, call: Call) -> set[str]:
    """Return the pipeline's names of what a call makes."""
    return {t.name for t in step.special_outputs if t.declared in call.special_outputs}
