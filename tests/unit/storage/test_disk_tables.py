"""Tables on disk: the index and text come back, or saving says that they would not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcsflow.errors import UsageError
from hcsflow.storage import ChecksumBackend
from hcsflow.storage.disk import DiskStorageBackend

TABLE = pd.DataFrame({"well": ["A01", "A01", "B02"], "area": [1.5, 2.5, 4.0]})
INDEXED = {
    "named": TABLE.groupby("well").mean(),
    "levels": TABLE.groupby(["well", "area"]).size().to_frame("count"),
    "filtered": TABLE[TABLE.area > 2],
    "named_default": TABLE.rename_axis("row"),
}


@pytest.fixture
def disk(tmp_path):
    return DiskStorageBackend(tmp_path)


@pytest.mark.parametrize("kind", INDEXED)
def test_parquet_keeps_the_index(disk, kind):
    disk.save(INDEXED[kind], "t.parquet")
    pd.testing.assert_frame_equal(disk.load("t.parquet"), INDEXED[kind])


@pytest.mark.parametrize("kind", INDEXED)
def test_csv_refuses_an_index_that_would_not_come_back(disk, tmp_path, kind):
    with pytest.raises(UsageError, match="index") as caught:
        disk.save(INDEXED[kind], "t.csv")
    assert "reset_index()" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
    disk.save(INDEXED[kind].reset_index(), "t.csv")
    assert disk.load("t.csv").shape == INDEXED[kind].reset_index().shape


def test_an_empty_table_has_no_index_of_its_own(disk):
    disk.save(TABLE[TABLE.area > 9], "t.csv")
    assert list(disk.load("t.csv")) == ["well", "area"]


def test_text_in_csv_stays_text(disk):
    table = pd.DataFrame(
        {
            "well": ["NA", "A01", None],
            "id": ["001", None, "010"],
            "quoted": ["007", "a,b", 'say "nan"'],
            "note": ["null", "None", "nan"],
            "void": [None, None, None],
            "area": [1.5, np.nan, np.inf],
            "count": [1, 2, 3],
            "is_dead": [True, False, True],
        }
    )
    disk.save(table, "t.csv")
    found = disk.load("t.csv")
    assert found.well.tolist()[:2] == ["NA", "A01"]
    assert found.id.tolist()[::2] == ["001", "010"]
    assert found.quoted.tolist() == table.quoted.tolist()
    assert found.note.tolist() == table.note.tolist()
    assert found.isna().sum().to_dict() == table.isna().sum().to_dict()
    assert found[["area", "count", "is_dead"]].equals(table[["area", "count", "is_dead"]])


def test_numbers_that_other_programs_write_are_numbers(disk, tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c,d\n1,nan,0.5,nan\nNaN,nan,-0.5,007\n\n3,,1e3,1\n")
    found = disk.load("t.csv")
    assert found.a.dtype == found.b.dtype == found.c.dtype == np.float64
    assert found.a.tolist()[::2] == [1, 3]
    assert found.b.isna().all()
    assert found.d.tolist() == ["nan", "007", "1"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=5))
def test_floats_come_back_exactly(disk, values):
    table = pd.DataFrame({"x": [*values, 0.5]})
    disk.save(table, "t.csv", overwrite=True)
    assert disk.load("t.csv").x.tolist()[-1] == 0.5
    assert np.array_equal(disk.load("t.csv").x, table.x, equal_nan=True)


@pytest.mark.parametrize("kind", ["named", "levels", "filtered"])
def test_a_damaged_index_is_found(disk, kind):
    checked, table = ChecksumBackend(disk), INDEXED[kind]
    checked.save(table, "t.parquet")
    assert checked.verify().is_sound
    disk.save(table.set_axis(table.index[::-1]), "t.parquet", overwrite=True)
    assert list(checked.verify().damaged) == ["t.parquet"]
