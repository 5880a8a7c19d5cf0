"""What a step accepts and refuses."""

import pickle

import pytest

from hcsflow.errors import PipelineError
from hcsflow.pipeline import DROP, PASS, FunctionStep, Pipeline
from hcsflow.pipeline.step import Chain, Invocation


def double(stack, *, factor=2):
    return stack * factor


def test_a_callable_a_name_a_pair_and_a_list_become_chains():
    assert FunctionStep(double).pattern == Chain((Invocation(double),))
    assert FunctionStep("median_filter").pattern == Chain((Invocation("median_filter"),))
    assert FunctionStep((double, {"factor": 3})).pattern == Chain(
        (Invocation(double, (("factor", 3),)),)
    )
    assert FunctionStep([double, ("median_filter", {"size": 3})]).pattern == Chain(
        (Invocation(double), Invocation("median_filter", (("size", 3),)))
    )


def test_a_dict_maps_values_to_chains_or_actions():
    step = FunctionStep({"w1": double, "w2": PASS, "*": "DROP"})
    assert step.pattern["w1"] == Chain((Invocation(double),))
    assert step.pattern["w2"] is PASS
    assert step.pattern["*"] is DROP


def test_names_default_to_the_function_and_are_made_unique():
    pipeline = Pipeline([FunctionStep(double), FunctionStep(double), FunctionStep("a:b")])
    assert [s.name for s in pipeline] == ["double", "double_2", "b"]


@pytest.mark.parametrize(
    ("func", "options", "says"),
    [
        (3, {}, "needs a function"),
        ([], {}, "at least one function"),
        ({}, {}, "at least one entry"),
        ({1: double}, {}, "names or labels"),
        (PASS, {}, "dict pattern"),
        ((double, 3), {}, "expected (function"),
        (double, {"variable_components": ["site"]}, "no component 'site'"),
        (double, {"variable_components": ["z", "z"]}, "once each"),
        (double, {"name": "a/b"}, "cannot be named"),
        (double, {"backend": "tape"}, "no 'tape'"),
        ({"*": double}, {"variable_components": ["channel"]}, "also varies"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(func, options, says):
    with pytest.raises(PipelineError) as caught:
        FunctionStep(func, **options)
    assert says in str(caught.value)


def test_a_step_is_frozen_and_pickles():
    step = FunctionStep({"w1": double, "*": PASS}, name="s", factor=3)
    with pytest.raises(AttributeError):
        step.name = "other"
    assert pickle.loads(pickle.dumps(FunctionStep("max_projection"))) == FunctionStep(
        "max_projection"
    )


def test_settings_reach_parameters_and_steps():
    pipeline = Pipeline(
        [FunctionStep("gaussian_filter", name="smooth", sigma="$sigma")], parameters={"sigma": 1.0}
    )
    changed = pipeline.with_settings({"sigma": 2.0, "smooth.truncate": 3})
    assert changed.parameters["sigma"] == 2.0
    assert changed.steps[0].parameters["truncate"] == 3
    assert pipeline.parameters["sigma"] == 1.0


def test_an_unknown_setting_suggests_the_nearest():
    pipeline = Pipeline([FunctionStep("x", name="smooth")], parameters={"sigma": 1})
    with pytest.raises(PipelineError, match="did you mean 'sigma'"):
        pipeline.with_settings({"sigm": 2})
    with pytest.raises(PipelineError, match="did you mean 'smooth'"):
        pipeline.with_settings({"smoot.sigma": 2})
