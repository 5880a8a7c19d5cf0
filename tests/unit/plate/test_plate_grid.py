"""Mosaic grids from positions and by number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.plate.grid import grid_by_number, grid_from_positions, overlap_px

FIELD = (332.8, 332.8)


@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    jitter=st.lists(st.floats(-2, 2), min_size=50, max_size=50),
    overlap=st.floats(0, 0.4),
    data=st.data(),
)
def test_jittering_fields_find_their_cells_in_any_order(rows, columns, jitter, overlap, data):
    cells = data.draw(st.permutations([(r, c) for r in range(rows) for c in range(columns)]))
    pitch = FIELD[0] * (1 - overlap)
    positions = [
        (4e4 + r * pitch + jitter[2 * i], 8e4 + c * pitch + jitter[2 * i + 1])
        for i, (r, c) in enumerate(cells)
    ]
    grid = grid_from_positions(positions, field_um=FIELD, origin="test")
    assert grid is not None
    assert (grid.rows, grid.columns, grid.cells) == (rows, columns, tuple(cells))


def test_the_size_of_a_field_need_not_be_known():
    positions = [(0.1, 700), (0, 0), (699.9, 0.2), (700.2, 700)]
    grid = grid_from_positions(positions, field_um=None, origin="test")
    assert grid is not None
    assert grid.cells == ((0, 1), (0, 0), (1, 0), (1, 1))


@pytest.mark.parametrize(
    "positions",
    [
        [(0, 0), (0, 0)],
        [(0, 0), (1, 1)],
        [(0, 0), (400, 400), (800, 800)],
        [],
    ],
    ids=["same place", "within jitter", "scattered", "none"],
)
def test_what_is_no_grid_is_none(positions):
    assert grid_from_positions(positions, field_um=FIELD, origin="test") is None


@pytest.mark.parametrize(
    ("fields", "shape"),
    [(1, (1, 1)), (2, (1, 2)), (3, (2, 2)), (4, (2, 2)), (6, (2, 3)), (9, (3, 3))],
)
def test_by_number_is_near_square_and_row_by_row(fields, shape):
    grid = grid_by_number(fields)
    assert (grid.rows, grid.columns) == shape
    assert list(grid.cells) == sorted(set(grid.cells))
    assert len(grid.cells) == fields


@pytest.mark.parametrize(
    ("pitch_um", "overlap"), [(320.0, 12.8), (332.79, 0.0), (332.8, 0.0), (400.0, 0.0)]
)
def test_overlap_is_measured_in_pixels(pitch_um, overlap):
    positions = [(0.0, 0.0), (0.0, pitch_um / 0.65 * 0.65)]
    grid = grid_from_positions(positions, field_um=FIELD, origin="test")
    assert grid is not None
    found = overlap_px(grid, positions, shape_yx=(512, 512), pixel_size_um=0.65)
    assert found == pytest.approx(overlap and 512 - pitch_um / 0.65, abs=0.1)


def test_one_field_overlaps_nothing():
    grid = grid_by_number(1)
    assert overlap_px(grid, [(0, 0)], shape_yx=(8, 8), pixel_size_um=1) is None
