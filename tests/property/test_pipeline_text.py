"""Pipelines survive YAML."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from hcsflow.config import StepMaterializationConfig
from hcsflow.errors import PipelineError
from hcsflow.pipeline import FunctionStep, Pipeline, pipeline_from_yaml, pipeline_to_yaml
from hcsflow.pipeline.document import pipeline_schema

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
values = st.none() | st.booleans() | st.integers(-99, 99) | st.floats(0, 9) | names
parameters = st.dictionaries(st.from_regex(r"p_[a-z]{1,5}", fullmatch=True), values, max_size=3)
functions = names | st.tuples(names, parameters) | st.lists(names, min_size=1, max_size=3)
patterns = functions | st.dictionaries(
    names | st.just("*"), functions | st.sampled_from(["PASS", "DROP"]), min_size=1, max_size=3
)
renamings = st.dictionaries(names, names, max_size=2)
materializations = st.none() | st.builds(
    StepMaterializationConfig,
    sub_dir=st.none() | names,
    backend=st.sampled_from([None, "zarr", "disk"]),
    zarr=st.sampled_from([{}, {"chunk_strategy": "file"}, {"pyramid": False}]),
)
options = st.fixed_dictionaries(
    {},
    optional={
        "variable_components": st.sampled_from([["z"], ["field"], ["timepoint", "z"]]),
        "group_by": st.just("channel"),
        "force_disk_output": st.booleans(),
        "requires_disk_input": st.booleans(),
        "requires_disk_output": st.booleans(),
        "backend": st.sampled_from(["memory", "disk", "zarr"]),
        "input_source": st.sampled_from(["PREVIOUS_STEP", "PIPELINE_START"]),
        "special_inputs": renamings,
        "special_outputs": renamings,
        "materialization": materializations,
    },
)
steps = st.builds(
    lambda pattern, name, options, extra: FunctionStep(pattern, name=name, **options, **extra),
    patterns,
    names,
    options,
    parameters,
)
configs = st.fixed_dictionaries(
    {},
    optional={
        "num_workers": st.integers(1, 9),
        "missing": st.sampled_from(["error", "skip", "fill"]),
        "zarr": st.fixed_dictionaries({}, optional={"compression_level": st.integers(1, 9)}),
    },
)
pipelines = st.builds(
    lambda s, name, p, c, d: Pipeline(s, name=name, parameters=p, config=c, description=d),
    st.lists(steps, min_size=1, max_size=4),
    names,
    parameters,
    configs,
    st.just("") | names,
)


@given(pipelines)
@settings(max_examples=60, deadline=None)
def test_yaml_round_trip(pipeline):
    text = pipeline_to_yaml(pipeline)
    again = pipeline_from_yaml(text)
    assert again == pipeline
    assert pipeline_to_yaml(again) == text


SCHEMA = Draft202012Validator(pipeline_schema())


@given(pipelines)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_what_the_schema_says(pipeline):
    SCHEMA.validate(yaml.safe_load(pipeline_to_yaml(pipeline)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps: 3", "steps: must be a list, got 3"),
        ("stepz: []", "did you mean 'steps'"),
        ("steps: [{function: a, functions: {}}]", "either 'function' or 'functions'"),
        ("steps: [{function: a, paramters: {}}]", "did you mean 'parameters'"),
        ("steps: [{function: a, parameters: {name: b}}]", "names of step fields"),
        ("[", "not YAML"),
        ("!!python/object:os.system {}", "not YAML"),
        ("7", "must be a mapping"),
        ("name: x", "steps: is needed"),
        ("name: 5\nsteps: [a]", "name: must be text, got 5"),
        ("name: 2024-02-30\nsteps: [a]", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("steps: [{function: a, name: 5}]", "steps[0].name: must be text, got 5"),
        ("steps: [a, {function: a, variable_components: 5}]", "steps[1].variable_components"),
        ("steps: [{function: a, variable_components: [z, 5]}]", "variable_components[1]"),
        ("steps: [{function: a, special_inputs: [a]}]", "steps[0].special_inputs: must be a map"),
        ("steps: [{function: a, special_inputs: {a: 5}}]", "steps[0].special_inputs.a"),
        ("steps: [{function: a, materialization: {foo: 1}}]", "there are sub_dir, backend"),
        ("steps: [{function: a, materialization: {subdir: x}}]", "did you mean 'sub_dir'"),
        ("steps: [{function: a, materialization: yes}]", "materialization: must be a mapping"),
        ("steps: [{function: a, materialization: {backend: tape}}]", "steps[0]: backend must"),
        ("steps: [{function: a, force_disk_output: 'no'}]", "must be true or false, got 'no'"),
        ("steps: [{function: a, group_by: chanel}]", "did you mean 'channel'"),
        ("steps: [{function: [a, 5]}]", "steps[0].function[1]: must be a function's name"),
        ("steps: [{function: [a, {functon: b}]}]", "did you mean 'function'"),
        ("steps: [{functions: {w1: 7}}]", "steps[0].functions.w1"),
        ("steps: [{functions: {true: a}}]", "keys must be text, got True"),
    ],
)
def test_a_wrong_text_says_what_is_wrong(text, says):
    with pytest.raises(PipelineError) as caught:
        pipeline_from_yaml(text)
    assert says in str(caught.value)


def test_labels_that_are_numbers_need_no_quotes():
    (step,) = pipeline_from_yaml("steps: [{functions: {1: a, '*': PASS}, group_by: field}]")
    assert list(step.pattern) == ["1", "*"]


@pytest.mark.parametrize(
    "options",
    [
        {"materialization": StepMaterializationConfig()},
        {"materialization": StepMaterializationConfig(sub_dir="kept", backend="disk")},
        {"force_disk_output": True, "backend": "memory"},
        {
            "requires_disk_output": True,
            "requires_disk_input": True,
            "input_source": "PIPELINE_START",
        },
        {"special_inputs": {"a": "b"}, "special_outputs": {"c": "d"}},
    ],
)
def test_what_a_step_keeps_survives_yaml(options):
    pipeline = Pipeline([FunctionStep("a", **options)])
    assert pipeline_from_yaml(pipeline_to_yaml(pipeline)) == pipeline


def test_a_parameter_that_yaml_does_not_know_is_refused():
    with pytest.raises(PipelineError, match="cannot be written"):
        pipeline_to_yaml(Pipeline([FunctionStep("a", footprint=object())]))


def test_a_setting_reaches_a_pair_in_yaml():
    text = "steps: [{name: s, function: [{function: a, parameters: {by: 2}}, b]}]"
    changed = pipeline_from_yaml(text).with_settings({"s.by": 9})
    wanted = pipeline_from_yaml(text.replace("2", "9"))
    assert changed == wanted


def test_a_function_without_import_path_cannot_be_written():
    with pytest.raises(PipelineError, match="no import path"):
        pipeline_to_yaml(Pipeline([FunctionStep(lambda stack: stack)]))
