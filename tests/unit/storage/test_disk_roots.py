"""The root, the current and the home folder: emptied at most, never removed by a short path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hcsflow.errors import PathError
from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.storage.zarr import ZarrStorageBackend


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder of the home folder that holds something."""
    folder = tmp_path / "home" / "here"
    (folder / "below").mkdir(parents=True)
    (folder / "precious.txt").write_text("x")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(folder)
    (tmp_path / "link").symlink_to(folder)
    return folder


@pytest.mark.parametrize("kind", ["", ".", "/", "below/..", "..", "here", "home", "above"])
def test_without_a_base_these_are_not_removed(here, kind):
    path = {"here": str(here), "home": str(here.parent), "above": here.parent.parent}
    target = path.get(kind, kind)
    disk = DiskStorageBackend()
    for call in (
        lambda: disk.delete(target),
        lambda: disk.delete_all(target),
        lambda: disk.move(target, "other"),
        lambda: disk.move("precious.txt", target, overwrite=True),
        lambda: disk.copy("below", target, overwrite=True),
    ):
        with pytest.raises(PathError, match=r"current folder|home folder") as caught:
            call()
        assert "base_path" in caught.value.hint
    assert (here / "precious.txt").read_text() == "x"
    assert (here / "below").is_dir()


def test_without_a_base_other_folders_are_removed(here, tmp_path):
    disk = DiskStorageBackend()
    disk.delete_all("below")
    disk.delete_all(tmp_path / "link")  # a link to here is not here
    (tmp_path / "other").mkdir()
    disk.delete_all("../../other")
    assert [path.name for path in here.iterdir()] == ["precious.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("path", ["", "/", "."])
@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_a_base_is_emptied_and_kept(tmp_path, kind, path):
    base = tmp_path / "base"
    store = DiskStorageBackend(base) if kind == "disk" else MemoryStorageBackend()
    store.ensure_directory("a/b")
    store.save("x", "a/x.txt")
    store.save("x", "x.txt")
    with pytest.raises(OSError, match="not empty"):
        store.delete(path)
    assert store.load("a/x.txt") == "x"
    store.delete_all(path)
    assert store.list_dir("/") == []
    store.delete(path)
    store.save("y", "y.txt")
    assert store.list_files("", recursive=True) == ["y.txt"]
    assert kind == "memory" or base.is_dir()


@pytest.mark.parametrize("path", ["", "/", ".", "./"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_without_a_name_is_refused(tmp_path, monkeypatch, path, overwrite):
    monkeypatch.chdir(tmp_path)
    for disk in (DiskStorageBackend(tmp_path), DiskStorageBackend(), DiskStorageBackend(".")):
        with pytest.raises(PathError, match="names no file"):
            disk.save([1], path, overwrite=overwrite)
    with pytest.raises(OSError, match="the root is no object's path"):
        MemoryStorageBackend().save([1], path, overwrite=overwrite)
    assert list(tmp_path.iterdir()) == []


def test_one_place_by_two_spellings_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    disk = DiskStorageBackend()
    disk.save("x", "a/b/x.txt")
    disk.move("a/b", tmp_path / "a" / "b", overwrite=True)
    with pytest.raises(FileExistsError, match="the same"):
        disk.copy("a/b", "a/../a/b", overwrite=True)
    with pytest.raises(OSError, match="within the other"):
        disk.move("a/b", tmp_path / "a", overwrite=True)
    assert disk.load("a/b/x.txt") == "x"


def test_home_is_not_guessed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (
        lambda: DiskStorageBackend("~/data"),
        lambda: DiskStorageBackend().save("x", "~/x.txt"),
        lambda: DiskStorageBackend().delete_all("~"),
        lambda: DiskStorageBackend().load(Path("~/x.txt")),
    ):
        with pytest.raises(PathError) as caught:
            call()
        assert "expanduser" in caught.value.hint
    DiskStorageBackend().save("x", "./~x.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["~x.txt"]


@pytest.mark.parametrize("kind", ["", ".", "/", "below/..", "..", "here"])
def test_zarr_neither_removes_these(here, kind):
    zarr, target = ZarrStorageBackend(), str(here) if kind == "here" else kind
    for remove in (zarr.delete, zarr.delete_all):
        with pytest.raises(PathError, match=r"current folder|home folder"):
            remove(target)
    with pytest.raises((PathError, OSError), match=r"current folder|home folder|lies within"):
        zarr.move(target, "other")
    assert (here / "precious.txt").read_text() == "x"
    assert zarr.stat(".").is_dir


@pytest.mark.parametrize("path", ["", "/", "."])
def test_a_zarr_base_is_emptied_and_kept(tmp_path, path):
    store = ZarrStorageBackend(tmp_path / "base")
    for name in ("a/x", "y"):
        store.save(np.ones((2, 2)), name)
    store.delete_all(path)
    assert store.list_dir("/") == []
    with pytest.raises(PathError, match="names no file"):
        store.save(np.ones((2, 2)), path)
    store.save(np.ones((2, 2)), "y")
    assert "base" in repr(store)
