"""The manifest: columns in, columns out, small, picklable."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.errors import PlateError
from hcsflow.plate import Manifest, PlaneColumns, PlaneKey, PlaneRow

KEYS = st.lists(st.tuples(*[st.integers(0, 3)] * 5), unique=True, max_size=40)


def rows_for(keys):
    return [
        PlaneRow(*key, folder=f"ZStep_{key[4] + 1}" if key[4] else "", name=f"{n}.tif",
                 nbytes=n, mtime_ns=10**18 + n)
        for n, key in enumerate(keys)
    ]  # fmt: skip


@given(keys=KEYS)
def test_every_plane_is_found_again_whatever_the_order(keys):
    rows = rows_for(keys)
    manifest = Manifest.from_rows("/plate", rows)
    assert manifest == Manifest.from_rows("/plate", rows[::-1])
    assert [key for key, _ in manifest] == [PlaneKey(0, *key) for key in sorted(keys)]
    for row in rows:
        place = manifest.well_planes(row.well)[PlaneKey(0, *row[:5])]
        expected = f"{row.folder}/{row.name}" if row.folder else row.name
        assert manifest.path(place) == expected
        assert manifest.nbytes[place] == row.nbytes
        assert manifest.mtime_ns[place] == row.mtime_ns


@given(keys=KEYS)
def test_wells_partition_the_planes(keys):
    manifest = Manifest.from_rows("/plate", rows_for(keys))
    found = [row for well in range(-1, 6) for row in manifest.rows_of(well)]
    assert found == list(range(len(keys)))


def test_a_pickled_manifest_is_the_same():
    manifest = Manifest.from_rows(
        "/plate", rows_for([(0, 0, 0, 0, 0), (2, 0, 0, 0, 1)]), absent=3, ignored=(("thumb", 2),)
    )
    manifest.rows_of(0)
    again = pickle.loads(pickle.dumps(manifest))
    assert again == manifest
    assert again.rows_of(2) == range(1, 2)
    assert again != Manifest.from_rows("/elsewhere", [])


def test_names_that_are_no_utf8_survive():
    name = b"A01_s1_\xe9.tif".decode("utf-8", "surrogateescape")
    manifest = Manifest.from_rows("/plate", [PlaneRow(0, 0, 0, 0, 0, "", name, 1, 1)])
    assert manifest.name(0) == name


def test_two_files_for_a_plane_are_refused():
    row = rows_for([(0, 0, 0, 0, 0)])[0]
    with pytest.raises(PlateError, match="same plane"):
        Manifest.from_rows("/plate", [row, row._replace(name="other.tif")])


def test_columns_cannot_be_changed():
    manifest = Manifest.from_rows("/plate", rows_for([(0, 0, 0, 0, 0)]))
    with pytest.raises(ValueError, match="read-only"):
        manifest.keys[0, 0] = 1


def test_a_large_plate_stays_small():
    shape = (384, 9, 5, 4, 5)
    count = int(np.prod(shape))
    order = np.random.default_rng(0).permutation(count)
    keys = np.stack(np.unravel_index(order, shape), axis=1).astype(np.int32)
    names = ["Plate_P24_s9_w4_0123456789.tif"] * count
    columns = PlaneColumns(keys, np.zeros(count, np.int32), ["a"], names, order, order)
    tracemalloc.start()
    manifest = Manifest.from_columns("/plate", columns)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manifest) == 345_600
    assert held < 60e6
    assert peak < 150e6
    assert len(manifest.rows_of(383)) == 900
    assert manifest.keys[:, 0].tolist() == sorted(manifest.keys[:, 0].tolist())
