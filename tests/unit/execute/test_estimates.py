"""Measured figures: what is kept of finished wells, and what they say of the rest."""

import json

import pytest

from hcsflow.execute.estimates import (
    Measurements,
    estimate,
    measured_units,
    read_estimates,
    seconds_for,
    seconds_left,
    write_estimates,
)
from hcsflow.journal import ControlFolder, JournalEntry, Outcome, write_entry, write_text_atomic
from hcsflow.pipeline import FunctionStep
from hcsflow.session.plan import compile as compile_plan
from hcsflow.session.plate import open_plate
from hcsflow.testing.plates import write_imagexpress_plate

WELLS = ("A01", "A02", "A03", "A04")


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    root = tmp_path_factory.mktemp("plate") / "PLATE"
    write_imagexpress_plate(root, wells=WELLS, fields=1, channels=1, z=2, size=64)
    return open_plate(root)


def plan_of(plate, output, *, sigma=1.0, checkpoint=False, wells=None):
    steps = [
        FunctionStep("gaussian_filter", sigma=sigma, name="smooth", force_disk_output=checkpoint),
        FunctionStep("max_projection", name="project"),
    ]
    return compile_plan(steps, plate, output=output, wells=wells, workers=1).frozen


def outcome(well, seconds, *, peak=0):
    return Outcome(
        well,
        "x",
        "done",
        seconds=seconds,
        step_seconds=(("read", 0.1), ("smooth", seconds - 0.2), ("write", 0.1)),
        step_peaks=(("smooth", peak),) if peak else (),
        peak_bytes=peak,
        bytes_read=1000,
        bytes_written=400,
    )


def names(plan):
    return tuple(segment.name for segment in plan.segments)


def commit(plan, output, well, seconds, *, only=None, peak=0):
    """Record a well's units as tasks do."""
    for write in plan.writes:
        if only is None or write.output == only:
            entry = JournalEntry(
                well=well,
                output=write.output,
                fingerprint=plan.unit_fingerprint(well, write.output),
                attempt=0,
                epoch=1,
                objects=(),
                outcome=outcome(well, seconds, peak=peak),
                time="",
            )
            write_entry(ControlFolder(output), entry)


def test_a_typical_well_is_the_lower_median_so_that_a_cold_start_does_not_count(plate, tmp_path):
    plan = plan_of(plate, tmp_path)
    measured = {"": [outcome("A01", 9.0, peak=300), outcome("A02", 2.0, peak=200)]}
    [unit] = estimate(plan, measured, workers=2).units
    assert (unit.wells, unit.seconds, unit.longest_seconds) == (2, 2.0, 9.0)
    assert unit.peak_bytes == 300
    assert unit.projected_bytes == plan.projected_bytes
    steps = {step.name: step for step in unit.steps}
    assert list(steps) == ["read", "smooth", "project", "write"]
    assert steps["smooth"].peak_bytes == 300
    assert steps["smooth"].projected_bytes == plan.steps[0].projected_bytes


def test_what_is_left_is_shared_by_the_workers_and_no_shorter_than_a_well(plate, tmp_path):
    plan = plan_of(plate, tmp_path)
    found = estimate(plan, {"": [outcome("A01", 3.0)]}, workers=1)
    todo = dict.fromkeys(WELLS, names(plan))
    assert seconds_for(found, plan, todo, workers=2) == 6.0
    assert seconds_for(found, plan, todo, workers=100) == 3.0
    assert seconds_for(found, plan, dict.fromkeys(WELLS, ()), workers=2) == 0.0
    assert seconds_for(None, plan, todo, workers=2) is None


def test_only_what_is_owed_counts_where_a_checkpoint_stands(plate, tmp_path):
    plan = plan_of(plate, tmp_path, checkpoint=True)
    first, second = names(plan)
    checkpoint = plan.writes[0].output
    measured = {checkpoint: [outcome("A01", 5.0)], "": [outcome("A01", 1.0)]}
    found = estimate(plan, measured, workers=1)
    todo = {"A01": (), "A02": (second,), "A03": (first, second)}
    assert seconds_for(found, plan, todo, workers=1) == 7.0
    half = estimate(plan, {"": [outcome("A01", 1.0)]}, workers=1)
    assert seconds_for(half, plan, {"A02": (second,)}, workers=1) == 1.0
    assert seconds_for(half, plan, todo, workers=1) is None


