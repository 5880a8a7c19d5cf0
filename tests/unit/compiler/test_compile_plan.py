"""Compiling: what a plan holds, what is refused and how."""

import json
import pickle

import numpy as np
import pytest

from hcsflow.arrays import numpy as numpy_function
from hcsflow.compiler import compile_plan, explain
from hcsflow.config import (
    Backend,
    GlobalPipelineConfig,
    MissingPolicy,
    StepMaterializationConfig,
    ZarrChunkStrategy,
    ZarrConfig,
)
from hcsflow.contracts import contract, special_inputs, special_outputs
from hcsflow.errors import (
    FunctionNotFoundError,
    PipelineError,
    PlanRefusedError,
    UsageError,
)
from hcsflow.materialize import Labels, Table
from hcsflow.pipeline import PIPELINE_START, FunctionStep, Pipeline
from hcsflow.plan import Resources
from hcsflow.plate import Channel, FieldGrid, Manifest, Measured, PlaneRow, Plate, WellFault

RESOURCES = Resources(workers=2, memory_bytes=4 << 30)


def make_plate(*, fields=2, z=(5, 5, 1, 1), wells=("A01", "B02"), size=512):
    channels = tuple(Channel(f"w{i + 1}", f"name{i + 1}", n) for i, n in enumerate(z))
    return Plate(
        name="p", microscope="imagexpress", layout="flat", uuid=None,
        rows=tuple("ABCDEFGH"), columns=tuple(f"{c:02d}" for c in range(1, 13)),
        acquisition="1", acquisitions=("1",), wells=tuple(wells),
        fields=tuple(str(f + 1) for f in range(fields)), timepoints=("1",), channels=channels,
        z=tuple(str(i + 1) for i in range(max(z))), shape_yx=(size, size), dtype="uint16",
        pixel_size=Measured(0.65, "test"), z_step=Measured(5.0, "test"),
        grid=FieldGrid(1, fields, tuple((0, f) for f in range(fields)), "test"),
    )  # fmt: skip


def make_manifest(plate, **facts):
    rows = [
        PlaneRow(w, f, 0, c, z, "", f"{plate.wells[w]}_s{f}_w{c}_z{z}.tif", 100, 7)
        for w in range(len(plate.wells))
        for f in range(len(plate.fields))
        for c, channel in enumerate(plate.channels)
        for z in range(channel.z)
    ]
    return Manifest.from_rows("/plate", rows, **facts)


def compiled(
    *steps, plate=None, manifest=None, config=None, wells=None, resources=RESOURCES, **options
):
    plate = plate or make_plate()
    return compile_plan(
        Pipeline(steps, **options),
        plate,
        manifest or make_manifest(plate),
        config=config or GlobalPipelineConfig(),
        resources=resources,
        wells=wells,
    )


@numpy_function
def identity(stack, *, gain=1):
    return stack * gain


@contract(z_out="one")
def brightest(stack):
    return stack.max(axis=0, keepdims=True)


@special_outputs(("cells", Labels()))
def find(stack):
    return stack, stack.astype(np.uint32)


@special_inputs("cells")
@special_outputs(("sizes", Table(labels="cells")))
def measure(stack, *, cells):
    return stack, {"label_in_field": [1]}


def test_projecting_every_channel_matches_the_worked_table():
    plan = compiled(FunctionStep("max_projection"))
    image = plan.writes[-1].image
    assert image.levels[0].shape == (4, 512, 1024)
    assert image.levels[0].axes == ("c", "y", "x")
    assert image.levels[0].chunks == (1, 512, 512)
    assert [level.shape[-2:] for level in image.levels] == [
        (512, 1024), (256, 512), (128, 256), (64, 128)
    ]  # fmt: skip
    assert plan.writes[-1].objects_per_well == 4
    assert plan.num_tasks == 2


def test_one_object_per_plane_where_the_strategy_says_so():
    config = GlobalPipelineConfig(zarr=ZarrConfig(chunk_strategy=ZarrChunkStrategy.FILE))
    plan = compiled(FunctionStep("max_projection"), config=config)
    assert plan.writes[-1].objects_per_well == 8 + 3


