"""Types, limits and choices of parameters: read from signatures, held to before a run."""

import functools
import json
from typing import Annotated, Literal

import numpy as np
import pytest

from hcsflow.cli.main import main
from hcsflow.contracts import Contract, Limits, contract, contract_of
from hcsflow.errors import PipelineError
from hcsflow.functions import catalogue
from hcsflow.functions.parameters import check_parameters, parameters_of


def mine(
    stack,
    *,
    sigma: Annotated[float, Limits(ge=0, lt=10)] = 1.0,
    size: Annotated[int | None, Limits(ge=1, odd=True)] = None,
    mode: Literal["fast", "exact"] = "fast",
    free=None,
):
    return stack


class Ge:
    """A mark like that of ``annotated_types``."""

    ge = 5


def marked(stack, *, low: Annotated[float, Ge()] = 5):
    return stack


def unresolved(stack, *, low: "NotThere" = 5):  # noqa: F821
    return stack


@pytest.mark.parametrize(
    ("func", "given", "says"),
    [
        (mine, {"sigma": -3}, "mine: sigma must be at least 0, below 10, got -3"),
        (mine, {"sigma": 10}, "below 10"),
        (mine, {"sigma": float("nan")}, "a finite number, got nan"),
        (mine, {"sigma": float("inf")}, "a finite number, got inf"),
        (mine, {"sigma": "2"}, "sigma must be float, got '2'"),
        (mine, {"size": 4}, "size must be odd, at least 1, got 4"),
        (mine, {"size": 3.0}, "size must be int or None, got 3.0"),
        (mine, {"size": True}, "size must be int or None, got True"),
        (mine, {"mode": "fsat"}, "did you mean 'fast'"),
        (mine, {"mode": 1}, "mode must be 'fast' or 'exact', got 1"),
        (marked, {"low": 4}, "low must be at least 5, got 4"),
        (functools.partial(mine, mode="exact"), {"sigma": -1}, "at least 0"),
        (catalogue.find("gaussian_filter"), {"sigma": -3}, "sigma must be at least 0, got -3"),
        (catalogue.find("median_filter"), {"size": 4}, "size must be odd, at least 1, got 4"),
        (catalogue.find("threshold_local"), {"method": "median"}, "'gaussian' or 'mean'"),
        (catalogue.find("label_objects"), {"connectivity": 3}, "must be 1 or 2, got 3"),
        (catalogue.find("label_objects"), {"connectivity": True}, "must be 1 or 2, got True"),
        (catalogue.find("clip"), {"low": 5, "high": 4}, "low (5) must not be above high (4)"),
        (catalogue.find("normalize_range"), {"low": 5, "high": 5}, "must be below high"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_range(func, given, says):
    with pytest.raises(PipelineError) as caught:
        check_parameters(func, given)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("func", "given"),
    [
        (mine, {"sigma": 0, "size": 3, "mode": "exact", "free": object()}),
        (mine, {"sigma": np.float32(2), "size": np.int64(5)}),
        (mine, {"size": None}),
        (marked, {"low": 5}),
        (unresolved, {"low": -1}),
        (catalogue.find("clip"), {"low": 5}),
        (catalogue.find("flat_field"), {"profile": np.ones((4, 4))}),
    ],
)
def test_a_value_within_its_range_is_taken(func, given):
    check_parameters(func, given)


def test_every_default_of_the_catalogue_is_within_its_own_limits():
    for name in catalogue.names():
        for kind in catalogue.memory_types_of(name):
            func = catalogue.find(name, kind)
            optional = {p.name: p.default for p in parameters_of(func) if not p.required}
            required = {p.name: 1.0 + i for i, p in enumerate(parameters_of(func)) if p.required}
            check_parameters(func, {**optional, **required})


def test_variants_agree_on_limits():
    for name in catalogue.names():
        kinds = catalogue.memory_types_of(name)
        told = [
            [(p.name, p.allowed) for p in parameters_of(catalogue.find(name, k))] for k in kinds
        ]
        assert all(each == told[0] for each in told)


def test_the_command_line_shows_ranges_and_choices(capsys):
    assert main(["functions", "threshold_local"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "int, odd, at least 3, default 51" in text
    assert "str, 'gaussian' or 'mean', default gaussian" in text
    assert main(["functions", "gaussian_filter", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["functions"]
    assert entry["parameters"][0]["allowed"] == "at least 0"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"z_out": "two"}, "z_out must be 'same', 'one' or a number of planes"),
        ({"z_out": 0}, "z_out must be"),
        ({"z_out": True}, "z_out must be"),
        ({"dtype": "floaty"}, "dtype must be numpy's name"),
        ({"dtype": "complex64"}, "integers, floats or bool"),
        ({"zout": "one"}, "did you mean 'z_out'"),
    ],
)
def test_a_contract_that_means_nothing_is_refused_where_it_is_written(changes, says):
    with pytest.raises(PipelineError) as caught:
        contract(**changes)(lambda stack: stack)
    assert says in str(caught.value)


def test_an_undecorated_function_has_the_plain_contract():
    assert contract_of(mine) == Contract()
