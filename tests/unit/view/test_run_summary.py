"""How the end of a run, its failures and a check read in a terminal."""

import io

import pytest
from rich.console import Console

from hcsflow.view.faults import user_frame
from hcsflow.view.text import render_failures, render_run, render_verify


def shown(renderable):
    stream = io.StringIO()
    Console(file=stream, width=200, highlight=False).print(renderable, soft_wrap=True)
    return stream.getvalue()


def fault(well, **changes):
    return {
        "well": well, "step": "f", "error": "KeyError", "message": "'x'", "file": None,
        "hint": None, "where": "k.py line 4",
    } | changes  # fmt: skip


def run_document(**changes):
    return {
        "output": "OUT", "plate": None, "report": None, "tables": [], "seconds": 1.0, "done": [],
        "skipped": [], "cancelled": [], "failed": [], "rerun": None, "left_out": [], "measured": [],
        "segments": [],
    } | changes  # fmt: skip


def test_one_reason_is_told_once_with_its_kind_and_place():
    failed = [fault(f"A{n:02d}") for n in range(1, 8)]
    text = shown(render_run(run_document(failed=failed)))
    assert text.count("KeyError: 'x' (k.py line 4)") == 1
    assert "A01, A02, A03, A04 and 3 more at f" in text


def test_reasons_that_differ_in_the_file_alone_are_one():
    failed = [
        fault(w, step="read", error="PlaneError", message=f"{w}.tif: cut short", file=f"{w}.tif")
        for w in ("A01", "B02")
    ]
    text = shown(render_run(run_document(failed=failed)))
    assert "A01, B02 at read, for example: A01.tif: cut short" in text
    assert "PlaneError" not in text


def test_many_reasons_take_ten_lines():
    failed = [fault(f"A{n:02d}", message=f"reason {n * 1.5}") for n in range(1, 21)]
    lines = shown(render_run(run_document(failed=failed))).splitlines()
    told = [line for line in lines if "reason " in line and "✗" in line]
    assert len(told) == 9
    assert "… and 11 wells more: hcsflow failures OUT" in lines


@pytest.mark.parametrize(
    ("changes", "head"),
    [
        ({"done": ["A01"]}, "1 well done in 1.0 s"),
        ({"skipped": ["A01", "A02"]}, "nothing to do: 2 wells are done already"),
        ({"skipped": ["A01"]}, "nothing to do: 1 well is done already"),
        ({"done": ["A01"], "skipped": ["A02"]}, "1 well done, 1 done already in 1.0 s"),
    ],
)
def test_counts_read_as_people_say_them(changes, head):
    assert shown(render_run(run_document(**changes))).splitlines()[0] == head


def test_cancelled_and_left_out_wells_are_accounted_for():
    text = shown(render_run(run_document(cancelled=["A02", "A03"], left_out=["B01"])))
    assert "2 wells cancelled: the same command does the rest" in text
    assert "1 stored well (B01) was made with other steps, parameters or storage" in text
    assert "without --wells" in text


def test_no_plate_is_named_where_none_is():
    assert "images.zarr" not in shown(render_run(run_document(failed=[fault("A01")])))


def test_a_traceback_is_shown_when_asked_for():
    document = {"failures": [fault("A01", traceback="Traceback\n  frame")], "rerun": "again"}
    assert "      frame" in shown(render_failures(document))


def test_a_check_of_nothing_does_not_say_that_all_is_well():
    assert "nothing is stored yet" in shown(
        render_verify({"ok": True, "objects": 0, "findings": []})
    )
    finding = {"well": "A01", "kind": "missing", "path": "p", "message": "m"}
    text = shown(render_verify({"ok": False, "objects": 3, "findings": [finding]}))
    assert "1 finding\n" in text


def test_the_last_frame_of_the_users_code_is_found():
    library = "/usr/lib/python3.11/site-packages/numpy/x.py"
    trace = "".join(
        f'  File "{path}", line {line}, in f\n    code\n'
        for line, path in enumerate(["/a/k.py", "/a/helpers.py", library, "<string>"], 1)
    )
    assert user_frame(trace) == "helpers.py line 2"
    assert user_frame(None) is None
    assert user_frame(f'  File "{library}", line 1, in f\n') is None
