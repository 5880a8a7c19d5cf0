"""Pipelines survive YAML."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcsflow.errors import PipelineError
from hcsflow.pipeline import FunctionStep, Pipeline, pipeline_from_yaml, pipeline_to_yaml

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
values = st.none() | st.booleans() | st.integers(-99, 99) | st.floats(0, 9) | names
parameters = st.dictionaries(st.from_regex(r"p_[a-z]{1,5}", fullmatch=True), values, max_size=3)
functions = names | st.tuples(names, parameters) | st.lists(names, min_size=1, max_size=3)
patterns = functions | st.dictionaries(
    names | st.just("*"), functions | st.sampled_from(["PASS", "DROP"]), min_size=1, max_size=3
)
steps = st.builds(
    lambda pattern, name, stacked, extra: FunctionStep(
        pattern, name=name, variable_components=stacked, group_by="channel", **extra
    ),
    patterns,
    names,
    st.sampled_from([["z"], ["field"], ["timepoint", "z"]]),
    parameters,
)
pipelines = st.builds(
    lambda s, name, p: Pipeline(s, name=name, parameters=p),
    st.lists(steps, min_size=1, max_size=4),
    names,
    parameters,
)


@given(pipelines)
@settings(max_examples=60, deadline=None)
def test_yaml_round_trip(pipeline):
    assert pipeline_from_yaml(pipeline_to_yaml(pipeline)) == pipeline


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps: 3", "'steps' must be a list"),
        ("stepz: []", "did you mean 'steps'"),
        ("steps: [{function: a, functions: {}}]", "either 'function' or 'functions'"),
        ("steps: [{function: a, paramters: {}}]", "did you mean 'parameters'"),
        ("steps: [{function: a, parameters: {name: b}}]", "names of step fields"),
        ("[", "not YAML"),
        ("!!python/object:os.system {}", "not YAML"),
        ("7", "must be a mapping"),
    ],
)
def test_a_wrong_text_says_what_is_wrong(text, says):
    with pytest.raises(PipelineError) as caught:
        pipeline_from_yaml(text)
    assert says in str(caught.value)


def test_a_function_without_import_path_cannot_be_written():
    with pytest.raises(PipelineError, match="no import path"):
        pipeline_to_yaml(Pipeline([FunctionStep(lambda stack: stack)]))
