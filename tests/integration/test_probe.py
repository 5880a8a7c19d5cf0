"""What a plan says of time, stored bytes and memory: by a probe, then by its first wells."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hcsflow as hf
from hcsflow.cli.schemas import json_schema
from hcsflow.errors import PlanRefusedError
from hcsflow.testing.plates import write_imagexpress_plate

jsonschema = pytest.importorskip("jsonschema")

WELLS = ("A01", "A02", "A03", "A04")
PIPELINE = """steps:
  - function: gaussian_filter
    name: smooth
    parameters: {sigma: 1.0}
  - function: max_projection
    name: project
"""


@pytest.fixture(scope="module")
def plate(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("plate") / "PLATE"
    write_imagexpress_plate(root, wells=WELLS, fields=2, channels=1, z=2, size=128)
    return root


@pytest.fixture
def pipeline(tmp_path) -> Path:
    path = tmp_path / "chain.yaml"
    path.write_text(PIPELINE)
    return path


def hcsflow(*arguments: object) -> str:
    command = [sys.executable, "-c", "from hcsflow.cli.main import main; main()"]
    ran = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=True
    )
    return ran.stdout


def test_a_probe_measures_whole_wells_and_leaves_the_output_alone(plate, pipeline, tmp_path):
    plan = hf.compile(pipeline, hf.open_plate(plate), output=tmp_path / "OUT", workers=2)
    probe = plan.probe()
    assert not (tmp_path / "OUT").exists()
    found = probe.forecast
    assert (found.source, found.wells_measured, found.wells_left) == ("probe", 3, 4)
    assert found.seconds >= found.seconds_per_well > 0
    assert 0 < found.stored_bytes < found.raw_bytes
    assert [step.name for step in found.steps] == ["read", "smooth", "project", "write"]
    assert "4 wells left on 2 workers: about" in str(probe)


def test_a_plan_knows_its_time_from_the_first_wells_on(plate, pipeline, tmp_path):
    def plan(sigma: float = 1.0) -> hf.Plan:
        return hf.compile(
            pipeline,
            hf.open_plate(plate),
            output=tmp_path / "OUT",
            workers=1,
            parameters={"smooth.sigma": sigma},
        )

    assert "unknown until --probe or the first wells" in str(plan())
    assert plan().summary()["forecast"] is None
    first = hf.compile(
        pipeline, hf.open_plate(plate), output=tmp_path / "OUT", wells=["A01"], workers=1
    )
    first.run(cluster="threads")
    known = plan().forecast()
    assert (known.source, known.wells_measured, known.wells_left) == ("run", 1, 3)
    assert "3 wells left on 1 worker: about" in str(plan())
    assert plan(sigma=2.0).forecast() is None, "other work takes another time"


def test_a_probe_of_a_step_that_fails_says_where(plate, tmp_path):
    def broken(stack):
        raise ValueError("no such thing")

    steps = [hf.FunctionStep(broken, name="broken")]
    plan = hf.compile(steps, hf.open_plate(plate), output=tmp_path / "OUT", workers=1)
    with pytest.raises(
        PlanRefusedError, match=r"at step 'broken' of well A0\d: ValueError: no such"
    ):
        plan.probe()
    assert not (tmp_path / "OUT").exists()


def test_a_plate_without_a_whole_well_cannot_be_probed(tmp_path):
    root = tmp_path / "PLATE"
    write_imagexpress_plate(
        root, wells=("A01",), fields=2, channels=1, z=2, size=64, faults={"A01": "missing plane"}
    )
    plan = hf.compile(
        "max-projection",
        hf.open_plate(root),
        output=tmp_path / "OUT",
        workers=1,
        config={"missing": "fill"},
    )
    with pytest.raises(PlanRefusedError, match="no well of the plan has all its planes"):
        plan.probe()


def test_the_command_line_prints_the_forecast_and_json_keeps_its_schema(plate, pipeline, tmp_path):
    output = tmp_path / "OUT"
    text = hcsflow("plan", pipeline, plate, "-o", output, "--probe")
    assert "measured on 3 wells of a probe" in text
    assert not output.exists()
    document = json.loads(hcsflow("plan", pipeline, plate, "-o", output, "--probe", "--json"))
    jsonschema.validate(document, json_schema("plan"))
    assert document["forecast"]["source"] == "probe"


def test_run_and_status_tell_what_was_measured_beside_what_was_projected(plate, pipeline, tmp_path):
    output = tmp_path / "OUT"
    ran = json.loads(hcsflow("run", pipeline, plate, "-o", output, "--wells", "A01,A02", "--json"))
    jsonschema.validate(ran, json_schema("run"))
    [unit] = ran["measured"]
    assert unit["output"] == ""
    assert unit["wells"] == 2
    assert unit["seconds"] > 0
    assert unit["projected_bytes"] > 0
    if sys.platform == "linux":
        assert 0 < unit["peak_bytes"] <= unit["projected_bytes"]
    status = json.loads(hcsflow("status", output, "--json"))
    jsonschema.validate(status, json_schema("status"))
    assert status["seconds_left"] == 0.0


def test_wells_of_other_storage_settings_are_told_of_by_run_status_and_report(
    plate, pipeline, tmp_path
):
    output = tmp_path / "OUT"
    hcsflow("run", pipeline, plate, "-o", output, "--wells", "A01,A02")
    said = hcsflow("run", pipeline, plate, "-o", output, "--wells", "A03", "--chunks", "file")
    for text in (said, hcsflow("status", output)):
        assert "(A01, A02) were made with other steps, parameters or storage settings" in text
    page = (output / "report.html").read_text()
    assert "made with other settings" in page
    assert page.count('<rect class="other"') == 3, "two wells and the key"


HUNGRY = """
import numpy as np
import hcsflow as hf
from hcsflow.contracts import contract

@contract(working_planes=0.0)
def hungry(stack):
    block = np.ones((320, 1 << 20), np.uint8)
    return stack + block[0, 0] * 0

pipeline = hf.Pipeline([hf.FunctionStep(hungry, name="hungry")])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a block's peak")
def test_a_task_over_its_projection_is_told_of_in_run_log_and_report(plate, tmp_path):
    (tmp_path / "hungry.py").write_text(HUNGRY)
    output = tmp_path / "OUT"
    said = hcsflow("run", tmp_path / "hungry.py", plate, "-o", output, "--wells", "A01")
    assert "MB at hungry, the plan projected" in said
    assert "declare working_planes of hungry" in said
    log = (output / ".hcsflow" / "log.jsonl").read_text()
    events = [json.loads(line) for line in log.splitlines()]
    [over] = [event for event in events if event["kind"] == "over_projection"]
    assert (over["well"], over["step"]) == ("A01", "hungry")
    assert over["peak_bytes"] > over["projected_bytes"]
    assert "Wells over the projection: 1" in (output / "report.html").read_text()
