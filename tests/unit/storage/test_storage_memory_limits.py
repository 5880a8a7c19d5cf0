"""The memory backend's settings, and what holds when there is no room."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hcsflow.errors import ConfigError, HcsflowError, StoreFullError
from hcsflow.storage.memory import MemoryStorageBackend

KIB = 1024


def _plane(number):
    return np.full(KIB, number, np.uint8)


def test_no_more_than_max_objects():
    memory = MemoryStorageBackend(max_objects=2)
    memory.ensure_directory("folder")
    memory.save(1, "folder/a")
    memory.save(2, "folder/b")
    given = np.zeros(3)
    with pytest.raises(StoreFullError, match=r"max_objects is 2[\s\S]*delete") as caught:
        memory.save(given, "folder/c")
    assert isinstance(caught.value, HcsflowError)
    assert isinstance(caught.value, OSError)
    given[0] = 1  # nothing was stored, so nothing is frozen
    with pytest.raises(StoreFullError):
        memory.copy("folder", "other")
    assert not memory.exists("other")
    memory.save(3, "folder/b", overwrite=True)
    memory.copy("folder/a", "folder/b", overwrite=True)
    memory.move("folder/a", "folder/c")
    memory.delete("folder/c")
    memory.save(4, "folder/d")
    assert memory.list_files("folder") == ["folder/b", "folder/d"]


def test_moving_down_begins_and_ends_at_the_threshold(tmp_path):
    memory = MemoryStorageBackend(10 * KIB, tmp_path, cleanup_threshold=0.5)
    for number in range(5):
        memory.save(_plane(number), f"p{number}")
    assert memory.usage().spilled == 0
    memory.save(_plane(5), "p5")
    assert memory.usage().host == {"numpy": 5 * KIB}
    assert memory.usage().spilled_uncompressed == KIB
    memory.close()


def test_the_least_recently_used_goes_first(tmp_path):
    memory = MemoryStorageBackend(3 * KIB, tmp_path)
    for number in range(3):
        memory.save(_plane(number), f"p{number}")
    memory.load("p0")
    memory.save(_plane(3), "p3")
    (tmp_path / next(iter(tmp_path.iterdir())).name / "1").unlink()  # the file of p1
    assert memory.load("p0").max() == 0
    assert memory.load("p2").max() == 2
    with pytest.raises(FileNotFoundError):
        memory.load("p1")
    memory.close()


def test_compression_is_counted(tmp_path):
    ramp = np.arange(40_000, dtype=np.uint16)
    stored = {}
    for compress in (False, True):
        memory = MemoryStorageBackend(0, tmp_path, enable_compression=compress)
        memory.save(ramp.copy(), "ramp")
        used = memory.usage()
        assert used.spilled_uncompressed == ramp.nbytes
        on_disk = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
        assert used.spilled == on_disk
        stored[compress] = used.spilled
        assert np.array_equal(memory.load("ramp"), ramp)
        memory.close()
    assert stored[True] < ramp.nbytes / 4 < stored[False]


def test_large_arrays_are_compressed_in_pieces(tmp_path):
    memory = MemoryStorageBackend(0, tmp_path, enable_compression=True)
    large = np.arange(5_000_001, dtype=np.uint64)  # two whole pieces of 16 MiB and a rest
    memory.save(large, "large")
    assert np.array_equal(memory.load("large"), large)
    memory.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("limit_bytes", -1),
        ("device_limit_bytes", -1),
        ("disk_limit_bytes", -5),
        ("max_objects", -1),
        ("cleanup_threshold", 0),
        ("cleanup_threshold", 1.5),
    ],
)
def test_impossible_settings_are_refused(setting, value):
    with pytest.raises(ConfigError, match=setting):
        MemoryStorageBackend(**{setting: value})


def test_a_full_disk_tier_refuses_and_loses_nothing(tmp_path):
    memory = MemoryStorageBackend(2 * KIB, tmp_path, disk_limit_bytes=3 * KIB)
    saved = []
    for number in range(4):
        memory.save(_plane(number), f"p{number}")
        saved.append(number)
    with pytest.raises(StoreFullError, match=r"limit is 3,072[\s\S]*disk_limit_bytes"):
        memory.save(_plane(4), "p4")
    assert memory.list_dir("/") == [f"p{number}" for number in saved]
    for _ in range(2):  # there is no room to bring them up either
        for number in saved:
            assert (memory.load(f"p{number}") == number).all()
    memory.delete("p0")
    memory.save(_plane(9), "p9")
    assert (memory.load("p9") == 9).all()
    memory.close()


class _FullDisk:
    """Lets some bytes through, then the system says that the disk is full."""

    def __init__(self, monkeypatch, calls):
        self._calls = calls
        self._write = os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, stream, content):
        if self._calls == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._calls -= 1
        return self._write(stream, content[: max(1, len(content) // 2)])


@pytest.mark.parametrize("calls", range(24))
def test_disk_full_at_any_write(tmp_path, monkeypatch, calls):
    memory = MemoryStorageBackend(3 * KIB, tmp_path)
    for number in range(3):
        memory.save(_plane(number), f"p{number}")
    given = {f"new{number}": _plane(10 + number) for number in range(2)}
    before, used = memory.list_dir("/"), memory.usage()
    refused = {}
    with monkeypatch.context() as patch:
        _FullDisk(patch, calls)
        for name, plane in given.items():
            try:
                memory.save(plane, name)
            except OSError as error:
                refused[name] = error.errno, plane.flags.writeable
            else:
                before.append(name)
        for number in range(3):
            assert (memory.load(f"p{number}") == number).all()
    assert set(refused.values()) <= {(errno.ENOSPC, True)}
    assert sorted(memory.list_dir("/")) == sorted(before)
    assert memory.usage().objects == len(before)
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) == (
        memory.usage().spilled
    )
    if calls == 0:
        assert memory.usage() == used
    for name, plane in given.items():
        if name in before:
            assert np.array_equal(memory.load(name), plane)
        else:
            memory.save(plane, name)
    memory.close()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_leaves_the_old(tmp_path, monkeypatch):
    memory = MemoryStorageBackend(KIB, tmp_path)
    memory.save(_plane(1), "p")
    with monkeypatch.context() as patch:
        _FullDisk(patch, 0)
        with pytest.raises(OSError, match="No space"):
            memory.save(np.ones(5 * KIB, np.uint8), "p", overwrite=True)
    assert (memory.load("p") == 1).all()
    memory.close()


def test_memory_is_used_while_another_thread_writes_a_file(tmp_path, monkeypatch):
    """Spilling that takes for ever keeps nobody from what is in memory."""
    memory = MemoryStorageBackend(2 * KIB + 500, tmp_path)
    memory.save(_plane(0), "p0")
    memory.save(_plane(1), "p1")
    is_writing, may_go_on = threading.Event(), threading.Event()
    write = os.write

    def slow(stream, content):
        is_writing.set()
        may_go_on.wait(30)
        return write(stream, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", slow)
        spiller = threading.Thread(target=memory.save, args=(_plane(2), "p2"))
        spiller.start()
        assert is_writing.wait(30)
        assert (memory.load("p0") == 0).all()  # the very one that is being written
        assert (memory.load("p1") == 1).all()
        assert not memory.exists("p2")
        memory.delete("p0")
        memory.save(4, "small")
        assert memory.list_dir("/") == ["p1", "small"]
        may_go_on.set()
        spiller.join()
    assert (memory.load("p2") == 2).all()
    assert memory.usage().spilled == 0  # what was deleted meanwhile has left no file
    memory.close()


def test_threads_loading_one_spilled_object(tmp_path):
    memory = MemoryStorageBackend(40 * KIB, tmp_path)
    for turn in range(5):
        memory.save(np.full(30 * KIB, turn, np.uint8), f"a{turn}")
        memory.save(np.full(30 * KIB, turn, np.uint8), f"b{turn}")  # a is on disk now
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(memory.load, [f"a{turn}"] * 8))
        assert all((one == turn).all() for one in found)
    memory.close()


def test_threads_that_save_load_overwrite_and_delete(tmp_path):
    """Whatever threads do, a load gives a whole value or says that there is none."""
    memory = MemoryStorageBackend(20 * KIB, tmp_path, enable_compression=True)
    errors = []
    end = time.monotonic() + 0.5

    def work(seed):
        rng = np.random.default_rng(seed)
        while time.monotonic() < end and not errors:
            name, action = f"p{rng.integers(12)}", rng.integers(4)
            try:
                if action == 0:
                    memory.delete(name)
                elif action == 1:
                    values = set(np.unique(memory.load(name)))
                    assert len(values) == 1
                else:
                    number = int(rng.integers(200))
                    plane = np.full(int(rng.integers(1, 8)) * KIB, number, np.uint8)
                    memory.save(plane, name, overwrite=True)
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 - told by the test
                errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    memory.delete_all("/")
    assert memory.usage() == ({}, 0, 0, {}, 0)
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == []
    memory.close()


def test_copies_are_counted_once_and_each_lives_on(tmp_path):
    memory = MemoryStorageBackend(0, tmp_path)
    memory.save(_plane(7), "a")
    memory.copy("a", "b")
    memory.copy("b", "c")
    assert memory.usage().spilled_uncompressed == KIB
    assert memory.usage().objects == 3
    memory.save(_plane(8), "b", overwrite=True)
    memory.delete("a")
    assert (memory.load("c") == 7).all()
    assert (memory.load("b") == 8).all()
    memory.delete("c")
    memory.delete("b")
    assert memory.usage().spilled == 0
    memory.close()