def test_count_nuclei_matches_the_worked_table():
    from hcsflow.session.pipelines import load_pipeline

    plate = make_plate()
    counts = {}
    for strategy in (ZarrChunkStrategy.WELL, ZarrChunkStrategy.FILE):
        plan = compile_plan(
            load_pipeline("count-nuclei"), plate, make_manifest(plate),
            config=GlobalPipelineConfig(zarr=ZarrConfig(chunk_strategy=strategy)),
            resources=RESOURCES,
        )  # fmt: skip
        counts[strategy] = plan.writes[-1].objects_per_well
    image, label = plan.writes[-1].image, plan.writes[-1].labels[0].layout
    assert image.levels[0].shape == (4, 5, 512, 1024)
    assert label.levels[0].shape == (512, 1024)
    assert label.levels[0].dtype == "uint32"
    assert counts == {ZarrChunkStrategy.WELL: 4 + 4, ZarrChunkStrategy.FILE: 24 + 3 + 4}
    assert plan.segments[0].loop == ("field", "timepoint")


def test_a_plan_is_deterministic_and_blind_to_the_order_of_files():
    plate = make_plate()
    rows = list(make_manifest(plate))
    first = compiled(FunctionStep(identity), plate=plate).to_json()
    shuffled = Manifest.from_rows(
        "/elsewhere",
        [PlaneRow(*key[1:], "", path, 100, 7) for key, path in reversed(rows)],
    )
    assert compiled(FunctionStep(identity), plate=plate, manifest=shuffled).to_json() == first
    assert json.loads(first)["schema"] == "hcsflow.plan/1"
    assert "/elsewhere" not in first


def test_fingerprints_follow_parameters_functions_and_files():
    plate = make_plate()

    def unit(step, **facts):
        plan = compiled(step, plate=plate, **facts)
        return plan.unit_fingerprint("A01", "")

    base = unit(FunctionStep(identity))
    assert unit(FunctionStep(identity)) == base
    assert unit(FunctionStep(identity, gain=2)) != base
    assert unit(FunctionStep("median_filter")) != base
    touched = [
        PlaneRow(*key[1:], "", path, 100, 8 if i == 0 else 7)
        for i, (key, path) in enumerate(make_manifest(plate))
    ]
    manifest = Manifest.from_rows("/plate", touched)
    assert unit(FunctionStep(identity), manifest=manifest) != base
    plan = compiled(FunctionStep(identity), plate=plate, manifest=manifest)
    assert plan.unit_fingerprint("B02", "") == compiled(
        FunctionStep(identity), plate=plate
    ).unit_fingerprint("B02", "")


def test_a_materialised_step_is_an_output_of_its_own():
    plan = compiled(
        FunctionStep(identity, force_disk_output=True),
        FunctionStep(identity, name="keep", backend=Backend.ZARR),
        FunctionStep(brightest),
    )
    assert [w.output for w in plan.writes] == ["00_identity", "01_keep", ""]
    assert plan.writes[0].store == "00_identity/images.zarr"
    assert [step.read_backend for step in plan.steps[1:]] == ["zarr", "zarr"]
    assert plan.steps[0].read_backend == "virtual_workspace"


def test_labels_and_tables_are_tied_by_name():
    plan = compiled(
        FunctionStep({"w1": find, "*": "DROP"}, special_outputs={"cells": "nuclei"}),
        FunctionStep(
            contract(ragged=True)(measure),
            variable_components=["channel", "z"],
            input_source=PIPELINE_START,
            special_inputs={"cells": "nuclei"},
        ),
    )
    final = plan.writes[-1]
    assert [label.name for label in final.labels] == ["nuclei"]
    assert [(table.name, table.labels) for table in final.tables] == [("sizes", "nuclei")]
    assert plan.steps[1].special_inputs[0].producer == 0


