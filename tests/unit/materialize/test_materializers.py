from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from hcsflow.contracts import Materializer
from hcsflow.errors import ContractError, PipelineError
from hcsflow.materialize import (
    Json,
    Labels,
    Positions,
    Rois,
    Table,
    as_table,
    call_materializer,
    kind_of,
)
from hcsflow.storage import FileManager, create_storage_registry


@dataclass
class Count:
    slice_index: int
    cells: int


@pytest.fixture
def files():
    return FileManager(create_storage_registry())


@pytest.mark.parametrize(
    ("data", "records"),
    [
        ({"count": 3, "name": "A01"}, [{"count": 3, "name": "A01"}]),
        ({"x": [1, 2], "y": np.array([3, 4])}, [{"x": 1, "y": 3}, {"x": 2, "y": 4}]),
        ({"x": [1, 2], "well": "A01"}, [{"x": 1, "well": "A01"}, {"x": 2, "well": "A01"}]),
        ([{"x": 1}, {"x": 2}], [{"x": 1}, {"x": 2}]),
        (
            [Count(0, 5), Count(1, 6)],
            [{"slice_index": 0, "cells": 5}, {"slice_index": 1, "cells": 6}],
        ),
        (Count(0, 5), [{"slice_index": 0, "cells": 5}]),
        (pd.DataFrame({"x": [1, 2]}, index=[5, 6]), [{"x": 1}, {"x": 2}]),
        (np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), [{"a": 1, "b": 2.0}]),
        ({1: [7]}, [{"1": 7}]),
        ([], []),
        ({}, []),
        ({"x": []}, []),
    ],
)
def test_anything_like_rows_or_columns_is_a_table(data, records):
    table = as_table(data)
    assert table.to_dict("records") == records
    assert list(table.index) == list(range(len(records)))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (3, "cannot make a table of int"),
        ("text", "cannot make a table of str"),
        (np.zeros((2, 2)), "cannot make a table of ndarray"),
        ([1, 2], "row 0 of a table is int"),
        ({"x": [1, 2], "y": [1]}, "equally long, got x: 2, y: 1"),
        ({"x": np.zeros((2, 2))}, "one-dimensional"),
        ({"a": 1, 1: 2, "1": 3}, "twice"),
    ],
)
def test_what_is_no_table(data, says):
    with pytest.raises(ContractError, match=says):
        as_table(data)


def test_the_input_is_not_changed():
    frame = pd.DataFrame({1: [2]}, index=[9])
    as_table(frame)
    assert list(frame.columns) == [1]
    assert list(frame.index) == [9]


def test_typed_materializers_write_files(files, tmp_path):
    base = str(tmp_path / "well" / "result.pkl")
    written = Table("nuclei")(data=[Count(0, 5)], path=base, filemanager=files, backend="disk")
    assert written == str(tmp_path / "well" / "result.csv")
    assert pd.read_csv(written)["cells"].tolist() == [5]
    labels = np.array([[0, 1], [2, 70_000]])
    image = tifffile.imread(Labels()(labels, base, files, "disk"))
    assert image.dtype == np.uint32
    assert np.array_equal(image, labels)
    points = pd.read_csv(Positions()([(1.5, 2.5), (3, 4)], tmp_path / "p", files, "disk"))
    assert points.to_dict("list") == {"index": [0, 1], "y_um": [1.5, 3.0], "x_um": [2.5, 4.0]}
    written = Path(Json()({"n": np.int64(3), "c": Count(1, 2)}, base, files, "disk"))
    assert json.loads(written.read_text()) == {"n": 3, "c": {"slice_index": 1, "cells": 2}}


def test_regions_are_geojson_with_closed_rings(files, tmp_path):
    square = [(0, 0), (0, 4), (3, 4)]
    written = Path(Rois()({"cell": square}, tmp_path / "r", files, "disk"))
    (feature,) = json.loads(written.read_text())["features"]
    assert feature["properties"]["name"] == "cell"
    assert feature["geometry"]["coordinates"] == [[[0, 0], [4, 0], [4, 3], [0, 0]]]
    with pytest.raises(ContractError, match="k >= 3"):
        Rois()([[(0, 0), (1, 1)]], tmp_path / "s", files, "disk")


@pytest.mark.parametrize("ids", [np.zeros((2, 2)), np.array([[-1, 2]]), np.array([[2**33]])])
def test_labels_must_be_ids(files, tmp_path, ids):
    with pytest.raises(ContractError):
        Labels()(ids, tmp_path / "l", files, "disk")


def test_typed_ones_keep_to_the_protocol():
    for made in (Table(), Labels(), Positions(), Rois(), Json()):
        assert isinstance(made, Materializer)
        assert hash(made) == hash(type(made)())
    assert [kind_of(m) for m in (Table(), Labels(), Json(), lambda data, path, fm: path)] == [
        "table",
        "labels",
        "function",
        "function",
    ]


def test_the_three_function_forms(files, tmp_path):
    seen = []

    def plain(data, path, filemanager):
        seen.append((data, filemanager))
        return path + ".a"

    def with_backend(data, path, filemanager, backend):
        seen.append(backend)
        return path + ".b"

    def many(data, path, filemanager, backends, backend_kwargs=None):
        seen.append((backends, backend_kwargs))

    assert call_materializer(plain, 1, "p", files, "disk") == "p.a"
    assert call_materializer(with_backend, 1, "p", files, "disk") == "p.b"
    assert call_materializer(many, 1, "p", files, "zarr") == "p"
    assert seen == [(1, files), "disk", (["zarr"], None)]
    base = str(tmp_path / "t.pkl")
    assert call_materializer(Table(), {"n": 1}, base, files, "disk").endswith("t.csv")


def test_other_functions_are_refused_with_the_forms():
    for func in (lambda data: data, lambda data, path, fm, backend, more: path, "text"):
        with pytest.raises(PipelineError):
            kind_of(func)
    with pytest.raises(PipelineError, match="expected \\(data, path, filemanager\\)"):
        kind_of(lambda data: data)
