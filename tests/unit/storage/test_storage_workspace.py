from __future__ import annotations

import os
import pickle
import shutil
import time

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.errors import MissingPlaneError, PathError, PlaneError, UsageError
from hcsflow.plate import Channel, FieldGrid, Manifest, Measured, PlaneKey, PlaneRow, Plate
from hcsflow.storage.abc import DataSink
from hcsflow.storage.virtual_workspace import VirtualWorkspaceBackend

SHAPE = (8, 10)


def make_plate(wells, fields, channels, z, timepoints=1):
    return Plate(
        name="p", microscope="imagexpress", layout="exported", uuid=None,
        rows=("A", "B"), columns=("01", "02"), acquisition="0", acquisitions=("0",),
        wells=tuple(wells),
        fields=tuple(str(i + 1) for i in range(fields)),
        timepoints=tuple(str(i + 1) for i in range(timepoints)),
        channels=tuple(Channel(f"w{i + 1}", f"c{i}", z) for i in range(channels)),
        z=tuple(str(i + 1) for i in range(z)),
        shape_yx=SHAPE, dtype="uint16",
        pixel_size=Measured(None, ""), z_step=Measured(None, ""),
        grid=FieldGrid(1, fields, tuple((0, i) for i in range(fields)), "field number"),
    )  # fmt: skip


def value_of(key):
    return key[0] * 10_000 + key[1] * 1000 + key[2] * 100 + key[3] * 10 + key[4]


def make_rows(wells, fields, channels, z, timepoints=1):
    return [
        PlaneRow(w, f, t, c, k, f"TimePoint_{t + 1}/ZStep_{k + 1}", f"{w}_{f}_{c}.TIF", 10, 0)
        for w in range(wells) for f in range(fields) for t in range(timepoints)
        for c in range(channels) for k in range(z)
    ]  # fmt: skip


@pytest.fixture
def workspace(tmp_path):
    root = tmp_path / "plate"
    rows = [row for row in make_rows(2, 3, 2, 2, 2) if row[:5] != (1, 2, 1, 1, 1)]
    for row in rows:
        path = root / row.folder / row.name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.full(SHAPE, value_of(row[:5]), np.uint16))
    manifest = Manifest.from_rows(str(root), rows)
    return VirtualWorkspaceBackend(manifest, make_plate(["A01", "B02"], 3, 2, 2, 2))


def test_every_name_loads_its_own_plane(workspace):
    names = workspace.list_files("")
    assert len(names) == 2 * 3 * 2 * 2 * 2 - 1
    assert names[:3] == [
        "A01_s001_w1_z001_t001.tif",
        "A01_s001_w1_z001_t002.tif",
        "A01_s001_w1_z002_t001.tif",
    ]
    for key, path in workspace.manifest:
        name = workspace.generate_filename(key)
        plane = workspace.load(name)
        assert plane.shape == SHAPE
        assert plane[0, 0] == value_of(key[1:])
        assert workspace.workspace_mapping()[name] == path
    assert names == sorted(names)


def test_the_mapping_is_a_view(workspace):
    mapping = workspace.workspace_mapping()
    assert len(mapping) == len(list(mapping)) == len(workspace.list_files(""))
    assert mapping["B02_s003_w2_z001_t002.tif"] == "TimePoint_2/ZStep_1/1_2_1.TIF"
    assert "B02_s003_w2_z002_t002.tif" not in mapping
    assert dict(mapping) == dict(mapping.items())
    assert dict(mapping)["A01_s001_w1_z001_t001.tif"] == "TimePoint_1/ZStep_1/0_0_0.TIF"


def test_listing_filters_and_folders(workspace):
    assert len(workspace.list_files("/", pattern="A01_s002_*")) == 8
    assert workspace.list_files("/", pattern="A01_s002_*")[0].startswith("/A01_s002")
    assert workspace.list_files("", extensions=[".png"]) == []
    assert workspace.is_dir("/")
    assert not workspace.exists("images")
    with pytest.raises(FileNotFoundError, match="one flat folder"):
        workspace.list_files("TimePoint_1")


