"""A plane of a batch keeps its name, and names of a well's planes are one whole well's."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hcsflow.config import ZarrConfig
from hcsflow.errors import UsageError
from hcsflow.storage import well_index, zarr_nodes
from hcsflow.storage.zarr import ZarrStorageBackend
from hcsflow.storage.zarr_arrays import create_array

PLANE = np.full((8, 8), 7, np.uint16)
OTHER = PLANE + 1
WELL = [f"p.zarr/B03_s{f:03d}_w{c}_z001_t001.tif" for f in (1, 2) for c in (1, 2)]
FLAT = ["s/left", "s/right"]


@pytest.fixture
def backend(tmp_path):
    backend = ZarrStorageBackend(tmp_path)
    backend.save_batch([PLANE] * 4, WELL, chunk_name="B03")
    backend.save_batch([PLANE] * 2, FLAT, chunk_name="both")
    backend.save(OTHER, "one/other")
    return backend


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


WRITES = {
    "save": lambda backend, path, **o: backend.save(OTHER, path, **o),
    "save_batch": lambda backend, path, **o: backend.save_batch([OTHER], [path], **o),
    "copy": lambda backend, path, **o: backend.copy("one/other", path, **o),
    "copy of a folder": lambda backend, path, **o: backend.copy("one", path, **o),
    "copy of a plane": lambda backend, path, **o: backend.copy(WELL[1], path, **o),
    "move": lambda backend, path, **o: backend.move("one/other", path, **o),
    "mirror": lambda backend, path, **o: backend.mirror_directory("one", path, **o),
}


@pytest.mark.parametrize("plane", [WELL[0], FLAT[1]])
@pytest.mark.parametrize("write", WRITES)
def test_no_write_shadows_a_plane(tmp_path, backend, write, plane):
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"a plane of .*(B/03|both)"):
        WRITES[write](backend, plane)
    if write != "mirror":
        with pytest.raises(UsageError, match="a plane of a stored image"):
            WRITES[write](backend, plane, overwrite=True)
    for overwrite in (False, True):
        with pytest.raises(NotADirectoryError, match="is a plane of a batch"):
            WRITES[write](backend, f"{plane}/deep/sub", overwrite=overwrite)
    assert contents(tmp_path) == before
    assert np.array_equal(backend.load(plane), PLANE)


@pytest.mark.parametrize("plane", [WELL[0], FLAT[1]])
def test_no_folder_shadows_a_plane(tmp_path, backend, plane):
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="a plane of"):
        backend.ensure_directory(plane)
    with pytest.raises(NotADirectoryError, match="is a plane of a batch"):
        backend.ensure_directory(f"{plane}/sub")
    assert contents(tmp_path) == before


def test_a_mirror_shadows_no_plane(tmp_path, backend):
    backend.save(OTHER, "t/left")
    with pytest.raises(FileExistsError, match="a plane of"):
        backend.mirror_directory("t", "s")
    assert np.array_equal(backend.load("s/left"), PLANE)


def test_a_batch_shadows_no_array(tmp_path, backend):
    backend.save(OTHER, "q.zarr/B03_s001_w1_z001_t001.tif")
    backend.save(OTHER, "t/left")
    for names in (["q.zarr/B03_s001_w1_z001_t001.tif"], ["t/left"]):
        for overwrite in (False, True):
            with pytest.raises(FileExistsError, match="delete it first"):
                backend.save_batch([PLANE], names, chunk_name="B03", overwrite=overwrite)
        assert np.array_equal(backend.load(names[0]), OTHER)
    with pytest.raises(UsageError, match="both a plane and the batch"):
        backend.save_batch([PLANE], ["t/x"], chunk_name="x")


@pytest.mark.parametrize("operation", ["copy", "move", "mirror_directory"])
def test_no_batch_is_brought_below_arrays_of_its_names(tmp_path, backend, operation):
    backend.save(OTHER, "q.zarr/B03_s001_w2_z001_t001.tif")
    backend.save(OTHER, "t/left")
    before = contents(tmp_path)
    pairs = [("p.zarr", "q.zarr"), ("s", "t")]
    if operation != "mirror_directory":
        pairs = [("p.zarr/B/03", "q.zarr/B/03"), ("s/both", "t/both")]
    for source, target in pairs:
        with pytest.raises(FileExistsError, match="delete it first"):
            getattr(backend, operation)(source, target)
        assert not backend.is_dir(f"{target}/B")
    if operation != "mirror_directory":
        assert contents(tmp_path) == before


def test_nothing_moves_into_an_array(tmp_path, backend):
    before = contents(tmp_path)
    backend.save(OTHER, "a")
    for call in (backend.copy, backend.move):
        with pytest.raises(NotADirectoryError, match="is an array"):
            call("one/other", "a/x")
    backend.delete("a")
    assert contents(tmp_path) == before


def test_a_save_looks_at_no_array_beside_it(tmp_path, backend, monkeypatch):
    read = []
    real = zarr_nodes.signature_of
    monkeypatch.setattr(zarr_nodes, "signature_of", lambda path: read.append(path) or real(path))
    monkeypatch.setattr(well_index, "signature_of", zarr_nodes.signature_of)
    looked = {}
    for count in (1, 30):
        for number in range(count):
            create_array(tmp_path / f"{count}/a{number}", PLANE, ZarrConfig(), {})
        read.clear()
        backend.save(PLANE, f"{count}/c")
        looked[count] = len(read)
    assert looked[1] == looked[30]


@pytest.mark.parametrize(
    "operation", ["save_batch", "copy", "move", "copy of the folder", "mirror"]
)
def test_a_batch_keeps_its_names_wherever_it_was_brought(tmp_path, operation):
    """Also from another process, and beside arrays that this one saved already."""
    backend = ZarrStorageBackend(tmp_path)
    backend.save(OTHER, "s/array" if operation == "save_batch" else "t/array")
    code = (
        "import sys, numpy as np\n"
        "from hcsflow.storage.zarr import ZarrStorageBackend\n"
        "backend = ZarrStorageBackend(sys.argv[1])\n"
        "backend.save_batch([np.ones((8, 8))] * 2, ['s/left', 's/right'], chunk_name='both')\n"
        "call, *paths = sys.argv[2:]\n"
        "if call: getattr(backend, call)(*paths)\n"
    )
    calls = {
        "save_batch": ["", "s"],
        "copy": ["copy", "s/both", "t/both"],
        "move": ["move", "s/both", "t/both"],
        "copy of the folder": ["copy", "s", "u"],
        "mirror": ["mirror_directory", "s", "t"],
    }
    command = [sys.executable, "-c", code, str(tmp_path), *calls[operation]]
    subprocess.run(command, check=True)
    folder = calls[operation][-1].partition("/")[0]
    with pytest.raises(FileExistsError, match=f"a plane of .*{folder}/both"):
        backend.save(OTHER, f"{folder}/left")
    assert folder in backend.list_dir("")
    assert not any(name.startswith(".") for name in backend.list_dir(folder))


def test_a_folder_that_held_a_batch_is_empty_without_it(tmp_path, backend):
    backend.delete_all("s/both")
    backend.delete("s")
    assert not (tmp_path / "s").exists()


def test_a_well_name_is_looked_up_in_its_well_only(backend, monkeypatch):
    read = []
    real = well_index.node_of
    monkeypatch.setattr(well_index, "node_of", lambda folder: read.append(folder) or real(folder))
    backend.save(PLANE, "many/C05_s001_w1_z001_t001.tif")  # only its own well can hold it
    assert [folder.name for folder in read] == ["05"]


def of_well(well, count=2):
    return [f"n.zarr/{well}_s001_w{c}_z001_t001.tif" for c in range(1, count + 1)]


@pytest.mark.parametrize(
    ("names", "chunk_name", "says"),
    [
        ([*WELL[:3]], "B03", "B03_s002_w2_z001_t001 is missing"),
        ([*of_well("B03"), *of_well("B04")], "B03", "'B04_s001_w1_z001_t001.tif' is not"),
        (of_well("B3"), "B03", "'B3_s001_w1_z001_t001.tif' is not spelled"),
        (of_well("b03"), "b03", "'b03_s001_w1_z001_t001.tif' is not spelled"),
        (of_well("Z99"), "x", "'Z99_s001_w1_z001_t001.tif' is not spelled"),
        (["n.zarr/B03_s1_w1_z1_t1.tif"], "B03", "'B03_s1_w1_z1_t1.tif' is not spelled"),
        ([*of_well("B03"), "n.zarr/mean.tif"], "B03", "'mean.tif' is not spelled"),
        ([*of_well("B03"), of_well("B03")[0][:-4] + ".png"], "B03", "are one plane"),
        (of_well("B03"), "C05", "chunk_name='C05' is another well than that of the planes, B03"),
    ],
)
def test_names_of_planes_are_one_whole_well(tmp_path, names, chunk_name, says):
    backend = ZarrStorageBackend(tmp_path)
    with pytest.raises(UsageError, match=says) as caught:
        backend.save_batch([PLANE] * len(names), names, chunk_name=chunk_name)
    assert "→" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    backend.save_batch([PLANE] * len(names), names)
    assert np.array_equal(backend.load(names[-1]), PLANE)


@pytest.mark.parametrize("chunk_name", ["B03", "b3", "well_B03"])
def test_a_well_may_be_called_anything_but_another_well(tmp_path, chunk_name):
    backend = ZarrStorageBackend(tmp_path)
    backend.save_batch([PLANE] * 2, of_well("B03"), chunk_name=chunk_name)
    assert backend.list_dir("n.zarr") == ["B"]


def test_an_old_bare_array_in_the_way_is_named(tmp_path):
    backend = ZarrStorageBackend(tmp_path)
    names = [name.rpartition("/")[2] for name in of_well("B03")]
    facts = well_index.describe("", {name: (i, 0, 0) for i, name in enumerate(names)}, (8, 8))
    (tmp_path / "n.zarr").mkdir()
    create_array(tmp_path / "n.zarr" / "B03", np.stack([OTHER] * 2), ZarrConfig(), facts)
    assert np.array_equal(backend.load(of_well("B03")[0]), OTHER)
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match=r"n\.zarr/B03: delete that first"):
            backend.save_batch([PLANE] * 2, of_well("B03"), chunk_name="B03", overwrite=overwrite)
    backend.delete_all("n.zarr/B03")
    backend.save_batch([PLANE] * 2, of_well("B03"), chunk_name="B03")
    assert np.array_equal(backend.load(of_well("B03")[0]), PLANE)
