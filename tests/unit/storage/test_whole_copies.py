"""Copies and moves that fail or race: what was there before is there still, and nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hcsflow.errors import PathError
from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.storage.shared_memory import SharedMemoryStorageBackend
from hcsflow.storage.zarr import ZarrStorageBackend

LIMITED = """
import resource, sys
from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.storage.zarr import ZarrStorageBackend
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
backend = ZarrStorageBackend() if "zarr" in sys.argv[2] else DiskStorageBackend()
try:
    getattr(backend, sys.argv[1])(sys.argv[2], sys.argv[3], overwrite=True)
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.fixture
def disk(tmp_path):
    made = DiskStorageBackend(tmp_path)
    made.save({"version": 1}, "source/a.json")
    made.save(np.zeros(100_000), "source/b.npy")
    made.save({"version": 2}, "target/kept.json")
    return made


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of another file system."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def held(folder):
    """Return every path below a folder, hidden ones too, with the files' contents."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def limited(operation, source, target):
    """Copy or move in a process whose files may not be larger than 100 kB."""
    command = [sys.executable, "-c", LIMITED, operation, str(source), str(target)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="sizes are limited on POSIX only")
@pytest.mark.parametrize(
    ("source", "target"),
    [("source", "target"), ("source", "new/deep"), ("source", "target/kept.json")],
    ids=["over a folder", "to a new name", "over a file"],
)
def test_a_folder_that_cannot_be_copied_whole_changes_nothing(disk, tmp_path, source, target):
    before = held(tmp_path)
    found = limited("copy", tmp_path / source, tmp_path / target)
    assert found == f"{errno.EFBIG} {tmp_path / 'source' / 'b.npy'}"
    assert held(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="sizes are limited on POSIX only")
@pytest.mark.parametrize("target", ["target/kept.json", "new/b.npy"])
def test_a_file_that_cannot_be_copied_whole_changes_nothing(disk, tmp_path, target):
    before = held(tmp_path)
    assert limited("copy", tmp_path / "source" / "b.npy", tmp_path / target)[:2] == "27"
    assert held(tmp_path) == before


@pytest.mark.parametrize(
    ("source", "target"),
    [("source/b.npy", "target/kept.json"), ("source", "target"), ("source", "new/deep")],
)
def test_a_move_across_devices_that_fails_changes_nothing(
    disk, tmp_path, elsewhere, source, target
):
    there = DiskStorageBackend(elsewhere)
    there.save({"version": 3}, "target/kept.json")
    before, before_there = held(tmp_path), held(elsewhere)
    found = limited("move", tmp_path / source, elsewhere / target)
    assert found == f"{errno.EFBIG} {tmp_path / 'source' / 'b.npy'}"
    assert held(tmp_path) == before
    assert held(elsewhere) == before_there


@pytest.mark.parametrize("operation", ["copy", "move"])
def test_a_zarr_array_that_cannot_be_written_elsewhere_changes_nothing(
    tmp_path, elsewhere, operation
):
    noise = np.random.default_rng(1).integers(0, 60_000, (200, 1000), np.uint16)
    ZarrStorageBackend(tmp_path).save(noise, "zarr/a")
    ZarrStorageBackend(elsewhere).save(np.zeros(3), "a")
    before, before_there = held(tmp_path), held(elsewhere)
    for target in ("a", "new/a"):
        found = limited(operation, tmp_path / "zarr" / "a", elsewhere / target)
        assert found.startswith(str(errno.EFBIG))
        assert held(tmp_path) == before
        assert held(elsewhere) == before_there
    ZarrStorageBackend().move(tmp_path / "zarr" / "a", elsewhere / "a", overwrite=True)
    assert np.array_equal(ZarrStorageBackend(elsewhere).load("a"), noise)
    assert sorted(held(tmp_path)) == sorted(n for n in before if not n.startswith("zarr/a"))


@pytest.mark.parametrize(("source", "target"), [("source/a.json", "x.json"), ("source", "target")])
def test_moves_go_across_devices(disk, tmp_path, elsewhere, source, target):
    anywhere = DiskStorageBackend()
    anywhere.save({"version": 3}, elsewhere / "target" / "old.json")
    expected = held(tmp_path)
    anywhere.move(tmp_path / source, elsewhere / target, overwrite=True)
    assert not (tmp_path / source).exists()
    if target == "target":
        assert sorted(held(elsewhere)) == ["target", "target/a.json", "target/b.npy"]
    assert (elsewhere / target).is_dir() or (
        (elsewhere / target).read_bytes() == expected["source/a.json"]
    )
    assert not list(tmp_path.rglob(".*"))


def test_a_move_whose_last_step_fails_is_taken_back(disk, tmp_path, monkeypatch):
    before = held(tmp_path)
    rename, calls = os.rename, []

    def full(start, end):
        calls.append(end)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(end))
        rename(start, end)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space"):
        disk.move("source", "target", overwrite=True)
    assert held(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
def test_what_is_no_file_is_named_and_not_copied(disk, tmp_path):
    os.mkfifo(tmp_path / "source" / "pipe")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(OSError, match=r"neither a file nor a folder: '.*pipe'"):
        disk.copy("source", "target", overwrite=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_files_and_folders_take_each_others_place(disk, tmp_path):
    disk.save("text", "a.txt")
    disk.move("a.txt", "target", overwrite=True)
    assert (tmp_path / "target").read_text() == "text"
    disk.copy("source", "target", overwrite=True)
    assert disk.list_files("target") == ["target/a.json", "target/b.npy"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_a_copied_link_leads_no_further_than_the_link(tmp_path):
    outside = tmp_path / "secret.json"
    outside.write_text('{"secret": 1}')
    disk = DiskStorageBackend(tmp_path / "base")
    disk.save({"version": 1}, "source/a.json")
    (tmp_path / "base" / "source" / "link.json").symlink_to(outside)
    (tmp_path / "base" / "source" / "near.json").symlink_to("a.json")
    disk.copy("source", "copy")
    with pytest.raises(PathError):
        disk.load("copy/link.json")
    assert (tmp_path / "base" / "copy" / "link.json").is_symlink()
    assert disk.load("copy/near.json") == {"version": 1}
    with pytest.raises(PathError):
        disk.mirror_directory("source", "mirrored")


def race(calls):
    """Call all at once; return the error that each raised, or None."""
    barrier, errors = threading.Barrier(len(calls)), [None] * len(calls)

    def go(place, call):
        barrier.wait()
        try:
            call()
        except OSError as error:
            errors[place] = error

    threads = [threading.Thread(target=go, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.fixture(params=["disk", "shared"])
def backend(request, tmp_path):
    if request.param == "disk":
        yield DiskStorageBackend(tmp_path)
        return
    store = SharedMemoryStorageBackend(parent=tmp_path)
    yield store
    store.close()


@pytest.fixture
def switching_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_of_two_moves_to_one_name_one_wins(backend, switching_often):
    for number in range(60):
        names = [f"{letter}{number}.json" for letter in "ab"]
        for name in names:
            backend.save({"from": name}, name)
        target = f"target{number}.json"
        errors = race([partial(backend.move, name, target) for name in names])
        lost = [n for n, error in zip(names, errors, strict=True) if error is not None]
        (kept,) = lost
        assert isinstance(errors[names.index(kept)], FileExistsError)
        assert backend.load(kept) == {"from": kept}
        assert backend.load(target) != {"from": kept}


def test_of_two_moves_of_one_file_one_wins(backend, switching_often):
    for number in range(60):
        backend.save({"number": number}, "a.json")
        targets = [f"{letter}{number}.json" for letter in "bc"]
        errors = race([partial(backend.move, "a.json", target) for target in targets])
        assert sorted(type(error).__name__ for error in errors) == ["FileNotFoundError", "NoneType"]
        won = targets[errors.index(None)]
        assert backend.load(won) == {"number": number}
        assert backend.exists(targets[1 - errors.index(None)]) is False


def test_a_shared_folder_that_cannot_be_copied_changes_nothing(tmp_path, monkeypatch):
    store = SharedMemoryStorageBackend(parent=tmp_path)
    for folder, value in (("source", 1), ("target", 2)):
        store.ensure_directory(folder)
        for name in "xy":
            store.save(value, f"{folder}/{name}")
    before = held(store.folder)
    link, calls = os.link, []

    def full(start, end, **options):
        calls.append(end)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        link(start, end, **options)

    for target in ("target", "new"):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", full)
            with pytest.raises(OSError, match=r"No space.*files/source/[xy]"):
                store.copy("source", target, overwrite=True)
        after = held(store.folder)
        after.pop("lock", None)
        assert after == {k: v for k, v in before.items() if k != "lock"}
    store.copy("source", "target", overwrite=True)
    assert store.load("target/x") == 1
    store.close()
