"""Every pattern of a step, through a real run: each stored plane holds what it should.

Pixels encode their key, so a misplaced plane shows by its value.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import zarr

import hcsflow as hf
from hcsflow.arrays import torch as torch_function
from hcsflow.contracts import contract, special_inputs, special_outputs
from hcsflow.materialize import Json, Labels, Table
from hcsflow.pipeline import DROP, PASS, PIPELINE_START
from hcsflow.testing.plates import key_coded_plate

SIZE = 32


@pytest.fixture(scope="module")
def plate_and_code(tmp_path_factory):
    root = tmp_path_factory.mktemp("plates") / "keyed"
    code = key_coded_plate(
        root, wells=("A01", "B02"), fields=4, channels=2, timepoints=2, z=3, size=SIZE
    )
    return hf.open_plate(root), code


@pytest.fixture
def run(plate_and_code, tmp_path):
    plate, _ = plate_and_code

    def go(*steps, **options):
        plan = hf.compile(hf.Pipeline(steps), plate, output=tmp_path / "out", **options)
        result = plan.run("threads", workers=1)
        assert [o.message for o in result.outcomes if o.status != "done"] == []
        return plan, tmp_path / "out"

    return go


def stored(out, well="B/02", store="images.zarr", path="0/0"):
    return zarr.open_array(out / store / well / path, mode="r")[:]


def expected(plate_and_code, well, pick=lambda v: v, *, channels=(0, 1)):
    """Return the mosaic (t, c, z, y, x) that the key code promises, changed by ``pick``."""
    plate, code = plate_and_code
    grid = plate.model.grid
    shape = (2, len(channels), 3, grid.rows * SIZE, grid.columns * SIZE)
    mosaic = np.zeros(shape, np.uint16)
    number = plate.wells.index(well)
    for f, (row, column) in enumerate(grid.cells):
        where = np.s_[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE]
        for t in range(2):
            for i, c in enumerate(channels):
                for z in range(3):
                    mosaic[(t, i, z, *where)] = code.value(number, f, t, c, z)
    return pick(mosaic)


def plus_one(stack, *, by=1):
    return stack + np.uint16(by)


@contract(z_out="one")
def top(stack):
    return stack.max(axis=0, keepdims=True)


@contract(z_out=2)
def ends(stack):
    return stack[[0, -1]]


def side_by_side(shape_yx):
    return shape_yx[0], 4 * shape_yx[1]


@contract(z_out="one", output_shape=side_by_side)
def in_a_row(stack):
    return np.concatenate(list(stack), axis=1)[np.newaxis]


def test_a_callable_keeps_every_plane_in_its_place(run, plate_and_code):
    _, out = run(hf.FunctionStep(plus_one))
    np.testing.assert_array_equal(stored(out), expected(plate_and_code, "B02") + 1)
    np.testing.assert_array_equal(stored(out, "A/01"), expected(plate_and_code, "A01") + 1)


def test_a_pair_and_a_chain_apply_in_order(run, plate_and_code):
    _, out = run(hf.FunctionStep([(plus_one, {"by": 5}), top, plus_one]))
    projected = expected(plate_and_code, "B02", lambda m: m.max(axis=2))
    np.testing.assert_array_equal(stored(out), projected + 6)


def test_steps_hand_their_planes_on(run, plate_and_code):
    _, out = run(hf.FunctionStep(plus_one, by=3), hf.FunctionStep(top), hf.FunctionStep(plus_one))
    projected = expected(plate_and_code, "B02", lambda m: m.max(axis=2))
    np.testing.assert_array_equal(stored(out), projected + 4)


def test_a_dict_treats_channels_apart(run, plate_and_code):
    _, out = run(hf.FunctionStep({"w1": plus_one, "w2": PASS}))
    wanted = expected(plate_and_code, "B02")
    wanted[:, 0] += 1
    np.testing.assert_array_equal(stored(out), wanted)


def test_a_dropped_channel_is_gone(run, plate_and_code):
    plan, out = run(hf.FunctionStep({"w2": plus_one, "*": DROP}))
    assert plan.frozen.writes[-1].image.channels == (1,)
    wanted = expected(plate_and_code, "B02", channels=(1,)) + 1
    np.testing.assert_array_equal(stored(out), wanted)


def test_input_source_reads_the_plate_past_earlier_steps(run, plate_and_code):
    _, out = run(hf.FunctionStep(top), hf.FunctionStep(plus_one, input_source=PIPELINE_START))
    np.testing.assert_array_equal(stored(out), expected(plate_and_code, "B02") + 1)


@pytest.mark.parametrize("varying", [("channel",), ("timepoint",), ("z", "channel"), ("field",)])
def test_any_components_can_form_the_stack(run, plate_and_code, varying):
    _, out = run(hf.FunctionStep(plus_one, variable_components=varying))
    np.testing.assert_array_equal(stored(out), expected(plate_and_code, "B02") + 1)


def test_a_stack_over_channels_can_collapse_them(run, plate_and_code):
    _, out = run(hf.FunctionStep(top, variable_components=["channel"]))
    wanted = expected(plate_and_code, "B02", lambda m: m.max(axis=1, keepdims=True))
    np.testing.assert_array_equal(stored(out), wanted)


def test_a_new_z_axis_is_stored(run, plate_and_code):
    _, out = run(hf.FunctionStep(ends))
    wanted = expected(plate_and_code, "B02", lambda m: m[:, :, [0, 2]])
    np.testing.assert_array_equal(stored(out), wanted)


def test_fields_can_be_joined_into_a_canvas(run, plate_and_code):
    _, code = plate_and_code
    _, out = run(hf.FunctionStep(top), hf.FunctionStep(in_a_row, variable_components=["field"]))
    image = stored(out)
    assert image.shape == (2, 2, SIZE, 4 * SIZE)
    for f in range(4):
        tile = image[1, 0, :, f * SIZE : (f + 1) * SIZE]
        assert np.unique(tile).tolist() == [code.value(1, f, 1, 0, 2)]


def test_torch_functions_take_part(run, plate_and_code):
    pytest.importorskip("torch", reason="torch is not installed")
    _, out = run(hf.FunctionStep(plus_one), hf.FunctionStep(doubled_int32))
    wanted = (expected(plate_and_code, "B02").astype(np.int32) + 1) * 2
    np.testing.assert_array_equal(stored(out), wanted)


@contract(dtype="int32")
@torch_function
def doubled_int32(stack):
    import torch

    return stack.to(torch.int32) * 2


def test_a_materialised_step_is_a_plate_of_its_own(run, plate_and_code):
    _, out = run(hf.FunctionStep(plus_one, force_disk_output=True), hf.FunctionStep(top))
    kept = stored(out, store="00_plus_one/images.zarr")
    np.testing.assert_array_equal(kept, expected(plate_and_code, "B02") + 1)
    plates = [zarr.open_group(out / s / "images.zarr") for s in ("", "00_plus_one")]
    assert [len(p.attrs["ome"]["plate"]["wells"]) for p in plates] == [2, 2]


@special_outputs(("cells", Labels()), ("notes", Json()), "threshold")
def find(stack):
    labels = np.zeros(stack.shape, np.uint32)
    labels[:, 2:6, 3:7] = 7
    return stack, labels, {"planes": len(stack)}, int(stack.max())


@contract(ragged=True)
@special_inputs("cells", "threshold", "pixel_size_um", "plane_keys", "channel_names")
@special_outputs(("sizes", Table(labels="cells")))
def measure(stack, *, cells, threshold, pixel_size_um, plane_keys, channel_names):
    assert len(plane_keys) == len(stack)
    rows = {
        "label_in_field": [7],
        "area_px": [int((cells[0] == 7).sum())],
        "threshold": [threshold],
        "pixel": [pixel_size_um],
        "channels": [",".join(sorted({channel_names[k.channel] for k in plane_keys}))],
    }
    return stack, rows


def test_special_values_travel_and_are_stored(run, plate_and_code):
    plate, code = plate_and_code
    _, out = run(
        hf.FunctionStep({"w2": top, "*": "DROP"}, name="pick"),
        hf.FunctionStep(find),
        hf.FunctionStep(measure, variable_components=["channel", "z"], input_source=PIPELINE_START),
    )
    labels = stored(out, path="0/labels/cells/0")
    assert labels.shape == (2, plate.model.grid.rows * SIZE, plate.model.grid.columns * SIZE)
    assert set(np.unique(labels)) == {0, *(7 + f * 65536 for f in range(4))}
    table = pd.read_parquet(out / "results" / "sizes.parquet")
    assert list(table.columns[:6]) == ["plate", "well", "field", "t", "step", "label"]
    assert len(table) == 2 * 4 * 2
    assert set(table["area_px"]) == {16}
    assert set(table["channels"]) == {"w1,w2"}
    row = table[(table.well == "B02") & (table.field == 3) & (table.t == 2)].iloc[0]
    assert row["threshold"] == code.value(1, 2, 1, 1, 2)
    assert row["label"] == 7 + 2 * 65536
    files = sorted(p.name for p in (out / "results" / "notes" / "B02").iterdir())
    assert len(files) == 8
    assert all(name.endswith(".json") for name in files)


def old_style(data, path, filemanager):
    target = path.replace(".pkl", "_count.csv")
    filemanager.save(f"count\n{data}\n", target, "disk")
    return target


@special_outputs(("count", old_style))
def counted(stack):
    return stack, len(stack)


def test_materializer_functions_of_the_seeds_form_are_called(run):
    _, out = run(hf.FunctionStep(counted))
    files = sorted((out / "results" / "count" / "A01").iterdir())
    assert len(files) == 4 * 2 * 2
    assert files[0].read_text().strip() == "count\n3"


@special_outputs("mark")
def marked(stack):
    return stack, int(stack.max())


@special_inputs("mark")
@special_outputs(("marks", Table()))
def taken(stack, *, mark):
    return stack, {"mark": [str(mark)]}


def test_a_consumer_of_a_reduced_component_gets_all_values(run, plate_and_code):
    _, code = plate_and_code
    _, out = run(
        hf.FunctionStep({"w1": marked, "*": DROP}, variable_components=["timepoint"]),
        hf.FunctionStep(top),
        hf.FunctionStep(taken),
    )
    table = pd.read_parquet(out / "results" / "marks.parquet")
    row = table[(table.well == "B02") & (table.field == 4) & (table.t == 1)].iloc[0]
    assert row["mark"] == str({z: code.value(1, 3, 1, 0, z) for z in range(3)})


@special_outputs(("cells", Labels()))
def found_across_channels(stack):
    labels = np.zeros((1, *stack.shape[1:]), np.uint32)
    labels[0, :3] = 1
    return stack, labels


def test_labels_of_a_stack_of_channels_are_one_plane(run):
    _, out = run(
        hf.FunctionStep(top),
        hf.FunctionStep(found_across_channels, variable_components=["channel"]),
    )
    labels = stored(out, path="0/labels/cells/0")
    assert labels.ndim == 3
    assert (labels[:, :3, :SIZE] == 1).all()


@special_outputs("mask")
def masked(stack):
    return stack, np.ones(stack.shape, np.uint8)


@special_inputs("mask")
def spoiling(stack, *, mask):
    mask[:] = 0
    return stack


def negative(stack):
    return stack, -np.ones(stack.shape, np.int32)


def quitting(stack):
    raise SystemExit(3)


class OddError(Exception):
    file = 7

    def __str__(self):
        raise RuntimeError("cannot even say so")


def odd(stack):
    raise OddError


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([hf.FunctionStep(masked), hf.FunctionStep(spoiling)], "read-only"),
        (
            [hf.FunctionStep({"w1": special_outputs(("c", Labels()))(negative), "*": DROP})],
            "numbered from 1",
        ),
        ([hf.FunctionStep(quitting)], "3"),
        ([hf.FunctionStep(odd)], "OddError"),
    ],
)
def test_whatever_a_function_does_its_well_alone_fails(plate_and_code, tmp_path, steps, says):
    plate, _ = plate_and_code
    plan = hf.compile(hf.Pipeline(steps), plate, output=tmp_path / "out")
    outcomes = plan.run("threads", workers=1).outcomes
    assert [o.status for o in outcomes] == ["failed", "failed"]
    assert says in outcomes[0].message
    assert outcomes[0].step == steps[-1].name


def test_planes_that_no_step_made_fail_the_well_and_are_never_left_out(plate_and_code, tmp_path):
    plate, _ = plate_and_code
    steps = [hf.FunctionStep(top), hf.FunctionStep(plus_one)]
    plan = hf.compile(hf.Pipeline(steps), plate, output=tmp_path / "out")
    first, second = plan.frozen.steps
    wrong = replace(second, input=first.input)  # a plan as the compiler never makes it
    broken = replace(plan, frozen=plan.frozen.replace(steps=(first, wrong)))
    outcomes = broken.run("threads", workers=1).outcomes
    assert [(o.status, o.step) for o in outcomes] == [("failed", "plus_one")] * 2
    assert "no earlier step made" in outcomes[0].message
