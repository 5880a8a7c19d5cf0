"""Variants once chosen are kept: an output is made by one and the same function throughout."""

import importlib.util
import json
import shutil

import pytest

import hcsflow as hf
from hcsflow.arrays import torch as torch_function
from hcsflow.cli.main import main
from hcsflow.compiler import choices
from hcsflow.errors import PlanRefusedError
from hcsflow.testing.plates import key_coded_plate

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)


@torch_function
def same(stack):
    return stack


BETWEEN = [same, ("gaussian_filter", {"sigma": 1.0}), same]
ALONE = [("gaussian_filter", {"sigma": 1.0})]


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    root = tmp_path_factory.mktemp("plates") / "keyed"
    key_coded_plate(root, wells=("A01", "A02"), fields=1, channels=1, z=2)
    return hf.open_plate(root)


def compiled(plate, out, chain, **options):
    pipeline = hf.Pipeline([hf.FunctionStep(chain, name="s")], name="p")
    return hf.compile(pipeline, plate, output=out, **options)


def types_of(plan):
    return [c.input_type for c in plan.frozen.steps[0].branches[0].calls]


@needs_torch
def test_a_resume_keeps_the_variant_that_made_the_output(plate, tmp_path):
    out = tmp_path / "out"
    compiled(plate, out, BETWEEN, wells=["A01"]).run("threads", workers=1)
    assert types_of(compiled(plate, tmp_path / "new", ALONE)) == ["numpy"]
    assert types_of(compiled(plate, out, ALONE)) == ["torch"]
    assert types_of(compiled(plate, out, ALONE, fresh=True)) == ["numpy"]


@needs_torch
def test_a_better_variant_that_came_later_is_not_taken(plate, tmp_path):
    out = tmp_path / "out"
    compiled(plate, out, ALONE, wells=["A01"]).run("threads", workers=1)
    assert types_of(compiled(plate, tmp_path / "new", BETWEEN)) == ["torch"] * 3
    assert types_of(compiled(plate, out, BETWEEN)) == ["torch", "numpy", "torch"]


@needs_torch
def test_each_place_in_a_chain_has_its_own(plate, tmp_path):
    out, smooth = tmp_path / "out", ("gaussian_filter", {"sigma": 1.0})
    chain = [same, smooth, same, "max_projection", smooth]
    plan = compiled(plate, out, chain)
    wanted = types_of(plan)
    assert wanted[:3] == ["torch"] * 3
    plan.run("threads", workers=1)
    assert types_of(compiled(plate, out, chain)) == wanted


@needs_torch
def test_where_its_library_is_gone_the_resume_is_refused_and_nothing_is_mixed(
    plate, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    compiled(plate, out, BETWEEN, wells=["A01"]).run("threads", workers=1)
    monkeypatch.setattr(choices, "is_installed", lambda name: name == "numpy")
    with pytest.raises(PlanRefusedError) as caught:
        compiled(plate, out, ALONE)
    assert "gaussian_filter on torch arrays, but torch is not installed" in caught.value.message
    assert "--fresh" in caught.value.hint
    assert types_of(compiled(plate, out, ALONE, fresh=True)) == ["numpy"]
    assert types_of(compiled(plate, tmp_path / "new", ALONE)) == ["numpy"]


def recorded(out, memory_type):
    """Make an output as a GPU machine would have left it."""
    plan = json.loads((out / ".hcsflow" / "plan.json").read_text())
    plan["steps"][0]["branches"][0]["calls"][0]["input_type"] = memory_type
    (out / ".hcsflow" / "plan.json").write_text(json.dumps(plan))


def test_a_variant_that_is_no_more_is_refused_on_the_command_line_with_3(plate, tmp_path, capsys):
    out = tmp_path / "out"
    compiled(plate, out, ALONE).run("threads", workers=1)
    recorded(out, "cupy")
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: p\nsteps: [{name: s, function: gaussian_filter, parameters: {sigma: 1.0}}]"
    )
    command = [str(word) for word in ("run", file, plate.path, "-o", out, "--cluster", "threads")]
    assert main(command) == 3
    told = capsys.readouterr().err
    assert "cupy" in told
    assert "Traceback" not in told
    assert main([*command, "--fresh", "--no-report"]) == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pipeline": "p", "steps": [{}]}', "\x00"])
def test_a_torn_record_is_none(plate, tmp_path, text):
    control = tmp_path / "out" / ".hcsflow"
    control.mkdir(parents=True)
    (control / "plan.json").write_text(text)
    assert types_of(compiled(plate, tmp_path / "out", ALONE)) == ["numpy"]


def test_another_pipelines_record_says_nothing(plate, tmp_path):
    out = tmp_path / "out"
    compiled(plate, out, ALONE).run("threads", workers=1)
    recorded(out, "cupy")
    other = hf.Pipeline([hf.FunctionStep(ALONE, name="s")], name="other")
    assert types_of(hf.compile(other, plate, output=out)) == ["numpy"]


@needs_torch
def test_a_plan_that_made_nothing_binds_nobody(plate, tmp_path):
    out = tmp_path / "out"
    compiled(plate, out, BETWEEN).run("threads", workers=1)
    shutil.rmtree(out / ".hcsflow" / "journal")
    assert types_of(compiled(plate, out, ALONE)) == ["numpy"]


@needs_torch
def test_only_steps_that_a_well_went_through_are_bound(plate, tmp_path):
    def both(out):
        steps = [
            hf.FunctionStep(BETWEEN, name="first", force_disk_output=True),
            hf.FunctionStep(BETWEEN, name="second"),
        ]
        return hf.compile(hf.Pipeline(steps, name="p"), plate, output=out)

    def alone(out):
        steps = [hf.FunctionStep(ALONE, name=name) for name in ("first", "second")]
        plan = hf.compile(hf.Pipeline(steps, name="p"), plate, output=out)
        return [s.branches[0].calls[0].input_type for s in plan.frozen.steps]

    out = tmp_path / "out"
    both(out).run("threads", workers=1)
    assert alone(out) == ["torch", "torch"]
    shutil.rmtree(out / ".hcsflow" / "journal" / "final")
    assert alone(out) == ["torch", "numpy"]
