"""What a user holds after opening a plate."""

from __future__ import annotations

import json
import subprocess
import sys

import dask
import numpy as np
import pytest
import tifffile

from hcsflow.errors import MissingPlaneError, PlaneError, PlateError, UsageError
from hcsflow.session.plate import Plate, describe, inspect_json, open_plate
from hcsflow.testing.plates import PlateSpec, key_coded_plate, write_imagexpress_plate

SPEC = PlateSpec(wells=("A01", "B03"), fields=4, channels=2, z=(3, 1), size=32)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    root = tmp_path_factory.mktemp("keyed") / "P"
    return key_coded_plate(root, SPEC), open_plate(root)


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def test_wells_are_found_by_any_spelling(keyed):
    _, plate = keyed
    assert list(plate) == ["A01", "B03"]
    assert (len(plate), "B03" in plate) == (2, True)
    assert plate["b3"].name == "B03"
    with pytest.raises(UsageError, match="B04 was not acquired") as caught:
        plate["B04"]
    assert "B03" in caught.value.hint
    with pytest.raises(PlateError, match="'nowhere'"):
        plate["nowhere"]


def test_a_well_promised_without_image_says_so(tmp_path):
    key_coded_plate(tmp_path / "P", SPEC, faults={"B03": "missing well"})
    with pytest.raises(UsageError, match="promised"):
        open_plate(tmp_path / "P")["B03"]


def test_every_plane_of_the_array_is_the_one_asked_for(keyed):
    code, plate = keyed
    array = plate["B03"].to_xarray()
    assert array.dims == ("field", "t", "c", "z", "y", "x")
    assert array.shape == (4, 1, 2, 3, 32, 32)
    assert array.dtype == np.uint16
    assert array.chunks[:4] == ((1,) * 4, (1,), (1, 1), (1, 1, 1))
    pixels = array.compute().values
    for index in np.ndindex(pixels.shape[:4]):
        field, t, c, z = index
        expected = code.value(1, field, t, c, z) if c == 0 or z == 0 else 0
        assert np.all(pixels[index] == expected)


def test_coordinates_have_units_and_absent_planes_a_mask(keyed):
    _, plate = keyed
    array = plate["A01"].to_xarray()
    assert array.coords["c"].values.tolist() == ["DAPI", "FITC"]
    assert array.coords["z"].values.tolist() == [0.0, 3.0, 6.0]
    assert array.coords["x"].values[:2].tolist() == [0.0, 0.65]
    assert array.coords["y"].attrs["units"] == "micrometer"
    assert array.coords["acquired"].dims == ("field", "t", "c", "z")
    assert array.coords["acquired"].values[:, 0, 1].tolist() == [[True, False, False]] * 4
    assert array.attrs["absent"] == 8
    assert array.attrs["missing"] == []
    assert array.sel(c="FITC", field="3", z=0.0).isel(t=0).shape == (32, 32)


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    key_coded_plate(tmp_path / "P", SPEC)
    array = open_plate(tmp_path / "P")["A01"].to_xarray()
    for path in (tmp_path / "P").rglob("*_A01_s2_*.tif"):
        path.unlink()
    assert array[0].max().compute() > 0
    with pytest.raises(MissingPlaneError, match="_A01_s2_w1"):
        array[1, 0, 0].compute()


def test_missing_planes_raise_or_are_filled(tmp_path):
    key_coded_plate(tmp_path / "P", SPEC, faults={"A01": "missing plane"})
    well = open_plate(tmp_path / "P")["A01"]
    assert well.missing == ("A01_s004_w1_z002_t001",)
    with pytest.raises(MissingPlaneError, match="A01_s004_w1_z002_t001"):
        well.to_xarray().compute()
    filled = well.to_xarray(missing="fill")
    assert filled.attrs["missing"] == ["A01_s004_w1_z002_t001"]
    assert filled.attrs["absent"] == 8
    assert not filled[3, 0, 0, 1].values.any()
    assert filled[3, 0, 0, 2].values.all()
    with pytest.raises(UsageError, match="skip"):
        well.to_xarray(missing="skip")


