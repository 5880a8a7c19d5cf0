"""Several writers of one Zarr store, and what those that failed have left in it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hcsflow.config import ZarrConfig
from hcsflow.storage import zarr_commit, zarr_writing
from hcsflow.storage.zarr import ZarrStorageBackend

NAMES = [f"p.zarr/A01_s001_w{c}_z001_t001.tif" for c in (1, 2)]
ARRAY = np.random.default_rng(0).integers(0, 999, (2, 64, 64)).astype("u2")


@pytest.fixture
def backend(tmp_path):
    return ZarrStorageBackend(tmp_path)


def save_well(backend, factor=1, **options):
    backend.save_batch(list(ARRAY * factor), NAMES, chunk_name="A01", **options)


@pytest.mark.parametrize("other", ["replaced", "removed"])
def test_what_another_writer_did_meanwhile_is_not_taken_back(tmp_path, monkeypatch, other):
    """The plate's document cannot be written, and the well is no longer what was put there."""
    backend, another = ZarrStorageBackend(tmp_path), ZarrStorageBackend(tmp_path)
    finish = zarr_writing.finish_plate

    def fail(*_):
        monkeypatch.setattr(zarr_writing, "finish_plate", finish)
        if other == "replaced":
            save_well(another, 3, overwrite=True)
        else:
            another.delete_all("p.zarr/A/01")
        raise OSError(errno.ENOSPC, "No space left on device")

    save_well(backend)
    monkeypatch.setattr(zarr_writing, "finish_plate", fail)
    with pytest.raises(OSError, match="No space"):
        save_well(backend, 2, overwrite=True)
    if other == "replaced":
        assert np.array_equal(backend.load(NAMES[1]), ARRAY[1] * 3)
    else:
        assert not backend.exists("p.zarr/A/01")
    assert not list(tmp_path.rglob("*hcsflow-part"))


ADDER = """
import sys
from hcsflow.storage.zarr import ZarrStorageBackend
backend = ZarrStorageBackend(sys.argv[1])
for number in range(40):
    backend.write_attributes("a", {f"{sys.argv[2]}{number}": number})
"""


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_attributes_of_writers_at_once_are_all_kept(tmp_path, backend, version):
    backend.save(ARRAY, "a", zarr_config=ZarrConfig(ngff_version=version))
    start = [sys.executable, "-c", ADDER, str(tmp_path)]
    others = [subprocess.Popen([*start, name]) for name in "xy"]

    def add(name):
        for number in range(40):
            backend.write_attributes("a", {f"{name}{number}": number})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, "vw"))
    assert [other.wait() for other in others] == [0, 0]
    wanted = {f"{name}{number}": number for name in "vwxy" for number in range(40)}
    assert backend.read_attributes("a") == wanted
    assert np.array_equal(backend.load("a"), ARRAY)


def test_a_folder_that_holds_only_what_is_stale_is_removed(tmp_path, backend):
    backend.ensure_directory("g")
    stale = tmp_path / "g" / ".dead.hcsflow-part"
    (stale / "c").mkdir(parents=True)
    (stale / "c" / "0").write_bytes(b"0")
    live = zarr_commit._draft_of(tmp_path / "g" / "a")
    live.mkdir()
    with pytest.raises(OSError, match="not empty"):
        backend.delete("g")
    assert stale.is_dir()
    live.rmdir()
    backend.delete("g")
    assert not (tmp_path / "g").exists()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_a_move_across_devices_that_fails_leaves_nothing(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        backend, start = ZarrStorageBackend(), Path(other) / "g"
        backend.save(ARRAY, str(start / "a"))
        os.mkfifo(start / "zz")
        with pytest.raises(OSError, match="zz") as caught:
            backend.move(str(start), str(tmp_path / "t" / "g"))
        assert caught.value.errno == errno.EINVAL
        assert list(tmp_path.iterdir()) == []
        assert np.array_equal(backend.load(str(start / "a")), ARRAY)
