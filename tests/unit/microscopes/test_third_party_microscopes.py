"""Microscopes of other distributions, found by their entry points."""

from __future__ import annotations

import pytest

from hcsflow.errors import PlateError, UsageError
from hcsflow.microscopes import ENTRY_POINT_GROUP, open_plate, read_stage_positions

MODULE = """
from dataclasses import replace
from hcsflow.microscopes import imagexpress

LOOKS_FOR = "Zyx: files named *.zyx"

def is_plate_file(name):
    return name.endswith(".zyx")

def open_plate(root, *, acquisition, pixel_size_um):
    plate, manifest = imagexpress.open_plate(root, pixel_size_um=pixel_size_um)
    return replace(plate, microscope="zyx"), manifest

def read_stage_positions(plate, manifest, well):
    return [(1.0, 2.0)]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution that registers a microscope under a name."""

    def under(name):
        site = tmp_path / "site"
        info = site / "zyx-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zyx\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{name} = zyx_reader\n")
        (site / "zyx_reader.py").write_text(MODULE)
        monkeypatch.syspath_prepend(site)

    return under


@pytest.fixture
def plate_folder(tmp_path):
    from hcsflow.testing.plates import key_coded_plate

    key_coded_plate(tmp_path / "P", wells=("A01",), fields=1, channels=1, z=1)
    return tmp_path / "P"


def test_it_opens_its_plates_by_name(install, plate_folder):
    install("zyx")
    plate, manifest = open_plate(plate_folder, microscope="zyx")
    assert plate.microscope == "zyx"
    assert read_stage_positions(plate, manifest, 0) == [(1.0, 2.0)]


def test_it_is_recognised_after_those_built_in(install, plate_folder):
    install("zyx")
    assert open_plate(plate_folder)[0].microscope == "imagexpress"
    for path in plate_folder.rglob("*.*"):
        path.unlink()
    (plate_folder / "a.zyx").touch()
    with pytest.raises(PlateError, match="no image of an ImageXpress plate"):
        open_plate(plate_folder)


def test_what_it_looks_for_is_said(install, tmp_path):
    install("zyx")
    (tmp_path / "E").mkdir()
    with pytest.raises(PlateError, match="Zyx: files named"):
        open_plate(tmp_path / "E")


def test_a_taken_name_is_refused(install, tmp_path):
    install("imagexpress")
    (tmp_path / "E").mkdir()
    with pytest.raises(UsageError, match=r"'imagexpress'.*taken"):
        open_plate(tmp_path / "E")
