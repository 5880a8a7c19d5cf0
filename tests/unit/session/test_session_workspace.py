"""A plate as files by name: from its folder to a plane through the file manager."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest

import hcsflow as hf
from hcsflow.errors import PathError, PlateError, PlateNotFoundError, ReadOnlyError
from hcsflow.storage import create_storage_registry
from hcsflow.storage.listed_workspace import (
    ListedWorkspaceBackend,
    read_workspace_document,
)
from hcsflow.storage.virtual_workspace import VirtualWorkspaceBackend
from hcsflow.storage.wrappers import ReadOnlyBackend
from hcsflow.testing.plates import PlateSpec, key_coded_plate

SPEC = PlateSpec(wells=("A01", "B03"), fields=4, channels=2, z=(3, 1), size=32)


@pytest.fixture
def plate(tmp_path):
    root = tmp_path / "P"
    return key_coded_plate(root, SPEC), root


def managed(workspace):
    registry = create_storage_registry()
    registry.register_backend("virtual_workspace", workspace)
    return hf.FileManager(registry)


def test_planes_are_loaded_by_name_through_the_file_manager(plate):
    code, root = plate
    workspace = hf.open_workspace(root)
    assert isinstance(workspace, VirtualWorkspaceBackend)
    files = managed(workspace)
    names = files.list_image_files("", "virtual_workspace")
    assert len(names) == 2 * 4 * (3 + 1)
    assert names[0] == "A01_s001_w1_z001_t001.tif"
    plane = files.load_image("B03_s002_w1_z003_t001.tif", "virtual_workspace")
    assert np.all(plane == code.value(1, 1, 0, 0, 2))
    with pytest.raises(FileNotFoundError):
        files.load_image("B03_s002_w2_z003_t001.tif", "virtual_workspace")
    sent = pickle.loads(pickle.dumps(files))
    assert np.array_equal(sent.load_image(names[-1], "virtual_workspace"),
                          files.load_image(names[-1], "virtual_workspace"))  # fmt: skip


def test_the_plate_is_left_as_it_was(plate, hash_tree):
    _, root = plate
    before = hash_tree(root)
    for _ in range(2):
        workspace = hf.open_workspace(root)
        workspace.load(workspace.list_files("")[0])
    assert hash_tree(root) == before


def test_a_mapping_that_was_kept_gives_the_same_planes(plate, tmp_path):
    _, root = plate
    workspace = hf.open_workspace(root)
    document = tmp_path / "hcsflow_metadata.json"
    document.write_text(json.dumps({"workspace_mapping": dict(workspace.workspace_mapping())}))
    listed = hf.open_workspace(root, metadata=document)
    assert isinstance(listed, ListedWorkspaceBackend)
    assert listed.list_files("") == workspace.list_files("")
    for name in workspace.list_files(""):
        assert np.array_equal(listed.load(name), workspace.load(name))
    assert listed.workspace_mapping() == dict(workspace.workspace_mapping())


def test_the_document_of_an_output_gives_the_planes_it_was_made_from(tmp_path):
    root, output = tmp_path / "P", tmp_path / "out"
    code = key_coded_plate(root, wells=("B02",), fields=2, channels=1, timepoints=1, z=1, size=32)
    pipeline = hf.Pipeline([hf.FunctionStep("gaussian_filter", sigma=1.0)])
    hf.compile(pipeline, hf.open_plate(root), output=output).run("threads", workers=1)
    listed = hf.open_workspace(root, metadata=output / "hcsflow_metadata.json")
    assert listed.list_files("") == ["B02_s001_w1_z001_t001.tif", "B02_s002_w1_z001_t001.tif"]
    assert np.all(listed.load("B02_s002_w1_z001_t001.tif") == code.value(0, 1, 0, 0, 0))
    store = read_workspace_document(output / "hcsflow_metadata.json").main
    for metadata in (None, output / "hcsflow_metadata.json"):
        found = hf.open_workspace(output, metadata=metadata)
        assert isinstance(found, ReadOnlyBackend)
        assert managed(found).list_files("", "virtual_workspace", recursive=True) == ["B/02/0/0"]
        assert found.load("B/02/0/0").shape == (1, 32, 64)
        with pytest.raises(ReadOnlyError):
            found.save(np.zeros((2, 2)), "x")
    (output / store).rename(output / "elsewhere.zarr")
    with pytest.raises(PlateError, match="no plate of a layout that is known"):
        hf.open_workspace(output)


@pytest.mark.parametrize(
    ("offered", "has_mapping", "has_store", "expected"),
    [
        ({"zarr": True, "disk": True}, True, True, ReadOnlyBackend),
        ({"zarr": True, "disk": True}, True, False, ListedWorkspaceBackend),
        ({"zarr": True, "disk": True}, False, False, VirtualWorkspaceBackend),
        ({"zarr": False, "virtual_workspace": True}, True, True, ListedWorkspaceBackend),
        ({"virtual_workspace": True, "disk": True}, False, True, VirtualWorkspaceBackend),
        ({"disk": True}, False, False, VirtualWorkspaceBackend),
    ],
)
@pytest.mark.parametrize("is_named", [False, True])
def test_the_preferred_of_what_is_really_there_is_taken(
    plate, offered, has_mapping, has_store, expected, is_named
):
    _, root = plate
    real = next(root.rglob("*.tif")).relative_to(root).as_posix()
    part = {"main": True, "available_backends": offered}
    part |= {"workspace_mapping": {"a.tif": real}} if has_mapping else {}
    document = root / "openhcs_metadata.json"
    document.write_text(json.dumps({"subdirectories": {"Images.zarr": part}}))
    (root / "Images.zarr").mkdir()
    if has_store:
        (root / "Images.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    assert isinstance(hf.open_workspace(root, metadata=document if is_named else None), expected)


@pytest.mark.parametrize("name", ["../out.zarr", "/out.zarr", "link"])
def test_a_store_outside_the_folder_is_refused(plate, tmp_path, name):
    _, root = plate
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    (root / "link").symlink_to(tmp_path / "out.zarr")
    part = {"main": True, "available_backends": {"zarr": True}}
    document = root / "openhcs_metadata.json"
    document.write_text(json.dumps({"subdirectories": {name: part}}))
    with pytest.raises(PathError):
        hf.open_workspace(root)


def test_a_document_of_openhcs_in_the_plate_is_taken(plate):
    code, root = plate
    workspace = hf.open_workspace(root)
    real = workspace.workspace_mapping()["A01_s002_w2_z001_t001.tif"]
    document = root / "openhcs_metadata.json"
    part = {"main": True, "workspace_mapping": {"Images/A01_s002_w2.tif": real}}
    document.write_text(json.dumps({"subdirectories": {"Images": part}}))
    found = managed(hf.open_workspace(root))
    (name,) = found.list_image_files("Images", "virtual_workspace")
    assert np.all(found.load_image(name, "virtual_workspace") == code.value(0, 1, 0, 1, 0))
    document.write_text(json.dumps({"subdirectories": {"Images": {"main": True}}}))
    assert isinstance(hf.open_workspace(root), VirtualWorkspaceBackend)


@pytest.mark.parametrize("path", ["../secret.tif", "/secret.tif", "C:\\secret.tif", "link/x.tif"])
def test_a_document_that_leads_out_is_refused(plate, tmp_path, path):
    _, root = plate
    (tmp_path / "out").mkdir()
    shutil.copy(next(root.rglob("*.tif")), tmp_path / "out" / "x.tif")
    (root / "link").symlink_to(tmp_path / "out")
    document = root / "openhcs_metadata.json"
    document.write_text(json.dumps({"workspace_mapping": {"a.tif": path}}))
    with pytest.raises(PathError):
        hf.open_workspace(root).load("a.tif")


def test_folders_and_documents_that_are_none(plate, tmp_path):
    _, root = plate
    with pytest.raises(PlateNotFoundError, match="did you mean"):
        hf.open_workspace(str(root) + "x")
    with pytest.raises(PlateError, match="cannot be read"):
        hf.open_workspace(root, metadata=tmp_path / "none.json")
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(PlateError, match="no 'workspace_mapping'"):
        hf.open_workspace(root, metadata=tmp_path / "empty.json")