def test_figures_are_of_the_work_not_of_the_wells(plate, tmp_path):
    found = estimate(plan_of(plate, tmp_path), {"": [outcome("A01", 3.0)]}, workers=1)
    assert found.of_plan(plan_of(plate, tmp_path, wells=["A03"]))
    assert not found.of_plan(plan_of(plate, tmp_path, sigma=2.0))


def test_the_file_keeps_what_was_measured_earlier_only(plate, tmp_path):
    before, now = plan_of(plate, tmp_path), plan_of(plate, tmp_path, sigma=2.0)
    write_estimates(tmp_path, estimate(before, {"": [outcome("A01", 3.0)]}, workers=1))
    write_estimates(tmp_path, estimate(now, {"": [outcome("A01", 4.0)]}, workers=2))
    found = read_estimates(tmp_path)
    assert found.of_plan(before)[""].seconds == 3.0
    assert found.of_plan(now)[""].seconds == 4.0
    assert found.workers == 2


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": "hcsflow.estimates/9"}', '{"schema": "hcsflow.estimates/1"}'],
)
def test_a_file_that_says_nothing_readable_is_as_none(tmp_path, text):
    write_text_atomic(ControlFolder(tmp_path).estimates, text)
    assert read_estimates(tmp_path) is None


def test_fields_of_a_later_version_are_left_aside(plate, tmp_path):
    plan = plan_of(plate, tmp_path)
    document = json.loads(estimate(plan, {"": [outcome("A01", 3.0)]}, workers=1).to_json())
    document["units"][0]["novelty"] = document["units"][0]["steps"][0]["novelty"] = 1
    write_text_atomic(ControlFolder(tmp_path).estimates, json.dumps(document))
    assert read_estimates(tmp_path).of_plan(plan)[""].seconds == 3.0


def test_a_run_keeps_figures_from_its_first_well_on(plate, tmp_path):
    plan = plan_of(plate, tmp_path)
    measurements = Measurements(plan, tmp_path, workers=2)
    commit(plan, tmp_path, "A01", 3.0)
    assert measurements.add("A01") is None
    assert read_estimates(tmp_path).of_plan(plan)[""].wells == 1
    for well in ("A02", "A03"):
        commit(plan, tmp_path, well, 3.0)
        measurements.add(well)
    measurements.save()
    write_text_atomic(ControlFolder(tmp_path).plan, plan.to_json())
    assert [unit.wells for unit in measured_units(tmp_path)] == [3]


def test_a_peak_over_the_projection_is_told_with_its_step(plate, tmp_path):
    plan = plan_of(plate, tmp_path)
    peak = plan.projected_bytes + 1
    commit(plan, tmp_path, "A01", 3.0, peak=peak)
    told = Measurements(plan, tmp_path, workers=1).add("A01")
    assert told == {
        "step": "smooth",
        "peak_bytes": peak,
        "projected_bytes": plan.projected_bytes,
    }


def test_time_left_is_told_from_the_files_alone(plate, tmp_path):
    plan = plan_of(plate, tmp_path, checkpoint=True)
    write_text_atomic(ControlFolder(tmp_path).plan, plan.to_json())
    assert seconds_left(tmp_path, WELLS) is None
    checkpoint = plan.writes[0].output
    measured = {checkpoint: [outcome("A01", 5.0)], "": [outcome("A01", 1.0)]}
    write_estimates(tmp_path, estimate(plan, measured, workers=2))
    commit(plan, tmp_path, "A02", 5.0, only=checkpoint)
    assert seconds_left(tmp_path, ["A02", "A03"]) == 6.0, "7 s on 2 workers, a well takes 6"
    assert seconds_left(tmp_path, []) == 0.0
