"""Planes by the names that a metadata document gives them."""

from __future__ import annotations

import json
import os
import pickle
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.config import Backend
from hcsflow.errors import (
    MissingPlaneError,
    PathError,
    PlaneError,
    PlateError,
)
from hcsflow.storage.abc import DataSink
from hcsflow.storage.listed_workspace import (
    ListedWorkspaceBackend,
    preferred_backend,
    read_workspace_document,
)

NAMES = [f"Images/A01_s{site:03d}_w1_z001_t001.tif" for site in (1, 2, 10)]


@pytest.fixture
def plate(tmp_path):
    root = tmp_path / "plate"
    (root / "ZStep_1").mkdir(parents=True)
    for number in range(3):
        plane = np.full((4, 6), number, np.uint16)
        tifffile.imwrite(root / "ZStep_1" / f"A01_s{number}.TIF", plane)
    return root


@pytest.fixture
def mapping():
    return {name: f"ZStep_1/A01_s{number}.TIF" for number, name in enumerate(NAMES)}


def write(path, document):
    path.write_text(json.dumps(document))
    return path


def test_names_that_differ_only_in_case_are_two_planes(plate):
    names = ["Images/a01.tif", "Images/A01.tif", "IMAGES/a01.tif"]
    workspace = ListedWorkspaceBackend(
        plate, {name: f"ZStep_1/A01_s{number}.TIF" for number, name in enumerate(names)}
    )
    assert [int(workspace.load(name)[0, 0]) for name in names] == [0, 1, 2]
    assert sorted(workspace.list_files("", recursive=True)) == sorted(names)
    assert workspace.list_dir("Images") == ["A01.tif", "a01.tif"]
    assert not workspace.exists("images/a01.tif")


def test_every_name_loads_its_own_plane(plate, mapping):
    workspace = ListedWorkspaceBackend(plate, mapping)
    for number, name in enumerate(NAMES):
        found = workspace.load(name)
        assert found.shape == (4, 6)
        assert found.dtype == np.uint16
        assert np.all(found == number)
    assert workspace.workspace_mapping() == mapping
    assert not isinstance(workspace, DataSink)


def test_listing(plate, mapping):
    workspace = ListedWorkspaceBackend(plate, dict(reversed(mapping.items())))
    assert workspace.list_files("Images") == NAMES
    assert workspace.list_files("") == []
    assert workspace.list_files("/", recursive=True) == [f"/{name}" for name in NAMES]
    assert workspace.list_files(plate / "Images") == [f"{plate}/{name}" for name in NAMES]
    assert workspace.list_files("Images", pattern="*_s010_*") == NAMES[2:]
    assert workspace.list_files("Images", extensions=["png"]) == []
    assert workspace.list_dir("") == ["Images"]
    assert workspace.is_dir("Images")
    assert not workspace.is_file("Images")
    assert workspace.stat(NAMES[0]).nbytes == (plate / "ZStep_1/A01_s0.TIF").stat().st_size
    assert workspace.stat("Images").is_dir
    assert workspace.generate_filename({"well": "a1", "field": 1}) == NAMES[1].rpartition("/")[2]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        workspace.list_files("ZStep_1")
    with pytest.raises(NotADirectoryError):
        workspace.list_dir(NAMES[0])


def test_what_was_asked_does_not_hinder_sending_it(plate, mapping):
    workspace = ListedWorkspaceBackend(plate, mapping)
    copy = pickle.loads(pickle.dumps(workspace))
    assert np.array_equal(copy.load(NAMES[2]), workspace.load(NAMES[2]))


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../outside.tif", "ZStep_1/../../x.tif", "C:\\x.tif", "c:x.tif", "\\\\a\\b\\x",
     "ZStep_1\\A01_s0.TIF", "~/x.tif", "x\0.tif", ""],
)  # fmt: skip
def test_a_mapping_that_leads_out_is_refused_before_any_file_is_opened(tmp_path, path):
    for bad in ({"a.tif": path}, {path: "a.tif"}):
        with pytest.raises(PathError):
            ListedWorkspaceBackend(tmp_path / "not_there", bad)


def test_names_that_contradict_each_other(tmp_path):
    with pytest.raises(PathError, match="one name twice"):
        ListedWorkspaceBackend(tmp_path, {"a.tif": "x.tif", "./a.tif": "y.tif"})
    with pytest.raises(PathError, match="'a' is a file and a folder"):
        ListedWorkspaceBackend(tmp_path, {"a": "x.tif", "a/b": "y.tif"})
    workspace = ListedWorkspaceBackend(tmp_path, {"a.tif": "x.tif", "A.tif": "y.tif"})
    assert workspace.list_files("") == ["A.tif", "a.tif"]


