"""Well names, plate sizes, plane names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.errors import PlateError
from hcsflow.plate.names import (
    STANDARD_PLATES,
    PlaneName,
    canonical_well,
    column_label,
    format_plane_name,
    parse_plane_name,
    parse_well,
    plate_labels,
    row_index,
    row_label,
    well_name,
)

ROWS, COLUMNS = st.integers(0, 31), st.integers(0, 47)
INDEX = st.integers(0, 2000)


@given(row=ROWS, column=COLUMNS)
def test_a_well_name_and_its_place_are_one_to_one(row, column):
    name = well_name(row, column)
    assert parse_well(name) == (row, column)
    assert canonical_well(name) == name


@given(row=ROWS, column=COLUMNS)
def test_padding_and_case_do_not_matter(row, column):
    loose = f" {row_label(row).lower()}{column + 1} "
    assert parse_well(loose) == (row, column)


@pytest.mark.parametrize("size", STANDARD_PLATES)
def test_the_corners_of_every_plate(size):
    rows, columns = size
    corners = [(r, c) for r in (0, rows - 1) for c in (0, columns - 1)]
    assert [parse_well(well_name(*corner)) for corner in corners] == corners
    names = {well_name(r, c) for r in range(rows) for c in range(columns)}
    assert len(names) == rows * columns
    labels = plate_labels(names, size)
    assert tuple(map(len, labels)) == size
    assert {r + c for r in labels[0] for c in labels[1]} == names


def test_rows_past_z_go_on_with_two_letters():
    assert [row_label(i) for i in (25, 26, 31)] == ["Z", "AA", "AF"]
    assert row_index("ab") == 27


@pytest.mark.parametrize(
    "name", ["", "A", "A0", "A00", "01", "A49", "AG01", "ZZ1", "BA1", "A1B", "A-1", "Ä1"]
)
def test_what_is_no_well_is_refused_by_name(name):
    with pytest.raises(PlateError, match=repr(name)):
        parse_well(name)


@pytest.mark.parametrize(("call", "value"), [(row_label, 32), (row_label, -1), (column_label, 48)])
def test_indices_off_any_plate_are_refused(call, value):
    with pytest.raises(PlateError, match=str(value)):
        call(value)


@given(row=ROWS, column=COLUMNS, indices=st.tuples(INDEX, INDEX, INDEX, INDEX))
def test_a_plane_name_says_which_plane(row, column, indices):
    plane = PlaneName(well_name(row, column), *indices)
    assert parse_plane_name(format_plane_name(plane)) == plane


def test_plane_names_count_from_one():
    assert format_plane_name(PlaneName("b3", 11, 0, 2, 0)) == "B03_s012_w1_z003_t001"


@pytest.mark.parametrize(
    "text",
    ["B03_s000_w1_z001_t001", "B03_s1_w1_z1_t1", "B03_s001_w1_z001", "x_B03_s001_w1_z001_t001"],
)
def test_other_plane_names_are_refused(text):
    with pytest.raises(PlateError, match="plane name"):
        parse_plane_name(text)


def test_negative_indices_have_no_plane_name():
    with pytest.raises(PlateError):
        format_plane_name(PlaneName("A01", -1, 0, 0, 0))


@pytest.mark.parametrize(
    ("wells", "size", "expected"),
    [
        (["E07", "E08"], None, (8, 12)),
        (["A13"], None, (16, 24)),
        (["I01"], None, (16, 24)),
        (["AA01"], None, (32, 48)),
        (["A01"], (2, 3), (2, 3)),
        (["C04"], (2, 3), (8, 12)),
        ([], None, (8, 12)),
        (["A01"], (99, 99), (8, 12)),
    ],
)
def test_the_plate_is_what_the_index_says_or_the_smallest_that_holds_all(wells, size, expected):
    rows, columns = plate_labels(wells, size)
    assert (len(rows), len(columns)) == expected
