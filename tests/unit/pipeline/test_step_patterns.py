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
        (double, {"force_disk_output": "no"}, "force_disk_output must be True or False"),
        (double, {"requires_disk_input": 1}, "requires_disk_input must be True or False"),
        (double, {"requires_disk_output": None}, "requires_disk_output must be True or False"),
        (double, {"special_inputs": ["labels"]}, "special_inputs must map names"),
        (double, {"special_outputs": {"labels": 3}}, "special_outputs must map names"),
        (double, {"materialization": True}, "materialization must be"),
        (double, {"name": 5}, "name must be"),
        (double, {"variable_components": 5}, "must be a list of components"),
        (double, {"variable_components": [["z"]]}, "no component ['z']"),
        (double, {"backend": ["disk"]}, "no ['disk']"),
        ((double, {3: 4}), {}, "a parameter's name is text"),
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
    step = FunctionStep("x", name="smooth", truncate=4)
    pipeline = Pipeline([step], parameters={"sigma": 1})
    with pytest.raises(PipelineError, match="did you mean 'sigma'"):
        pipeline.with_settings({"sigm": 2})
    with pytest.raises(PipelineError, match=r"did you mean 'smooth\.truncate'"):
        pipeline.with_settings({"truncate": 2})
    with pytest.raises(PipelineError, match="did you mean 'smooth'"):
        pipeline.with_settings({"smoot.sigma": 2})


@pytest.mark.parametrize(
    ("steps", "options", "says"),
    [
        (5, {}, "a list of FunctionSteps"),
        ([], {}, "at least one step"),
        (["a"], {}, "FunctionSteps, got 'a'"),
        ([FunctionStep("a")], {"name": 5}, "name must be text"),
        ([FunctionStep("a")], {"parameters": ["sigma"]}, "parameters must be a mapping"),
        ([FunctionStep("a")], {"config": {1: 2}}, "config must be a mapping"),
    ],
)
def test_a_wrong_pipeline_says_what_is_wrong(steps, options, says):
    with pytest.raises(PipelineError, match=says):
        Pipeline(steps, **options)


def test_a_setting_changes_a_parameter_where_it_stands():
    """In each pair of each branch that has it; elsewhere nothing changes."""
    pair = (double, {"factor": 2, "other": 1})
    pipeline = Pipeline([FunctionStep({"w1": [pair, "b"], "w2": pair, "*": PASS}, name="a")])
    (changed,) = pipeline.with_settings({"a.factor": 9, "a.new": 7})
    new = Invocation(double, (("factor", 9), ("other", 1)))
    assert changed.pattern["w1"] == Chain((new, Invocation("b")))
    assert changed.pattern["w2"] == Chain((new,))
    assert changed.pattern["*"] is PASS
    assert dict(changed.parameters) == {"new": 7}
    assert pipeline.steps[0].pattern["w2"].invocations[0].parameters[0] == ("factor", 2)


def test_a_setting_changes_a_parameter_of_step_and_pair_alike():
    step = FunctionStep([(double, {"factor": 2}), double], factor=3).replace(factor=9)
    assert step.pattern.invocations[0].parameters == (("factor", 9),)
    assert dict(step.parameters) == {"factor": 9}


def test_a_pair_in_a_pair_keeps_both_parameters():
    step = FunctionStep(((double, {"factor": 2, "other": 1}), {"factor": 3}))
    assert step.pattern.invocations[0].parameters == (("factor", 3), ("other", 1))
