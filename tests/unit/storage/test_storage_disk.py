from __future__ import annotations

import os
import pickle
import stat

import numpy as np
import pandas as pd
import pytest
import tifffile

from hcsflow.errors import PathError, PlaneError, UsageError
from hcsflow.storage.disk import DiskStorageBackend

PLANE = np.arange(12, dtype=np.uint16).reshape(3, 4)


@pytest.fixture
def disk(tmp_path):
    return DiskStorageBackend(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.tif", PLANE),
        ("a.TIFF", PLANE),
        ("stack.tif", np.arange(60, dtype=np.float32).reshape(3, 4, 5)),
        ("five.tif", np.arange(120, dtype=np.uint8).reshape(1, 2, 3, 4, 5)),
        ("a.png", PLANE),
        ("a.npy", PLANE),
        ("a", PLANE),
        ("a.json", {"wells": ["A01"], "n": 3, "none": None}),
        ("a.yaml", {"wells": ["A01"], "n": 3}),
        ("a.txt", "µm and ²"),
    ],
)
def test_formats_round_trip(disk, name, value):
    disk.save(value, name)
    found = disk.load(name)
    if isinstance(value, np.ndarray):
        assert found.dtype == value.dtype
        assert np.array_equal(found, value)
    else:
        assert found == value


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t"])
def test_tables_round_trip(disk, name):
    table = pd.DataFrame({"well": ["A01", "B02"], "area_um2": [1.5, 2.25]})
    disk.save(table, name)
    assert disk.load(name).equals(table)


def test_compressed_formats(tmp_path):
    disk = DiskStorageBackend(tmp_path, enable_compression=True)
    plane = np.zeros((200, 200), np.uint16)
    disk.save(plane, "a.tif")
    disk.save({"x": plane}, "a.npz")
    disk.save(pd.DataFrame({"x": np.zeros(1000)}), "a.parquet")
    assert disk.stat("a.tif").nbytes < 2_000
    assert np.array_equal(disk.load("a.tif"), plane)
    assert np.array_equal(disk.load("a.npz")["x"], plane)
    assert len(disk.load("a.parquet")) == 1000


def test_other_programs_read_the_files(disk, tmp_path):
    disk.save(PLANE, "a.tif")
    disk.save(PLANE, "a.npy")
    disk.save("a,b\n1,2\n", "a.csv")
    disk.save('{"a": 1}', "a.json")
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), PLANE)
    assert np.array_equal(np.load(tmp_path / "a.npy"), PLANE)
    assert (tmp_path / "a.csv").read_text() == "a,b\n1,2\n"
    assert (tmp_path / "a.json").read_text() == '{"a": 1}'


def test_tensors_in_numpy_out(disk):
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6).reshape(2, 3)
    for name in ("t.tif", "t.npy", "t.pt"):
        disk.save(tensor.to(torch.int32), name)
        found = disk.load(name)
        assert type(found) is np.ndarray
        assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    disk.save({"weights": PLANE.astype(np.int32)}, "model.pt")
    assert disk.load("model.pt")["weights"].shape == (3, 4)


def test_pickles_only_when_asked(disk, tmp_path):
    with pytest.raises(UsageError, match="pickles are refused"):
        disk.save({1}, "a.pkl")
    disk.save({1}, "a.pkl", allow_pickle=True)
    with pytest.raises(UsageError, match="pickles are refused"):
        disk.load("a.pkl")
    assert disk.load("a.pkl", allow_pickle=True) == {1}
    with (tmp_path / "evil.npy").open("wb") as stream:
        np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(PlaneError, match=r"evil\.npy"):
        disk.load("evil.npy")


def test_a_pt_file_with_code_is_refused(disk, tmp_path):
    torch = pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save(Evil(), tmp_path / "evil.pt", pickle_module=pickle)
    with pytest.raises(PlaneError, match="more than tensors"):
        disk.load("evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("a.tif", "text", "TIFF files store arrays of numbers, got str"),
        ("a.png", np.zeros((2, 2), np.float32), "PNG files store uint8 or uint16"),
        ("a.json", {"x": object()}, "JSON files store plain values"),
        ("a.json", "{not json", "JSON files store"),
        ("a.json", float("nan"), "JSON files store"),
        ("a.csv", 3, "CSV files store tables"),
        ("a.npy", np.array([{}], dtype=object), "NPY files store arrays"),
        ("a.jsn", {}, "no file format for '.jsn'"),
        ("folder", {}, "a name without suffix"),
    ],
)
def test_what_a_format_cannot_store_leaves_nothing(disk, tmp_path, name, value, says):
    with pytest.raises(UsageError, match=says):
        disk.save(value, name)
    assert list(tmp_path.iterdir()) == []


def test_unknown_suffix_suggests_the_nearest(disk):
    with pytest.raises(UsageError, match=r"did you mean \.json"):
        disk.save({}, "a.jsn")


@pytest.mark.parametrize(
    "name", ["a.tif", "a.png", "a.npy", "a.npz", "a.json", "a.parquet", "a.pt"]
)
def test_damaged_files_are_named(disk, tmp_path, name):
    if name == "a.pt":
        pytest.importorskip("torch")
    (tmp_path / name).write_bytes(b"\x93NUMPY not at all" * 3)
    with pytest.raises(PlaneError, match=name) as caught:
        disk.load(name)
    assert caught.value.file == name


def test_a_failed_write_leaves_the_old_file(disk, tmp_path):
    disk.save(PLANE, "a.tif")
    with pytest.raises(UsageError):
        disk.save("no array", "a.tif", overwrite=True)
    assert np.array_equal(disk.load("a.tif"), PLANE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_nothing_leads_out_of_the_base(disk, tmp_path):
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "file.txt").symlink_to(outside / "secret.txt")
    for path in ("../x.txt", "a/../../x.txt", "link/secret.txt", "file.txt", "link/new.txt"):
        with pytest.raises(PathError):
            disk.load(path)
        with pytest.raises(PathError):
            disk.save("x", path, overwrite=True)
    with pytest.raises(FileNotFoundError):
        disk.load(str(outside / "secret.txt"))  # below the base, like any absolute path
    disk.save("in", tmp_path / "inside.txt")
    assert disk.load("/inside.txt") == "in"
    assert (outside / "secret.txt").read_text() == "secret"


def test_links_are_not_followed_when_listing_and_deleting(disk, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("a")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert disk.list_files("", recursive=True) == ["real/a.txt"]
    disk.delete_all("link")
    assert disk.load("real/a.txt") == "a"


def test_settings(tmp_path):
    strict = DiskStorageBackend(tmp_path, create_directories=False, file_permissions=0o640)
    with pytest.raises(FileNotFoundError):
        strict.save("x", "new/a.txt")
    strict.save("x", "a.txt")
    (tmp_path / "folder").mkdir()
    for move in (strict.move, strict.copy):
        for source in ("a.txt", "folder"):
            with pytest.raises(FileNotFoundError):
                move(source, f"new/{source}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "folder"]
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_relative_base_and_no_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DiskStorageBackend().save("x", "plain.txt")
    DiskStorageBackend("below").save("x", "a.txt")
    assert sorted(p.as_posix() for p in tmp_path.rglob("*.txt")) == [
        f"{tmp_path.as_posix()}/below/a.txt",
        f"{tmp_path.as_posix()}/plain.txt",
    ]
