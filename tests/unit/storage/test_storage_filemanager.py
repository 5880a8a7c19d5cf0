from __future__ import annotations

import logging
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from hcsflow import open_plate, storage
from hcsflow.arrays import MEMORY_TYPES, convert, is_installed, memory_type_of, to_numpy
from hcsflow.config import Backend, MaterializationBackend
from hcsflow.errors import StorageResolutionError, UsageError
from hcsflow.storage import (
    DataSink,
    FileManager,
    ReadOnlyBackend,
    StreamingBackend,
    Traffic,
    VirtualBackend,
    create_storage_registry,
)
from hcsflow.storage.traffic import LOG_LENGTH, Totals, TrafficMeter, weigh
from hcsflow.storage.virtual_workspace import VirtualWorkspaceBackend
from hcsflow.testing.plates import write_imagexpress_plate

PLANE = np.arange(6, dtype=np.uint16).reshape(2, 3)


@pytest.fixture
def files():
    return FileManager(create_storage_registry())


class Viewer(StreamingBackend):
    def __init__(self):
        self.seen = []

    def save(self, data, path, *, overwrite=False):
        self.seen.append(str(path))

    def close(self):
        self.seen.clear()


@pytest.mark.parametrize("backend", ["memory", "disk", "zarr"])
def test_one_logical_path_on_every_backend(files, tmp_path, backend):
    folder = tmp_path / "step1"
    files.ensure_directory(folder, backend)
    for number in (10, 9):
        files.save_image(PLANE + number, folder / f"z{number}.tif", backend)
    listed = files.list_image_files(folder, backend)
    assert listed == [f"{folder}/z9.tif", f"{folder}/z10.tif"]
    assert files.list_files(folder, backend, pattern="z1*") == listed[1:]
    assert files.list_files(folder, backend, extensions=[".PNG"]) == []
    assert files.list_files(folder.parent, backend, recursive=True) == listed
    assert np.array_equal(files.load_image(listed[0], backend), PLANE + 9)
    files.move(listed[0], folder / "moved.tif", backend)
    files.copy(folder / "moved.tif", folder / "again.tif", backend)
    assert files.mirror_directory_structure(folder, tmp_path / "mirror", backend) == 3
    assert files.list_dir(tmp_path / "mirror", backend) == ["again.tif", "moved.tif", "z10.tif"]
    files.delete(folder / "moved.tif", backend)
    assert not files.exists(folder / "moved.tif", backend)
    assert files.is_dir(folder, backend)


def test_backends_are_named_by_enum_or_text(files):
    files.save([1], "/a", Backend.MEMORY)
    assert files.load("/a", "memory") == [1]
    assert files.get_backend(MaterializationBackend.ZARR) is files.get_backend("zarr")


LIBRARIES = [
    pytest.param(name, marks=[pytest.mark.gpu] if name == "cupy" else [])
    for name in MEMORY_TYPES
    if name != "tensorflow"
]
LIBRARIES.append(pytest.param("tensorflow", marks=pytest.mark.tensorflow))