def test_a_link_out_of_the_plate_is_refused(plate, mapping, tmp_path):
    file = plate / "ZStep_1" / "A01_s0.TIF"
    file.rename(tmp_path / "elsewhere.tif")
    file.symlink_to(tmp_path / "elsewhere.tif")
    workspace = ListedWorkspaceBackend(plate, mapping)
    for ask in (workspace.load, workspace.stat):
        with pytest.raises(PathError, match="by a link"):
            ask(NAMES[0])


def test_planes_that_cannot_be_read(plate, mapping):
    folder = plate / "ZStep_1"
    workspace = ListedWorkspaceBackend(plate, mapping)
    with pytest.raises(MissingPlaneError, match="no such plane"):
        workspace.load("Images/A01_s004_w1_z001_t001.tif")
    (folder / "A01_s0.TIF").write_bytes(b"")
    with pytest.raises(PlaneError, match=r"ZStep_1/A01_s0\.TIF: empty file"):
        workspace.load(NAMES[0])
    tifffile.imwrite(folder / "A01_s1.TIF", np.zeros((4, 6, 3), np.uint8), photometric="rgb")
    with pytest.raises(PlaneError, match=r"expected a grey plane .* found 4 × 6 × 3 uint8"):
        workspace.load(NAMES[1])
    bomb = bytearray((folder / "A01_s2.TIF").read_bytes())
    header = tifffile.TiffFile(folder / "A01_s2.TIF")
    with header:
        tags = header.pages.first.tags
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            size = "<H" if tags[name].dtype == 3 else "<I"
            struct.pack_into(size, bomb, tags[name].valueoffset, 65_000)
        struct.pack_into("<H", bomb, tags["Compression"].valueoffset, 5)
    (folder / "A01_s2.TIF").write_bytes(bomb)
    with pytest.raises(PlaneError, match="at most 536,870,912 pixels, found 65000 × 65000"):
        workspace.load(NAMES[2])
    (folder / "A01_s2.TIF").unlink()
    (folder / "A01_s2.TIF").symlink_to("A01_s2.TIF")
    with pytest.raises(PlaneError, match="symbolic links"):
        workspace.load(NAMES[2])
    (folder / "A01_s2.TIF").unlink()
    (folder / "A01_s2.TIF").mkdir()
    with pytest.raises(PlaneError, match="it is a folder"):
        workspace.load(NAMES[2])
    (folder / "A01_s2.TIF").rmdir()
    for ask in (workspace.load, workspace.stat):
        with pytest.raises(MissingPlaneError, match=r"ZStep_1/A01_s2\.TIF: no such file") as caught:
            ask(NAMES[2])
        assert "--missing" not in caught.value.hint


def test_only_regular_files_are_opened(plate, mapping):
    for odd in ("A01_s0.TIF", "A01_s1.TIF"):
        (plate / "ZStep_1" / odd).unlink()
    os.mkfifo(plate / "ZStep_1" / "A01_s0.TIF")  # opening it would wait for ever
    (plate / "ZStep_1" / "A01_s1.TIF").mkdir()
    workspace = ListedWorkspaceBackend(plate, mapping)
    for ask in (workspace.load, workspace.stat):
        with pytest.raises(PlaneError, match=r"A01_s0\.TIF: cannot be read: it is no regular"):
            ask(NAMES[0])
        with pytest.raises(PlaneError, match=r"A01_s1\.TIF: cannot be read: it is a folder"):
            ask(NAMES[1])


def test_a_name_many_folders_deep(tmp_path):
    folder = "/".join(["a"] * 3000)
    workspace = ListedWorkspaceBackend(tmp_path, {f"{folder}/p.tif": "x.tif", "a/q.tif": "y.tif"})
    assert workspace.list_files(folder) == [f"{folder}/p.tif"]
    assert workspace.list_dir("a/a") == ["a"]
    assert sorted(workspace.list_dir("a")) == ["a", "q.tif"]


def test_a_relative_root_is_no_part_of_a_name(plate, monkeypatch):
    monkeypatch.chdir(plate.parent)
    files = {"plate/a.tif": "ZStep_1/A01_s1.TIF", "a.tif": "ZStep_1/A01_s2.TIF"}
    workspace = ListedWorkspaceBackend("plate", files)
    assert np.all(workspace.load("plate/a.tif") == 1)
    assert np.all(workspace.load("a.tif") == 2)
    assert workspace.list_files("plate") == ["plate/a.tif"]
    absolute = ListedWorkspaceBackend(plate, files)
    assert np.all(absolute.load(f"{plate}/plate/a.tif") == 1)
    assert np.all(absolute.load(f"{plate}/a.tif") == 2)


def test_it_says_what_it_is(plate, mapping):
    assert repr(ListedWorkspaceBackend(plate, mapping)) == (
        f"<ListedWorkspaceBackend: 3 planes in {plate}>"
    )
    assert "1 plane in" in repr(ListedWorkspaceBackend(plate, {"a": "b"}))


