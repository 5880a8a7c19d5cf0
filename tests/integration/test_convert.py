"""A plate stored as it is, and steps that take one plane at a time."""

import numpy as np
import pytest
import tifffile
import zarr

import hcsflow as hf
from hcsflow.cli.main import main
from hcsflow.contracts import contract
from hcsflow.errors import PipelineError
from hcsflow.pipeline import PASS, pipeline_from_yaml, pipeline_to_yaml
from hcsflow.testing.plates import key_coded_plate, write_imagexpress_plate

SIZE = 64
FIELDS, CHANNELS, TIMEPOINTS, Z = 3, 2, 2, 4


@contract(per_slice=True)
def count_planes(stack):
    return stack + np.uint16(len(stack))


@contract(z_out="one")
def brightest(stack):
    return stack.max(axis=0, keepdims=True)


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    root = tmp_path_factory.mktemp("plates") / "acquired"
    write_imagexpress_plate(
        root,
        wells=("A01", "B02"),
        fields=FIELDS,
        channels=CHANNELS,
        timepoints=TIMEPOINTS,
        z=Z,
        size=SIZE,
        nuclei=4,
    )
    return root


def images(out, well):
    return zarr.open_array(out / "images.zarr" / well[0] / well[1:] / "0" / "0", mode="r")[...]


def tile(opened, image, field):
    row, column = opened.model.grid.cells[field]
    y, x = row * SIZE, column * SIZE
    return image[..., y : y + SIZE, x : x + SIZE]


def test_every_plane_is_stored_as_acquired(plate, tmp_path):
    out = tmp_path / "out"
    assert main(["run", "convert", str(plate), "-o", str(out), "--cluster", "serial"]) == 0
    opened = hf.open_plate(plate)
    compared = 0
    for well in ("A01", "B02"):
        image = images(out, well)
        assert image.shape[:3] == (TIMEPOINTS, CHANNELS, Z)
        for t, c, z, field in np.ndindex(TIMEPOINTS, CHANNELS, Z, FIELDS):
            (file,) = plate.glob(
                f"TimePoint_{t + 1}/ZStep_{z + 1}/*{well}_s{field + 1}_w{c + 1}*.[tT][iI][fF]"
            )
            acquired = tifffile.imread(file)
            assert acquired.dtype == image.dtype
            np.testing.assert_array_equal(tile(opened, image[t, c, z], field), acquired)
            compared += 1
    assert compared == 2 * FIELDS * CHANNELS * TIMEPOINTS * Z


def test_its_plan_says_that_planes_are_taken_alone(plate, tmp_path):
    plan = hf.compile("convert", hf.open_plate(plate), output=tmp_path / "out")
    assert "pass plane by plane" in plan.explain()


def test_a_missing_plane_is_left_out_alone(tmp_path):
    root = tmp_path / "plate"
    key_coded_plate(root, wells=("A01",), fields=2, channels=2, timepoints=1, z=3, size=SIZE)
    (file,) = root.rglob("ZStep_2/*A01_s2_w1*.[tT][iI][fF]")
    file.unlink()
    config = hf.GlobalPipelineConfig(missing="skip")
    plan = hf.compile("convert", hf.open_plate(root), output=tmp_path / "out", config=config)
    assert plan.run("serial").failures.empty
    image = images(tmp_path / "out", "A01")
    empty = [
        (c, z, field)
        for c, z, field in np.ndindex(2, 3, 2)
        if not tile(hf.open_plate(root), image[c, z], field).any()
    ]
    assert empty == [(0, 1, 1)]


def test_a_function_may_take_one_plane_at_a_time(plate, tmp_path):
    step = hf.FunctionStep(count_planes, variable_components=())
    opened = hf.open_plate(plate)
    hf.compile(hf.Pipeline([step]), opened, output=tmp_path / "single").run("serial")
    hf.compile("convert", opened, output=tmp_path / "plain").run("serial")
    found, plain = (images(tmp_path / name, "A01") for name in ("single", "plain"))
    inside = [(tile(opened, found, f), tile(opened, plain, f)) for f in range(FIELDS)]
    assert all(np.array_equal(one, other + 1) for one, other in inside)


def test_a_projection_of_single_planes_keeps_them_all(plate, tmp_path):
    step = hf.FunctionStep(brightest, variable_components=[])
    opened = hf.open_plate(plate)
    hf.compile(hf.Pipeline([step]), opened, output=tmp_path / "out").run("serial")
    hf.compile("convert", opened, output=tmp_path / "plain").run("serial")
    assert np.array_equal(images(tmp_path / "out", "B02"), images(tmp_path / "plain", "B02"))


def test_stacks_of_no_component_survive_yaml():
    pipeline = hf.Pipeline([hf.FunctionStep({"*": PASS}, name="keep", variable_components=[])])
    text = pipeline_to_yaml(pipeline)
    assert "variable_components: []" in text
    assert pipeline_from_yaml(text).steps[0].variable_components == ()


def test_no_steps_at_all_are_refused_with_the_way_to_convert():
    with pytest.raises(PipelineError, match="at least one step") as refused:
        hf.Pipeline([])
    assert "convert" in str(refused.value.hint)