@pytest.mark.parametrize(
    "name",
    [
        "B02_s003_w2_z002_t002.tif",
        "C01_s001_w1_z001_t001.tif",
        "A01_s004_w1_z001_t001.tif",
        "A01_s000_w1_z001_t001.tif",
        "A01_s001_w1_z001_t001.png",
        "TimePoint_1/ZStep_1/0_0_0.TIF",
        "A01_s99999999999999999999_w1_z001_t001.tif",
        "nonsense",
        "",
    ],
)
def test_names_of_no_plane(workspace, name):
    assert not workspace.is_file(name)
    with pytest.raises(MissingPlaneError, match="no such plane"):
        workspace.load(name)


@given(st.text(max_size=30))
def test_any_text_is_a_plane_or_not(name):
    plate = make_plate(["A01"], 1, 1, 1)
    backend = VirtualWorkspaceBackend(Manifest.from_rows("/none", make_rows(1, 1, 1, 1)), plate)
    try:
        assert not backend.is_file(name)
    except PathError:
        assert ".." in name


def test_a_plane_that_is_gone_or_damaged_is_named(workspace):
    name = "A01_s001_w1_z001_t001.tif"
    real = workspace.root / workspace.workspace_mapping()[name]
    real.write_bytes(real.read_bytes()[:-20])
    with pytest.raises(PlaneError, match=r"TimePoint_1/ZStep_1/0_0_0\.TIF: cut short") as caught:
        workspace.load(name)
    assert caught.value.file == "TimePoint_1/ZStep_1/0_0_0.TIF"
    real.unlink()
    with pytest.raises(MissingPlaneError, match="no such file") as caught:
        workspace.load(name)
    assert "--missing" not in caught.value.hint
    os.mkfifo(real)  # opening it would wait for ever
    with pytest.raises(PlaneError, match="no regular file"):
        workspace.load(name)


def test_it_says_what_it_is(workspace):
    assert repr(workspace) == (
        f"<VirtualWorkspaceBackend: 47 planes of 2 wells in {workspace.root}>"
    )


@pytest.mark.parametrize("folder", ["../outside", "/outside", "TimePoint_1/../../outside"])
def test_a_manifest_that_leads_out_is_refused(tmp_path, folder):
    (tmp_path / "outside").mkdir()
    tifffile.imwrite(tmp_path / "outside" / "x.tif", np.zeros(SHAPE, np.uint16))
    (tmp_path / "plate" / "TimePoint_1").mkdir(parents=True)
    target = str(tmp_path) + folder if folder.startswith("/") else folder
    row = PlaneRow(0, 0, 0, 0, 0, target, "x.tif", 1, 0)
    manifest = Manifest.from_rows(str(tmp_path / "plate"), [row])
    backend = VirtualWorkspaceBackend(manifest, make_plate(["A01"], 1, 1, 1))
    with pytest.raises(PathError):
        backend.load("A01_s001_w1_z001_t001.tif")


def test_a_link_out_of_the_plate_is_refused(workspace, tmp_path):
    name = "A01_s001_w1_z001_t001.tif"
    real = workspace.root / workspace.workspace_mapping()[name]
    shutil.move(real, tmp_path / "elsewhere.tif")
    real.symlink_to(tmp_path / "elsewhere.tif")
    with pytest.raises(PathError, match="by a link"):
        workspace.load(name)


def test_a_plate_reached_by_a_link_is_fine(workspace, tmp_path):
    (tmp_path / "link").symlink_to(workspace.root)
    linked = VirtualWorkspaceBackend(workspace.manifest, workspace.plate, root=tmp_path / "link")
    assert linked.load("A01_s001_w1_z001_t001.tif").shape == SHAPE


def test_names_take_indices_or_labels(workspace):
    assert workspace.generate_filename({"well": "b2", "field": 2}) == "B02_s003_w1_z001_t001.tif"
    assert workspace.generate_filename(PlaneKey(0, 1, 0, 1, 1, 0)) == "B02_s001_w2_z001_t002.tif"
    with pytest.raises(UsageError, match="did you mean channel"):
        workspace.generate_filename({"well": "B02", "chanel": 1})
    with pytest.raises(UsageError, match="names its well"):
        workspace.generate_filename({"field": 1})