@pytest.mark.parametrize("backend", ["memory", "disk", "zarr"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_any_library_in_and_numpy_or_what_was_asked_for_out(files, tmp_path, backend, library):
    if not is_installed(library):
        pytest.skip(f"{library} is not installed")
    path = tmp_path / "step" / "plane.tif"
    files.ensure_directory(path.parent, backend)
    files.save_image(convert(PLANE.copy(), library), path, backend)
    found = files.load_image(path, backend)
    assert type(found) is np.ndarray
    assert found.dtype == np.uint16
    assert np.array_equal(found, PLANE)
    again = files.load_array(path, backend, memory_type=library)
    assert memory_type_of(again) == library
    assert np.array_equal(to_numpy(again), PLANE)


def test_what_is_no_array_or_no_image_is_refused(files):
    files.save([1], "/list", "memory")
    table = pd.DataFrame({"a": [1]})
    with pytest.raises(UsageError, match="expected an array, found list"):
        files.load_array("/list", "memory")
    for odd in ([1], table, "text"):
        with pytest.raises(UsageError, match=r"expected an array, got|two axes"):
            files.save_image(odd, "/i", "memory")
    with pytest.raises(UsageError, match="expected an array, got DataFrame"):
        files.save_array(table, "/i", "memory")
    with pytest.raises(UsageError, match=r"two axes, got shape \(2, 2, 2\)"):
        files.save_image(np.zeros((2, 2, 2)), "/i", "memory")
    files.save(np.zeros(3), "/line", "memory")
    with pytest.raises(UsageError, match="two axes, found shape"):
        files.load_image("/line", "memory")
    assert not files.exists("/i", "memory")


@pytest.mark.parametrize("backend", ["memory", "disk", "zarr"])
def test_options_go_to_the_backend(files, tmp_path, backend):
    path = tmp_path / "plane.npy"
    files.ensure_directory(tmp_path, backend)
    files.save_array(PLANE, path, backend)
    with pytest.raises(FileExistsError):
        files.save_image(PLANE + 1, path, backend)
    files.save_image(PLANE + 1, path, backend, overwrite=True)
    files.save_batch([PLANE + 2], [path], backend, overwrite=True)
    assert np.array_equal(files.load_array(path, backend), PLANE + 2)
    with pytest.raises(TypeError, match="nonsense"):
        files.save(PLANE, path, backend, nonsense=True)


def test_batches_and_traffic(files, caplog):
    files.ensure_directory("/b", "memory")
    with caplog.at_level(logging.DEBUG, "hcsflow.storage"):
        files.save_batch([PLANE, PLANE + 1], ["/b/1", "/b/2"], "memory")
        assert len(files.load_batch(["/b/1", "/b/2"], Backend.MEMORY)) == 2
        with pytest.raises(FileNotFoundError):
            files.load("/none", "memory")
    counted = files.traffic()["memory"]
    assert (counted.operations, counted.errors) == (4, 1)
    assert counted.nbytes == 4 * PLANE.nbytes
    assert counted.seconds > 0
    by_operation = files.traffic().by_operation["memory"]
    assert list(by_operation) == ["ensure_directory", "load", "load_batch", "save_batch"]
    assert by_operation["load"] == Totals(1, 1, 0, by_operation["load"].seconds)
    assert f"memory save_batch 2 paths: {2 * PLANE.nbytes} bytes" in caplog.text
    assert "memory load /none: FileNotFoundError" in caplog.text


def test_the_log_holds_the_last_operations(files):
    before = time.time()
    for number in range(LOG_LENGTH + 5):
        files.save(PLANE, f"/{number}", "memory")
    with pytest.raises(FileExistsError):
        files.save(PLANE, "/3", Backend.MEMORY)
    log = files.log()
    assert len(log) == LOG_LENGTH
    assert [entry.path for entry in log[:2]] == ["/6", "/7"]
    assert (log[-1].name, log[-1].backend) == ("save", "memory")
    assert [entry.error for entry in log[-2:]] == [None, "FileExistsError"]
    assert log[-2].nbytes == PLANE.nbytes
    assert before - 1 < log[-1].time < before + 60


def test_every_operation_is_counted(files, tmp_path):
    disk, path = "disk", tmp_path / "a.npy"
    files.save(PLANE, path, disk)
    files.exists(path, disk), files.is_file(path, disk), files.is_dir(path, disk)
    files.list_files(tmp_path, disk), files.list_dir(tmp_path, disk)
    files.copy(path, tmp_path / "b.npy", disk), files.move(path, tmp_path / "c.npy", disk)
    files.mirror_directory(tmp_path, tmp_path.parent / "mirror", disk)
    files.delete(tmp_path / "b.npy", disk), files.delete_all(tmp_path / "c.npy", disk)
    assert set(files.traffic().by_operation[disk]) == set(
        "save exists is_file is_dir list_files list_dir copy move mirror_directory delete"
        " delete_all".split()
    )


def test_no_count_is_lost_between_threads(files):
    threads, times = 16, 500
    started = threading.Barrier(threads)

    def work(number):
        started.wait()
        for i in range(times):
            files.save(PLANE, f"/{number}_{i}", "memory")
            files.traffic()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
    finally:
        sys.setswitchinterval(interval)
    counted = files.traffic()["memory"]
    assert counted.operations == threads * times
    assert counted.nbytes == threads * times * PLANE.nbytes


def test_threads_that_ended_still_count():
    meter = TrafficMeter()
    for _ in range(50):
        thread = threading.Thread(target=meter.count, args=("disk", "save", "/a", 0.0, 10))
        thread.start()
        thread.join()
    assert meter.traffic()["disk"].operations == 50
    assert meter.traffic()["disk"].nbytes == 500
    assert len(meter._cells) < 50  # those that ended hand their cells on


def test_traffic_is_a_mapping_by_backend():
    traffic = Traffic({"memory": {"load": Totals(1)}, "disk": {"save": Totals(2, 1, 10, 0.5)}})
    assert list(traffic) == ["disk", "memory"]
    assert traffic["disk"] == Totals(2, 1, 10, 0.5)
    assert traffic != Traffic()
    with pytest.raises(KeyError):
        traffic["zarr"]


def test_weighing_is_bounded():
    assert weigh(PLANE) == PLANE.nbytes
    assert weigh([PLANE, {"a": PLANE}]) == 2 * PLANE.nbytes
    assert weigh(()) == 0
    assert weigh(pd.DataFrame({"a": np.zeros(100)})) >= 800
    endless = []
    endless.append(endless)
    assert weigh(endless) == 0
    assert weigh([b"1234"] * 100_000) <= 4 * 256


def test_symlinks_are_refused_with_the_reason(files):
    with pytest.raises(UsageError, match="makes no symlinks"):
        files.mirror_directory("/a", "/b", "disk", overwrite_symlinks_only=True)
    with pytest.raises(UsageError, match="makes no symlinks"):
        files.move("/a", "/b", "disk", replace_symlinks=False)


def test_unknown_backends_name_those_there_are(files):
    with pytest.raises(StorageResolutionError) as caught:
        files.load("/a", "dsk")
    there = "disk, memory, virtual_workspace, zarr"
    assert f"no storage backend 'dsk'; there are {there}" in str(caught.value)
    assert "did you mean 'disk'?" in str(caught.value)
    with pytest.raises(StorageResolutionError, match="belongs to one plate"):
        files.load("/a", Backend.VIRTUAL_WORKSPACE)
    with pytest.raises(StorageResolutionError, match="cannot verify what it holds"):
        files.verify("/", "memory")


def test_an_ability_that_a_backend_lacks(files):
    viewer = Viewer()
    files.registry.register_backend("viewer", viewer)
    files.save(PLANE, "/a", "viewer")
    files.save_batch([PLANE], ["/b"], "viewer")
    assert viewer.seen == ["/a", "/b"]
    with pytest.raises(StorageResolutionError, match="'viewer' cannot give data: a Viewer"):
        files.load("/a", "viewer")
    with pytest.raises(StorageResolutionError, match="cannot give data"):
        files.list_files("/", "viewer")
    with pytest.raises(StorageResolutionError, match="cannot rearrange files"):
        files.delete("/a", "viewer")
    assert not hasattr(viewer, "load")


def test_a_virtual_workspace_gives_and_does_not_take(files, tmp_path):
    write_imagexpress_plate(tmp_path / "P", wells=("A01",), fields=10, channels=1, z=1, size=32)
    plate = open_plate(tmp_path / "P")
    workspace = VirtualWorkspaceBackend(plate.manifest, plate.model)
    files.registry.register_backend(Backend.VIRTUAL_WORKSPACE, workspace)
    there = Backend.VIRTUAL_WORKSPACE
    names = files.list_image_files("", there)
    assert [int(name.split("_s")[1][:3]) for name in names] == list(range(1, 11))
    assert files.load_image(names[0], there).shape == (32, 32)
    assert files.is_file(names[0], there)
    with pytest.raises(StorageResolutionError) as caught:
        files.save_image(PLANE, "A01.tif", there)
    assert "'virtual_workspace' cannot take data" in str(caught.value)
    assert "use another of disk, memory, zarr" in str(caught.value)
    assert files.traffic()["virtual_workspace"].nbytes == 32 * 32 * 2
    wrapped = ReadOnlyBackend(workspace)
    assert not isinstance(wrapped, DataSink)
    assert isinstance(wrapped, VirtualBackend)


def test_public_names_are_there():
    for name in storage.__all__:
        assert getattr(storage, name) is not None
    with pytest.raises(AttributeError):
        storage.nothing  # noqa: B018


class Unsized:
    @property
    def nbytes(self):
        raise RuntimeError("closed")


def test_what_cannot_tell_its_size_is_saved_and_counts_nothing(files):
    unsized = Unsized()
    files.save(unsized, "/x", "memory", copy=False)
    files.save_batch([unsized, [unsized]], ["/y", "/z"], "memory")
    assert files.exists("/x", "memory")
    files.load("/x", "memory")
    totals = files.traffic().by_operation["memory"]
    assert [totals[name].operations for name in ("save", "save_batch", "load")] == [1, 1, 1]
    assert files.traffic()["memory"].nbytes == 0
    assert files.traffic()["memory"].errors == 0
