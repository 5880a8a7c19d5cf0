"""Special values in files: what comes back, what is refused, what damage does."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hcsflow.errors import HcsflowError
from hcsflow.graph.values import DATA, DOCUMENT, ValueReader, ValueWriter
from hcsflow.storage.objects import file_checksum


def there_and_back(folder, *values):
    writer = ValueWriter(folder)
    for n, value in enumerate(values):
        writer.add({"n": n}, value)
    stored = writer.close()
    for item in stored:
        path = folder / item.path
        assert (item.nbytes, item.checksum) == (path.stat().st_size, file_checksum(path))
    reader = ValueReader(folder)
    assert [facts["n"] for facts, _ in reader.items] == list(range(len(values)))
    return [reader.value(document) for _, document in reader.items]


ARRAYS = hnp.arrays(
    st.one_of(hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes()),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()
)  # fmt: skip
VALUES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(PLAIN | st.tuples(st.integers(), st.text()), inner, max_size=3)
    ),
    max_leaves=6,
)


def is_same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and (
            one.tobytes() == other.tobytes()
        )  # fmt: skip
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(is_same, one.values(), other.values()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other


@given(value=VALUES)
def test_values_come_back_as_they_were(tmp_path_factory, value):
    (back,) = there_and_back(tmp_path_factory.mktemp("values"), value)
    assert is_same(back, value)


def test_numbers_of_numpy_keep_their_type(tmp_path):
    values = np.float32(1.5), np.int64(7), np.bool_(True), float("inf")
    assert [(type(v), v) for v in there_and_back(tmp_path, *values)] == [
        (type(v), v) for v in values
    ]


def test_tables_come_back_with_types_names_and_index(tmp_path):
    frame = pd.DataFrame(
        {"n": np.array([1, 2], np.uint16), "name": ["a", None], "list": [[1.0], [2.0, 3.0]]},
        index=pd.Index([5, 6], name="object"),
    )
    frame["kind"] = pd.Categorical(["x", "y"])
    plain = pd.DataFrame(np.eye(2))
    back, empty, numbered = there_and_back(tmp_path, frame, frame.iloc[:0], plain)
    pd.testing.assert_frame_equal(back.drop(columns="list"), frame.drop(columns="list"))
    assert [list(cell) for cell in back["list"]] == [[1.0], [2.0, 3.0]]
    pd.testing.assert_frame_equal(numbered, plain)
    assert list(empty.columns) == list(frame.columns)
    assert list(empty["kind"].cat.categories) == ["x", "y"]


def test_cells_of_objects_come_back_each_with_its_type(tmp_path):
    cells = {
        "number": [1, 2],
        "mixed": [1, "x"],
        "lost": [np.nan, None],
        "name": ["a", np.nan],
        "pair": [(1, 2), (3,)],
        "dict": [{"b": 1, "a": 2}, {"a": 1}],
        "truth": [True, np.bool_(False)],
        "complex": ["1j", 1.5],
    }
    frame = pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in cells.items()})
    frame.index = pd.Index([3, 3])
    (back,) = there_and_back(tmp_path, frame)
    assert repr(back.to_dict("list")) == repr(frame.to_dict("list"))
    assert [[type(c) for c in back[name]] for name in cells] == [
        [type(c) for c in frame[name]] for name in cells
    ]
    assert back.to_csv() == frame.to_csv()
    pd.testing.assert_index_equal(back.index, frame.index)


def test_arrays_come_back_read_only_and_long_ones_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("hcsflow.graph.values.BLOCK_BYTES", 1000)
    image = np.arange(5000, dtype=np.uint32).reshape(5, 1000)
    (back,) = there_and_back(tmp_path, image)
    np.testing.assert_array_equal(back, image)
    assert not back.flags.writeable


def test_arrays_of_other_libraries_come_back_in_their_own(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    (back,) = there_and_back(tmp_path, {"t": tensor})
    assert back["t"].dtype == torch.bfloat16
    assert torch.equal(back["t"], tensor)


class Thing:
    pass


@pytest.mark.parametrize(
    "value",
    [
        Thing(),
        [1, {"a": Thing()}],
        {Thing()},
        np.array([Thing()]),
        b"raw",
        np.ma.zeros(2),
        len,
        pd.DataFrame({"a": [Thing()]}),
        pd.DataFrame({"a": [1], 3: [2]}),
        pd.DataFrame([[1]], columns=[None]),
        pd.DataFrame([[1, 2]], columns=[True, False]),
        pd.DataFrame([[1, 2]], columns=pd.CategoricalIndex(["a", "b"])),
    ],
)
def test_what_would_need_a_pickle_is_refused(tmp_path, value):
    writer = ValueWriter(tmp_path)
    with pytest.raises(TypeError):
        writer.add({}, value)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_the_same_values_give_the_same_bytes(tmp_path):
    value = {"image": np.arange(99), "rows": pd.DataFrame({"a": [1, 2]})}
    for name in ("one", "two"):
        there_and_back(tmp_path / name, value)
    for name in (DATA, DOCUMENT):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_damage_is_named(tmp_path):
    there_and_back(tmp_path, np.arange(9))
    data = bytearray((tmp_path / DATA).read_bytes())
    data[3] ^= 255
    (tmp_path / DATA).write_bytes(bytes(data))
    reader = ValueReader(tmp_path)
    with pytest.raises(HcsflowError, match=r"values\.data.*checksum"):
        reader.value(reader.items[0][1])
    (tmp_path / DATA).unlink()
    with pytest.raises(HcsflowError, match=r"values\.data"):
        reader.value(reader.items[0][1])
    for torn in ("", "[]", json.dumps({"items": [3]})):
        (tmp_path / DOCUMENT).write_text(torn)
        with pytest.raises(HcsflowError, match=r"values\.json"):
            ValueReader(tmp_path)
