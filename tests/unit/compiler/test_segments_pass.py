"""Cutting a chain into tasks: where, under which names, what crosses."""

from dataclasses import replace

import numpy as np
import pytest

from hcsflow.arrays import torch as torch_function
from hcsflow.compiler import compile_plan, explain
from hcsflow.config import GlobalPipelineConfig
from hcsflow.contracts import contract, special_inputs, special_outputs
from hcsflow.materialize import Labels, Table
from hcsflow.pipeline import PASS, FunctionStep, Pipeline
from hcsflow.plan import Carried, Resources
from hcsflow.plate import Channel, FieldGrid, Manifest, Measured, PlaneRow, Plate

CPUS = Resources(workers=4, memory_bytes=4 << 30)


def plate(*, fields=3, timepoints=2, channels=1, z=2):
    return Plate(
        name="p", microscope="imagexpress", layout="flat", uuid=None, rows=("A",),
        columns=("01", "02"), acquisition="1", acquisitions=("1",), wells=("A01", "A02"),
        fields=tuple(map(str, range(1, fields + 1))),
        timepoints=tuple(map(str, range(1, timepoints + 1))),
        channels=tuple(Channel(f"w{i + 1}", f"name{i + 1}", z) for i in range(channels)),
        z=tuple(map(str, range(1, z + 1))), shape_yx=(128, 128), dtype="uint16",
        pixel_size=Measured(0.65, "test"), z_step=Measured(5.0, "test"),
        grid=FieldGrid(1, fields, tuple((0, f) for f in range(fields)), "test"),
    )  # fmt: skip


def compiled(*steps, resources=CPUS, granularity="segment", **shape):
    made = plate(**shape)
    rows = [
        PlaneRow(w, f, t, c, z, "", f"{w}{f}{t}{c}{z}.tif", 100, 7)
        for w in range(2)
        for f in range(len(made.fields))
        for t in range(len(made.timepoints))
        for c, channel in enumerate(made.channels)
        for z in range(channel.z)
    ]
    return compile_plan(
        Pipeline(steps, name="chain"), made, Manifest.from_rows("/plate", rows),
        config=GlobalPipelineConfig(), resources=resources, granularity=granularity,
    )  # fmt: skip


def spans(plan):
    return [(segment.first, segment.last) for segment in plan.segments]


def same(stack):
    return stack


@contract(z_out="one")
def top(stack):
    return stack.max(axis=0, keepdims=True)


@special_outputs(("cells", Labels()))
def find(stack):
    return stack, stack.astype(np.uint32)


@special_inputs("cells")
@special_outputs(("sizes", Table()))
def measure(stack, cells):
    return stack, {"n": int(cells.max())}


@special_outputs("note")
def note(stack):
    return stack, 1


@special_inputs("note")
def use(stack, note):
    return stack


@torch_function
def on_torch(stack):
    return stack


def kept(step, name, **options):
    return FunctionStep(step, name=name, force_disk_output=True, **options)


def test_a_plain_chain_is_one_task_under_the_pipelines_name():
    plan = compiled(FunctionStep(same, name="a"), FunctionStep(same, name="b"))
    assert [segment.name for segment in plan.segments] == ["chain"]
    assert plan.num_tasks == 2


def test_a_checkpoint_ends_a_task_and_the_next_starts_from_it():
    plan = compiled(kept(same, "a"), FunctionStep(same, name="b"), FunctionStep(same, name="c"))
    assert spans(plan) == [(0, 0), (1, 2)]
    assert [segment.name for segment in plan.segments] == ["a", "b+c"]
    assert [segment.reads for segment in plan.segments] == [None, "00_a"]
    assert not plan.hands_on(plan.segments[0])
    assert plan.steps[1].read_backend == "zarr"
    assert plan.num_tasks == 4


def test_a_materialised_last_step_cuts_nothing():
    assert spans(compiled(FunctionStep(same, name="a"), kept(same, "b"))) == [(0, 1)]


def test_each_step_may_be_a_task():
    plan = compiled(
        kept(same, "a"), FunctionStep(same, name="b"), FunctionStep(same, name="c"),
        granularity="step",
    )  # fmt: skip
    assert spans(plan) == [(0, 0), (1, 1), (2, 2)]
    assert [plan.hands_on(segment) for segment in plan.segments] == [False, True, False]


def test_how_it_is_cut_is_no_part_of_what_it_is():
    steps = [kept(same, "a"), FunctionStep(find, name="b"), FunctionStep(measure, name="c")]
    coarse, fine = (compiled(*steps, granularity=g) for g in ("segment", "step"))
    assert len(coarse.segments) < len(fine.segments)
    for output in ("00_a", ""):
        prints = {plan.unit_fingerprint("A01", output) for plan in (coarse, fine)}
        assert len(prints) == 1
    fewer = compiled(FunctionStep(same, name="a"), *steps[1:])
    assert fewer.unit_fingerprint("A01", "") == coarse.unit_fingerprint("A01", "")


