"""What a process that forks, or outlives the one that made a store, can do to it."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from hcsflow.storage.shared_memory import SharedMemoryStorageBackend

FORKED = """
import os, sys
import numpy as np
from hcsflow.storage.memory import MemoryStorageBackend

memory = MemoryStorageBackend(limit_bytes=10_000, spill_dir=sys.argv[1])
for number in range(4):
    memory.save(np.full(1000, number), f"p{number}")

def in_a_child(work):
    child = os.fork()
    if not child:
        work()
        memory.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for number in range(4):
        assert (memory.load(f"p{number}") == number).all()

def save_and_load():
    for number in range(4):
        assert (memory.load(f"p{number}") == number).all()
        memory.save(np.full(1000, 10 + number), f"p{number}", overwrite=True)
    for number in range(4):
        assert (memory.load(f"p{number}") == 10 + number).all()

in_a_child(lambda: [memory.load(f"p{number}") for number in range(4)])
in_a_child(lambda: [memory.delete(f"p{number}") for number in range(4)])
in_a_child(lambda: None)
in_a_child(save_and_load)
memory.close()
assert os.listdir(sys.argv[1]) == []
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forks no processes")
def test_a_forked_process_leaves_the_spilled_objects_of_its_parent(tmp_path):
    command = [sys.executable, "-c", FORKED, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_store_that_is_gone_does_not_come_back(tmp_path):
    store = SharedMemoryStorageBackend("mine", parent=tmp_path)
    other = pickle.loads(pickle.dumps(store))
    store.close()
    for call in (
        lambda: other.ensure_directory("folder"),
        lambda: other.ensure_directory("/"),
        lambda: other.save(1, "x"),
        lambda: other.save(1, "folder/x"),
        lambda: other.copy("x", "y"),
    ):
        with pytest.raises(FileNotFoundError, match="the process that made it has closed it"):
            call()
    assert list(tmp_path.iterdir()) == []
    other.close()


def test_a_folder_without_a_living_store_is_none(tmp_path):
    store = SharedMemoryStorageBackend("mine", parent=tmp_path)
    (store.folder / "alive").unlink()
    with pytest.raises(FileNotFoundError, match="the process that made it has closed it"):
        store.ensure_directory("folder")
    assert not (store.folder / "files" / "folder").exists()
    store.close()


def test_folders_are_not_made_in_the_place_of_objects(tmp_path):
    store = SharedMemoryStorageBackend(parent=tmp_path)
    store.save(1, "x")
    with pytest.raises(FileExistsError):
        store.ensure_directory("x")
    with pytest.raises(NotADirectoryError):
        store.ensure_directory("x/below")
    assert store.ensure_directory("a/b/c") == "a/b/c"
    assert store.ensure_directory("a/b") == "a/b"
    assert store.is_dir("a/b/c")
    store.close()
