"""Compiling and running a real small plate in one output, again and again."""

from pathlib import Path

import pytest

import hcsflow as hf
from hcsflow.contracts import special_outputs
from hcsflow.errors import UsageError
from hcsflow.execute import RunOptions, read_status, verify_output
from hcsflow.execute.select import cluster_for
from hcsflow.materialize import Table
from hcsflow.session.run import Run, summary
from hcsflow.testing.plates import key_coded_plate
from hcsflow.view.record import read_record


@special_outputs(("spots", Table()))
def spots(stack):
    return stack, {"label": [1, 2]}


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
    assert read_status(output).others == ()
    smooth(plate, output, 3.0, wells=["B03"])
    assert [w.well for w in read_record(output).with_status("done")] == ["B02", "B03"]
    assert summary(Run(output))["done"] == ["B02", "B03"]
    assert (read_status(output).done, read_status(output).others) == (("B03",), ("B02",))


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
    pipeline = hf.Pipeline([hf.FunctionStep("gaussian_filter", name="smooth")])
    plan = hf.compile(pipeline, plate, output=tmp_path / "out", wells=["B02"])
    plan.run("threads", workers=1, on_event=heard.append)
    assert [event.well for event in heard if event.kind == "well_started"] == ["B02"]
    assert {event.data["step"] for event in heard if event.kind == "step"} == {"smooth"}
