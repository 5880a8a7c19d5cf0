"""The store that processes share, with real processes that are also killed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from hcsflow.arrays import memory_type_of
from hcsflow.errors import UsageError
from hcsflow.storage.shared_memory import SharedMemoryStorageBackend


@dataclass
class Result:
    well: str
    labels: np.ndarray


@pytest.fixture
def store(tmp_path):
    made = SharedMemoryStorageBackend(parent=tmp_path)
    yield made
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_arrays_are_the_same_memory_and_cannot_be_changed(store):
    given = np.arange(100_000, dtype=np.float32).reshape(100, 1000)
    store.save(given, "a")
    given += 1
    first, second = store.load("a"), store.load("a")
    assert first[0, 1] == 1
    assert first.__array_interface__["data"][0] % 64 == 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        first.flags.writeable = True
    store.save(np.zeros(3), "a", overwrite=True)
    store.delete("a")
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "value",
    [
        {"a": np.arange(5), "b": [np.zeros((0, 3)), "text"]},
        pd.DataFrame({"area": [1.5, 2.5], "well": ["A01", "A02"]}),
        np.asfortranarray(np.arange(12).reshape(3, 4)),
        np.array(["2026-01-01"], dtype="M8[s]"),
        np.array([{"any": "object"}]),
        None,
    ],
    ids=["dict", "table", "fortran", "dates", "objects", "none"],
)
def test_any_object_comes_back(store, value):
    store.save(value, "x")
    found = store.load("x")
    assert type(found) is type(value)
    assert pickle.dumps(found) == pickle.dumps(value) or str(found) == str(value)


def test_other_libraries_come_back_in_their_memory(store):
    torch = pytest.importorskip("torch")
    store.save({"t": torch.arange(6)}, "x")
    found = store.load("x")["t"]
    assert memory_type_of(found) == "torch"
    found[0] = 9
    assert store.load("x")["t"].tolist() == list(range(6))


def test_what_cannot_travel_is_refused(store):
    with pytest.raises(UsageError, match="function cannot go to another process"):
        store.save(lambda: 1, "x")
    assert store.list_dir("/") == []


def test_sizes_and_families_are_told_without_loading(store):
    store.save(np.zeros((10, 10), np.uint16), "a")
    store.save({"x": np.zeros(1000)}, "b")
    assert store.stat("a") == ("a", False, 200, "numpy")
    assert store.stat("b").kind == "container"
    assert store.stat("b").nbytes > 8_000


WORK = """
import pickle, sys
import numpy as np
store, number = pickle.load(sys.stdin.buffer)
store.save(np.full((50, 60), number, np.uint16), f"results/{number}")
try:
    store.save(np.full((50, 60), number, np.uint16), "results/race")
except FileExistsError:
    print("lost")
else:
    print("won")
"""


def test_processes_share_it(store):
    store.ensure_directory("results")
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for number, worker in enumerate(workers):
        worker.stdin.write(pickle.dumps((store, number)))
        worker.stdin.flush()
    told = [worker.communicate(timeout=60)[0].split() for worker in workers]
    winners = [number for number, (said,) in enumerate(told) if said == b"won"]
    assert len(winners) == 1
    assert (store.load("results/race") == winners[0]).all()
    assert store.list_dir("results") == ["0", "1", "2", "race"]
    for number in range(3):
        assert (store.load(f"results/{number}") == number).all()
    assert store.folder.is_dir()  # a process that ends takes nothing with it


CHILD = """
import os, signal, sys
import numpy as np
from hcsflow.storage.shared_memory import SharedMemoryStorageBackend
store = SharedMemoryStorageBackend("mine", parent=sys.argv[1])
store.save(np.arange(10), "kept", overwrite=True)
if sys.argv[2] == "while writing":
    write, calls = os.write, []
    def die(stream, content):
        calls.append(1)
        if len(calls) == 2:
            write(stream, content[:1000])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(stream, content)
    os.write = die
    store.save(np.zeros(10**6), "half", overwrite=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _child(parent, end):
    return subprocess.run([sys.executable, "-c", CHILD, str(parent), end], check=False).returncode


def test_a_process_killed_while_it_writes_leaves_nothing(tmp_path):
    store = SharedMemoryStorageBackend("mine", parent=tmp_path)
    assert _child(tmp_path, "while writing") == -signal.SIGKILL
    assert store.list_dir("/") == ["kept"]
    assert store.load("kept").sum() == 45
    files = [file for file in store.folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 1000
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_the_store_of_a_killed_process_goes_when_the_next_is_made(tmp_path):
    assert _child(tmp_path, "killed") == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    other = SharedMemoryStorageBackend(parent=tmp_path)
    assert not left.exists()
    assert list(tmp_path.iterdir()) == [other.folder]
    other.close()


def test_the_store_of_a_killed_process_stays_while_it_is_used(tmp_path):
    first = SharedMemoryStorageBackend("mine", parent=tmp_path)
    first.save(1, "x")
    second = pickle.loads(pickle.dumps(first))
    os.close(os.open(first.folder / "alive", os.O_RDONLY))
    other = SharedMemoryStorageBackend(parent=tmp_path)
    assert second.load("x") == 1
    other.close()
    first.close()
    with pytest.raises(FileNotFoundError):
        second.load("x")
    second.close()


def test_an_ended_process_removes_what_it_made(tmp_path):
    assert _child(tmp_path, "normally") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_gone_says_so(tmp_path):
    store = SharedMemoryStorageBackend(parent=tmp_path)
    given = pickle.dumps(store)
    store.close()
    with pytest.raises(FileNotFoundError, match="the process that made it has closed it"):
        pickle.loads(given)
    with pytest.raises(FileNotFoundError):
        store.save(1, "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_others_may_write_to_is_refused(tmp_path):
    store = SharedMemoryStorageBackend("mine", parent=tmp_path)
    store.folder.chmod(0o777)
    with pytest.raises(UsageError, match="this user alone"):
        SharedMemoryStorageBackend("mine", parent=tmp_path)
    store.close()


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "x" * 200])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="no name of a store"):
        SharedMemoryStorageBackend(name, parent=tmp_path)


def test_full_memory_stores_nothing(store, monkeypatch):
    store.save(1, "old")
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(28, "No space left on device")

        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            store.save(np.zeros(100), "new")
        with pytest.raises(OSError, match="No space"):
            store.save(np.zeros(100), "old", overwrite=True)
    assert store.list_dir("/") == ["old"]
    assert store.load("old") == 1


def test_files_of_others_are_refused(store):
    (store.folder / "files" / "x").write_bytes(b"something else")
    with pytest.raises(ValueError, match="not a whole object"):
        store.load("x")


def test_works_where_files_must_have_names(store, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE")
    store.save(np.arange(3), "a")
    store.save(np.arange(4), "a", overwrite=True)
    with pytest.raises(FileExistsError):
        store.save(1, "a")
    assert store.load("a").size == 4
    assert list((store.folder / "incoming").iterdir()) == []
