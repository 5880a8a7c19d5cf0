"""Plates with something wrong: what is said, and that the rest can still be used."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hcsflow.errors import PlanRefusedError, PlateError, PlateNotFoundError, UsageError
from hcsflow.microscopes import MICROSCOPES, open_plate, read_stage_positions
from hcsflow.testing.plates import PlateSpec, key_coded_plate

SPEC = PlateSpec(wells=("A01", "A02", "B01"), fields=2, channels=2, z=3, size=16)


@pytest.fixture(params=["exported", "flat", "database"])
def layout(request):
    return request.param


def opened(root, **changes):
    code = key_coded_plate(root, SPEC, **changes)
    return code, *open_plate(root)


def missing_keys(manifest):
    return [tuple(row) for row in manifest.missing.tolist()]


# -- no plate --------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_guessed_at(tmp_path):
    (tmp_path / "Plate_12").mkdir()
    with pytest.raises(PlateNotFoundError) as caught:
        open_plate(tmp_path / "Plate_13")
    assert "Plate_13" in caught.value.message
    assert "Plate_12" in caught.value.hint
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.exit_code == 2


def test_a_file_is_no_plate(tmp_path):
    (tmp_path / "A01.tif").touch()
    with pytest.raises(PlateError, match="is a file"):
        open_plate(tmp_path / "A01.tif")


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(PlateError, match="no files") as caught:
        open_plate(tmp_path)
    assert "ImageXpress" in str(caught.value)


def test_an_unknown_layout_shows_the_nearest_misses(tmp_path):
    for name in ("a_readme.txt", "r01c01f01p01-ch1sk1fk1fl1.tiff", "z.png"):
        (tmp_path / name).touch()
    with pytest.raises(PlateError) as caught:
        open_plate(tmp_path)
    text = str(caught.value)
    assert "TimePoint_<n>" in text
    assert text.index("r01c01f01p01") < text.index("a_readme.txt")


def test_an_htd_without_images(tmp_path):
    key_coded_plate(tmp_path / "P", SPEC)
    shutil.rmtree(tmp_path / "P" / "TimePoint_1")
    with pytest.raises(PlateError, match=r"promises 3 wells \(A01, A02, B01\)"):
        open_plate(tmp_path / "P")


def test_an_unknown_microscope_is_guessed_at(tmp_path):
    with pytest.raises(UsageError) as caught:
        open_plate(tmp_path, microscope="imagexpres")
    assert "imagexpress" in caught.value.hint
    assert set(MICROSCOPES) == {"imagexpress"}


def test_a_microscope_told_does_not_find_other_files(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(PlateError, match="1 × file of another kind"):
        open_plate(tmp_path, microscope="imagexpress")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_folder_that_cannot_be_read_is_named():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "P"
        key_coded_plate(root, SPEC)
        Path(folder).chmod(0o755)
        locked = root / "TimePoint_1" / "ZStep_2"
        locked.chmod(0o000)
        user = os.geteuid()
        try:
            if user == 0:  # root may read everything
                os.seteuid(65534)
            with pytest.raises(PlateError, match=r"ZStep_2.*[Pp]ermission"):
                open_plate(root)
        finally:
            os.seteuid(user)
            locked.chmod(0o755)


# -- planes that are not there ---------------------------------------------------------------------


def test_a_missing_plane_is_named(tmp_path, layout):
    _, plate, manifest = opened(tmp_path / "P", layout=layout, faults={"A02": "missing plane"})
    assert plate.wells == ("A01", "A02", "B01")
    assert missing_keys(manifest) == [(1, 1, 0, 0, 1)]
    assert manifest.absent == 0


def test_a_missing_field_and_a_missing_channel(tmp_path, layout):
    faults = {"A01": "missing field", "B01": "missing channel"}
    _, plate, manifest = opened(tmp_path / "P", layout=layout, faults=faults)
    assert (len(plate.fields), len(plate.channels)) == (2, 2)
    assert len(manifest.missing_of(0)) == 2 * 3
    assert {key.field for key in manifest.missing_of(0)} == {1}
    assert len(manifest.missing_of(2)) == 2 * 3
    assert {key.channel for key in manifest.missing_of(2)} == {1}
    assert not manifest.missing_of(1)


def test_a_well_promised_without_any_file_is_listed(tmp_path):
    _, plate, manifest = opened(tmp_path / "P", faults={"A02": "missing well"})
    assert plate.wells == ("A01", "B01")
    assert manifest.missing_wells == ("A02",)
    assert len(manifest.missing) == 0


def test_an_htd_may_promise_more_of_everything(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, SPEC)
    more = tmp_path / "more"
    key_coded_plate(more, SPEC, wells=("A01", "A02", "B01", "C05"), fields=4, channels=3, z=4)
    shutil.copyfile(more / "more.HTD", root / "P.HTD")
    plate, manifest = open_plate(root)
    assert manifest.missing_wells == ("C05",)
    assert (plate.fields, len(plate.z)) == (("1", "2", "3", "4"), 4)
    assert [(c.label, c.name, c.z) for c in plate.channels] == [
        ("w1", "DAPI", 4),
        ("w2", "FITC", 4),
        ("w3", "TRITC", 4),
    ]
    assert len(manifest) == 3 * 2 * 2 * 3
    assert len(manifest.missing_of(0)) == 4 * 3 * 4 - 2 * 2 * 3
    assert plate.grid.cells == ((0, 0), (0, 1), (1, 0), (1, 1))


def test_steps_promised_where_only_the_first_is_there(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, SPEC)
    for step in (2, 3):
        shutil.rmtree(root / "TimePoint_1" / f"ZStep_{step}")
    plate, manifest = open_plate(root)
    assert [c.z for c in plate.channels] == [3, 3]
    assert {row[4] for row in missing_keys(manifest)} == {1, 2}


def test_more_files_than_the_htd_promises_are_all_taken(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, SPEC)
    key_coded_plate(tmp_path / "less", SPEC, wells=("A01",), fields=1, channels=1, z=1)
    shutil.copyfile(tmp_path / "less" / "less.HTD", root / "P.HTD")
    plate, manifest = open_plate(root)
    assert (len(plate.wells), len(manifest), len(manifest.missing)) == (3, 36, 0)
    assert [c.name for c in plate.channels] == ["DAPI", "FITC"]


# -- planes that are wrong -------------------------------------------------------------------------


def test_two_files_for_one_plane_fail_that_well_by_both_names(tmp_path, layout):
    _, _, manifest = opened(tmp_path / "P", layout=layout, faults={"A02": "duplicate plane"})
    (fault,) = manifest.faults
    assert fault.well == "A02"
    assert "field 2" in fault.reason
    assert "copy_" in fault.reason
    assert fault.reason.count(".tif") == 2
    assert fault.file in fault.reason
    assert len(manifest) == 36


@pytest.mark.parametrize("kind", ["truncated TIFF", "not a TIFF"])
def test_a_damaged_file_does_not_stop_the_plate(tmp_path, kind):
    code, plate, manifest = opened(tmp_path / "P", faults={"A01": kind})
    assert (plate.shape_yx, plate.dtype, plate.pixel_size.um) == ((16, 16), "uint16", 0.65)
    assert len(manifest) == 36
    assert code.spec.faults


def test_a_channel_without_any_sound_file_is_named(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, SPEC)
    for path in root.rglob("*_w2.tif"):
        path.write_bytes(b"II*\0")
    with pytest.raises(PlateError, match=r"wavelength 2.*_w2\.tif"):
        open_plate(root)


@pytest.mark.parametrize("kind", ["odd shape", "odd dtype"])
def test_one_odd_plane_is_left_to_its_well(tmp_path, kind):
    _, plate, _ = opened(tmp_path / "P", faults={"A01": kind, "B01": kind})
    assert (plate.shape_yx, plate.dtype) == ((16, 16), "uint16")


def test_channels_that_differ_are_refused_by_both_names(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, SPEC)
    for path in root.rglob("*_w2.tif"):
        tifffile.imwrite(path, np.zeros((8, 16), np.uint16))
    with pytest.raises(PlanRefusedError, match=r"_w2\.tif is 8 × 16 uint16, expected 16 × 16") as e:
        open_plate(root)
    assert "_w1.tif" in str(e.value)
    assert e.value.exit_code == 3


def test_fields_that_differ_are_refused(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, SPEC)
    for path in root.rglob("*_s2_*.tif"):
        tifffile.imwrite(path, np.zeros((16, 16), np.uint8))
    with pytest.raises(PlanRefusedError, match=r"_s2_w1\.tif is 16 × 16 uint8"):
        open_plate(root)


def test_colour_images_are_refused(tmp_path):
    rgb = np.zeros((8, 8, 3), np.uint8)
    tifffile.imwrite(tmp_path / "A01.tif", rgb, photometric="rgb")
    with pytest.raises(PlanRefusedError, match="grey"):
        open_plate(tmp_path)


def test_a_document_type_in_the_metadata_is_refused(tmp_path):
    evil = '<!DOCTYPE x [<!ENTITY a "b">]><MetaData><PlaneInfo/></MetaData>'
    tifffile.imwrite(tmp_path / "A01.tif", np.zeros((8, 8), np.uint8), description=evil)
    with pytest.raises(PlateError, match=r"A01\.tif.*DTD"):
        open_plate(tmp_path)


def test_positions_of_a_damaged_field_are_unknown(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, SPEC, channels=1, z=1)
    next(root.rglob("*_A02_s2_*.tif")).write_bytes(b"")
    plate, manifest = open_plate(root)
    first, second = read_stage_positions(plate, manifest, 1)
    assert first is not None
    assert second is None


# -- several acquisitions, links -------------------------------------------------------------------


def test_several_acquisitions_must_be_told_apart(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, SPEC, layout="database", channels=1)
    day = root / "2024-05-06"
    shutil.copytree(day / "1701", day / "1702")
    with pytest.raises(PlateError, match="2024-05-06/1701, 2024-05-06/1702") as caught:
        open_plate(root)
    assert "--acquisition" in caught.value.hint
    plate, manifest = open_plate(root, acquisition="1702")
    assert plate.acquisition == "2024-05-06/1702"
    assert plate.acquisitions == ("2024-05-06/1701", "2024-05-06/1702")
    assert all(path.startswith("2024-05-06/1702/") for _, path in manifest)
    with pytest.raises(PlateError, match="several acquisitions match '2024-05-06'"):
        open_plate(root, acquisition="2024-05-06")
    with pytest.raises(PlateError, match=r"no acquisition '\.\./1701'"):
        open_plate(root, acquisition="../1701")


def test_a_folder_of_plates_must_be_told_apart(tmp_path):
    for name in ("one_Plate_1", "two_Plate_2"):
        key_coded_plate(tmp_path / name, SPEC)
    with pytest.raises(PlateError, match="one_Plate_1, two_Plate_2"):
        open_plate(tmp_path)
    plate, manifest = open_plate(tmp_path, acquisition="two_Plate_2")
    assert plate.name == "two_Plate_2"
    assert plate.uuid is not None
    assert len(manifest) == 36


def test_links_out_of_the_plate_are_counted_not_followed(tmp_path):
    root, other = tmp_path / "P", tmp_path / "secret"
    key_coded_plate(root, SPEC, layout="flat", wells=("A01",))
    key_coded_plate(other, SPEC, layout="flat", wells=("A02",))
    (root / "A02_s1_w1_z1.tif").symlink_to(other / "A02_s1_w1_z1.tif")
    (root / "A03_s1_w1_z1.tif").symlink_to("../secret/A02_s1_w1_z1.tif")
    (root / "more").symlink_to(other)
    (root / "again").symlink_to(root)
    plate, manifest = open_plate(root)
    assert plate.wells == ("A01",)
    assert dict(manifest.ignored) == {
        "symbolic link out of the plate": 3,
        "symbolic link to a folder": 1,
    }


def test_links_within_the_plate_are_files(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, SPEC, layout="flat", wells=("A01",))
    first = root / "A01_s1_w1_z1.tif"
    (root / "raw.bin").write_bytes(first.read_bytes())
    first.unlink()
    first.symlink_to("raw.bin")
    (root / "A01_s1_w1_z9.tif").symlink_to("gone.tif")
    _, manifest = open_plate(root)
    assert len(manifest) == 12
    assert dict(manifest.ignored) == {"file of another kind": 1, "file that cannot be read": 1}


def test_only_links_out_of_the_plate_leave_nothing(tmp_path):
    root, other = tmp_path / "P", tmp_path / "other"
    key_coded_plate(other, SPEC, layout="flat")
    root.mkdir()
    for path in other.iterdir():
        (root / path.name).symlink_to(path)
    with pytest.raises(PlateError, match="symbolic link out of the plate"):
        open_plate(root)


def test_a_pipe_named_like_an_image_is_not_opened(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, SPEC, layout="flat", wells=("A01",))
    os.mkfifo(root / "A01_s1_w1_z9.tif")
    _, manifest = open_plate(root)
    assert len(manifest) == 12
    assert dict(manifest.ignored) == {"file of another kind": 1}
