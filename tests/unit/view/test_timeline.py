"""The latest run, laid out from its log."""

from datetime import UTC, datetime

from hcsflow.view.timeline import MAX_BARS, draw_timeline

START = 1_760_000_000.0


def line(at, kind, well=None, **data):
    time = datetime.fromtimestamp(START + at, UTC).isoformat(timespec="milliseconds")
    return {"time": time, "kind": kind, "well": well, **data}


def well(name, start, end, *steps):
    """A well whose steps begin a second after another."""
    yield line(start, "well_started", name)
    for number, step in enumerate(steps, 1):
        yield line(start + number, "step", name, step=step)
    yield line(end, "well_done", name)


def test_a_wells_time_is_parted_by_its_steps():
    drawn = draw_timeline([line(0, "run_started"), *well("A01", 0, 4, "smooth")], ["smooth"])
    titles = [bar.title for bar in drawn.bars]
    assert titles == ["A01: read, 1.0 s", "A01: smooth, 3.0 s"]
    assert [bar.width for bar in drawn.bars] == [drawn.width / 4, 3 * drawn.width / 4]
    assert [name for name, _ in drawn.keys] == ["read", "smooth"]
    assert drawn.seconds == "4.0 s"


def test_a_well_that_told_nothing_is_drawn_from_its_outcome():
    steps = {"write": 1.0, "read": 0.5, "smooth": 2.5}
    log = [line(0, "run_started"), line(9, "well_done", "A01", seconds=4.0, steps=steps)]
    drawn = draw_timeline(log, ["smooth"])
    titles = [bar.title for bar in drawn.bars]
    assert titles == ["A01: read, 500 ms", "A01: smooth, 2.5 s", "A01: write, 1.0 s"]
    assert drawn.seconds == "4.0 s"


def test_wells_at_work_at_a_time_have_rows_of_their_own():
    log = [*well("A01", 0, 4), *well("A02", 1, 3), *well("A03", 5, 6)]
    rows = {bar.title[:3]: bar.row for bar in draw_timeline(log, []).bars}
    assert rows == {"A01": 0, "A02": 1, "A03": 0}


def test_only_the_latest_run_is_shown_and_only_wells_that_ended():
    log = [
        line(0, "run_started"), *well("A01", 0, 4),
        line(9, "run_started"), *well("A02", 10, 12), line(11, "well_started", "A03"),
    ]  # fmt: skip
    assert {bar.title[:3] for bar in draw_timeline(log, []).bars} == {"A02"}


def test_turns_of_one_step_are_one_bar_each_and_too_many_become_one_a_well():
    steps = ["smooth", "count"] * MAX_BARS
    drawn = draw_timeline(well("A01", 0, 10 * MAX_BARS, *steps), ["smooth", "count"])
    assert [bar.title for bar in drawn.bars] == ["A01: all steps, 16 h 40 min"]


def test_a_log_of_no_well_gives_no_timeline():
    assert draw_timeline([line(0, "run_started"), line(1, "well_started", "A01")], []) is None
