"""Behaviour by wrapping (S10): counting, read-only, checksums; and the wrappers for tests."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.arrays import is_installed
from hcsflow.config import ZarrConfig
from hcsflow.errors import ChecksumError, ReadOnlyError, StorageResolutionError, UsageError
from hcsflow.storage import (
    ChecksumBackend,
    CountingBackend,
    DataSink,
    DataSource,
    FileManager,
    ReadOnlyBackend,
    StorageBackend,
    StreamingBackend,
    VerifiableBackend,
    VirtualBackend,
    create_storage_registry,
)
from hcsflow.storage.checksums import content_checksum
from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.storage.zarr import ZarrStorageBackend
from hcsflow.testing.failing import FailingBackend
from hcsflow.testing.wrappers import LatencyBackend, NoReadBackend

PLANE = np.arange(12, dtype=np.uint16).reshape(3, 4)


class Names(VirtualBackend):
    def load(self, path):
        return PLANE

    def is_file(self, path):
        return True

    def is_dir(self, path):
        return False

    def list_files(self, directory, *, pattern=None, extensions=None, recursive=False):
        return ["a.tif"]

    def list_dir(self, directory):
        return ["a.tif"]

    def generate_filename(self, metadata):
        return f"{metadata['well']}.tif"


class Viewer(StreamingBackend):
    def save(self, data, path, *, overwrite=False):
        pass

    def close(self):
        self.is_closed = True


ABILITIES = (DataSink, DataSource, StorageBackend, VirtualBackend, StreamingBackend)


@pytest.mark.parametrize("make", [MemoryStorageBackend, Names, Viewer])
@pytest.mark.parametrize("wrapper", [CountingBackend, ReadOnlyBackend, NoReadBackend])
def test_a_wrapper_has_the_abilities_of_what_it_wraps_and_no_other(make, wrapper):
    inner = make()
    wrapped = LatencyBackend(wrapper(inner), 0)
    for ability in ABILITIES:
        assert isinstance(wrapped, ability) == isinstance(inner, ability), ability
    for name in ("save", "load", "delete", "generate_filename", "close"):
        is_there = any(name in vars(kind) for kind in ABILITIES if isinstance(inner, kind))
        assert hasattr(wrapped, name) == is_there, name


def test_special_abilities_pass_through():
    assert CountingBackend(Names()).generate_filename({"well": "A01"}) == "A01.tif"
    viewer = Viewer()
    CountingBackend(viewer).close()
    assert viewer.is_closed
    checked = CountingBackend(ChecksumBackend(MemoryStorageBackend()))
    assert isinstance(checked, VerifiableBackend)
    assert checked.verify().is_sound


def test_options_pass_through(tmp_path):
    zarr = CountingBackend(ChecksumBackend(ZarrStorageBackend(tmp_path)))
    zarr.save(PLANE, "a", attributes={"unit": "um"}, zarr_config=ZarrConfig())
    assert zarr.inner.inner.read_attributes("a") == {"unit": "um"}
    names = [f"A01_s001_w{c}_z001_t001.tif" for c in (1, 2)]
    zarr.save_batch([PLANE, PLANE + 1], [f"store/{n}" for n in names], chunk_name="A01")
    assert np.array_equal(zarr.load(f"store/{names[1]}"), PLANE + 1)
    assert zarr.verify() == (3, {})
    owned = PLANE.copy()
    memory = ReadOnlyBackend(CountingBackend(MemoryStorageBackend()))
    memory.inner.save(owned, "a", copy=True)
    assert owned.flags.writeable
    assert np.array_equal(memory.load("a", copy=False), PLANE)
    disk = ChecksumBackend(DiskStorageBackend(tmp_path / "disk"))
    disk.save({"a": 1}, "a.pkl", allow_pickle=True)
    assert disk.load("a.pkl", allow_pickle=True) == {"a": 1}


def test_read_only_refuses_every_write(tmp_path):
    disk = DiskStorageBackend(tmp_path)
    disk.save(PLANE, "plate/a.npy")
    before = sorted(tmp_path.rglob("*"))
    sealed = ReadOnlyBackend(disk)
    writes = [
        lambda: sealed.save(PLANE, "plate/b.npy"),
        lambda: sealed.save_batch([PLANE], ["plate/b.npy"]),
        lambda: sealed.ensure_directory("new"),
        lambda: sealed.delete("plate/a.npy"),
        lambda: sealed.delete_all("plate"),
        lambda: sealed.move("plate/a.npy", "b.npy"),
        lambda: sealed.copy("plate/a.npy", "b.npy"),
        lambda: sealed.mirror_directory("plate", "mirror"),
    ]
    for write in writes:
        with pytest.raises(PermissionError, match="this DiskStorageBackend is read-only"):
            write()
    with pytest.raises(ReadOnlyError, match=r"save of plate/b\.npy"):
        writes[0]()
    assert sorted(tmp_path.rglob("*")) == before
    assert np.array_equal(sealed.load("plate/a.npy"), PLANE)
    assert sealed.list_files("plate") == ["plate/a.npy"]
    assert sealed.stat("plate/a.npy").nbytes > PLANE.nbytes


def test_counting_outside_a_file_manager():
    memory = CountingBackend(MemoryStorageBackend(), name="m")
    memory.save_batch([PLANE, PLANE], ["/a", "/b"])
    memory.load("/a")
    with pytest.raises(FileNotFoundError):
        memory.load("/c")
    totals = memory.traffic().by_operation["m"]
    assert totals["save_batch"].nbytes == 2 * PLANE.nbytes
    assert (totals["load"].operations, totals["load"].errors) == (2, 1)
    first = memory.log()[0]
    assert (first.name, first.path) == ("save_batch", "2 paths")
    assert CountingBackend(Viewer()).name == "Viewer"


def test_wrappers_go_to_another_process(tmp_path):
    disk = ChecksumBackend(DiskStorageBackend(tmp_path))
    disk.save(PLANE, "a.npy")
    wrapped = LatencyBackend(CountingBackend(FailingBackend(disk, on=2), name="d"), 0)
    wrapped = pickle.loads(pickle.dumps(ReadOnlyBackend(wrapped)))
    assert np.array_equal(wrapped.load("a.npy"), PLANE)
    inner = wrapped.inner.inner
    assert inner.traffic()["d"].operations == 1
    inner.save(PLANE, "b.npy")
    with pytest.raises(OSError, match="No space"):
        inner.save(PLANE, "c.npy")


# --- checksums


@pytest.fixture(params=["disk", "zarr", "memory"])
def checked(request, tmp_path):
    inner = {
        "disk": lambda: DiskStorageBackend(tmp_path),
        "zarr": lambda: ZarrStorageBackend(tmp_path),
        "memory": MemoryStorageBackend,
    }
    return ChecksumBackend(inner[request.param]())


def test_damage_is_found_and_named(checked):
    checked.ensure_directory("plate/deep")
    paths = ["plate/a.npy", "plate/z10.npy", "plate/z9.npy", "plate/deep/b.npy"]
    checked.save_batch([PLANE + i for i in range(4)], paths)
    assert checked.verify() == (4, {})
    assert checked.verify("plate/deep") == (1, {})
    changed = PLANE.copy()
    changed[2, 3] ^= 1
    checked.inner.save(changed, "plate/a.npy", overwrite=True)
    checked.inner.save((PLANE + 3).astype(np.int32), "plate/deep/b.npy", overwrite=True)
    checked.inner.delete("plate/z9.npy")
    found = checked.verify()
    assert found.checked == 4
    assert not found.is_sound
    assert list(found.damaged) == ["plate/a.npy", "plate/deep/b.npy", "plate/z9.npy"] or set(
        found.damaged
    ) == {"plate/a.npy", "plate/deep/b.npy", "plate/z9.npy"}
    assert found.damaged["plate/z9.npy"] == "missing"
    assert found.damaged["plate/a.npy"].startswith("stored as crc32c:")
    with pytest.raises(ChecksumError, match=r"plate/a\.npy: stored as crc32c:"):
        checked.load("plate/a.npy")
    with pytest.raises(ChecksumError):
        checked.load_batch(["plate/z10.npy", "plate/deep/b.npy"])
    assert np.array_equal(checked.load("plate/z10.npy"), PLANE + 1)
    assert checked.verify("plate/a.npy").checked == 1
    checked.save(PLANE, "plate/a.npy", overwrite=True)
    assert "plate/a.npy" not in checked.verify().damaged
    with pytest.raises(FileNotFoundError):
        checked.verify("nowhere")


def test_checksums_are_nowhere_to_be_seen(checked):
    checked.ensure_directory("plate")
    checked.save(PLANE, "plate/a.npy")
    assert checked.list_files("plate", recursive=True) == ["plate/a.npy"]
    assert checked.list_dir("plate") == ["a.npy"]
    checked.delete("plate/a.npy")
    checked.delete("plate")
    assert not checked.exists("plate")


def test_checksums_go_where_their_files_go(checked):
    checked.ensure_directory("one")
    checked.save(PLANE, "one/a.npy")
    checked.copy("one/a.npy", "one/b.npy")
    checked.move("one/a.npy", "one/c.npy")
    checked.copy("one", "two")
    checked.move("one", "three")
    checked.mirror_directory("two", "four")
    assert checked.verify() == (6, {})
    checked.inner.save(PLANE + 1, "four/c.npy", overwrite=True)
    checked.inner.save(PLANE + 1, "three/b.npy", overwrite=True)
    assert set(checked.verify().damaged) == {"four/c.npy", "three/b.npy"}
    checked.copy("two/b.npy", "three/b.npy", overwrite=True)
    checked.delete_all("four")
    assert checked.verify() == (4, {})


@pytest.mark.parametrize("flip", [0.0, 0.5, 0.99])
def test_any_flipped_byte_of_a_file_is_found(tmp_path, flip):
    checked = ChecksumBackend(DiskStorageBackend(tmp_path))
    for name in ("a.npy", "b.tif", "c.csv", "d.json", "e.txt"):
        data = {".csv": pd.DataFrame({"x": [1.5, 2.25]}), ".json": {"a": [1, 2.5]}, ".txt": "text"}
        checked.save(data.get(name[1:], PLANE), name)
    assert checked.verify() == (5, {})
    damaged = set()
    for name in ("a.npy", "b.tif"):
        content = bytearray((tmp_path / name).read_bytes())
        content[-1 - int(flip * (PLANE.nbytes - 1))] ^= 0x40
        (tmp_path / name).write_bytes(content)
        damaged.add(name)
    (tmp_path / "d.json").write_text('{"a": [1, 2.25]}')
    (tmp_path / "c.csv").write_text("")
    assert set(checked.verify().damaged) >= {"a.npy", "c.csv", "d.json"}
    assert set(checked.verify().damaged) <= {"a.npy", "b.tif", "c.csv", "d.json"}


def test_a_truncated_zarr_chunk_is_found(tmp_path):
    checked = ChecksumBackend(ZarrStorageBackend(tmp_path))
    for name in ("a", "b"):
        checked.save(np.arange(1000, dtype=np.uint16).reshape(20, 50), name)
    chunks = [f for f in (tmp_path / "a").rglob("*") if f.is_file() and f.name != "zarr.json"]
    for chunk in chunks:
        chunk.write_bytes(chunk.read_bytes()[:10])
    found = checked.verify()
    assert list(found.damaged) == ["a"]
    assert found.checked == 2


def test_checksums_survive_the_process(tmp_path):
    ChecksumBackend(DiskStorageBackend(tmp_path)).save(PLANE, "plate/a.npy")
    code = (
        "import sys, numpy as np\n"
        "from hcsflow.storage import ChecksumBackend\n"
        "from hcsflow.storage.disk import DiskStorageBackend\n"
        "checked = ChecksumBackend(DiskStorageBackend(sys.argv[1]))\n"
        "assert checked.verify() == (1, {})\n"
        "checked.inner.save(np.zeros((3, 4), np.uint16), 'plate/a.npy', overwrite=True)\n"
        "print(*checked.verify('plate').damaged)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "plate/a.npy"


def test_what_formats_change_is_no_damage(tmp_path):
    disk = ChecksumBackend(DiskStorageBackend(tmp_path))
    disk.save(PLANE, "array.json")
    disk.save({"t": (1, 2), 3: None}, "tuple.json")
    disk.save(pd.DataFrame({"n": np.array([1, 2], np.int8), "w": ["A01", None]}), "table.csv")
    disk.save(pd.DataFrame({"x": np.random.default_rng(0).random(50)}), "floats.csv")
    disk.save({"a": PLANE, "b": PLANE > 3}, "arrays.npz")
    disk.save(PLANE.astype(">u2"), "big.npy")
    assert disk.load("array.json") == PLANE.tolist()
    assert disk.load("tuple.json")["t"] == [1, 2]
    assert list(disk.load("table.csv")["n"]) == [1, 2]
    assert disk.verify() == (6, {})


def test_a_write_that_goes_wrong_is_an_error_at_once(tmp_path):
    class Forgetful(DiskStorageBackend):
        def save(self, data, path, **options):
            super().save(data * 0 if "a.npy" in str(path) else data, path, **options)

    checked = ChecksumBackend(Forgetful(tmp_path))
    with pytest.raises(ChecksumError, match=r"a\.npy came back changed"):
        checked.save(PLANE, "a.npy")


def test_a_failed_overwrite_leaves_the_object_to_be_loaded(tmp_path):
    inner = DiskStorageBackend(tmp_path)
    checked = ChecksumBackend(inner)
    checked.save(PLANE, "a.npy")
    failing = ChecksumBackend(FailingBackend(inner, on=1, operations=["save"]))
    with pytest.raises(OSError, match="No space"):
        failing.save(PLANE + 1, "a.npy", overwrite=True)
    assert np.array_equal(checked.load("a.npy"), PLANE)
    with pytest.raises(FileExistsError):
        checked.save(PLANE + 1, "a.npy")
    assert np.array_equal(checked.load("a.npy"), PLANE)
    assert checked.verify().is_sound


def test_what_has_no_content_or_no_storage_is_refused():
    checked = ChecksumBackend(MemoryStorageBackend())
    with pytest.raises(UsageError, match="has no content that a checksum"):
        checked.save(object(), "/a")
    assert not checked.exists("/a")
    with pytest.raises(UsageError, match="got Viewer"):
        ChecksumBackend(Viewer())


def test_verify_by_the_file_manager(tmp_path):
    files = FileManager(create_storage_registry())
    files.registry.register_backend("safe", ChecksumBackend(DiskStorageBackend(tmp_path)))
    files.save_image(PLANE, "plate/a.tif", "safe")
    assert files.verify("plate", "safe").is_sound
    DiskStorageBackend(tmp_path).save(PLANE + 1, "plate/a.tif", overwrite=True)
    assert list(files.verify("plate", "safe").damaged) == ["plate/a.tif"]
    with pytest.raises(StorageResolutionError, match="'disk' cannot verify what it holds"):
        files.verify("plate", "disk")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
)
def test_content_is_what_counts(value):
    copied = pickle.loads(pickle.dumps(value))
    assert content_checksum(copied) == content_checksum(value)
    assert content_checksum([value]) != content_checksum([value, value])


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_content_does_not_depend_on_the_library(library):
    if not is_installed(library):
        pytest.skip(f"{library} is not installed")
    from hcsflow.arrays import convert

    host = PLANE.astype(np.float32)
    expected = content_checksum(host)
    assert content_checksum(convert(host.copy(), library)) == expected
    assert content_checksum(np.asfortranarray(host)) == expected
    assert content_checksum(host.astype(">f4")) == expected
    assert content_checksum(host.T) != expected
    assert content_checksum(host.reshape(4, 3)) != expected
    assert content_checksum(host.view(np.int32)) != expected


# --- for tests


@pytest.mark.parametrize("on", [1, 3])
def test_failing_fails_once_at_the_nth(on):
    memory = FailingBackend(MemoryStorageBackend(), on=on, operations=["save"])
    for number in range(1, 5):
        memory.ensure_directory("/x")
        if number == on:
            with pytest.raises(OSError, match="No space left"):
                memory.save(PLANE, f"/{number}")
        else:
            memory.save(PLANE, f"/{number}")
    assert len(memory.list_files("/")) == 3
    own = FailingBackend(MemoryStorageBackend(), on=1, operations=["load"], error=EOFError("x"))
    own.save(PLANE, "/a")
    with pytest.raises(EOFError):
        own.load("/a")


def test_no_read_lists_and_refuses():
    backend = NoReadBackend(Names())
    assert backend.list_files("") == ["a.tif"]
    for read in (lambda: backend.load("a.tif"), lambda: backend.load_batch(["a.tif"])):
        with pytest.raises(AssertionError, match="where nothing is to be read"):
            read()


def test_latency_takes_its_time():
    slow = LatencyBackend(Names(), {"load": 0.05})
    start = time.perf_counter()
    slow.list_files("")
    slow.load("a")
    assert time.perf_counter() - start >= 0.05


def test_nothing_is_changed_through_a_read_only_backend():
    memory = MemoryStorageBackend()
    memory.save({"a": 1}, "d")
    for sealed in (ReadOnlyBackend(memory), CountingBackend(ReadOnlyBackend(memory))):
        sealed.load("d", copy=False)["a"] = 2
        assert memory.load("d") == {"a": 1}


def _raised(calls, rounds):
    """Call each many times in a thread of its own; return what was raised but missing files."""
    errors = []

    def repeat(call):
        for number in range(rounds):
            try:
                call(number)
            except FileNotFoundError:
                pass
            except (ChecksumError, OSError, ValueError) as error:
                errors.append(error)

    threads = [threading.Thread(target=repeat, args=(call,)) for call in calls]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    return errors


def test_threads_that_replace_an_object_raise_no_checksum_errors():
    checked = ChecksumBackend(MemoryStorageBackend())
    paths = ["folder/a", "folder/b", "c"]
    checked.ensure_directory("folder")
    checked.ensure_directory("other")

    def arrays(number):
        return [np.full(100, number + place) for place in range(3)]

    def put(number):
        checked.save_batch(arrays(number), paths, overwrite=True)

    def put_in_other_order(number):
        checked.save_batch(arrays(number), paths[::-1], overwrite=True)

    def read(number):
        checked.load_batch(paths)

    def rearrange(number):
        checked.copy("c", "folder/a", overwrite=True)
        checked.move("folder/b", "other/b", overwrite=True)
        checked.copy("other", "folder", overwrite=True)
        checked.delete("c")

    def replace(number):
        checked.save(np.full(100, number), "c", overwrite=True)

    assert _raised([put, put_in_other_order, replace, read, read], 200) == []
    assert checked.verify().is_sound
    assert _raised([put, rearrange, replace, read, read], 100) == []
    assert checked.verify().is_sound
