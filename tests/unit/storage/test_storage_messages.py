"""What errors and representations say: the path as it was given, the reason, what to do."""

from __future__ import annotations

import errno
import resource
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hcsflow import storage
from hcsflow.errors import (
    ConfigError,
    StorageResolutionError,
    UsageError,
)
from hcsflow.storage.traffic import Totals

PLANE = np.arange(12, dtype=np.uint16).reshape(3, 4)
MASKED = np.ma.masked_equal(PLANE, 3)


@pytest.fixture(params=["memory", "disk", "shared"])
def store(request, tmp_path):
    if request.param == "disk":
        yield storage.DiskStorageBackend(tmp_path)
    elif request.param == "memory":
        yield storage.MemoryStorageBackend()
    else:
        made = storage.SharedMemoryStorageBackend(parent=tmp_path)
        yield made
        made.close()


@pytest.fixture
def files():
    return storage.FileManager(storage.create_storage_registry())


@contextmanager
def files_no_longer_than(nbytes):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_errors_name_the_path_as_it_was_given():
    memory = storage.MemoryStorageBackend()
    memory.save([1], "/a")
    memory.ensure_directory("/folder")
    for path, call in (
        ("/a", lambda: memory.save([1], "/a")),
        ("/folder", lambda: memory.save([1], "/folder")),
        ("/no/b", lambda: memory.save([1], "/no/b")),
        ("/no/b", lambda: memory.move("/a", "/no/b")),
        ("/a/in", lambda: memory.ensure_directory("/a/in")),
    ):
        with pytest.raises(OSError, match=r"memory|path") as caught:
            call()
        assert caught.value.filename == path


def test_what_is_there_says_how_to_replace_it(store):
    for name in ("/a.npy", "/b.npy"):
        store.save(PLANE, name)
    for call in (store.move, store.copy):
        with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
            call("/a.npy", "/b.npy")
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        store.save(PLANE, "/a.npy")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="source and target are the same"):
            store.copy("/a.npy", "a.npy", overwrite=overwrite)
    assert np.array_equal(store.load("a.npy"), PLANE)


@pytest.mark.parametrize("start", ["/", "/plate", "plate", ""])
def test_damage_is_named_as_it_was_asked_for(start):
    checked = storage.ChecksumBackend(storage.MemoryStorageBackend())
    checked.ensure_directory("plate")
    checked.save([1], "/plate/a")
    checked.inner.save([2], "/plate/a", overwrite=True)
    named = "plate/a" if start in ("", "plate") else "/plate/a"
    assert list(checked.verify(start).damaged) == [named]
    assert list(checked.verify(named).damaged) == [named]


def test_a_str_is_one_extension(store):
    for name in ("a.npy", "b.png.npy", "c.t"):
        if name.endswith(".t") and isinstance(store, storage.DiskStorageBackend):
            continue
        store.save(PLANE, name)
    for given in (".npy", "npy", ".NPY", [".npy"], {"npy"}):
        assert store.list_files("/", extensions=given) == ["/a.npy", "/b.png.npy"]
    assert store.list_files("/", extensions=".png.npy") == ["/b.png.npy"]


def test_checksums_are_not_nested():
    once = storage.ChecksumBackend(storage.MemoryStorageBackend())
    for wrapped in (once, storage.CountingBackend(once)):
        with pytest.raises(UsageError, match="keeps checksums already"):
            storage.ChecksumBackend(wrapped)


def test_verifying_without_checksums_says_how_to_get_them(files):
    files.registry.register_backend("mine", storage.MemoryStorageBackend())
    with pytest.raises(StorageResolutionError) as caught:
        files.verify("/", "mine")
    assert "ChecksumBackend" in caught.value.hint
    assert "memory" not in caught.value.hint
    safe = storage.ChecksumBackend(storage.MemoryStorageBackend())
    files.registry.register_backend("safe", safe)
    with pytest.raises(StorageResolutionError) as caught:
        files.verify("/", "memory")
    assert "safe" in caught.value.hint
    assert "disk" not in caught.value.hint


class Other:
    """No backend at all."""


