"""The serial executor: same output as a cluster, one thread, nothing started."""

import multiprocessing
import threading

import pytest

from hcsflow.errors import FencedError, UsageError
from hcsflow.execute import read_status
from hcsflow.journal import ControlFolder


def test_it_gives_the_bytes_that_threads_give_and_starts_nothing(tiny, data_files):
    tiny(cluster="threads")
    by_threads = data_files(tiny.output)
    seen = set()

    def look(_event):
        seen.update(thread.name for thread in threading.enumerate())

    before = {thread.name for thread in threading.enumerate()}
    tiny.listen = look
    result = tiny(cluster="serial", fresh=True)
    assert {o.status for o in result.outcomes} == {"done"}
    assert data_files(tiny.output) == by_threads
    assert multiprocessing.active_children() == []
    assert seen <= before | {"hcsflow-heartbeat"}
    assert tiny(cluster="serial").counts == {"skipped": 3}


def test_wells_come_one_after_the_other_in_plate_order_and_are_told_at_once(tiny):
    tiny("B01 A02 A01", cluster="serial")
    told = [(k, w) for k, w in tiny.kinds() if k in ("well_started", "well_done")]
    assert told == [(k, w) for w in ("A01", "A02", "B01") for k in ("well_started", "well_done")]


def test_a_bad_well_is_tried_again_then_quarantined_and_the_rest_done(tiny):
    tiny.misbehave("A02", "fail")
    result = tiny(cluster="serial", retries=2)
    assert tiny.kinds().count(("well_started", "A02")) == 3
    assert result.counts == {"done": 2, "failed": 1}
    assert read_status(tiny.output).failed == ("A02",)


def test_fail_fast_leaves_the_rest_alone(tiny):
    tiny.misbehave("A02", "fail")
    result = tiny(cluster="serial", fail_fast=True)
    assert [o.status for o in result.outcomes] == ["done", "failed", "cancelled"]


def test_what_needs_processes_or_dask_is_refused_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(UsageError, match="--timeout needs worker processes"):
        tiny(cluster="serial", timeout_s=5)
    with pytest.raises(UsageError, match="runs without Dask"):
        tiny(cluster="serial", performance_report=tmp_path / "report.html")
    assert not tiny.output.exists()


def test_a_run_that_was_taken_over_stops_and_writes_nothing_more(tiny):
    control = ControlFolder(tiny.output)

    def take_over(event):
        if event.kind == "well_done":
            control.epoch.write_text("99")

    tiny.listen = take_over
    with pytest.raises(FencedError):
        tiny(cluster="serial")
    assert not (tiny.output / "hcsflow_metadata.json").exists()
    assert not control.entry("", "A02").exists()
    assert control.epoch.read_text() == "99"


def test_ctrl_c_keeps_what_is_done(tiny):
    def interrupt(event):
        if event.kind == "well_started" and event.well == "A02":
            raise KeyboardInterrupt

    tiny.listen = interrupt
    with pytest.raises(KeyboardInterrupt):
        tiny(cluster="serial")
    assert read_status(tiny.output).done == ("A01",)
    assert read_status(tiny.output).running is None
    tiny.listen = lambda _event: None
    assert tiny(cluster="serial").counts == {"skipped": 1, "done": 2}
