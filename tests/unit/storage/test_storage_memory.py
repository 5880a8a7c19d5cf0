from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from hcsflow.storage.families import sizeof
from hcsflow.storage.memory import MemoryStorageBackend


def test_an_owned_array_is_stored_as_it_is_and_frozen():
    memory = MemoryStorageBackend()
    array = np.zeros((3, 3))
    memory.save(array, "a")
    loaded = memory.load("a")
    assert np.shares_memory(loaded, array)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        loaded.flags.writeable = True


def test_copy_says_who_owns_it():
    memory = MemoryStorageBackend()
    base = np.zeros((4, 4))
    memory.save(base, "copied", copy=True)
    base[:] = 1
    assert memory.load("copied").max() == 0
    view = base[:2]
    memory.save(view, "given", copy=False)
    assert np.shares_memory(memory.load("given"), base)
    assert not memory.load("given").flags.writeable


def test_other_objects_are_copied_in_and_out():
    memory = MemoryStorageBackend()
    table = pd.DataFrame({"area": [1, 2]})
    memory.save(table, "table")
    table.loc[0, "area"] = 99
    loaded = memory.load("table")
    loaded.loc[0, "area"] = 98
    assert memory.load("table")["area"].tolist() == [1, 2]
    nested = {"labels": [np.zeros(3)]}
    memory.save(nested, "nested")
    nested["labels"][0][:] = 5
    assert memory.load("nested")["labels"][0].max() == 0
    assert memory.load("table", copy=False) is memory.load("table", copy=False)


def test_spills_the_least_recently_used_and_brings_it_back(tmp_path):
    memory = MemoryStorageBackend(limit_bytes=5_000, spill_dir=tmp_path)
    for number in range(20):
        memory.save(np.full((10, 10), number, np.uint8 if number % 2 else np.float64), f"p{number}")
    used = memory.usage()
    assert used.host["numpy"] <= 5_000
    assert used.spilled > 0
    assert used.host["numpy"] + used.spilled_uncompressed == 10 * 800 + 10 * 100
    assert used.objects == 20
    for number in range(20):
        found = memory.load(f"p{number}")
        assert (found == number).all()
        assert not found.flags.writeable
    assert memory.usage().host["numpy"] <= 5_000
    memory.close()
    assert memory.usage().objects == 0
    assert list(tmp_path.iterdir()) == []


def test_one_array_over_the_limit_goes_straight_to_disk(tmp_path):
    memory = MemoryStorageBackend(limit_bytes=100, spill_dir=tmp_path)
    memory.save(np.arange(1000, dtype=np.int64), "big")
    assert memory.usage().host == {}
    assert memory.load("big").sum() == 499_500
    memory.close()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 5), np.float32),
        np.array(3.5),
        np.asfortranarray(np.arange(12).reshape(3, 4)),
        np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0).copy(order="K"),
        np.array(["a", "bc"]),
        np.array([1, 2], dtype=">u2"),
        np.array(["2026-01-01"], dtype="M8[s]"),
        np.array([(1, 2.5)], dtype=[("id", "i4"), ("x", "f8")]),
    ],
    ids=str,
)
def test_any_array_survives_the_disk_tier(tmp_path, array):
    expected = array.copy()
    memory = MemoryStorageBackend(limit_bytes=0, spill_dir=tmp_path)
    memory.save(array, "a")
    found = memory.load("a")
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert (found == expected).all()
    memory.close()


def test_tables_spill_and_what_cannot_be_spilled_counts_against_the_limit(tmp_path):
    memory = MemoryStorageBackend(limit_bytes=2_000, spill_dir=tmp_path)
    memory.save(pd.DataFrame({"x": np.arange(500)}), "table")
    assert memory.usage().spilled > 0
    assert memory.load("table")["x"].sum() == 124_750
    memory.save(np.zeros(200), "array")
    assert memory.usage().host.get("numpy") == 1_600
    memory.save({"held": np.zeros(200)}, "container")
    assert "numpy" not in memory.usage().host
    memory.delete("container")
    assert memory.load("array").shape == (200,)
    assert memory.usage().host["numpy"] == 1_600
    memory.close()


def test_torch_tensors_are_counted_and_spilled(tmp_path):
    torch = pytest.importorskip("torch")
    memory = MemoryStorageBackend(limit_bytes=1_000, spill_dir=tmp_path)
    tensor = torch.arange(1000)
    assert sizeof(tensor) == ("torch", 8_000)
    memory.save(tensor, "t")
    assert memory.usage().spilled > 8_000
    tensor[:] = 0
    assert int(memory.load("t").sum()) == 499_500
    memory.close()


def test_when_the_disk_tier_fails_nothing_is_stored_or_lost(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    memory = MemoryStorageBackend(limit_bytes=1_000, spill_dir=blocked / "below")
    memory.save(np.zeros(100), "first")
    with pytest.raises(OSError, match="below"):
        memory.save(np.ones(100), "second")
    assert memory.list_files("/") == ["/first"]
    assert memory.load("first").max() == 0
    assert memory.usage().objects == 1


def test_folders_are_checked():
    memory = MemoryStorageBackend()
    with pytest.raises(FileNotFoundError, match="ensure_directory"):
        memory.save(1, "/a/b")
    memory.ensure_directory("/a/b")
    with pytest.raises(IsADirectoryError):
        memory.save(1, "/a/b")
    with pytest.raises(IsADirectoryError):
        memory.load("/a/b")
    memory.save(1, "/a/b/c")
    with pytest.raises(NotADirectoryError):
        memory.ensure_directory("/a/b/c/d")
    with pytest.raises(NotADirectoryError):
        memory.list_files("/a/b/c")


def test_moving_touches_no_data_even_when_spilled(tmp_path):
    memory = MemoryStorageBackend(limit_bytes=0, spill_dir=tmp_path)
    memory.ensure_directory("from/deep")
    memory.save(np.arange(10), "from/deep/x")
    before = memory.usage()
    memory.move("from", "to")
    assert memory.usage() == before
    assert memory.load("to/deep/x").sum() == 45
    with pytest.raises(OSError, match="within the other"):
        memory.move("to/deep", "to", overwrite=True)
    memory.close()


def test_threads_under_a_limit_find_what_they_saved(tmp_path):
    memory = MemoryStorageBackend(limit_bytes=20_000, spill_dir=tmp_path)

    def work(number):
        for turn in range(10):
            memory.save(np.full(500, number), f"t{number}", overwrite=turn > 0)
            if not (memory.load(f"t{number}") == number).all():
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(16)))
    assert memory.usage().host["numpy"] <= 20_000
    memory.close()


def test_spilled_files_go_with_the_backend(tmp_path):
    memory = MemoryStorageBackend(limit_bytes=0, spill_dir=tmp_path)
    memory.save(np.zeros(100), "x")
    assert list(tmp_path.rglob("*"))
    del memory
    gc.collect()
    assert list(tmp_path.rglob("*")) == []


def test_sizes_by_family():
    assert sizeof(np.zeros((2, 2), np.uint16)) == ("numpy", 8)
    assert sizeof({"a": np.zeros(1000)}).nbytes > 8_000
    assert sizeof({"a": np.zeros(1000)}).family == "container"
    assert sizeof(pd.DataFrame({"x": np.zeros(1000)})).family == "pandas"
    assert sizeof("text").family == "object"
