"""``hcsflow plan`` where it refuses: exit status 2 or 3, what was found, a hint; never a trace."""

import json

import pytest

from hcsflow.cli.main import main
from hcsflow.testing.plates import key_coded_plate

MODULE = """
from hcsflow.arrays import cupy
from hcsflow.contracts import contract, special_inputs
import numpy as np

@contract(output_shape=lambda shape_yx: (0, 5))
def no_shape(stack): return stack

@contract(output_shape=lambda shape_yx, *, wrong: shape_yx)
def bad_shape(stack): return stack

@contract(z_out=2)
def two(stack): return stack[:2]

@contract(dtype="float32")
def floats(stack): return stack.astype(np.float32)

@special_inputs("cells")
def asks(stack, *, cells): return stack

@cupy
def on_gpu(stack): return stack

not_a_function = 3
"""

REFUSED = {
    "unknown function": (2, "{function: gausian_filter}", "did you mean 'gaussian_filter'"),
    "no such module": (2, "{function: 'nowhere:f'}", "cannot import 'nowhere:f'"),
    "no such attribute": (2, "{function: 'refused_lab:g'}", "cannot import"),
    "no function": (2, "{function: 'refused_lab:not_a_function'}", "is no function"),
    "empty module": (2, "{function: ':f'}", "cannot import"),
    "unknown parameter": (2, "{function: gaussian_filter, parameters: {sigm: 1}}", "'sigma'"),
    "out of range": (2, "{function: gaussian_filter, parameters: {sigma: -3}}", "at least 0"),
    "wrong choice": (
        2, "{function: threshold_local, parameters: {method: mode}}", "'gaussian' or 'mean'"),
    "together wrong": (
        2, "{function: normalize_range, parameters: {low: 5, high: 5}}", "must be below"),
    "missing parameter": (2, "{function: add_constant}", "needs a value for value"),
    "unknown channel": (2, "{functions: {w9: max_projection, '*': DROP}}", "unknown channel 'w9'"),
    "unknown field": (2, "{functions: {9: PASS, '*': DROP}, group_by: field}", "unknown field '9'"),
    "uncovered channel": (2, "{functions: {w1: PASS}}", "says nothing about channel w2"),
    "key twice": (2, "{functions: {w1: PASS, $c: DROP, '*': PASS}}", "twice"),
    "unknown reference": (2, "{function: gaussian_filter, parameters: {sigma: $x}}", "no such"),
    "all dropped": (3, "{functions: {'*': DROP}}", "drops every plane"),
    "unlike shapes": (3, "{functions: {w1: 'refused_lab:floats', '*': PASS}}", "one image"),
    "no full grid": (
        3, "{functions: {1: max_projection, '*': PASS}, group_by: field}", "full grid"),
    "z of channels": (
        3, "{function: 'refused_lab:two', variable_components: channel}", "new z axis"),
    "z of one plane": (
        3, "{function: 'refused_lab:two', variable_components: []}", "not of one plane"),
    "no shape": (2, "{function: 'refused_lab:no_shape'}", "must give (y, x)"),
    "bad shape rule": (2, "{function: 'refused_lab:bad_shape'}", "output_shape of"),
    "no producer": (2, "{function: 'refused_lab:asks'}", "which no earlier step makes"),
    "needs a gpu": (3, "{function: 'refused_lab:on_gpu'}", "there is no GPU"),
    "special renamed": (
        2, "{function: max_projection, special_outputs: {a: b}}", "no special output 'a'"),
    "array file": (
        2, "{function: flat_field, parameters: {profile: {npy: none.npy}}}", "none.npy"),
    "chain of actions": (2, "{function: [PASS]}", "not among functions"),
    "unknown key": (2, "{function: max_projection, varible_components: z}", "variable_components"),
}  # fmt: skip


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    root = tmp_path_factory.mktemp("plates") / "keyed"
    key_coded_plate(root, wells=("A01",), fields=2, channels=2, z=3)
    return root


@pytest.fixture
def refused(tmp_path, monkeypatch, plate, capsys):
    (tmp_path / "refused_lab.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def go(text):
        file = tmp_path / "p.yaml"
        file.write_text(text)
        status = main([str(word) for word in ("plan", file, plate, "-o", tmp_path / "out")])
        told = capsys.readouterr()
        assert told.out == ""
        assert "Traceback" not in told.err
        assert not (tmp_path / "out").exists()
        return status, " ".join(told.err.split())

    return go


@pytest.mark.parametrize("case", REFUSED)
def test_a_plan_that_cannot_be_is_refused_in_words(case, refused):
    status, step, says = REFUSED[case]
    found, told = refused(f"parameters: {{c: w1}}\nsteps:\n- {step}\n")
    assert found == status
    assert says in told


def test_a_dropped_channel_need_not_be_named_again_and_cannot_be_treated(refused):
    drop = "steps:\n- {functions: {w1: max_projection, w2: DROP}}\n"
    status, told = refused(drop + "- {functions: {w1: add_constant, w2: add_constant}, name: x, "
                           "parameters: {value: 1}}\n")  # fmt: skip
    assert status == 2
    assert "has a function for channel w2, which an earlier step has dropped" in told


def test_combined_channels_cannot_be_told_apart(refused):
    text = (
        "steps:\n- {function: max_projection, variable_components: [channel, z]}\n"
        "- {functions: {w1: PASS, w2: DROP}}\n"
    )
    status, told = refused(text)
    assert status == 2
    assert "an earlier step has made one of them" in told


def test_json_refusals_are_words_too(refused, tmp_path, plate, capsys):
    file = tmp_path / "q.yaml"
    file.write_text("steps: [{function: gaussian_filter, parameters: {sigma: -3}}]")
    status = main([str(w) for w in ("plan", file, plate, "-o", tmp_path / "o", "--json")])
    out = capsys.readouterr().out
    assert status == 2
    assert out == "" or "error" in json.loads(out)
