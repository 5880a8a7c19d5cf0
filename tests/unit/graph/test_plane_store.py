"""What flows between steps is found plane by plane, and kept without copies where it fits."""

from pathlib import Path

import numpy as np
import pytest

from hcsflow.graph.planes import PlaneStore, open_planes, task_storage
from hcsflow.plan import LocalKey
from hcsflow.storage.memory import MemoryStorageBackend


def files(memory, folder=Path("unused")):
    return task_storage(memory, folder)


def keys(n, field=0):
    return [LocalKey(field, 0, 0, z) for z in range(n)]


def stack(n, start=0):
    return (np.arange(n * 6, dtype=np.uint16) + start).reshape(n, 2, 3).copy()


@pytest.fixture
def memory():
    backend = MemoryStorageBackend()
    yield backend
    backend.close()


def test_the_same_group_gets_the_stored_stack_itself(memory):
    store = PlaneStore(files(memory), "step")
    kept = stack(3)
    store.put(keys(3), kept)
    assert np.shares_memory(store.gather(keys(3)), kept)
    assert np.shares_memory(store.gather(keys(3)[1:2]), kept)


def test_regrouping_takes_planes_from_several_stacks_in_order(memory):
    store = PlaneStore(files(memory), "step")
    store.put(keys(2), stack(2))
    store.put(keys(2, field=1), stack(2, 100))
    wanted = [keys(2, 1)[0], keys(2)[1], keys(2, 1)[1]]
    expected = np.stack([stack(2, 100)[0], stack(2)[1], stack(2, 100)[1]])
    np.testing.assert_array_equal(store.gather(wanted), expected)


def test_a_kept_stack_cannot_be_changed(memory):
    store = PlaneStore(files(memory), "step")
    store.put(keys(1), stack(1))
    with pytest.raises(ValueError, match="read-only"):
        store.gather(keys(1))[0, 0, 0] = 1


def test_clearing_forgets_all_and_frees_memory(memory):
    store = PlaneStore(files(memory), "step")
    store.put(keys(2), stack(2))
    assert store.missing(keys(3)) == keys(3)[2:]
    store.clear()
    assert store.missing(keys(2)) == keys(2)
    assert list(memory.list_files("step")) == []


def test_stacks_past_the_limit_spill_and_come_back(tmp_path):
    big = [np.full((4, 64, 64), i, np.uint16) for i in range(8)]
    memory = MemoryStorageBackend(limit_bytes=3 * big[0].nbytes, spill_dir=tmp_path)
    store = PlaneStore(files(memory), "step")
    for i, item in enumerate(big):
        store.put(keys(4, field=i), item)
    assert any(path.is_file() for path in tmp_path.rglob("*"))
    for i in range(8):
        np.testing.assert_array_equal(store.gather(keys(4, field=i)), np.full((4, 64, 64), i))
    store.clear()
    memory.close()


@pytest.mark.parametrize("backend", ["disk", "zarr"])
def test_planes_in_files_are_found_like_those_in_memory(memory, tmp_path, backend):
    store = open_planes(files(memory, tmp_path), backend, "step")
    store.put(keys(2), stack(2))
    store.put(keys(2, field=1), stack(2, 100))
    wanted = [keys(2, 1)[0], keys(2)[1]]
    expected = np.stack([stack(2, 100)[0], stack(2)[1]])
    found = store.gather(wanted)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0, 0] = 1
    assert store.missing(keys(3)) == keys(3)[2:]
    store.clear()
    assert store.missing(keys(2)) == keys(2)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
