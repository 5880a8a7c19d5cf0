"""Projected memory: what counts, and what is refused with which advice."""

from dataclasses import replace

import numpy as np
import pytest

from hcsflow.compiler import compile_plan
from hcsflow.compiler.budget import fit_encoders
from hcsflow.compiler.needs import OVERHEAD_BYTES, SLACK
from hcsflow.config import GlobalPipelineConfig, ZarrConfig
from hcsflow.contracts import contract, special_inputs, special_outputs
from hcsflow.errors import PlanRefusedError
from hcsflow.materialize import Labels
from hcsflow.pipeline import FunctionStep, Pipeline
from hcsflow.plan import READING_BYTES, Resources
from hcsflow.plate import Channel, FieldGrid, Manifest, Measured, PlaneRow, Plate

SIZE = 1024
PLANE = SIZE * SIZE * 2
AMPLE = Resources(workers=2, memory_bytes=64 << 30)


def plate_of(*, z=10, fields=1, channels=1) -> tuple[Plate, Manifest]:
    plate = Plate(
        name="p", microscope="imagexpress", layout="flat", uuid=None,
        rows=("A",), columns=("01",), acquisition="1", acquisitions=("1",), wells=("A01",),
        fields=tuple(str(f + 1) for f in range(fields)), timepoints=("1",),
        channels=tuple(Channel(f"w{i + 1}", f"name{i + 1}", z) for i in range(channels)),
        z=tuple(str(k + 1) for k in range(z)), shape_yx=(SIZE, SIZE), dtype="uint16",
        pixel_size=Measured(0.65, "test"), z_step=Measured(1.0, "test"),
        grid=FieldGrid(1, fields, tuple((0, f) for f in range(fields)), "test"),
    )  # fmt: skip
    rows = [
        PlaneRow(0, f, 0, c, k, "", f"A01_{f}_{c}_{k}.tif", 100, 7)
        for f in range(fields)
        for c in range(channels)
        for k in range(z)
    ]
    return plate, Manifest.from_rows("/plate", rows)


def plan_of(*steps, resources=AMPLE, config=None, granularity="segment", **plate):
    model, manifest = plate_of(**plate)
    pipeline = Pipeline([FunctionStep(**step) for step in steps], name="test")
    return compile_plan(
        pipeline,
        model,
        manifest,
        config=config or GlobalPipelineConfig(),
        resources=resources,
        granularity=granularity,
    )


def declared(**changes):
    @contract(**changes)
    def work(stack):
        return stack

    return work


def projected(**changes) -> int:
    return plan_of({"func": declared(**changes), "name": "work"}).projected_bytes


def test_temporaries_grow_with_the_stack_unless_the_contract_says_otherwise():
    none = projected(working_planes=0.0)
    float_plane = SLACK * SIZE * SIZE * 4
    assert projected(working_planes=1.0) - none == pytest.approx(10 * float_plane, abs=2)
    assert projected(working_planes=0.0, fixed_planes=3.0) - none == pytest.approx(
        3 * float_plane, abs=2
    )


def test_stack_result_and_encoder_are_counted():
    expected = SLACK * (10 + 10 + 3) * PLANE + OVERHEAD_BYTES
    assert projected(working_planes=0.0) == pytest.approx(expected, abs=2)


def with_encoders(count: int, memory_bytes: int, **plate):
    plan = plan_of({"func": declared(working_planes=0.0), "name": "work"}, **plate)
    wide = replace(plan.resources, encoders=count)
    return plan, fit_encoders(plan.replace(resources=wide), memory_bytes)


def test_planes_that_wait_for_several_encoders_are_counted():
    one, eight = with_encoders(8, 1 << 40)
    assert eight.resources.encoders == 8
    extra = eight.projected_bytes - one.projected_bytes
    assert extra == pytest.approx(SLACK * (8 * 3 * PLANE + READING_BYTES), abs=2)
    few, _ = with_encoders(1, 1 << 40, z=2)
    _, many = with_encoders(8, 1 << 40, z=2)
    extra = many.projected_bytes - few.projected_bytes
    assert extra == pytest.approx(SLACK * (3 * PLANE + READING_BYTES), abs=2), (
        "there are but two planes, and one encoder holds one of them too"
    )


def test_planes_wait_for_encoders_once_they_are_made():
    def steps_of(encoders, fields):
        work = [{"func": declared(working_planes=0.0), "name": name} for name in ("one", "two")]
        plan = plan_of(*work, fields=fields)
        wide = replace(plan.resources, encoders=encoders)
        return fit_encoders(plan.replace(resources=wide), 1 << 40).steps

    def extra(step, fields):
        gain = steps_of(8, fields)[step].projected_bytes - steps_of(1, fields)[step].projected_bytes
        return round((gain / SLACK - READING_BYTES) / (3 * PLANE))

    assert extra(0, 1) == 0  # the only turn's planes are still to be made
    assert extra(0, 2) == 8  # those of the field before
    assert extra(1, 1) == 8


def test_a_plan_has_as_many_encoders_as_memory_holds_and_is_never_refused_for_them():
    one, four = with_encoders(8, with_encoders(4, 1 << 40)[1].projected_bytes)
    assert four.resources == replace(one.resources, encoders=4)
    assert one.projected_bytes < four.projected_bytes
    _, tight = with_encoders(8, one.projected_bytes)
    assert tight == one


