"""Backends by name (S6): ours, those of installed packages, those that a program registers."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import hcsflow
from hcsflow.config import Backend
from hcsflow.errors import StorageResolutionError
from hcsflow.storage import (
    DataSink,
    FileManager,
    StorageRegistry,
    StreamingBackend,
    create_storage_registry,
    storage_registry,
)
from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.storage.memory import MemoryStorageBackend

THIRD_PARTY = Path(__file__).parents[2] / "data" / "third_party_backend"
BUILTIN = ["disk", "memory", "virtual_workspace", "zarr"]
SOURCE = str(Path(hcsflow.__file__).parents[1])


class Viewer(StreamingBackend):
    def save(self, data, path, *, overwrite=False):
        pass

    def close(self):
        pass


def offer(folder: Path, package: str, entry: str, code: str = "") -> None:
    """Put a package with one backend into a folder, as an installer leaves it."""
    module = package.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[hcsflow.storage]\n{entry}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_registering():
    registry = create_storage_registry()
    with pytest.raises(StorageResolutionError, match="already called 'disk'"):
        registry.register_backend(Backend.DISK, Viewer)
    registry.register_backend("viewer", Viewer)
    assert registry.get_backend("viewer") is registry.get_backend("viewer")
    assert registry.get_available_backends() == sorted([*BUILTIN, "viewer"])
    registry.register_backend("broken", "hcsflow_no_such_module:Thing")
    with pytest.raises(StorageResolutionError, match="needs hcsflow_no_such_module"):
        registry.get_backend("broken")
    registry.register_backend("odd", lambda: 3)
    with pytest.raises(StorageResolutionError, match="neither a sink nor a source"):
        registry.get_backend("odd")
    assert create_storage_registry().get_available_backends() == BUILTIN


def test_a_name_changes_hands_only_when_asked(tmp_path):
    files = FileManager(create_storage_registry())
    first, second = MemoryStorageBackend(), MemoryStorageBackend()
    files.registry.register_backend("mine", first)
    files.save([1], "/a", "mine")
    with pytest.raises(StorageResolutionError, match="replace=True"):
        files.registry.register_backend("mine", second)
    files.registry.register_backend("mine", second, replace=True)
    assert not files.exists("/a", "mine")
    files.save([2], "/a", "mine")
    assert (first.load("/a"), second.load("/a")) == ([1], [2])
    files.registry.register_backend("disk", DiskStorageBackend(tmp_path), replace=True)
    files.save([3], "/a.json", "disk")
    assert (tmp_path / "a.json").is_file()


def test_the_virtual_workspace_is_listed_and_says_how_to_bind_one():
    registry = create_storage_registry()
    assert "virtual_workspace" in registry.get_available_backends()
    with pytest.raises(StorageResolutionError) as caught:
        registry.get_backend(Backend.VIRTUAL_WORKSPACE)
    assert "belongs to one plate" in str(caught.value)
    assert "hcsflow.open_workspace(folder)" in str(caught.value)
    registry.register_backend(Backend.VIRTUAL_WORKSPACE, MemoryStorageBackend())
    assert registry.get_backend("virtual_workspace").is_dir("/")
    with pytest.raises(StorageResolutionError, match="already called"):
        registry.register_backend("virtual_workspace", MemoryStorageBackend())


@pytest.mark.parametrize("name", ["omero_local", "napari_stream"])
def test_names_that_only_a_package_can_fill(name):
    with pytest.raises(StorageResolutionError, match="a package must offer it"):
        create_storage_registry().get_backend(Backend(name))


def test_entry_points_add_backends(site):
    code = "from hcsflow.storage.memory import MemoryStorageBackend as Theirs\n"
    offer(site, "their-store", "theirs = their_store:Theirs", code)
    registry = create_storage_registry()
    assert "theirs" in registry.get_available_backends()
    assert "their_store" not in sys.modules
    assert isinstance(registry.get_backend("theirs"), DataSink)
    with pytest.raises(StorageResolutionError, match="already called"):
        registry.register_backend("theirs", Viewer)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import hcsflow_no_such_module", "ModuleNotFoundError: .*hcsflow_no_such_module"),
        ("raise RuntimeError('no driver')", "RuntimeError: no driver"),
        ("x = (", "SyntaxError"),
        ("y = 1", "AttributeError: .*Theirs"),
        ("def Theirs(): raise OSError('no server')", "OSError: no server"),
        ("class Theirs:\n  def __init__(self, url): pass", "TypeError: .*url"),
        ("Theirs = dict", "is dict, neither a sink nor a source"),
    ],
)
def test_a_package_that_fails_is_named(site, code, reason):
    module = f"broken_{abs(hash(code))}"
    offer(site, module.replace("_", "-"), f"theirs = {module}:Theirs", code)
    registry = create_storage_registry()
    with pytest.raises(StorageResolutionError, match=reason) as caught:
        registry.get_backend("theirs")
    assert module.replace("_", "-") in str(caught.value)
    assert registry.get_backend("memory") is not None


def test_a_package_cannot_take_one_of_our_names(site):
    offer(site, "greedy-store", "disk = greedy_store:Theirs", "Theirs = dict")
    registry = create_storage_registry()
    with pytest.warns(UserWarning, match="'greedy-store' offers a storage backend 'disk', a name"):
        assert registry.get_available_backends() == BUILTIN
    with pytest.warns(UserWarning, match="it is not used"):
        assert isinstance(registry.get_backend("disk"), DiskStorageBackend)
    assert isinstance(registry.get_backend("disk"), DiskStorageBackend)


def test_two_packages_with_one_name(site):
    offer(site, "store-a", "theirs = store_a:Theirs")
    offer(site, "store-b", "theirs = store_b:Theirs")
    with pytest.raises(StorageResolutionError, match=r"2 packages offer .*'store-a', 'store-b'"):
        create_storage_registry().get_backend("theirs")


def test_a_registry_goes_to_another_process(tmp_path):
    registry = create_storage_registry()
    registry.register_backend("results", DiskStorageBackend(tmp_path))
    FileManager(registry).save([1, 2], "mine.json", "results")
    code = (
        "import pickle, sys\n"
        "files = pickle.load(sys.stdin.buffer)\n"
        "assert not files.traffic()\n"
        "files.save(files.load('mine.json', 'results'), 'theirs.json', 'results')\n"
        "files.save([1], '/a', 'memory'); print(files.traffic()['memory'].operations)\n"
    )
    given = pickle.dumps(FileManager(registry))
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, check=True
    )
    assert done.stdout.split() == [b"1"]
    assert FileManager(registry).load("theirs.json", "results") == [1, 2]


def test_the_registry_of_a_process_is_that_of_the_other_process():
    assert pickle.loads(pickle.dumps(storage_registry)) is storage_registry
    assert pickle.loads(pickle.dumps(FileManager())).registry is storage_registry
    empty = pickle.loads(pickle.dumps(StorageRegistry()))
    with pytest.raises(StorageResolutionError, match="no storage backend 'disk'"):
        empty.get_backend("disk")


def test_listing_backends_imports_none_of_their_libraries():
    code = (
        "import sys, hcsflow.storage as s; s.storage_registry.get_available_backends(); "
        "heavy = {'zarr', 'pandas', 'tifffile', 'torch', 'dask', 'xarray'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_gpu_nothing_that_needs_one_is_imported(tmp_path, monkeypatch):
    monkeypatch.setenv("HCSFLOW_NO_GPU", "1")
    code = (
        "import sys, numpy as np; from hcsflow.storage import FileManager\n"
        "files, folder = FileManager(), sys.argv[1]\n"
        "for name in ('memory', 'disk', 'zarr'):\n"
        "    files.ensure_directory(folder, name)\n"
        "    files.save(np.eye(2), f'{folder}/{name}.npy', name)\n"
        "    files.load(f'{folder}/{name}.npy', name)\n"
        "gpu = {'cupy', 'torch', 'jax', 'tensorflow', 'pyclesperanto', 'rmm'} & set(sys.modules)\n"
        "assert not gpu, gpu\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def install(target: Path) -> None:
    """Install the test package into a folder, by pip where its build tool is there."""
    if find_spec("hatchling") and find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
        options = ["--no-build-isolation", "--disable-pip-version-check", "--target", target]
        source = shutil.copytree(THIRD_PARTY, target.with_name("source"))
        subprocess.run([*pip, *options, source], check=True, timeout=120)
        return
    project = tomllib.loads((THIRD_PARTY / "pyproject.toml").read_text())["project"]
    ((name, value),) = project["entry-points"]["hcsflow.storage"].items()
    target.mkdir()
    code = (THIRD_PARTY / "sqlite_store.py").read_text()
    offer(target, project["name"], f"{name} = {value}", code)


KIT = """
import sys
from pathlib import Path
from hcsflow.storage import FileManager, storage_registry
from hcsflow.testing.backends import BackendTests
import numpy as np

assert "sqlite" in storage_registry.get_available_backends()
assert "sqlite_store" not in sys.modules
files = FileManager()
files.save_image(np.eye(3, dtype=np.uint16), "/plate/a.tif", "sqlite")
assert files.list_image_files("/plate", "sqlite") == ["/plate/a.tif"]
assert files.load_image("/plate/a.tif", "sqlite").sum() == 3
kind = type(files.get_backend("sqlite"))
tests = [name for name in dir(BackendTests) if name.startswith("test_")]
for name in tests:
    getattr(BackendTests(), name)(kind(Path(sys.argv[1], f"{name}.sqlite")))
print(len(tests), files.traffic()["sqlite"].operations)
"""


def test_a_third_party_backend_by_entry_point(tmp_path, monkeypatch):
    install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{SOURCE}")
    monkeypatch.setenv("SQLITE_STORE", str(tmp_path / "store.sqlite"))
    (tmp_path / "kit").mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", KIT, str(tmp_path / "kit")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tests, operations = map(int, done.stdout.split())
    assert tests >= 15
    assert operations == 3