def test_a_damaged_plane_is_named(tmp_path):
    key_coded_plate(tmp_path / "P", SPEC, faults={"A01": "truncated TIFF"})
    array = open_plate(tmp_path / "P")["A01"].to_xarray()
    with pytest.raises(PlaneError, match=r"ZStep_2/P_A01_s4_w1\.tif"):
        array.compute()


def test_pixels_where_the_size_is_unknown(tmp_path):
    tifffile.imwrite(tmp_path / "A01.tif", np.zeros((4, 6), np.uint8))
    array = open_plate(tmp_path)["A1"].to_xarray()
    assert array.coords["x"].values.tolist() == [0, 1, 2, 3, 4, 5]
    assert array.coords["x"].attrs["units"] == "pixel"


def test_a_thumbnail_shows_the_fields_side_by_side(keyed):
    code, plate = keyed
    picture = plate["B03"].thumbnail(size=32)
    assert (picture.shape, picture.dtype) == ((32, 32), np.uint8)
    corners = [int(picture[y, x]) for y in (4, 28) for x in (4, 28)]
    assert corners == sorted(corners)
    assert (corners[0], corners[-1]) == (0, 255)
    assert code.value(1, 0, 0, 0, 1) < code.value(1, 3, 0, 0, 1)


def test_a_thumbnail_leaves_what_cannot_be_read_black(tmp_path):
    key_coded_plate(tmp_path / "P", SPEC, faults={"A01": "truncated TIFF", "B03": "missing plane"})
    plate = open_plate(tmp_path / "P")
    for well in plate:
        assert not plate[well].thumbnail(size=64)[32:, 32:].any()


def test_stage_positions_of_a_well(keyed):
    _, plate = keyed
    positions = plate["A01"].stage_positions_um()
    (y0, x0), (y1, x1) = positions[0], positions[3]
    pitch = 32 * 0.65
    assert (y1 - y0, x1 - x0) == (pytest.approx(pitch, abs=0.2), pytest.approx(pitch, abs=0.2))


def test_inspect_is_json_and_stable(keyed):
    _, plate = keyed
    document = inspect_json(plate)
    assert document["schema"] == "hcsflow.inspect/1"
    assert json.loads(json.dumps(document)) == document
    assert document == inspect_json(open_plate(plate.path))
    assert [(c["label"], c["z"]) for c in document["channels"]] == [("w1", 3), ("w2", 1)]
    assert document["absent"] == 2 * 4 * 2


def test_the_text_says_what_is_unusual(tmp_path):
    faults = {"A01": "missing plane", "B03": "duplicate plane", "C01": "missing well"}
    spec = {"wells": ("A01", "A02", "B03", "C01"), "projections": (0,)}
    key_coded_plate(tmp_path / "P", SPEC, faults=faults, **spec)
    text = describe(open_plate(tmp_path / "P"))
    assert "3 of 96: A01, A02, B03" in text
    assert "A01: 1 plane, A01_s004_w1_z002_t001" in text
    assert "C01 (promised)" in text
    assert "B03: two files claim one plane" in text
    assert "w1: 12 × Maximum" in text
    assert "0.65 µm (MetaSeries spatial-calibration-x of " in text
    assert "24 × copy of a single plane" in text
    assert repr(open_plate(tmp_path / "P")) == text


def test_names_from_files_are_escaped_in_html(tmp_path):
    root = tmp_path / "<b>&P"
    write_imagexpress_plate(root, SPEC, nuclei=0, faults={"A01": "missing plane"})
    htd = next(root.glob("*.HTD"))
    htd.write_bytes(htd.read_bytes().replace(b"FITC", b"<script>alert(1)</script>"))
    html = open_plate(root)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;b&gt;&amp;P" in html
    assert "<b><b>" not in html


def test_opening_a_plate_loads_neither_dask_nor_xarray(keyed):
    _, plate = keyed
    code = (
        "import sys; from hcsflow.session.plate import open_plate; "
        f"repr(open_plate({str(plate.path)!r})); "
        "print(sorted({'dask', 'xarray', 'distributed', 'torch', 'skimage'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_plate_is_made_of_frozen_values(keyed):
    _, plate = keyed
    assert isinstance(plate, Plate)
    assert plate.path.is_absolute()
    assert [c.label for c in plate.channels] == ["w1", "w2"]
    with pytest.raises(AttributeError):
        plate.model = None
