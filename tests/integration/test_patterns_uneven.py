"""Channels with unlike numbers of planes, and what changes on the way: through a real run."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import zarr

import hcsflow as hf
from hcsflow.compiler import compile_plan
from hcsflow.config import GlobalPipelineConfig
from hcsflow.contracts import contract, special_inputs, special_outputs
from hcsflow.errors import PipelineError, PlanRefusedError
from hcsflow.materialize import Table
from hcsflow.pipeline import PIPELINE_START
from hcsflow.plan import Resources
from hcsflow.testing.plates import key_coded_plate

SIZE, HEIGHTS = 32, (3, 1)


@pytest.fixture(scope="module")
def plate_and_code(tmp_path_factory):
    root = tmp_path_factory.mktemp("plates") / "uneven"
    code = key_coded_plate(
        root, wells=("A01",), fields=2, channels=2, timepoints=1, z=HEIGHTS, size=SIZE
    )
    return hf.open_plate(root), code


@pytest.fixture
def run(plate_and_code, tmp_path):
    def go(*steps):
        done = hf.compile(steps, plate_and_code[0], output=tmp_path / "out").run(
            "threads", workers=1
        )
        assert [o.message for o in done.outcomes if o.status != "done"] == []
        return zarr.open_array(tmp_path / "out/images.zarr/A/01/0/0", mode="r")[:], done

    return go


@special_inputs("plane_keys", "channel_names", "pixel_size_um", "z_step_um", "stage_positions_um")
@special_outputs(("seen", Table()))
@contract(ragged=True)
def seeing(stack, *, plane_keys, channel_names, pixel_size_um, z_step_um, stage_positions_um):
    row = {
        "planes": [",".join(f"{channel_names[k.channel]}z{k.z}" for k in plane_keys)],
        "values": [",".join(str(int(plane[0, 0])) for plane in stack)],
        "pixel": [pixel_size_um],
        "step": [z_step_um],
        "positions": [len(stage_positions_um)],
        "shape": ["x".join(map(str, stack.shape))],
    }
    row["z_step"] = row.pop("step")
    return stack, row


@pytest.mark.parametrize(
    ("varying", "order"),
    [
        (["channel", "z"], [(0, 0), (0, 1), (0, 2), (1, 0)]),
        (["z", "channel"], [(0, 0), (1, 0), (0, 1), (0, 2)]),
    ],
)
def test_a_ragged_stack_holds_what_there_is_in_the_order_asked(run, plate_and_code, varying, order):
    plate, code = plate_and_code
    _, done = run(hf.FunctionStep(seeing, variable_components=varying))
    table = pd.DataFrame(done.table("seen")).set_index("field")
    row = table.loc[2]
    assert row["planes"] == ",".join(f"w{c + 1}z{z}" for c, z in order)
    assert row["values"] == ",".join(str(code.value(0, 1, 0, c, z)) for c, z in order)
    assert row["shape"] == f"4x{SIZE}x{SIZE}"
    assert row["positions"] == 4
    assert row["pixel"] == plate.model.pixel_size.um
    assert row["z_step"] == plate.model.z_step.um


def test_without_ragged_it_is_refused_and_projected_it_is_not(run, plate_and_code, tmp_path):
    def plain(stack):
        return stack

    over = {"variable_components": ["channel"]}
    with pytest.raises(PlanRefusedError, match=r"channels differ in z planes \(w1: 3, w2: 1\)"):
        hf.compile([hf.FunctionStep(plain, **over)], plate_and_code[0], output=tmp_path / "no")
    image, _ = run(hf.FunctionStep("max_projection"), hf.FunctionStep(plain, **over))
    assert image.shape[-3:] == (2, SIZE, 2 * SIZE)


@contract(z_out=2)
def ends(stack):
    return stack[[0, -1]]


def test_a_new_z_axis_is_as_long_for_every_channel(run, plate_and_code):
    _, code = plate_and_code
    image, _ = run(hf.FunctionStep(ends))
    assert image.shape == (2, 2, SIZE, 2 * SIZE)
    found = [[int(image[c, z, 0, 0]) for z in (0, 1)] for c in (0, 1)]
    value = lambda c, z: code.value(0, 0, 0, c, z)  # noqa: E731
    assert found == [[value(0, 0), value(0, 2)], [value(1, 0), value(1, 0)]]


@contract(dtype="float32")
def halved(stack):
    return (stack / 2).astype(np.float32)


@contract(dtype="uint8")
def small(stack):
    return stack.astype(np.uint8)


def test_a_chain_of_dtypes_ends_in_the_last(run, plate_and_code):
    _, code = plate_and_code
    image, _ = run(hf.FunctionStep([halved, "max_projection", small]))
    assert image.dtype == np.uint8
    assert image[0, 0, 0] == code.value(0, 0, 0, 0, 2) // 2


def test_the_plate_can_be_read_again_past_what_was_dropped(run, plate_and_code):
    _, code = plate_and_code
    image, _ = run(
        hf.FunctionStep({"w1": "max_projection", "*": "DROP"}),
        hf.FunctionStep("max_projection", name="again", input_source=PIPELINE_START),
    )
    assert [int(image[c, 0, 0]) for c in (0, 1)] == [
        code.value(0, 0, 0, 0, 2),
        code.value(0, 0, 0, 1, 0),
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("DAPI", "ambiguous channel 'DAPI'; the plate has: w1 = DAPI, w2 = DAPI"),
        ("DAPPI", "unknown channel 'DAPPI'"),
        ("W1", "did you mean 'w1'"),
    ],
)
def test_a_name_that_two_channels_have_is_refused_with_both(plate_and_code, name, says):
    model = plate_and_code[0].model
    same = tuple(replace(channel, name="DAPI") for channel in model.channels)
    with pytest.raises(PipelineError) as caught:
        compile_plan(
            hf.Pipeline([hf.FunctionStep({name: "max_projection", "*": "PASS"})]),
            replace(model, channels=same),
            plate_and_code[0].manifest,
            config=GlobalPipelineConfig(),
            resources=Resources(workers=1, memory_bytes=1 << 30),
        )
    assert says in str(caught.value)


def test_labels_mean_what_they_say_where_names_are_alike(plate_and_code, tmp_path):
    pattern = {"w1": "max_projection", "w2": "max_projection"}
    assert hf.compile([hf.FunctionStep(pattern)], plate_and_code[0], output=tmp_path / "o")


@contract(z_out=2)
def three_for_two(stack):
    return np.zeros((3, *stack.shape[1:]), stack.dtype)


@contract(output_shape=lambda shape_yx: (shape_yx[0], 2 * shape_yx[1]))
def narrow(stack):
    return stack.copy()


@contract(dtype="uint8")
def wide(stack):
    return stack.copy()


@special_outputs("a", "b")
def lacking(stack):
    return stack, 1


@pytest.mark.parametrize(
    ("func", "says"),
    [
        (three_for_two, "returned shape (3, 32, 32), expected (2, 32, 32) (Z, Y, X)"),
        (narrow, "returned shape (1, 32, 32), expected (1, 32, 64) (Z, Y, X)"),
        (wide, "returned uint16, expected uint8"),
        (lacking, "must return (stack, a, b), returned a tuple of 2"),
    ],
)
def test_a_result_that_breaks_its_contract_fails_its_well_with_both(
    plate_and_code, tmp_path, func, says
):
    steps = [hf.FunctionStep({"w2": func, "*": "DROP"}, name="wrong")]
    plan = hf.compile(steps, plate_and_code[0], output=tmp_path / "out")
    (outcome,) = plan.run("threads", workers=1).outcomes
    assert (outcome.status, outcome.step) == ("failed", "wrong")
    assert f"{func.__name__} {says}" in outcome.message
