"""Runs of a tiny plan on threads: what is done, skipped, redone, listed, recorded."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from tiny_task import tiny_manifest, tiny_plan, tiny_task

from hcsflow.errors import OutputError, UsageError
from hcsflow.execute import RunOptions, read_status, run_plan, verify_output
from hcsflow.execute.output import clear_output, prepare_output
from hcsflow.execute.status import read_failures
from hcsflow.journal import ControlFolder, read_entries, read_log
from hcsflow.plan import SideWrite, TableWrite


def listed_wells(output):
    text = json.loads((output / "images.zarr" / "zarr.json").read_text())
    return [well["path"] for well in text["attributes"]["ome"]["plate"]["wells"]]


def test_a_run_leaves_a_whole_output_and_a_second_run_skips_everything(tiny, data_files):
    first = tiny()
    assert [(o.well, o.status) for o in first.outcomes] == [
        ("A01", "done"),
        ("A02", "done"),
        ("B01", "done"),
    ]
    assert listed_wells(tiny.output) == ["A/01", "A/02", "B/01"]
    assert tiny.kinds()[0] == ("run_started", None)
    assert ("well_done", "A02") in tiny.kinds()
    assert tiny.kinds()[-1] == ("run_finished", None)
    assert tiny.events[-1].data["done"] == 3
    assert not (tiny.output / ".hcsflow" / "scratch").exists()
    assert not (tiny.output / ".hcsflow" / "lock").exists()
    before = data_files(tiny.output)

    second = tiny()
    assert {o.status for o in second.outcomes} == {"skipped"}
    assert ("well_skipped", "B01") in tiny.kinds()
    assert data_files(tiny.output) == before
    assert verify_output(tiny.output) == []
    kinds = [line["kind"] for line in read_log(ControlFolder(tiny.output))]
    assert kinds.count("run_started") == 2


def test_what_is_written_does_not_depend_on_order_and_history(tiny, data_files, tmp_path):
    tiny.misbehave("A02", "fail")
    tiny("A01 A02")
    tiny.behave()
    tiny("A02 B01", scale=2)
    tiny("A01 A02 B01")
    crooked = data_files(tiny.output)
    shutil.rmtree(tiny.output)
    tiny()
    assert data_files(tiny.output) == crooked


def test_a_failing_well_is_quarantined_and_done_once_it_can_be(tiny):
    tiny.misbehave("A02", "fail")
    result = tiny()
    assert {o.well: o.status for o in result.outcomes} == {
        "A01": "done",
        "A02": "failed",
        "B01": "done",
    }
    assert listed_wells(tiny.output) == ["A/01", "B/01"]
    (failure,) = read_failures(tiny.output)
    assert (failure.well, failure.step, failure.file) == ("A02", "scale", "x.tif")
    metadata = json.loads((tiny.output / "hcsflow_metadata.json").read_text())
    assert metadata["provenance"]["failures"][0]["well"] == "A02"
    assert read_status(tiny.output).failed == ("A02",)

    tiny.behave()
    assert {o.well: o.status for o in tiny().outcomes} == {
        "A01": "skipped",
        "A02": "done",
        "B01": "skipped",
    }
    assert read_failures(tiny.output) == []
    assert listed_wells(tiny.output) == ["A/01", "A/02", "B/01"]


def test_retries_try_a_failing_well_again(tiny):
    tiny.misbehave("A01", "fail")
    tiny("A01", retries=2)
    assert (tiny.plate / "A01.fail").read_text() == "tried " * 3


def test_fail_fast_stops_at_the_first_failure(tiny):
    tiny.misbehave("A01", "fail")
    for well in ("A02", "A03", "B01"):
        tiny.misbehave(well, "nap")
    result = tiny("A01 A02 A03 B01", fail_fast=True, workers=1)
    statuses = [o.status for o in result.outcomes]
    assert statuses[0] == "failed"
    assert "cancelled" in statuses


def test_a_changed_parameter_redoes_and_a_damaged_object_too(tiny):
    tiny("A01 A02")
    assert {o.status for o in tiny("A01 A02", scale=3).outcomes} == {"done"}
    assert (tiny.output / "images.zarr/A/01/0/0/c/0/0").read_bytes()[:11] == b"A01 times 3"
    (tiny.output / "images.zarr/A/02/0/0/c/0/0").unlink()
    assert [f.kind for f in verify_output(tiny.output)] == ["missing"]
    again = tiny("A01 A02", scale=3)
    assert [o.status for o in again.outcomes] == ["skipped", "done"]


def test_a_plan_of_few_wells_keeps_the_others_only_if_they_are_made_alike(tiny):
    tiny("A01 A02 B01")
    tiny("B02")
    assert listed_wells(tiny.output) == ["A/01", "A/02", "B/01", "B/02"]
    tiny("A01", scale=2)
    assert listed_wells(tiny.output) == ["A/01"]
    assert verify_output(tiny.output) == []


def test_a_renamed_table_and_a_step_no_longer_stored_leave_nothing_behind(tiny):
    tiny("A01")
    assert (tiny.output / "results" / "cells.csv").is_file()
    (tiny.output / "results" / "mine.csv").write_text("a user's own")
    plan = tiny_plan(("A01",))
    (write,) = plan.writes
    sides = (SideWrite("notes", 0, "notes"),)
    table = TableWrite("nuclei", 0, "nuclei", None)
    blur = replace(write, output="01_blur", store="01_blur/images.zarr", tables=(), sides=sides)
    prepare_output(plan.replace(writes=(blur, replace(write, tables=(table,)))), tiny.output)
    assert [p.name for p in (tiny.output / "results").iterdir()] == ["mine.csv"]

    for folder in (blur.store, "results/notes/A01", ".hcsflow/journal/01_blur"):
        (tiny.output / folder).mkdir(parents=True)
    prepare_output(plan, tiny.output)
    assert sorted(p.name for p in tiny.output.iterdir()) == [
        ".hcsflow",
        "hcsflow_metadata.json",
        "images.zarr",
        "results",
    ]
    assert [p.name for p in (tiny.output / "results").iterdir()] == ["mine.csv"]
    assert not (tiny.output / ".hcsflow" / "journal" / "01_blur").exists()
    assert [o.status for o in tiny("A01").outcomes] == ["skipped"]


def test_nothing_outside_the_output_is_removed_whatever_an_old_plan_says(tiny, tmp_path):
    tiny("A01")
    old = ControlFolder(tiny.output).plan
    text = json.loads(old.read_text())
    text["writes"][0]["tables"] = [{"name": "../../precious"}]
    text["writes"].append({"output": "..", "store": "../plate", "sides": [{"name": "."}]})
    old.write_text(json.dumps(text))
    (tmp_path / "precious.csv").touch()
    prepare_output(tiny_plan(("A01",)), tiny.output)
    assert (tmp_path / "precious.csv").exists()
    assert tiny.plate.is_dir()
    assert (tiny.output / "results" / "cells.csv").exists()
    assert ControlFolder(tiny.output).entry("", "A01").exists()


def test_drafts_of_a_killed_run_are_swept_and_fresh_leaves_no_empty_folder(tiny):
    tiny("A01")
    drafts = ["results/.cells.parquet.77.tmp", ".hcsflow_metadata.json.77.tmp"]
    drafts += [".hcsflow/.plan.json.host-77-1.tmp", ".hcsflow/journal/final/.A01.json.h-7-1.tmp"]
    others = [".hcsflow/.command.json.host-77-1.tmp", "results/.mine.tmp"]
    for draft in drafts + others:
        (tiny.output / draft).touch()
    tiny("A01")
    assert [draft for draft in drafts if (tiny.output / draft).exists()] == []
    assert all((tiny.output / other).exists() for other in others)

    plan = tiny_plan(("A01",))
    blur = replace(plan.writes[0], output="01_blur", store="01_blur/images.zarr")
    (tiny.output / blur.store).mkdir(parents=True)
    clear_output(plan.replace(writes=(blur, *plan.writes)), tiny.output)
    assert not (tiny.output / "01_blur").exists()


def test_a_fresh_run_that_is_killed_leaves_no_plate_with_holes(tiny, monkeypatch):
    tiny("A01 A02")

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        tiny("A01", fresh=True)
    monkeypatch.undo()
    assert not (tiny.output / "images.zarr").exists()
    assert [o.status for o in tiny("A01 A02").outcomes] == ["done", "done"]
    assert not (tiny.output / ".hcsflow" / "scratch").exists()
    assert verify_output(tiny.output) == []


def test_wells_that_the_plan_failed_are_recorded_without_a_task(tiny):
    plan = tiny_plan(("A01",), failed=(("A02", "no file at all", None),))
    manifest = tiny_manifest(tiny.plate, plan)
    options = RunOptions(cluster="threads", task=tiny_task)
    result = run_plan(plan, manifest, tiny.plate, tiny.output, options=options)
    assert [(o.well, o.status) for o in result.outcomes] == [("A01", "done"), ("A02", "failed")]
    assert read_failures(tiny.output)[0].message == "no file at all"
    assert read_failures(tiny.output)[0].error == "MissingPlaneError"
    plan = tiny_plan((), failed=(("A02", "two files of one plane", "a.tif"),))
    run_plan(plan, manifest, tiny.plate, tiny.output, options=options)
    assert read_failures(tiny.output)[0].error == "PlateError"


def test_tables_are_joined_with_the_place_first(tiny):
    tiny()
    frame = pd.read_parquet(tiny.output / "results" / "cells.parquet")
    assert list(frame.columns) == ["plate", "well", "label", "area"]
    assert list(frame["well"]) == ["A01", "A01", "A02", "A02", "B01", "B01"]
    pd.testing.assert_frame_equal(pd.read_csv(tiny.output / "results" / "cells.csv"), frame)


def test_metadata_names_stores_wells_and_the_workspace(tiny):
    tiny()
    text = (tiny.output / "hcsflow_metadata.json").read_text()
    metadata = json.loads(text)
    store = metadata["subdirectories"]["images.zarr"]
    assert store["main"] is True
    assert store["available_backends"] == {"zarr": True}
    assert store["image_files"] == ["A/01/0", "A/02/0", "B/01/0"]
    assert metadata["workspace_mapping"]["A01_s001_w1_z001_t001.tif"] == "A01_s1_w1.tif"
    assert metadata["provenance"]["parameters"] == {"scale": 1}
    assert str(tiny.output) not in text


def test_status_agrees_with_the_plan_from_the_disk_alone(tiny):
    tiny("A01 A02")
    prepare_output(tiny_plan(("A01", "A02"), scale=5), tiny.output)
    assert read_status(tiny.output).pending == ("A01", "A02")
    tiny("A01", scale=5)
    status = read_status(tiny.output)
    assert (status.done, status.pending, status.running) == (("A01",), (), None)
    assert status.wells == ("A01",)  # A02 is of another making
    tiny("B01 B02", scale=5)
    status = read_status(tiny.output)
    assert status.done == status.wells == ("A01", "B01", "B02")
    tiny("A01 A02 B01", scale=5, fail_fast=True)
    assert read_status(tiny.output).wells == ("A01", "A02", "B01", "B02")


def test_verify_finds_what_was_changed_and_what_does_not_belong(tiny):
    tiny("A01 A02")
    chunk = tiny.output / "images.zarr/A/01/0/0/c/0/0"
    chunk.write_bytes(chunk.read_bytes().replace(b"A", b"B", 1))
    (tiny.output / "images.zarr/A/02/0/0/c/0/0").write_bytes(b"short")
    (tiny.output / "images.zarr/H/12").mkdir(parents=True)
    found = {(f.kind, f.path) for f in verify_output(tiny.output)}
    assert found == {
        ("checksum", "images.zarr/A/01/0/0/c/0/0"),
        ("size", "images.zarr/A/02/0/0/c/0/0"),
        ("unlisted", "images.zarr/H/12"),
    }


def test_torn_journal_files_are_read_as_absent(tiny):
    tiny("A01 A02")
    control = ControlFolder(tiny.output)
    entry = control.entry("", "A01")
    entry.write_text(entry.read_text()[:100])
    with control.log.open("a") as log:
        log.write('{"kind": "torn')
    assert list(read_entries(control, "")) == ["A02"]
    assert all(line["kind"] != "torn" for line in read_log(control))
    assert [o.status for o in tiny("A01 A02").outcomes] == ["done", "skipped"]


def test_outputs_of_others_and_paths_in_each_other_are_refused(tiny, tmp_path):
    plan = tiny_plan(("A01",))
    manifest = tiny_manifest(tiny.plate, plan)
    options = RunOptions(cluster="threads", task=tiny_task)
    with pytest.raises(OutputError, match="inside the plate"):
        run_plan(plan, manifest, tiny.plate, tiny.plate / "out", options=options)
    with pytest.raises(OutputError, match="inside the output"):
        run_plan(plan, manifest, tiny.plate, tmp_path, options=options)
    stranger = tmp_path / "holiday"
    stranger.mkdir()
    (stranger / "photo.jpg").touch()
    with pytest.raises(OutputError, match="not empty"):
        run_plan(plan, manifest, tiny.plate, stranger, options=options)
    assert [p.name for p in stranger.iterdir()] == ["photo.jpg"]
    assert not list(tiny.plate.iterdir())


def test_another_pipeline_needs_fresh_which_removes_only_our_own(tiny):
    tiny("A01 A02")
    (tiny.output / "notes.txt").write_text("mine")
    other = tiny_plan(("A01",), pipeline="other")
    manifest = tiny_manifest(tiny.plate, other)
    with pytest.raises(OutputError, match="pipeline"):
        run_plan(
            other,
            manifest,
            tiny.plate,
            tiny.output,
            options=RunOptions(cluster="threads", task=tiny_task),
        )
    fresh = RunOptions(cluster="threads", task=tiny_task, fresh=True)
    run_plan(other, manifest, tiny.plate, tiny.output, options=fresh)
    assert listed_wells(tiny.output) == ["A/01"]
    assert (tiny.output / "notes.txt").read_text() == "mine"
    assert not (tiny.output / "images.zarr/A/02").exists()


def test_options_that_cannot_be_met_are_refused_before_anything_is_written(tiny):
    with pytest.raises(UsageError, match="did you mean 'threads'"):
        tiny(cluster="thread")
    with pytest.raises(UsageError, match="thread cannot be stopped"):
        tiny(timeout_s=5)
    assert not tiny.output.exists()