def test_a_plan_over_the_workers_memory_is_refused_with_the_worst_step_and_both_sizes():
    step = {"func": declared(working_planes=50.0), "name": "deconvolve"}
    small = {"func": declared(working_planes=0.0), "name": "before"}
    with pytest.raises(PlanRefusedError) as refused:
        plan_of(small, step, resources=Resources(workers=4, memory_bytes=1_000_000_000))
    message, hint = refused.value.message, refused.value.hint
    assert "step 'deconvolve' would need 2." in message
    assert "working 2.10 GB" in message
    assert "a worker has 1.00 GB" in message
    assert "use fewer workers (1 instead of 4)" in hint
    assert "stack fewer planes" in hint


def test_fewer_workers_are_not_advised_where_even_one_has_too_little():
    with pytest.raises(PlanRefusedError) as refused:
        plan_of(
            {"func": declared(working_planes=50.0), "name": "deconvolve"},
            resources=Resources(workers=1, memory_bytes=1_000_000_000),
        )
    assert "fewer workers" not in refused.value.hint
    assert "give a worker more memory" in refused.value.hint


def test_the_segment_is_named_where_a_well_has_several():
    first = {"func": declared(working_planes=0.0), "name": "first", "force_disk_output": True}
    step = {"func": declared(working_planes=50.0), "name": "second"}
    with pytest.raises(PlanRefusedError, match="step 'second' of segment 'second'"):
        plan_of(first, step, resources=Resources(workers=1, memory_bytes=1_000_000_000))


def test_what_one_task_hands_to_the_next_counts_in_both():
    steps = [{"func": declared(working_planes=0.0), "name": name} for name in ("one", "two")]
    handed = plan_of(*steps, fields=4, granularity="step")
    stored = plan_of({**steps[0], "force_disk_output": True}, steps[1], fields=4)
    well = 4 * 10 * PLANE
    assert handed.segments[0].projected_bytes > SLACK * well
    assert handed.segments[1].projected_bytes > SLACK * well
    read = stored.segments[1].projected_bytes
    assert read < handed.segments[1].projected_bytes - SLACK * well / 2, "field by field"


def test_memory_does_not_grow_with_fields_that_are_done_one_by_one():
    step = {"func": declared(working_planes=0.0), "name": "work"}
    few, many = plan_of(step, fields=2), plan_of(step, fields=50)
    assert few.projected_bytes == many.projected_bytes


def test_objects_of_ngff_04_are_told_and_what_makes_them_smaller():
    config = GlobalPipelineConfig(zarr=ZarrConfig(ngff_version="0.4"))
    step = {"func": declared(working_planes=0.0), "name": "work"}
    with pytest.raises(PlanRefusedError, match=r"objects that NGFF 0\.4 encodes") as refused:
        plan_of(
            step, fields=20, config=config, resources=Resources(workers=1, memory_bytes=1 << 29)
        )
    assert "--chunks" in refused.value.hint
    assert "--ngff 0.5" in refused.value.hint


def on_torch(**changes):
    return declared(input_type="torch", output_type="torch", **changes)


def test_a_devices_memory_is_held_against_the_plan_where_it_is_known():
    step = {"func": on_torch(working_planes=50.0), "name": "deconvolve"}
    resources = Resources(workers=1, memory_bytes=64 << 30, gpus=1, device_memory_bytes=2 << 30)
    with pytest.raises(PlanRefusedError, match=r"'deconvolve' would need 2\.\d+ GB on a device"):
        plan_of(step, resources=resources)
    unknown = Resources(workers=1, memory_bytes=64 << 30, gpus=1)
    assert plan_of(step, resources=unknown).projected_device_bytes > 2 << 30


def test_without_gpus_a_librarys_temporaries_lie_in_the_workers_memory():
    step = {"func": on_torch(working_planes=50.0), "name": "deconvolve"}
    on_host = plan_of(step)
    on_device = plan_of(step, resources=Resources(workers=1, memory_bytes=64 << 30, gpus=1))
    assert on_host.projected_device_bytes == 0
    temporaries = 50 * 10 * SIZE * SIZE * np.dtype(np.float32).itemsize
    difference = on_host.projected_bytes - on_device.projected_bytes
    assert difference == pytest.approx(SLACK * temporaries, rel=1e-6)


def test_special_outputs_that_cross_a_cut_are_counted():
    def segments(made, asked, granularity="step", *, kept=False):
        steps = ({"func": made, "name": "make", "force_disk_output": kept},
                 {"func": asked, "name": "take"})  # fmt: skip
        return plan_of(*steps, granularity=granularity, fields=2).segments

    @contract(ragged=True, working_planes=0.0)
    @special_outputs("memo")
    def make(stack):
        return stack, stack.copy()

    @contract(ragged=True, working_planes=0.0)
    @special_outputs(("labels", Labels()))
    def outline(stack):
        return stack, stack.astype(np.int64)

    @contract(ragged=True, working_planes=0.0)
    @special_inputs("memo")
    def take(stack, memo):
        return stack

    plain = declared(ragged=True, working_planes=0.0)
    for func, plane_bytes in ((make, 2), (outline, 8)):
        after = take if func is make else plain
        handed, bare = segments(func, after), segments(plain, plain)
        whole = 2 * 10 * SIZE * SIZE * plane_bytes
        assert handed[1].projected_bytes - bare[1].projected_bytes >= 1.05 * whole
        stored, bare = segments(func, after, kept=True), segments(plain, plain, kept=True)
        assert stored[1].projected_bytes - bare[1].projected_bytes >= 1.05 * whole / 2
