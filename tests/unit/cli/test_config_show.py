"""``hcsflow config show`` and the settings of a plan: what holds, and where it was said."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

import hcsflow as hf
from hcsflow.cli.main import main
from hcsflow.cli.schemas import json_schema
from hcsflow.config import setting_names, user_config_file
from hcsflow.testing.plates import write_imagexpress_plate

PIPELINE = """
name: two
config: {zarr: {compression_level: 2, pyramid: false}, fill_value: 2, missing: fill}
parameters: {sigma: 1.5}
steps:
  - name: smooth
    function: gaussian_filter
    parameters: {sigma: $sigma}
    materialization: {zarr: {compression_level: 3, pyramid: true, shuffle: false}}
  - max_projection
"""


@pytest.fixture
def hcsflow(capsys):
    """Run the command line in this process: exit status, stdout, stderr."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def show(hcsflow):
    """Return the document of ``config show``, checked against its schema."""

    def run(*arguments):
        status, text, errors = hcsflow("config", "show", *arguments, "--json")
        assert (status, errors) == (0, "")
        document = json.loads(text)
        jsonschema.validate(document, json_schema("config-show"))
        return document

    return run


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Say settings in every place there is, each stronger place one setting fewer."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    user = user_config_file({"XDG_CONFIG_HOME": str(tmp_path)})
    user.parent.mkdir()
    user.write_text("zarr: {compression_level: 1, pyramid: true}\nnum_workers: 1\nfill_value: 1\n")
    files = {"user": user, "pipeline": tmp_path / "two.yaml"}
    files["pipeline"].write_text(PIPELINE)
    files["profile"] = tmp_path / "ours.yaml"
    files["profile"].write_text("kind: threads\nconfig: {zarr: {compression_level: 4}}\n")
    files["call"] = tmp_path / "call.yaml"
    files["call"].write_text("zarr.compression_level: 6\n")
    return files


def found(document, name, step=None):
    (entry,) = [s for s in document["settings"] if (s["name"], s["step"]) == (name, step)]
    return entry["value"], entry["origin"]


def test_without_anything_all_is_default(show):
    document = show()
    assert [s["name"] for s in document["settings"]] == setting_names_in_order()
    assert {s["origin"] for s in document["settings"]} == {"default"}
    assert [f["found"] for f in document["files"]] == [False]
    assert document["pipeline"] is None


def setting_names_in_order():
    return sorted(setting_names(), key=lambda name: list(setting_names()).index(name))


def test_each_value_says_where_it_comes_from(show, places, monkeypatch):
    pipeline = places["pipeline"]
    document = show(pipeline)
    assert found(document, "num_workers") == (1, str(places["user"]))
    assert found(document, "fill_value") == (2, "pipeline 'two'")
    assert found(document, "zarr.compression_level") == (2, "pipeline 'two'")
    assert found(document, "zarr.compression_level", "smooth") == (3, "step 'smooth'")
    assert found(document, "zarr.pyramid", "smooth") == (True, "step 'smooth'")

    document = show(pipeline, "--cluster", places["profile"])
    for step in (None, "smooth"):
        level = found(document, "zarr.compression_level", step)
        assert level == (4, str(places["profile"]))
    assert found(document, "zarr.shuffle", "smooth") == (False, "step 'smooth'")

    monkeypatch.setenv("HCSFLOW_ZARR_COMPRESSION_LEVEL", "5")
    document = show(pipeline, "--cluster", places["profile"])
    variable = "HCSFLOW_ZARR_COMPRESSION_LEVEL"
    assert found(document, "zarr.compression_level") == (5, variable)

    document = show(pipeline, "--cluster", places["profile"], "--config", places["call"])
    assert found(document, "zarr.compression_level", "smooth") == (6, str(places["call"]))
    assert [f["path"] for f in document["files"]] == [
        str(places[name]) for name in ("user", "profile", "call")
    ]
    assert all(f["found"] for f in document["files"])


def test_parameters_are_shown_too(show, places):
    document = show(places["pipeline"], "--set", "sigma=2", "--set", "smooth.mode=nearest")
    assert document["parameters"] == [
        {"name": "sigma", "value": 2, "origin": "--set"},
        {"name": "smooth.mode", "value": "nearest", "origin": "--set"},
    ]
    (sigma,) = show(places["pipeline"])["parameters"]
    assert sigma == {"name": "sigma", "value": 1.5, "origin": "pipeline 'two'"}


