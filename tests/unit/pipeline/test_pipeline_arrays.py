"""Arrays as parameters in YAML: short ones inline, longer ones in a file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hcsflow.errors import PipelineError
from hcsflow.pipeline import ArrayFile, FunctionStep, Pipeline, pipeline_from_yaml, pipeline_to_yaml
from hcsflow.session.pipelines import load_pipeline

dtypes = st.sampled_from(["uint8", "uint16", "int32", "float32", "float64", "bool"])
arrays = hnp.arrays(dtypes, hnp.array_shapes(max_dims=3, max_side=4), elements={"allow_nan": False})


@given(arrays)
def test_an_array_survives_yaml(array):
    text = pipeline_to_yaml(Pipeline([FunctionStep("a", kernel=array, other=[array, {"k": 1}])]))
    again = pipeline_from_yaml(text)
    found = again.steps[0].parameters["kernel"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(again.steps[0].parameters["other"][0], array)
    assert pipeline_to_yaml(again) == text


def test_arrays_stand_wherever_parameters_do():
    text = """
parameters: {kernel: {array: [1, 2], dtype: uint8}}
steps:
  - function: [{function: a, parameters: {k: {array: [[0.5]], dtype: float32}}}, b]
    parameters: {file: {npy: flat.npy}}
"""
    pipeline = pipeline_from_yaml(text, folder="/somewhere")
    assert pipeline.parameters["kernel"].dtype == np.uint8
    (first, _) = pipeline.steps[0].pattern.invocations
    assert dict(first.parameters)["k"].shape == (1, 1)
    assert pipeline.steps[0].parameters["file"] == ArrayFile("flat.npy")
    assert pipeline.steps[0].parameters["file"].folder == "/somewhere"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{array: [1, a], dtype: uint8}", "steps[0].parameters.k: no array of 'uint8'"),
        ("{array: [[1], [1, 2]], dtype: uint8}", "no array of"),
        ("{array: [1], dtype: nothing}", "no array of 'nothing'"),
        ("{array: [300], dtype: uint8}", "no array of 'uint8'"),
        ("{array: [a], dtype: str}", "holds bool, integers or floats"),
        ("{array: [" + "1, " * 600 + "1], dtype: float64}", "at most 4096 stand in a text"),
    ],
)
def test_what_is_no_array_is_named(value, says):
    with pytest.raises(PipelineError) as caught:
        pipeline_from_yaml(f"steps: [{{function: a, parameters: {{k: {value}}}}}]")
    assert says in str(caught.value)


def test_a_long_array_cannot_be_written():
    with pytest.raises(PipelineError, match=r"np\.save"):
        pipeline_to_yaml(Pipeline([FunctionStep("a", k=np.zeros(1000))]))


def test_a_file_is_found_beside_the_pipeline(tmp_path):
    np.save(tmp_path / "flat.npy", np.arange(4.0))
    file = tmp_path / "p.yaml"
    file.write_text("steps: [{function: flat_field, parameters: {profile: {npy: flat.npy}}}]")
    found = load_pipeline(file).steps[0].parameters["profile"]
    np.testing.assert_array_equal(found.load(), np.arange(4.0))


@pytest.mark.parametrize("content", [None, b"", b"nonsense", "object", "several"])
def test_a_file_that_holds_no_array_is_named(tmp_path, content):
    path = tmp_path / "flat.npy"
    if content == "object":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif content == "several":
        with path.open("wb") as file:
            np.savez(file, a=np.ones(2))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"flat\.npy"):
        ArrayFile("flat.npy", str(tmp_path)).load()


def test_a_setting_can_be_a_file():
    pipeline = pipeline_from_yaml("parameters: {flat: null}\nsteps: [{function: a, k: 1}]".replace(
        ", k: 1", ""))  # fmt: skip
    changed = pipeline.with_settings({"flat": {"npy": "flat.npy"}})
    assert changed.parameters["flat"] == ArrayFile("flat.npy")