def test_what_decides_no_byte_of_a_well_is_in_no_fingerprint():
    plan = compiled(FunctionStep(same))

    def changed(**facts):
        write = replace(plan.writes[0], **facts)
        return plan.replace(writes=(write,))

    for facts in ({"lists_wells": False}, {"objects_per_well": 9}, {"raw_bytes_per_well": 9}):
        other = changed(**facts)
        assert other.unit_fingerprint("A01", "") == plan.unit_fingerprint("A01", "")
        assert other.recipe("") == plan.recipe("")
    assert changed(has_ngff=False).unit_fingerprint("A01", "") != plan.unit_fingerprint("A01", "")


def test_names_suit_the_dashboard_and_are_unique():
    names = ["3d-view", "3d.view", "blur-12"]
    plan = compiled(*(FunctionStep(same, name=name) for name in names), granularity="step")
    assert [segment.name for segment in plan.segments] == [
        "step_3d_view",
        "step_3d.view",
        "blur_12",
    ]
    twice = [FunctionStep(same, name="a-1"), FunctionStep(same, name="a_1")]
    assert [s.name for s in compiled(*twice, granularity="step").segments] == ["a_1", "a_1_"]


@pytest.mark.parametrize(
    ("workers", "gpus", "expected"),
    [
        (4, 1, [((0, 0), False), ((1, 2), True), ((3, 3), False)]),
        (2, 2, [((0, 3), False)]),  # every worker has one
        (4, 0, [((0, 3), False)]),
    ],
)
def test_tasks_end_where_gpus_begin(workers, gpus, expected):
    pytest.importorskip("torch")
    plan = compiled(
        FunctionStep(same, name="a"), FunctionStep(on_torch, name="b"),
        FunctionStep({"w1": PASS}, name="passing"), FunctionStep(same, name="d"),
        resources=Resources(workers=workers, memory_bytes=4 << 30, gpus=gpus),
    )  # fmt: skip
    found = [((s.first, s.last), s.needs_gpu) for s in plan.segments]
    assert found == expected


def test_a_task_loops_over_what_its_own_steps_leave_fixed():
    plan = compiled(
        kept(top, "projected", variable_components=("field",)), FunctionStep(same, name="b")
    )
    assert [segment.loop for segment in plan.segments] == [
        ("timepoint", "channel", "z"), ("timepoint", "channel", "field")
    ]  # fmt: skip


def test_a_loop_that_would_change_the_order_of_writing_is_not_taken():
    plan = compiled(
        kept(same, "a", variable_components=("timepoint",)),
        FunctionStep(same, name="b", variable_components=("field",)),
        FunctionStep(same, name="c"),
    )
    # alone, the last two could go timepoint by timepoint; c's planes would come in another order
    assert [segment.loop for segment in plan.segments] == [("channel", "field", "z"), ("channel",)]


def test_what_goes_plane_by_plane_holds_as_much_of_any_well():
    steps = [FunctionStep(same, name=name, variable_components=()) for name in "ab"]
    small, large = (compiled(*steps, fields=n, channels=n, z=n) for n in (2, 9))
    assert large.projected_bytes == small.projected_bytes


def test_what_later_steps_need_crosses_and_what_is_stored_does():
    plan = compiled(
        FunctionStep(note, name="a"), FunctionStep(find, name="b"), kept(same, "c"),
        FunctionStep(use, name="d"), kept(measure, "e"), FunctionStep(same, name="f"),
    )  # fmt: skip
    labels, notes, sizes = Carried(1, "cells"), Carried(0, "note"), Carried(4, "sizes")
    assert [s.carries for s in plan.segments] == [(notes, labels), (labels, sizes), ()]
    assert [w.carried for w in plan.writes] == [(notes, labels), (labels, sizes), ()]


def test_a_checkpoint_that_nothing_crosses_has_no_values():
    plan = compiled(FunctionStep(note, name="a"), kept(use, "b"), FunctionStep(same, name="c"))
    assert plan.writes[0].carried == ()


def test_the_plan_says_what_each_task_takes_and_gives():
    text = explain(
        compiled(
            FunctionStep(find, name="a"),
            kept(same, "b"),
            FunctionStep(same, name="c"),
            FunctionStep(measure, name="d", input_source="PIPELINE_START"),
            granularity="step",
        )
    )
    assert "a: 2 tasks, steps 1–1" in text
    assert "ends with a result for the next task: 3 fields" in text
    assert "starts from the result of the task before" in text
    assert "ends with 01_b/images.zarr; with it cells of a" in text
    assert "starts from 01_b/images.zarr" in text
    assert "starts from the plate and the result of the task before" in text


def test_the_text_of_a_plan_is_stable():
    steps = [kept(find, "a"), FunctionStep(measure, name="b")]
    assert compiled(*steps).to_json() == compiled(*steps).to_json()
