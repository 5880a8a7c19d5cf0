"""Records on disk: read back as written, absent when torn."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcsflow.journal import (
    ControlFolder,
    JournalEntry,
    ObjectRecord,
    Outcome,
    clear_failure,
    read_entries,
    read_entry,
    read_failures,
    write_entry,
    write_failure,
    write_text_atomic,
)

text = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
outcomes = st.builds(
    Outcome,
    well=st.sampled_from(["A01", "AF48"]),
    segment=text,
    status=st.sampled_from(["done", "failed", "crashed"]),
    message=st.none() | text,
    step_seconds=st.lists(st.tuples(text, numbers), max_size=3).map(tuple),
    outputs=st.lists(text, max_size=2).map(tuple),
)
entries = st.builds(
    JournalEntry,
    well=st.just("B03"),
    output=st.sampled_from(["", "01_smooth"]),
    fingerprint=text,
    attempt=st.integers(0, 5),
    epoch=st.integers(0, 9),
    objects=st.lists(st.builds(ObjectRecord, text, st.integers(0, 2**40), text), max_size=3).map(
        tuple
    ),
    outcome=outcomes,
    time=text,
)


@settings(max_examples=30)
@given(entry=entries, failure=outcomes)
def test_records_come_back_as_they_were_written(tmp_path_factory, entry, failure):
    control = ControlFolder(tmp_path_factory.mktemp("out"))
    write_entry(control, entry)
    write_failure(control, failure)
    assert read_entry(control, entry.output, "B03") == entry
    assert read_entries(control, entry.output) == {"B03": entry}
    assert read_failures(control) == [failure]
    clear_failure(control, failure.well)
    assert read_failures(control) == []


@pytest.fixture
def control(tmp_path: Path) -> ControlFolder:
    return ControlFolder(tmp_path)


def test_a_record_cut_anywhere_reads_as_absent(control):
    outcome = Outcome("A01", "all", "done", step_seconds=(("read", 1.0),))
    entry = JournalEntry("A01", "", "f", 0, 1, (ObjectRecord("p", 1, "c"),), outcome, "t")
    write_entry(control, entry)
    path = control.entry("", "A01")
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:size])
        assert read_entry(control, "", "A01") is None
    path.write_text(json.dumps({"well": "A01"}))
    assert read_entry(control, "", "A01") is None


def test_a_later_versions_fields_are_left_aside(control):
    outcome = Outcome("A01", "all", "failed")
    control.failures.mkdir(parents=True)
    value = dataclasses.asdict(outcome) | {"moon": "full"}
    control.failure("A01").write_text(json.dumps(value))
    assert read_failures(control) == [outcome]


def test_a_failed_write_leaves_the_old_text_and_no_draft(tmp_path):
    path = tmp_path / "note.json"
    write_text_atomic(path, "old")
    with pytest.raises(TypeError):
        write_text_atomic(path, 5)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["note.json"]
