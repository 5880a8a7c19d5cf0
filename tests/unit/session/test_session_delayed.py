"""A plan as a delayed value: what it clears, whose run it is, what it leaves in memory."""

from pathlib import Path

import pytest

import hcsflow as hf
from hcsflow.contracts import contract
from hcsflow.errors import FencedError
from hcsflow.execute import read_status
from hcsflow.execute.lock import locked
from hcsflow.graph import plugin
from hcsflow.session.plan import Plan
from hcsflow.testing.plates import key_coded_plate


@contract(per_slice=True)
def bounded(stack, *, most=1 << 16):
    if stack.max() > most:
        raise ValueError("too bright")
    return stack


@pytest.fixture
def plate(tmp_path: Path) -> hf.Plate:
    root = tmp_path / "plate"
    key_coded_plate(root, wells=("B02", "B03"), fields=1, channels=1, timepoints=1, z=1, size=32)
    return hf.open_plate(root)


def plan_of(plate: hf.Plate, output: Path, **parameters) -> Plan:
    pipeline = hf.Pipeline([hf.FunctionStep(bounded, **parameters)], name="p")
    return hf.compile(pipeline, plate, output=output)


def test_an_old_failure_of_a_well_that_is_whole_is_forgotten(plate, tmp_path):
    plan_of(plate, tmp_path / "out").run("serial")
    plan_of(plate, tmp_path / "out", most=0).run("serial")
    assert read_status(tmp_path / "out").failed == ("B02", "B03")
    whole = plan_of(plate, tmp_path / "out").to_delayed()
    assert [o.status for o in whole.compute(scheduler="sync")] == ["skipped", "skipped"]
    assert read_status(tmp_path / "out").done == ("B02", "B03")


def test_a_run_that_is_alive_is_not_joined(plate, tmp_path):
    whole = plan_of(plate, tmp_path / "out").to_delayed()
    with locked(tmp_path / "out"), pytest.raises(FencedError, match="belongs to run"):
        whole.compute(scheduler="sync")


def test_no_plan_stays_in_memory(plate, tmp_path):
    plans = [plan_of(plate, tmp_path / name).to_delayed() for name in ("one", "two")]
    before = dict(plugin._bundles)
    for whole in (*plans, plans[0]):
        assert [o.status for o in whole.compute(scheduler="threads")] == ["done", "done"]
    assert plugin._bundles == before
    for whole in plans:  # as on a worker that is not the one that finishes
        _, shipped = next(item for item in dict(whole.dask).items() if "plan-" in str(item[0]))
        with plugin.held_packed(getattr(shipped, "value", shipped)):
            assert len(plugin._bundles) == len(before) + 1
    plugin.forget(getattr(shipped, "value", shipped))
    assert plugin._bundles == before