@pytest.mark.parametrize("given", [Other(), Other, 3, None, "no_class"])
def test_what_is_no_backend_is_refused_at_once(files, given):
    with pytest.raises(StorageResolutionError, match="'mine' cannot be") as caught:
        files.registry.register_backend("mine", given)
    assert "hcsflow.storage.abc" in caught.value.hint
    assert "mine" not in files.registry.get_available_backends()


@pytest.mark.parametrize(
    "setting", ["limit_bytes", "device_limit_bytes", "disk_limit_bytes", "max_objects"]
)
@pytest.mark.parametrize("value", ["4GB", True, float("nan"), [1]])
def test_limits_that_are_no_numbers_are_named(setting, value):
    with pytest.raises(ConfigError, match=f"{setting} must be a number"):
        storage.MemoryStorageBackend(**{setting: value})
    with pytest.raises(ConfigError, match="cleanup_threshold"):
        storage.MemoryStorageBackend(cleanup_threshold="0.5")


def test_what_cannot_be_copied_is_named():
    memory, lock = storage.MemoryStorageBackend(), threading.Lock()
    with pytest.raises(UsageError, match="/locks/a: dict cannot be copied") as caught:
        memory.save({"lock": lock}, "/locks/a")
    assert "copy=False" in caught.value.hint
    memory.save(lock, "/b", copy=False)
    with pytest.raises(UsageError, match="/b: lock cannot be copied") as caught:
        memory.load("/b")
    assert "load with copy=False" in caught.value.hint
    assert memory.load("/b", copy=False) is lock


def test_a_full_disk_names_the_file(tmp_path):
    disk = storage.DiskStorageBackend(tmp_path)
    big = np.random.default_rng(0).random(5000)
    disk.save(big, "there.npy")
    with files_no_longer_than(1000):
        for call in (lambda: disk.save(big, "a.npy"), lambda: disk.copy("there.npy", "a.npy")):
            with pytest.raises(OSError, match="too large") as caught:
                call()
            assert caught.value.filename == str(tmp_path / "a.npy")
            assert caught.value.errno == errno.EFBIG


def test_a_full_memory_names_the_file(tmp_path):
    shared = storage.SharedMemoryStorageBackend(parent=tmp_path / "..")
    memory = storage.MemoryStorageBackend(limit_bytes=0, spill_dir=tmp_path)
    big = np.random.default_rng(0).random(5000)
    with files_no_longer_than(1000):
        with pytest.raises(OSError, match="too large") as caught:
            memory.save(big, "/a")
        assert Path(caught.value.filename).parent.parent == tmp_path
        assert caught.value.errno == errno.EFBIG
        with pytest.raises(OSError, match="too large") as caught:
            shared.save(big, "/a")
        assert caught.value.filename == "/a"
    shared.close()
    memory.close()


@pytest.mark.parametrize("is_owner", [True, False])
def test_a_closed_store_says_so(tmp_path, is_owner):
    owner = storage.SharedMemoryStorageBackend("mine", parent=tmp_path)
    guest = storage.SharedMemoryStorageBackend("mine", parent=tmp_path)
    owner.close()
    store, says = (owner, "store is closed") if is_owner else (guest, "has closed it")
    for call in (
        lambda: store.save(1, "x"), lambda: store.load("x"), lambda: store.exists("x"),
        lambda: store.list_files("/"), lambda: store.list_dir("/"), lambda: store.stat("x"),
        lambda: store.ensure_directory("f"), lambda: store.delete("x"),
        lambda: store.copy("x", "y"), lambda: store.delete_all("x"), lambda: store.delete_all("/"),
        lambda: store.move("x", "y"),
    ):  # fmt: skip
        with pytest.raises(FileNotFoundError, match=says):
            call()
    guest.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.npy", "m.tif", "m.png", "m.npz", "m.pt", "m.zarr"])
def test_a_mask_is_not_lost(tmp_path, name):
    if name == "m.pt":
        pytest.importorskip("torch")
    kind = storage.ZarrStorageBackend if name == "m.zarr" else storage.DiskStorageBackend
    store = kind(tmp_path)
    with pytest.raises(UsageError, match=r"\.filled\(value\)"):
        store.save({"a": MASKED} if name == "m.npz" else MASKED, name)
    assert not store.exists(name)
    memory = storage.MemoryStorageBackend()
    memory.save(MASKED, "m")
    assert memory.load("m").mask.sum() == 1