@pytest.mark.parametrize(
    ("steps", "error", "says"),
    [
        ([FunctionStep("gausian_filter")], FunctionNotFoundError, "gaussian_filter"),
        ([FunctionStep("gaussian_filter", sigm=2)], PipelineError, "did you mean 'sigma'"),
        ([FunctionStep("no.such.module:f")], FunctionNotFoundError, "cannot import"),
        ([FunctionStep(measure)], PipelineError, "which no earlier step makes"),
        ([FunctionStep({"DAPI": identity, "*": "PASS"})], PipelineError, "w1 = name1"),
        ([FunctionStep({"w1": identity})], PipelineError, "says nothing about channel w2, w3, w4"),
        ([FunctionStep({"w1": identity, "name1": identity, "*": "PASS"})], PipelineError, "twice"),
        ([FunctionStep(identity, gain="$gian")], PipelineError, "no such parameter"),
        ([FunctionStep({"*": "DROP"})], PlanRefusedError, "drops every plane"),
        ([FunctionStep(identity, variable_components=["channel"])], PlanRefusedError, "ragged"),
        ([FunctionStep(find)], PlanRefusedError, "one label image holds one"),
        ([FunctionStep(identity, backend="napari_stream")], PlanRefusedError, "cannot hold"),
        ([FunctionStep("gaussian_filter", sigma="abc")], PipelineError, "sigma must be float"),
        ([FunctionStep("split_touching", min_distance=2.5)], PipelineError, "min_distance must"),
        ([FunctionStep({"1": brightest, "*": "PASS"}, group_by="field")],
         PlanRefusedError, "no full grid"),
        ([FunctionStep(identity, materialization=StepMaterializationConfig(sub_dir="../x")),
          FunctionStep(identity)], PipelineError, "cannot be named"),
        ([FunctionStep(identity, materialization=StepMaterializationConfig(sub_dir="results")),
          FunctionStep(identity)], PipelineError, "it is taken"),
    ],
)  # fmt: skip
def test_what_cannot_be_compiled_says_why(steps, error, says):
    with pytest.raises(error) as caught:
        compiled(*steps)
    assert says in str(caught.value)


def test_two_producers_of_one_name_are_ambiguous():
    with pytest.raises(PipelineError, match="which 2 earlier steps make"):
        compiled(
            FunctionStep({"w1": find, "*": "DROP"}),
            FunctionStep(find, name="again"),
            FunctionStep(measure),
        )


def test_a_consumer_in_another_channel_is_refused():
    with pytest.raises(PlanRefusedError, match="makes none for it"):
        compiled(
            FunctionStep({"w1": find, "*": "DROP"}),
            FunctionStep(measure, input_source=PIPELINE_START),
        )


def test_unlike_results_of_a_dict_are_refused():
    @contract(dtype="float32")
    def floats(stack):
        return stack.astype("float32")

    with pytest.raises(PlanRefusedError, match="stored as one image"):
        compiled(FunctionStep({"w1": floats, "*": "PASS"}))


def test_a_parameter_of_none_means_the_first_channel():
    plan = compiled(
        FunctionStep({"$which": "max_projection", "*": "DROP"}), parameters={"which": None}
    )
    assert plan.steps[0].output.channels == (0,)
    plan = compiled(
        FunctionStep({"$which": "max_projection", "*": "DROP"}), parameters={"which": "name3"}
    )
    assert plan.steps[0].output.channels == (2,)


def test_the_budget_names_the_worst_step_and_both_sizes():
    with pytest.raises(PlanRefusedError) as caught:
        compiled(FunctionStep(brightest), resources=Resources(2, 1_000_000))
    assert "brightest" in str(caught.value)
    assert "GB" in str(caught.value)
    assert caught.value.exit_code == 3


def test_wells_are_chosen_by_pattern():
    assert compiled(FunctionStep(identity), wells=["b*"]).wells == ("B02",)
    with pytest.raises(UsageError, match="no well matches 'C01'"):
        compiled(FunctionStep(identity), wells=["C01"])


def test_wells_known_to_be_bad_fail_without_a_task():
    plate = make_plate()
    manifest = make_manifest(
        plate, faults=(WellFault("A01", "two files claim a plane", "x.tif"),),
        missing_wells=("C03",),
    )  # fmt: skip
    plan = compiled(FunctionStep(identity), plate=plate, manifest=manifest)
    assert plan.wells == ("B02",)
    assert [w for w, _, _ in plan.failed_wells] == ["A01", "C03"]
    lenient = GlobalPipelineConfig(missing=MissingPolicy.SKIP)
    plan = compiled(FunctionStep(identity), plate=plate, manifest=manifest, config=lenient)
    assert [w for w, _, _ in plan.failed_wells] == ["A01"]


