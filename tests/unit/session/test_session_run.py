"""Compiling and running a real small plate in one output, again and again."""

import time
from pathlib import Path

import pytest

import hcsflow as hf
from hcsflow.contracts import special_outputs
from hcsflow.errors import UsageError
from hcsflow.execute import RunOptions, read_status, verify_output
from hcsflow.execute.select import cluster_for
from hcsflow.graph.worker import TELL_S
from hcsflow.journal import ControlFolder, Outcome, write_failure
from hcsflow.materialize import Table
from hcsflow.session.run import Run, summary
from hcsflow.testing.plates import key_coded_plate
from hcsflow.view.record import read_record


@special_outputs(("spots", Table()))
def spots(stack):
    return stack, {"label": [1, 2]}


def slowly(stack):
    time.sleep(2 * TELL_S)  # what is over sooner may not be told
    return stack


@pytest.fixture
def plate(tmp_path: Path) -> hf.Plate:
    root = tmp_path / "plate"
    key_coded_plate(root, wells=("B02", "B03"), fields=1, channels=1, timepoints=1, z=1, size=32)
    return hf.open_plate(root)


def smooth(plate: hf.Plate, output: Path, sigma: float, **options) -> hf.Run:
    pipeline = hf.Pipeline([hf.FunctionStep("gaussian_filter", sigma=sigma)])
    return hf.compile(pipeline, plate, output=output, **options).run("threads", workers=1)


def test_a_well_of_an_earlier_making_is_not_called_done(plate, tmp_path):
    output = tmp_path / "out"
    smooth(plate, output, 1.0)
    smooth(plate, output, 3.0, wells=["B02"])
    found = {w: r.status for w, r in read_record(output).wells.items()}
    assert found == {"B02": "done", "B03": "other"}
    assert summary(Run(output))["done"] == ["B02"]
    assert read_status(output).wells == ("B02",)
    smooth(plate, output, 3.0, wells=["B03"])
    assert [w.well for w in read_record(output).with_status("done")] == ["B02", "B03"]
    assert summary(Run(output))["done"] == ["B02", "B03"]
    assert read_status(output).done == ("B02", "B03")


def test_only_what_the_last_plan_makes_is_there(plate, tmp_path):
    output = tmp_path / "out"

    def run(*steps: hf.FunctionStep) -> hf.Run:
        return hf.compile(hf.Pipeline(steps), plate, output=output).run("threads", workers=1)

    blur = hf.FunctionStep("gaussian_filter", name="blur", force_disk_output=True)
    assert run(blur, hf.FunctionStep(spots)).tables == ["spots"]
    assert [p.name for p in output.glob("*_blur")] == ["00_blur"]
    assert run(hf.FunctionStep(spots, special_outputs={"spots": "dots"})).tables == ["dots"]
    assert not list(output.glob("*_blur"))
    assert not (output / "results" / "spots.csv").exists()
    assert verify_output(output) == []


def test_workers_and_memory_have_one_rule_that_knows_the_container(plate, tmp_path, monkeypatch):
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 1 << 30)
    monkeypatch.setattr("dask.system.CPU_COUNT", 2)
    plan = hf.compile(
        hf.Pipeline([hf.FunctionStep("gaussian_filter")]), plate, output=tmp_path / "out"
    ).frozen
    usable = int(0.8 * (1 << 30))
    assert plan.resources.memory_bytes == usable // plan.resources.workers
    chosen = cluster_for(plan, RunOptions(), len(plan.wells))
    assert chosen.kwargs["n_workers"] == plan.resources.workers
    assert chosen.kwargs["memory_limit"] == plan.resources.memory_bytes
    with pytest.raises(UsageError, match="64 workers"):
        smooth(plate, tmp_path / "out", 1.0, workers=64)


def test_a_run_tells_which_well_and_step_it_is_at(plate, tmp_path):
    heard = []
    pipeline = hf.Pipeline([hf.FunctionStep(slowly, name="smooth")])
    plan = hf.compile(pipeline, plate, output=tmp_path / "out", wells=["B02"])
    plan.run("threads", workers=1, on_event=heard.append)
    assert [event.well for event in heard if event.kind == "well_started"] == ["B02"]
    assert {event.data["step"] for event in heard if event.kind == "step"} == {"smooth"}


def test_a_well_on_record_counts_with_all_its_parts_and_once(plate, tmp_path):
    output = tmp_path / "out"
    blur = hf.FunctionStep("gaussian_filter", name="blur", force_disk_output=True)
    made = hf.compile(hf.Pipeline([blur, hf.FunctionStep(spots)]), plate, output=output).run(
        "serial"
    )
    spent = {outcome.well: outcome.seconds for outcome in made.outcomes}
    known = Run(output).outcomes
    assert {outcome.well: outcome.seconds for outcome in known} == pytest.approx(spent)
    assert {outcome.outputs for outcome in known} == {("00_blur", "")}
    assert read_status(output).seconds == pytest.approx(sum(spent.values()))

    write_failure(ControlFolder(output), Outcome("B02", "spots", "failed", error="OSError"))
    assert [(o.well, o.status) for o in Run(output).outcomes] == [
        ("B02", "failed"),
        ("B03", "done"),
    ]


def test_what_is_kept_and_what_is_to_do_is_said_by_segment(plate, tmp_path):
    def plan(sigma: float) -> hf.Plan:
        blur = hf.FunctionStep("gaussian_filter", name="blur", force_disk_output=True)
        last = hf.FunctionStep("gaussian_filter", name="last", sigma=sigma)
        return hf.compile(hf.Pipeline([blur, last]), plate, output=tmp_path / "out")

    assert "already there" not in plan(1.0).explain()
    plan(1.0).run("serial")
    changed = plan(2.0)
    assert "  blur: kept (2 wells)\n  last: to do (2 wells)" in changed.explain()
    found = summary(changed.run("serial"))
    assert found["segments"] == [
        {"name": "blur", "wells_kept": 2, "wells_to_do": 0},
        {"name": "last", "wells_kept": 0, "wells_to_do": 2},
    ]
    assert "0 done, 2 done already" in repr(plan(2.0).run("serial"))


def test_the_error_that_ended_a_run_is_kept_in_its_output(plate, tmp_path):
    def refuse(event: object) -> None:
        raise RuntimeError("no cluster today")

    output = tmp_path / "out"
    plan = hf.compile(hf.Pipeline([hf.FunctionStep("max_projection")]), plate, output=output)
    with pytest.raises(RuntimeError, match="no cluster today"):
        plan.run("serial", on_event=refuse)
    assert read_status(output).error == "RuntimeError: no cluster today"
    plan.run("serial")
    assert read_status(output).error is None


def interrupting(stack):
    raise KeyboardInterrupt


def test_a_function_that_interrupts_fails_its_well_and_not_the_run(plate, tmp_path):
    pipeline = hf.Pipeline([hf.FunctionStep(interrupting)])
    run = hf.compile(pipeline, plate, output=tmp_path / "out").run("threads", workers=1)
    assert run.failures["error"].tolist() == ["KeyboardInterrupt"] * 2
    assert run.failures["rerun"].tolist() == [None, None]
    with pytest.raises(KeyboardInterrupt):
        hf.compile(pipeline, plate, output=tmp_path / "two").run("serial")
