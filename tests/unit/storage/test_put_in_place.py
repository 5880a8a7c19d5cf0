"""A folder takes its place whole, and the one before it goes whole."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from hcsflow.storage import zarr_commit
from hcsflow.storage.zarr_commit import put_in_place


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges folders atomically")
def test_a_reader_always_finds_one_whole_version(tmp_path):
    target, stop, seen = tmp_path / "well", threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            with suppress(NotADirectoryError):
                folder = os.open(target, os.O_RDONLY)  # a reader that has the folder open
                names = os.listdir(folder)  # noqa: PTH208 - of the open folder
                os.close(folder)
                seen.add(len(names))

    def draft(version: int) -> Path:
        source = tmp_path / f"draft{version}"
        source.mkdir()
        for i in range(3):
            (source / f"{version}-{i}").touch()
        return source

    put_in_place(draft(0), target, overwrite=False)
    reader = threading.Thread(target=read)
    reader.start()
    for version in range(1, 200):
        assert put_in_place(draft(version), target, overwrite=True)
    stop.set()
    reader.join()
    assert seen == {3}
    assert len(list((tmp_path / "draft7").iterdir())) == 3  # the version before, to be removed


def test_without_exchange_the_old_folder_is_moved_out_first(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_commit.sys, "platform", "darwin")
    for name in ("well", "draft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert put_in_place(tmp_path / "draft", tmp_path / "well", overwrite=True)
    assert [p.name for p in (tmp_path / "well").iterdir()] == ["draft"]
    assert [p.name for p in (tmp_path / "draft").iterdir()] == ["well"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["draft", "well"]


def test_another_folder_is_replaced_only_if_that_is_asked_for(tmp_path):
    for name in ("well", "draft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    with pytest.raises(FileExistsError, match="well"):
        put_in_place(tmp_path / "draft", tmp_path / "well", overwrite=False)
    assert (tmp_path / "well" / "well").exists()
    assert not put_in_place(tmp_path / "draft", tmp_path / "new", overwrite=False)
    assert (tmp_path / "new" / "draft").exists()