def test_a_plan_explains_itself_and_pickles():
    plan = compiled(FunctionStep("gaussian_filter", sigma=2.0), FunctionStep(brightest))
    text = explain(plan)
    assert "gaussian_filter over z" in text
    assert "2 tasks" in text
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_each_field_may_be_an_image():
    config = GlobalPipelineConfig(zarr=ZarrConfig(field_layout="images"))
    (write,) = compiled(FunctionStep(identity), config=config).writes
    assert write.image.is_per_field
    assert write.image.levels[0].shape[-2:] == write.image.field_yx
    stitched = compiled(FunctionStep(brightest, variable_components="field"), config=config)
    assert not stitched.writes[0].image.is_per_field


def test_a_well_may_be_named_as_people_do_and_a_fill_value_must_fit():
    assert compiled(FunctionStep(identity), wells="a1").wells == ("A01",)
    config = GlobalPipelineConfig(missing=MissingPolicy.FILL, fill_value=70000)
    with pytest.raises(PlanRefusedError, match="70000 is no uint16"):
        compiled(FunctionStep(identity), config=config)


def test_a_consumer_of_another_branchs_output_is_refused():
    steps = [
        FunctionStep({"w1": special_outputs("x")(find), "*": special_outputs("y")(measure_y)}),
        FunctionStep(special_inputs("y")(takes_y)),
    ]
    with pytest.raises(PlanRefusedError, match="makes none for it"):
        compiled(*steps)


def measure_y(stack):
    return stack, 1


def takes_y(stack, *, y):
    return stack


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, (True, True)),
        ({"ome_zarr_metadata": False}, (False, False)),
        ({"write_plate_metadata": False}, (True, False)),
    ],
)
def test_metadata_may_be_left_out(asked, says):
    config = GlobalPipelineConfig(zarr=ZarrConfig(**asked))
    (write,) = compiled(FunctionStep(identity), config=config).writes
    assert (write.has_ngff, write.lists_wells) == says


def test_what_a_step_reads_from_disk_is_kept_there():
    plan = compiled(
        FunctionStep(identity, name="one"),
        FunctionStep(identity, name="two", requires_disk_input=True),
    )
    assert [write.output for write in plan.writes] == ["00_one", ""]
    assert plan.steps[1].read_backend == "zarr"


def test_planes_may_be_files_of_any_step():
    plan = compiled(
        FunctionStep(identity, name="one", backend="disk"),
        FunctionStep(identity, name="two"),
    )
    kept, final = plan.writes
    assert (kept.backend, kept.store) == ("disk", "00_one/images")
    assert (final.backend, final.store) == ("zarr", "images.zarr")
    assert kept.objects_per_well == plan.steps[0].output.num_planes
    assert len(kept.image.levels) == 1


def test_a_step_may_be_stored_in_its_own_way():
    mine = StepMaterializationConfig(sub_dir="mine", zarr={"chunk_strategy": "file"})
    plan = compiled(
        FunctionStep(identity, name="one", materialization=mine),
        FunctionStep(identity, name="two"),
    )
    kept, final = plan.writes
    assert kept.store == "mine/images.zarr"
    assert kept.image.levels[0].shards is None
    assert final.image.levels[0].shards is not None


def test_the_last_step_may_have_a_folder_of_its_own():
    kept = StepMaterializationConfig(sub_dir="mine")
    (write,) = compiled(FunctionStep(identity, materialization=kept)).writes
    assert (write.output, write.store) == ("", "mine/images.zarr")


@pytest.mark.parametrize("taken", ["results", "01_last", "images.zarr"])
def test_two_steps_do_not_share_a_folder(taken):
    last = StepMaterializationConfig(sub_dir=None if taken == "images.zarr" else "01_last")
    with pytest.raises(PipelineError, match="it is taken"):
        compiled(
            FunctionStep(identity, materialization=StepMaterializationConfig(sub_dir=taken)),
            FunctionStep(identity, materialization=last),
        )