def test_other_subclasses_are_arrays(tmp_path):
    disk = storage.DiskStorageBackend(tmp_path)
    mapped = np.memmap(tmp_path / "raw", np.uint8, mode="w+", shape=(2, 3))
    disk.save(mapped, "a.tif")
    disk.save(PLANE.view(np.matrix), "b.npy")
    assert type(disk.load("a.tif")) is type(disk.load("b.npy")) is np.ndarray


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 17), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("compressed", [False, True])
def test_tiff_keeps_booleans(tmp_path, shape, compressed):
    mask = np.random.default_rng(0).random(shape) > 0.5
    disk = storage.DiskStorageBackend(tmp_path, enable_compression=compressed)
    disk.save(mask, "m.tif")
    assert disk.load("m.tif").dtype == bool
    assert np.array_equal(disk.load("m.tif"), mask)


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("a.tif", np.zeros((2, 2), complex), "no such numbers as complex128"),
        ("a.tif", np.zeros(3), r"two axes or more.*\(3,\)"),
        ("a.tif", np.zeros((0, 3)), r"pixels.*\(0, 3\)"),
        ("a.png", np.zeros((2, 2), complex), "complex128"),
        ("a.png", np.zeros((2, 2), np.uint32), "uint32"),
        ("a.png", np.zeros((2, 2), bool), "the array is bool"),
        ("a.png", np.zeros((5, 2, 2), np.uint8), r"one plane.*\(5, 2, 2\)"),
        ("a.png", np.zeros(3, np.uint8), r"one plane.*\(3,\)"),
    ],
)
def test_images_that_a_format_cannot_hold_get_the_real_reason(tmp_path, name, array, says):
    with pytest.raises(UsageError, match=says):
        storage.DiskStorageBackend(tmp_path).save(array, name)
    assert list(tmp_path.iterdir()) == []


def test_representations_are_short(tmp_path):
    memory = storage.MemoryStorageBackend(limit_bytes=2_000_000, spill_dir=tmp_path)
    assert repr(memory) == "<MemoryStorageBackend: 0 objects, 0 bytes>"
    for number in range(4):
        memory.save(np.zeros(800_000, np.uint8), f"/{number}")
    assert repr(memory) == "<MemoryStorageBackend: 4 objects, 3.2 MB>"
    memory.close()
    disk = storage.DiskStorageBackend(tmp_path)
    assert repr(disk) == f"<DiskStorageBackend: {tmp_path}>"
    assert repr(storage.DiskStorageBackend()) == "<DiskStorageBackend: paths of the system>"
    assert repr(storage.ReadOnlyBackend(disk)) == f"ReadOnlyBackend({disk!r})"
    shared = storage.SharedMemoryStorageBackend("mine", parent=tmp_path)
    assert repr(shared) == "<SharedMemoryStorageBackend: mine>"
    shared.close()
    assert repr(shared) == "<SharedMemoryStorageBackend: mine, closed>"


def test_traffic_is_read_as_a_table(files):
    files.save(PLANE, "/a", "memory")
    files.load("/a", "memory")
    with pytest.raises(FileNotFoundError):
        files.load("/b", "memory")
    assert repr(files.traffic()) == "<Traffic: 1 backend, 3 operations, 1 error, 48 bytes>"
    head, load, save = (line.split() for line in str(files.traffic()).splitlines())
    assert head == ["backend", "operation", "operations", "errors", "bytes", "seconds"]
    assert load[:5] == ["memory", "load", "2", "1", "24"]
    assert save[:5] == ["memory", "save", "1", "0", "24"]
    big = storage.Traffic({"zarr": {"load": Totals(10_000, 0, 5_000_000, 1.5)}})
    assert str(big).splitlines()[1].split()[2:] == ["10,000", "0", "5,000,000", "1.500"]
    assert str(storage.Traffic()).split() == head
