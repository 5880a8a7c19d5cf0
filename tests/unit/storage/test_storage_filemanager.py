from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest

from hcsflow import storage
from hcsflow.config import Backend, MaterializationBackend
from hcsflow.errors import StorageResolutionError, UsageError
from hcsflow.storage import DataSink, FileManager, StreamingBackend, create_storage_registry

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


def test_arrays_in_the_memory_type_asked_for(files):
    torch = pytest.importorskip("torch")
    files.save_array(torch.ones(2, 3), "/t", "memory")
    assert isinstance(files.load_array("/t", "memory", memory_type="torch"), torch.Tensor)
    files.save([1], "/list", "memory")
    with pytest.raises(UsageError, match="expected an array"):
        files.load_array("/list", "memory")
    with pytest.raises(UsageError, match="two axes"):
        files.save_image(np.zeros((2, 2, 2)), "/i", "memory")


def test_batches_and_traffic(files, caplog):
    files.ensure_directory("/b", "memory")
    with caplog.at_level(logging.DEBUG, "hcsflow.storage"):
        files.save_batch([PLANE, PLANE + 1], ["/b/1", "/b/2"], "memory")
        assert len(files.load_batch(["/b/1", "/b/2"], "memory")) == 2
    counted = files.traffic()["memory"]
    assert counted.operations == 2
    assert counted.nbytes >= 4 * PLANE.nbytes
    assert counted.seconds > 0
    assert "memory save_batch 2 paths" in caplog.text
    with pytest.raises(FileNotFoundError):
        files.load("/none", "memory")
    assert files.traffic()["memory"].operations == 3


def test_symlinks_are_refused_with_the_reason(files):
    with pytest.raises(UsageError, match="makes no symlinks"):
        files.mirror_directory("/a", "/b", "disk", overwrite_symlinks_only=True)
    with pytest.raises(UsageError, match="makes no symlinks"):
        files.move("/a", "/b", "disk", replace_symlinks=False)


def test_unknown_backends_name_those_there_are(files):
    with pytest.raises(StorageResolutionError) as caught:
        files.load("/a", "dsk")
    assert "no storage backend 'dsk'; there are disk, memory, zarr" in str(caught.value)
    assert "did you mean 'disk'?" in str(caught.value)
    with pytest.raises(StorageResolutionError, match="belongs to one plate"):
        files.load("/a", Backend.VIRTUAL_WORKSPACE)


def test_an_ability_that_a_backend_lacks(files):
    viewer = Viewer()
    files.registry.register_backend("viewer", viewer)
    files.save(PLANE, "/a", "viewer")
    files.save_batch([PLANE], ["/b"], "viewer")
    assert viewer.seen == ["/a", "/b"]
    with pytest.raises(StorageResolutionError, match="'viewer' cannot give data"):
        files.load("/a", "viewer")
    with pytest.raises(StorageResolutionError, match="cannot rearrange files"):
        files.delete("/a", "viewer")
    assert not hasattr(viewer, "load")


def test_registering():
    registry = create_storage_registry()
    with pytest.raises(StorageResolutionError, match="already called 'disk'"):
        registry.register_backend(Backend.DISK, Viewer)
    registry.register_backend("viewer", Viewer)
    assert registry.get_backend("viewer") is registry.get_backend("viewer")
    assert registry.get_available_backends() == ["disk", "memory", "viewer", "zarr"]
    registry.register_backend("broken", "hcsflow_no_such_module:Thing")
    with pytest.raises(StorageResolutionError, match="needs hcsflow_no_such_module"):
        registry.get_backend("broken")
    registry.register_backend("odd", dict)
    with pytest.raises(StorageResolutionError, match="neither a sink nor a source"):
        registry.get_backend("odd")
    assert create_storage_registry().get_available_backends() == ["disk", "memory", "zarr"]


def test_entry_points_add_backends(tmp_path, monkeypatch):
    (tmp_path / "their_store.py").write_text(
        "from hcsflow.storage.memory import MemoryStorageBackend as Theirs\n"
    )
    info = tmp_path / "their_store-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-store\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[hcsflow.storage]\ntheirs = their_store:Theirs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = create_storage_registry()
    assert "theirs" in registry.get_available_backends()
    assert isinstance(registry.get_backend("theirs"), DataSink)
    with pytest.raises(StorageResolutionError, match="already called"):
        registry.register_backend("theirs", Viewer)


def test_listing_backends_imports_none_of_their_libraries():
    code = (
        "import sys, hcsflow.storage as s; s.storage_registry.get_available_backends(); "
        "heavy = {'zarr', 'pandas', 'tifffile', 'torch', 'dask', 'xarray'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_there():
    for name in storage.__all__:
        assert getattr(storage, name) is not None
    with pytest.raises(AttributeError):
        storage.nothing  # noqa: B018
