"""Pipeline files with faults: the file, its line and the fault are named, the exit status is 2."""

import json

import jsonschema
import pytest

from hcsflow.cli.main import main
from hcsflow.errors import PipelineError
from hcsflow.session.pipelines import load_pipeline

PYTHON = {
    "syntax error": ("import hcsflow as hf\npipeline = = 3\n", "line 2: SyntaxError"),
    "no such module": ("\nimport no_such_module_at_all\n", "line 2: ModuleNotFoundError"),
    "no such name": ("from hcsflow import Pipelime\n", "line 1: ImportError"),
    "any error": ("def f():\n    return 1 / 0\n\nf()\n", "line 2: ZeroDivisionError"),
    "ends the program": ("raise SystemExit(0)\n", "line 1: SystemExit"),
    "not UTF-8": (b"name = '\xff'\n", "SyntaxError"),
    "a wrong step": (
        "from hcsflow import FunctionStep\nFunctionStep('a', variable_components='site')\n",
        "line 2: variable_components: no component 'site'",
    ),
    "no pipeline": ("x = 3\n", "holds no 'pipeline'"),
}

YAML = {
    "name": ("name: 5\nsteps: [a]\n", "name: must be text"),
    "components": ("steps: [{function: a, variable_components: 5}]\n", "must be a list"),
    "special inputs": ("steps: [{function: a, special_inputs: [a]}]\n", "must be a mapping"),
    "materialization": ("steps: [{function: a, materialization: yes}]\n", "must be a mapping"),
    "not UTF-8": (b"name: caf\xe9\n", "not UTF-8: byte 9 is 0xe9"),
    "a null byte": (b"name: \x00\n", "not YAML"),
}


def written(folder, name, content):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize("case", PYTHON)
def test_a_python_file_with_a_fault_is_named(case, tmp_path):
    content, says = PYTHON[case]
    with pytest.raises(PipelineError) as caught:
        load_pipeline(written(tmp_path, "mine.py", content))
    assert "mine.py" in caught.value.message
    assert says in caught.value.message


@pytest.mark.parametrize("case", YAML)
def test_a_yaml_file_with_a_fault_is_named(case, tmp_path):
    content, says = YAML[case]
    with pytest.raises(PipelineError) as caught:
        load_pipeline(written(tmp_path, "mine.yaml", content))
    assert "mine.yaml" in caught.value.message
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("name", "content"), [("p.py", PYTHON["any error"][0]), ("p.yaml", YAML["not UTF-8"][0])]
)
def test_the_command_line_exits_with_2(name, content, tmp_path, capsys):
    from hcsflow.testing.plates import key_coded_plate

    key_coded_plate(tmp_path / "plate", wells=("A01",), fields=1, channels=1, z=1)
    file = written(tmp_path, name, content)
    command = ["plan", file, tmp_path / "plate", "-o", tmp_path / "out"]
    assert main([str(word) for word in command]) == 2
    told = capsys.readouterr().err
    assert name in told
    assert "Traceback" not in told


def test_the_schema_of_pipeline_files_is_printed(capsys):
    assert main(["schema", "pipeline"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    assert check.is_valid({"steps": ["max_projection", {"functions": {"w1": ["a", "b"]}}]})
    for wrong in ({}, {"steps": []}, {"steps": [{}]}, {"steps": ["a"], "nmae": "x"},
                  {"steps": [{"function": "a", "functions": {"w1": "a"}}]},
                  {"steps": [{"function": "a", "group_by": "site"}]},
                  {"steps": ["a"], "config": {"zarr": {"shufle": True}}}):  # fmt: skip
        assert not check.is_valid(wrong)


@pytest.mark.parametrize(
    "function",
    [
        "[{function: gaussian_filter, parameters: {sigma: 2}}, max_projection]",
        "{function: gaussian_filter, parameters: {sigma: 2}}",
        "gaussian_filter\n  parameters: {sigma: 2}",
        "gaussian_filter",
    ],
)
def test_a_setting_reaches_the_plan_wherever_the_file_gives_it(function, tmp_path):
    import hcsflow as hf
    from hcsflow.testing.plates import key_coded_plate

    key_coded_plate(tmp_path / "plate", wells=("A01",), fields=1, channels=1)
    file = written(tmp_path, "p.yaml", f"steps:\n- name: a\n  function: {function}\n")
    plan = hf.compile(
        file, hf.open_plate(tmp_path / "plate"), output=tmp_path / "out", parameters={"a.sigma": 9}
    )
    assert dict(plan.frozen.steps[0].branches[0].calls[0].parameters) == {"sigma": 9}
