"""What a user sees while a run goes."""

import io
import time

from rich.console import Console

from hcsflow.journal import Event
from hcsflow.view.progress import NotebookProgress, RunProgress, Tally, notebook_progress
from hcsflow.view.tally import tally_of


class Clock:
    """Time that the test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def _feed(progress, clock, wells, seconds_each):
    progress(Event("run_started", data={"wells": wells, "skipped": 4, "workers": 2}))
    for number in range(wells):
        clock.now += seconds_each
        progress(Event("well_started", f"A{number:02d}"))
        if number == 1:
            progress(Event("well_failed", "A01", {"step": "read", "message": "cut short\nmore"}))
        else:
            progress(Event("well_done", f"A{number:02d}", {"seconds": seconds_each}))


def test_off_a_terminal_it_prints_one_line_a_minute_and_every_failure():
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, width=200)
    with RunProgress(console, clock=clock) as progress:
        _feed(progress, clock, wells=12, seconds_each=20)
    lines = stream.getvalue().splitlines()
    assert "A01 failed at read: cut short" in lines[0]
    assert len(lines) == 1 + 4  # 240 s
    assert lines[1] == (
        "1/12 wells done (17 %) · 1 failed · 1 running · 2 workers · 4 done already · "
        "2 wells/min · about 5 min 00 s left"
    )
    assert "\x1b" not in stream.getvalue()


def test_off_a_terminal_a_run_that_waits_for_workers_says_so_at_once():
    stream, clock = io.StringIO(), Clock()
    with RunProgress(Console(file=stream, width=200), clock=clock) as progress:
        progress(Event("run_started", data={"wells": 3, "workers": 2}))
        progress(Event("workers", data={"count": 0}))
        progress(Event("workers", data={"count": 2}))
    assert stream.getvalue() == "0/3 wells done (0 %) · waiting for workers\n"


def test_on_a_terminal_it_shows_a_bar():
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, width=120, force_terminal=True)
    with RunProgress(console, clock=clock) as progress:
        _feed(progress, clock, wells=3, seconds_each=1)
    assert "2/3 wells done (100 %)" in stream.getvalue()


def test_rate_follows_the_latest_wells():
    tally = Tally()
    tally.add(Event("run_started", data={"wells": 200}), 0.0)
    for i in range(1, 41):
        tally.add(Event("well_done", f"w{i}"), float(i))  # 1 well/s
    for i in range(41, 81):
        tally.add(Event("well_done", f"w{i}"), 40 + (i - 40) * 10.0)  # 0.1 well/s
    assert tally.rate(440.0) == 0.1
    assert round(tally.seconds_left(440.0)) == 1200


def test_nothing_to_do_is_not_a_division_by_zero():
    tally = Tally()
    tally.add(Event("run_started", data={"wells": 0, "skipped": 8}), 0.0)
    assert tally.line(1.0) == "nothing to do: 8 wells done already"


def _through_steps(take, well):
    take(Event("well_started", well))
    for step in ("smooth", "label"):
        take(Event("step", well, {"step": step}))
        take(Event("step_done", well, {"step": step, "seconds": 0.25}))


def test_on_a_terminal_each_step_has_a_bar_with_its_measured_time():
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, width=120, force_terminal=True)
    with RunProgress(console, clock=clock) as progress:
        progress(Event("run_started", data={"wells": 2, "skipped": 0}))
        _through_steps(progress, "A01")
        progress(Event("well_done", "A01", {"seconds": 0.6}))
        progress(Event("well_started", "A02"))
        progress(Event("step", "A02", {"step": "smooth"}))
    shown = stream.getvalue()
    assert "smooth  1/2 through · 1 at it · 0.25 s/well" in shown
    assert "label   1/2 through · 0.25 s/well" in shown


def test_off_a_terminal_a_line_comes_also_where_nothing_happens():
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, width=200)
    with RunProgress(console, interval_s=0.05, clock=clock) as progress:
        progress(Event("run_started", data={"wells": 2, "skipped": 0}))
        progress(Event("workers", data={"count": 0}))
        clock.now += 3600
        end = time.monotonic() + 20
        while not stream.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    assert stream.getvalue() == "0/2 wells done (0 %) · waiting for workers\n"


class Shown:
    """Stands for a place in a notebook."""

    def __init__(self):
        self.pages = []

    def __call__(self, html):
        self.pages.append(html)
        return self

    update = __call__


def test_in_a_notebook_one_place_is_updated_and_nothing_is_markup():
    shown, clock = Shown(), Clock()
    with NotebookProgress(shown, clock=clock) as progress:
        progress(Event("run_started", data={"wells": 2, "skipped": 0, "workers": 1}))
        _through_steps(progress, "A01")
        progress(Event("well_done", "A01", {"seconds": 0.6}))
        progress(Event("well_failed", "A02", {"message": "<script>", "step": "label"}))
    assert shown.pages[0] == "<div>starting …</div>"
    last = shown.pages[-1]
    assert '<progress value="2" max="2">' in last
    assert "label   1/2 through · 0.25 s/well" in last
    assert "A02 failed at label: &lt;script&gt;" in last
    assert "<script" not in last
    assert len(shown.pages) < 6  # events come faster than anybody reads


def test_outside_a_notebook_there_is_no_place_for_it():
    assert notebook_progress() is None


def test_steps_are_counted_once_also_where_no_worker_told_of_them():
    tally = Tally()
    steps = {"read": 0.1, "smooth": 1.0, "label": 3.0}
    tally.add(Event("step_done", "A01", {"step": "smooth", "seconds": 1.0}), 1.0)
    for number, well in enumerate(("A01", "A02"), 2):
        tally.add(Event("well_done", well, {"seconds": 4.2, "steps": steps}), float(number))
    through = {name: (step.through, step.seconds) for name, step in tally.steps.items()}
    assert through == {"smooth": (2, 2.0), "label": (2, 6.0)}


def test_a_log_tells_how_far_its_latest_run_is():
    def line(second, kind, well=None, **data):
        return {"time": f"2026-01-01T00:00:{second:02d}+00:00", "kind": kind, "well": well, **data}

    lines = [
        line(0, "run_started", wells=9, skipped=0),
        line(1, "well_done", "A01"),
        line(2, "run_started", wells=3, skipped=1, host="here", epoch=4),
        line(3, "cluster_started", dashboard="http://127.0.0.1:1/status", tunnel=None),
        line(4, "well_started", "A02"),
        line(12, "well_done", "A02"),
        line(13, "step", "A03", step="label"),
        line(14, "log", level="WARNING"),
    ]
    tally, begun = tally_of(lines)
    assert (tally.total, tally.done, tally.running) == (3, 1, {"A03": "label"})
    assert begun["epoch"] == 4
    assert tally.rate(tally.started + 20) == 0.05
    assert tally.dashboard == "http://127.0.0.1:1/status"
    assert tally_of([]) == (Tally(), {})