def test_documents_of_both_programs(tmp_path, mapping):
    ours = {
        "subdirectories": {
            "P.zarr": {"main": True, "available_backends": {"zarr": True}},
            "P_labels.zarr": {"main": False, "available_backends": {"zarr": True}},
        },
        "workspace_mapping": mapping,
    }
    found = read_workspace_document(write(tmp_path / "hcsflow_metadata.json", ours))
    assert found == ("P.zarr", {name: {"zarr": True} for name in ours["subdirectories"]}, mapping)
    references = {
        name: {"backend": "disk", "backend_address": file, "source_axis_indices": []}
        for name, file in mapping.items()
    }
    theirs = {
        "subdirectories": {
            "Images": {
                "main": True,
                "available_backends": {"virtual_workspace": True, "disk": True, "zarr": False},
                "workspace_mapping": references,
            },
            "zarr": {"main": None, "available_backends": {"zarr": True}, "workspace_mapping": None},
        }
    }
    found = read_workspace_document(write(tmp_path / "openhcs_metadata.json", theirs))
    assert found.main == "Images"
    assert found.mapping == mapping
    assert preferred_backend(found.backends["Images"]) is Backend.VIRTUAL_WORKSPACE
    theirs["subdirectories"]["Images"]["workspace_mapping"] = mapping  # as older versions write
    assert read_workspace_document(write(tmp_path / "older.json", theirs)).mapping == mapping


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected the document to be an object"),
        ({"subdirectories": ["Images"]}, "to be an object, found"),
        ({"workspace_mapping": {"a": 3}}, "the file of a"),
        ({"workspace_mapping": {"a": {"backend": "zarr", "backend_address": "x"}}}, "one plane"),
        (
            {
                "workspace_mapping": {
                    "a": {"backend": "disk", "backend_address": "x", "source_axis_indices": [3]}
                }
            },
            "one plane in a file",
        ),
        ({"subdirectories": {"a": {"main": True}, "b": {"main": True}}}, "'main': a, b"),
        (
            {
                "workspace_mapping": {"a": "x"},
                "subdirectories": {"b": {"workspace_mapping": {"a": "y"}}},
            },
            "a is mapped to x and to y",
        ),
        ({"subdirectories": 0}, "expected 'subdirectories' to be an object, found 0"),
        ({"workspace_mapping": []}, r"expected 'workspace_mapping' to be an object, found \[\]"),
        ({"workspace_mapping": 0}, "expected 'workspace_mapping' to be an object, found 0"),
        ({"subdirectories": {"a": {"workspace_mapping": ""}}}, "to be an object, found ''"),
        ({"subdirectories": {"a": {"available_backends": []}}}, "to be an object"),
        (
            {"subdirectories": {"a": {"available_backends": {"zarr": "false"}}}},
            "'zarr' of 'a' to be true or false, found 'false'",
        ),
        (
            {"subdirectories": {"a": {"main": "false"}}},
            "'main' of 'a' to be true or false, found 'false'",
        ),
        ({"subdirectories": {"a": {"main": 1}}}, "to be true or false, found 1"),
    ],
)
def test_documents_that_are_none(tmp_path, document, message):
    path = write(tmp_path / "m.json", document)
    with pytest.raises(PlateError, match=message) as caught:
        read_workspace_document(path)
    assert str(path) in str(caught.value)


def test_a_document_that_names_a_plane_twice(tmp_path):
    path = tmp_path / "m.json"
    path.write_text('{"workspace_mapping": {"a.tif": "x.tif", "b.tif": "y", "a.tif": "y.tif"}}')
    with pytest.raises(PlateError, match=r"cannot be read: one object names 'a\.tif' 2 times"):
        read_workspace_document(path)


def test_null_is_left_out(tmp_path):
    part = {"main": None, "available_backends": None, "workspace_mapping": None}
    document = {"subdirectories": {"a": part}, "workspace_mapping": None}
    found = read_workspace_document(write(tmp_path / "m.json", document))
    assert found == (None, {"a": {}}, {})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_documents_that_are_damaged(tmp_path, content):
    path = tmp_path / "m.json"
    path.write_bytes(content)
    with pytest.raises(PlateError, match="cannot be read"):
        read_workspace_document(path)
    with pytest.raises(PlateError, match="cannot be read"):
        read_workspace_document(tmp_path / "none.json")


BACKENDS = st.sampled_from(["zarr", "virtual_workspace", "disk", "memory", "omero_local"])


@given(st.dictionaries(BACKENDS, st.booleans()))
def test_the_best_backend_that_is_available(available):
    ranked = [name for name in ("zarr", "virtual_workspace", "disk") if available.get(name)]
    if ranked:
        assert preferred_backend(available).value == ranked[0]
    else:
        assert preferred_backend(available) is None
