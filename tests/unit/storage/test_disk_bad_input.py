"""Bad luck and bad input on disk: a named error, and what was stored is as before."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hcsflow.errors import HcsflowError, PlaneError, UsageError
from hcsflow.storage.disk import DiskStorageBackend

PLANE = np.random.default_rng(0).integers(0, 60000, (100, 100)).astype(np.uint16)
VALUES = {
    "a.tif": PLANE,
    "a.png": PLANE,
    "a.npy": PLANE,
    "a.npz": {"one": PLANE},
    "a.json": {"numbers": list(range(1000))},
    "a.yaml": {"numbers": list(range(1000))},
    "a.csv": pd.DataFrame({"n": range(3000)}),
    "a.parquet": pd.DataFrame({"n": np.random.default_rng(0).random(3000)}),
    "a.txt": "x" * 5000,
}
SMALLER = {
    "a.tif": PLANE[:9, :9].copy(), "a.png": PLANE[:9, :9].copy(), "a.npy": PLANE[:9].copy(),
    "a.npz": {"old": PLANE[:9].copy()}, "a.json": [1], "a.yaml": [1],
    "a.csv": pd.DataFrame({"n": [1]}), "a.parquet": pd.DataFrame({"n": [1.0]}), "a.txt": "old",
}  # fmt: skip


@pytest.fixture
def disk(tmp_path):
    return DiskStorageBackend(tmp_path / "store")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def files_no_longer_than(nbytes):
    """Let the kernel refuse the write that would take a file past a size."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("name", VALUES)
def test_a_write_that_fails_anywhere_leaves_the_old_file(disk, tmp_path, name):
    disk.save(VALUES[name], name)
    size = (tmp_path / "store" / name).stat().st_size
    disk.save(SMALLER[name], name, overwrite=True)
    before = contents(tmp_path)
    for limit in (0, 1, size // 3, size // 2, size - 1):
        with files_no_longer_than(limit), pytest.raises(OSError, match="File too large") as raised:
            disk.save(VALUES[name], name, overwrite=True)
        assert raised.value.errno == errno.EFBIG, (limit, raised.value)
        assert contents(tmp_path) == before, limit
    with files_no_longer_than(size // 2), pytest.raises(OSError, match="too large"):
        disk.save(VALUES[name], f"new_{name}")
    assert contents(tmp_path) == before


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.npz"])
def test_a_full_disk_is_said_and_leaves_what_was_there(small_disk, name):
    disk = DiskStorageBackend(small_disk)
    big = np.random.default_rng(1).integers(0, 60000, (300, 300)).astype(np.uint16)
    value = {"one": big} if name.endswith("npz") else big
    disk.save(SMALLER[name], name)
    before = contents(small_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        disk.save(value, name, overwrite=True)
    assert raised.value.errno == errno.ENOSPC
    assert contents(small_disk) == before
    disk.save(SMALLER[name], f"small_{name}")  # there is room again


def test_no_permission_is_said_with_the_file():
    """In a process that is not root, which may write anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        DiskStorageBackend(store).save(PLANE, "a.npy")
        Path(folder).chmod(0o755)
        store.chmod(0o555)
        before = contents(store)
        code = (
            "import os, sys, numpy as np, hcsflow.storage.array_formats\n"
            "from hcsflow.storage.disk import DiskStorageBackend\n"
            "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
            "disk = DiskStorageBackend(sys.argv[1])\n"
            "calls = [lambda: disk.save(np.ones((2, 2)), 'b.npy'), lambda: disk.delete('a.npy'),\n"
            "         lambda: disk.save(np.ones((2, 2)), 'a.npy', overwrite=True)]\n"
            "for call in calls:\n"
            "    try: call()\n"
            "    except PermissionError as error: print(os.path.dirname(error.filename))\n"
            "print(disk.load('a.npy').shape)\n"
        )
        command = [sys.executable, "-c", code, str(store)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        store.chmod(0o755)
        assert done.stdout.split("\n") == [*[str(store)] * 3, "(100, 100)", ""], done.stderr
        assert contents(store) == before


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        (name, spoil)
        for name in ("a.tif", "a.png", "a.npy", "a.npz", "a.json", "a.parquet", "a.csv")
        for spoil in ("empty", "foreign", "half")
        if (name, spoil) not in {("a.csv", "empty"), ("a.csv", "half")}  # shorter tables
    ],
)
def test_what_is_no_such_file_is_named(disk, tmp_path, name, spoil):
    disk.save(VALUES[name], name)
    disk.save(PLANE, "good.npy")
    file = tmp_path / "store" / name
    whole = file.read_bytes()
    file.write_bytes(
        {"empty": b"", "foreign": b"\x89\xff\xfe\x00" * 100, "half": whole[: len(whole) // 2]}[
            spoil
        ]
    )
    with pytest.raises(PlaneError) as raised:
        disk.load(name)
    assert name in str(raised.value)
    assert raised.value.file == name
    assert raised.value.hint
    assert np.array_equal(disk.load("good.npy"), PLANE)


def test_a_folder_in_place_of_a_file_is_said(disk, tmp_path):
    disk.ensure_directory("a.npy")
    for call in (lambda: disk.save(PLANE, "a.npy"), lambda: disk.load("a.npy"),
                 lambda: disk.save(PLANE, "a.npy", overwrite=True)):  # fmt: skip
        with pytest.raises(OSError, match=r"a\.npy"):
            call()
    assert (tmp_path / "store" / "a.npy").is_dir()
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("value", "name", "says"),
    [
        (PLANE, "a.csv", "tables"),
        (PLANE, "a.xyz", "no file format"),
        (PLANE, "a.tiif", "did you mean .tif"),
        ({"a": object()}, "a.json", "no plain form"),
        (object(), "a.npy", "arrays"),
        ("text", "a.parquet", "tables"),
        (PLANE, "a.pkl", "pickles are refused"),
        (np.array([object()]), "a.npy", "numbers"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(disk, tmp_path, value, name, says):
    disk.ensure_directory("")
    with pytest.raises(UsageError, match=says.replace(".", r"\.").replace("?", r"\?")):
        disk.save(value, name)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("path", ["../a.npy", "x/../../a.npy", "x/.."])
def test_no_path_leads_out(disk, tmp_path, path):
    for call in (disk.load, disk.delete, disk.delete_all, disk.stat, disk.list_dir):
        with pytest.raises(HcsflowError):
            call(path)
    with pytest.raises(HcsflowError):
        disk.save(PLANE, path)
    assert contents(tmp_path) == {}


def test_of_two_processes_that_save_one_file_one_wins(disk, tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from hcsflow.storage.disk import DiskStorageBackend\n"
        "disk, number = DiskStorageBackend(sys.argv[1]), int(sys.argv[2])\n"
        "won = 0\n"
        "sys.stdin.readline()\n"
        "for i in range(50):\n"
        "    try: disk.save(np.full((50, 50), number, np.uint16), f'{i}.npy'); won += 1\n"
        "    except FileExistsError: pass\n"
        "print(won)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "store"), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in (1, 2)
    ]  # fmt: skip
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(won) == 50
    found = [int(disk.load(f"{i}.npy").max()) for i in range(50)]
    assert [found.count(1), found.count(2)] == won
    assert all((disk.load(f"{i}.npy") == n).all() for i, n in enumerate(found))
