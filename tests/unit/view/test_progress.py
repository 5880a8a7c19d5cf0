"""What a user sees while a run goes."""

import io

from rich.console import Console

from hcsflow.journal import Event
from hcsflow.view.progress import RunProgress, Tally


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
        "1/12 wells done (17 %) · 1 failed · 1 running · 4 done already · "
        "2 wells/min · about 5 min 00 s left"
    )
    assert "\x1b" not in stream.getvalue()


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