def test_the_table_says_the_same(hcsflow, places):
    status, text, _ = hcsflow("config", "show", places["pipeline"])
    assert status == 0
    lines = [line.split(maxsplit=2) for line in text.splitlines()]
    assert ["zarr.compression_level", "2", "pipeline 'two'"] in [
        [x.strip() for x in y] for y in lines
    ]
    assert "smooth: zarr.compression_level" in text
    assert str(places["user"]) in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-pipeline"], "no pipeline"),
        (["--set", "sigma=2"], "belong to a pipeline"),
        (["max-projection", "--set", "sigmaa=2"], "no parameter 'sigmaa'"),
        (["--config", "no/such.yaml"], "cannot be read as settings"),
        (["--cluster", "no/such.yaml"], "cannot be read as settings"),
    ],
)
def test_what_cannot_be_shown_ends_with_2(hcsflow, arguments, says):
    status, text, errors = hcsflow("config", "show", *arguments)
    assert (status, text) == (2, "")
    assert says in errors


@pytest.mark.parametrize("where", ["pipeline", "step", "user", "profile", "call", "environment"])
def test_an_unknown_setting_is_refused_wherever_it_stands(hcsflow, places, monkeypatch, where):
    if where == "environment":
        monkeypatch.setenv("HCSFLOW_ZARR_CHUNK_STRATEGI", "file")
    elif where == "step":
        places["pipeline"].write_text(PIPELINE.replace("shuffle: false", "shufle: false"))
    elif where == "pipeline":
        places["pipeline"].write_text(PIPELINE.replace("compression_level: 2", "shufle: true"))
    else:
        section = "config: {zarr: {shufle: true}}" if where == "profile" else "zarr.shufle: true"
        places[where].write_text(section)
    options = ["--cluster", places["profile"], "--config", places["call"]]
    status, text, errors = hcsflow("config", "show", places["pipeline"], *options)
    assert (status, text) == (2, "")
    meant = {"environment": "HCSFLOW_ZARR_CHUNK_STRATEGY", "step": "shuffle"}
    assert f"did you mean {meant.get(where, 'zarr.shuffle')}?" in errors


def test_the_schema_of_settings_files_is_printed(hcsflow, places):
    _, text, _ = hcsflow("schema", "config")
    jsonschema.validate(yaml.safe_load(places["user"].read_text()), json.loads(text))


@pytest.fixture
def plate(tmp_path):
    write_imagexpress_plate(tmp_path / "P", wells=("A01",), fields=1, z=1, size=32, nuclei=1)
    return tmp_path / "P"


def test_a_plan_tells_what_is_not_default(hcsflow, places, plate, tmp_path):
    chosen = ["--chunks", "file", "--config", places["call"], "--cluster", places["profile"]]
    arguments = [places["pipeline"], plate, "-o", tmp_path / "o", *chosen]
    status, text, errors = hcsflow("plan", *arguments, "--json")
    assert (status, errors) == (0, "")
    document = json.loads(text)
    jsonschema.validate(document, json_schema("plan"))
    assert found(document, "zarr.chunk_strategy") == ("file", "--chunks")
    assert found(document, "zarr.compression_level") == (6, str(places["call"]))
    assert "default" not in {each["origin"] for each in document["settings"]}
    _, text, _ = hcsflow("plan", *arguments)
    assert "zarr.chunk_strategy=file, from --chunks" in text


def test_in_python_a_mapping_is_the_strongest_and_a_global_config_the_weakest(
    places, plate, tmp_path
):
    def compiled(**options):
        opened = hf.open_plate(plate)
        return hf.compile(str(places["pipeline"]), opened, output=tmp_path / "o", **options)

    plan = compiled(config={"zarr": {"compression_level": 9}})
    assert plan.frozen.config.zarr.compression_level == 9
    assert plan.origins["zarr.compression_level"] == "argument"
    assert plan.origins["smooth/zarr.compression_level"] == "argument"
    assert plan.origins["num_workers"] == str(places["user"])
    config = hf.GlobalPipelineConfig(zarr=hf.ZarrConfig(compression_level=9, shuffle=False))
    plan = compiled(config=config)
    assert plan.frozen.config.zarr.compression_level == 2
    assert plan.origins["zarr.shuffle"] == "argument"
    assert plan.origins["num_workers"] == "default"
    assert "zarr.shuffle=False" in repr(plan)
    plan = compiled(resources=str(places["profile"]))
    assert plan.frozen.config.zarr.compression_level == 4
    assert plan.origins["smooth/zarr.compression_level"] == str(places["profile"])
    with pytest.raises(hf.HcsflowError, match="must be a GlobalPipelineConfig or a mapping"):
        compiled(config="lab.yaml")