def test_a_large_plate_makes_no_table():
    shape = (384, 9, 1, 4, 5)
    keys = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1).astype(np.int32)
    blob, count = b"x.tif", len(keys)
    manifest = Manifest(
        root="/plate", keys=keys, folder_ids=np.zeros(count, np.int32), folders=("",),
        name_blob=blob * count, name_offsets=np.arange(count + 1) * len(blob),
        nbytes=np.zeros(count, np.int64), mtime_ns=np.zeros(count, np.int64),
        missing=np.zeros((0, 5), np.int32),
    )  # fmt: skip
    wells = [f"{chr(65 + r)}{c:02d}" for r in range(16) for c in range(1, 25)]
    start = time.perf_counter()
    backend = VirtualWorkspaceBackend(manifest, make_plate(wells, 9, 4, 5))
    assert backend.is_file("P24_s009_w4_z005_t001.tif")
    assert not backend.is_file("P24_s009_w4_z006_t001.tif")
    assert time.perf_counter() - start < 1
    assert len(backend.workspace_mapping()) == 69_120


@pytest.mark.parametrize(
    "name",
    [
        "A01_s0001_w1_z001_t001.tif",
        "A01_s001_w01_z001_t001.tif",
        "A1_s001_w1_z001_t001.tif",
        "a01_s001_w1_z001_t001.tif",
        "A01_s001_w1_z001_t001.TIF",
        "A01_s٠٠١_w1_z001_t001.tif",
        f"A01_s{'9' * 5000}_w1_z001_t001.tif",
    ],
)
def test_a_plane_has_one_name(workspace, name):
    assert not workspace.is_file(name)
    assert name not in workspace.workspace_mapping()


def test_names_may_begin_with_the_plates_own_folder(workspace):
    names = workspace.list_files(workspace.root)
    assert names[0] == f"{workspace.root}/A01_s001_w1_z001_t001.tif"
    assert workspace.load(names[0])[0, 0] == 0
    assert workspace.is_dir(workspace.root)
    assert not workspace.is_file(f"{workspace.root}-2/A01_s001_w1_z001_t001.tif")


def test_what_was_asked_does_not_hinder_sending_it(workspace):
    assert workspace.is_file("B02_s003_w2_z001_t002.tif")
    copy = pickle.loads(pickle.dumps(workspace))
    assert copy.root == workspace.root
    assert copy.list_files("") == workspace.list_files("")
    assert copy.is_file("B02_s003_w2_z001_t002.tif")


def test_a_name_that_is_no_ascii_keeps_its_bytes(tmp_path):
    names = ["zelle_é.tif", os.fsdecode(b"latin_\xe9.tif"), "plain.tif"]
    rows = [PlaneRow(0, field, 0, 0, 0, "ümlaut", name, 1, 0) for field, name in enumerate(names)]
    backend = VirtualWorkspaceBackend(
        Manifest.from_rows(str(tmp_path), rows), make_plate(["A01"], 3, 1, 1)
    )
    assert [path for _, path in backend.planes()] == [f"ümlaut/{name}" for name in names]


def test_it_has_no_way_to_write(workspace):
    assert not isinstance(workspace, DataSink)
    assert not any(hasattr(workspace, name) for name in ("save", "delete", "move", "copy"))


def test_nothing_is_written_into_the_plate(workspace, hash_tree):
    folders = [workspace.root, *(p for p in workspace.root.rglob("*") if p.is_dir())]
    before = hash_tree(workspace.root), [folder.stat().st_mtime_ns for folder in folders]
    for folder in folders:
        folder.chmod(0o555)
    try:
        for name in workspace.list_files(""):
            workspace.load(name)
            workspace.stat(name)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    after = hash_tree(workspace.root), [folder.stat().st_mtime_ns for folder in folders]
    assert after == before
