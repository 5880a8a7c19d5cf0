"""Rows of tables: with and without pandas they are the same, to the type."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hcsflow.materialize import as_table
from hcsflow.materialize.rows import join_rows, rows_of


@dataclass
class Cell:
    label: int
    area: float
    kind: str


def by_pandas(*parts):
    frames = pd.concat([as_table(part) for part in parts], ignore_index=True)
    return stripped(pa.Table.from_pandas(frames, preserve_index=False))


def joined(*parts):
    return join_rows([rows_of(part) for part in parts]).replace_schema_metadata(None)


def stripped(table):
    """Return a table as it is stored; text of one type, whatever the version of pandas."""
    kinds = [pa.string() if kind == pa.large_string() else kind for kind in table.schema.types]
    return table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True))))


def is_plain(rows):
    return all(isinstance(column, np.ndarray) for column in rows.columns.values())


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
CELLS = {
    "int": st.integers(-(2**70), 2**70) | st.integers(-3, 3),
    "float": st.floats(),
    "float64": st.floats().map(np.float64),
    "text": TEXT,
    "bool": st.booleans(),
    "small int": st.integers(-3, 3).map(np.int16),
    "anything": st.none() | st.integers(-3, 3) | st.floats() | TEXT | st.booleans(),
}
ARRAYS = st.sampled_from(["?", "u1", "i2", "u4", "i8", "u8", "f4", "f8", "f2", ">i4", "M8[s]"])


@st.composite
def tables(draw, kinds):
    """Return columns of one length."""
    count = draw(st.integers(0, 3))
    columns = {}
    for number, kind in enumerate(kinds):
        if kind in CELLS:
            column = st.lists(CELLS[kind], min_size=count, max_size=count)
            columns[f"c{number}"] = draw(column | column.map(tuple) | CELLS[kind])
        else:
            columns[f"c{number}"] = draw(hnp.arrays(kind, count))
    return columns


KINDS = st.lists(st.sampled_from(list(CELLS)) | ARRAYS, min_size=1, max_size=4)
PARTS = KINDS.flatmap(lambda kinds: st.lists(tables(kinds), min_size=1, max_size=3))


@given(PARTS)
@pytest.mark.filterwarnings("ignore:The behavior of .*concatenation with empty:FutureWarning")
def test_columns_become_what_pandas_makes_of_them(parts):
    try:
        expected = by_pandas(*parts)
    except (pa.ArrowException, OverflowError) as error:
        with pytest.raises(type(error)):
            joined(*parts)
        return
    found = joined(*parts)
    assert found.schema == expected.schema
    assert found.equals(expected)


@pytest.mark.parametrize(
    "data",
    [
        {"x": [1, 2], "y": np.array([3, 4], np.uint32), "well": "A01", "is_edge": [True, False]},
        {"count": 3},
        {"n": [np.int64(1), np.int64(2)], "is_edge": np.bool_(True), "at": [0.5, 1.5]},
        {"x": np.zeros(0), "n": np.zeros(0, np.int64)},
        [Cell(1, 2.5, "a"), {"label": 2, "area": float("nan"), "kind": "µ"}],
        Cell(1, 2.5, "a"),
    ],
)
def test_numbers_and_text_need_no_pandas(data):
    rows = rows_of(data)
    assert is_plain(rows)
    assert joined(data, data).equals(by_pandas(data, data))
    assert rows.count == len(as_table(data))


@pytest.mark.parametrize(
    "data",
    [
        pd.DataFrame({"x": pd.Categorical(["a", "b"])}, index=pd.Index([5, 6], name="n")),
        {"x": [1, None]},
        {"x": [1, "a"]},
        [{"x": 1}, {"y": 2}],
        {1: [2]},
        [],
        {},
        pd.DataFrame(index=range(3)),
    ],
)
def test_the_rest_is_left_to_pandas(data):
    assert rows_of(data).count == len(as_table(data))
    try:
        expected = by_pandas(data)
    except pa.ArrowException as error:
        with pytest.raises(type(error)):
            joined(data)
        return
    assert joined(data).equals(expected)


def test_parts_of_different_types_are_widened():
    whole, half = rows_of({"x": [1, 2]}), rows_of({"x": [0.5]})
    assert join_rows([whole, half]).to_pydict() == {"x": [1.0, 2.0, 0.5]}
    other = join_rows([whole, rows_of({"y": ["a"]})])
    assert other.to_pylist() == [{"x": 1, "y": None}, {"x": 2, "y": None}, {"x": None, "y": "a"}]


def test_what_a_function_does_with_its_arrays_afterwards_changes_no_row():
    areas = np.array([1, 2])
    rows = rows_of({"area": areas})
    areas[:] = 0
    assert rows.columns["area"].tolist() == [1, 2]


def test_pandas_is_not_loaded_for_plain_rows(tmp_path):
    script = """
import sys, numpy as np
from hcsflow.materialize.rows import join_rows, rows_of
from hcsflow.storage.tables import roi_tables, write_roi_table, write_table
from pathlib import Path
rows = rows_of({"kind": ["a"], "n": np.array([1.5]), "is_edge": [True]})
write_table(Path(sys.argv[1]), "cells", join_rows([rows, rows]))
regions = {"FieldIndex": ("FOV_1",), "x_micrometer": (1.0,), "x_micrometer_original": (None,)}
write_roi_table(Path(sys.argv[1]), "FOV_ROI_table", regions)
assert "pandas" not in sys.modules and "pyarrow.compute" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "0")], check=True, timeout=60)
