"""Wells written as an image for each field, and as files of planes."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.config import FieldLayout, ZarrConfig
from hcsflow.errors import ContractError, PlaneError
from hcsflow.ngff.layout import plan_image
from hcsflow.plan import PlaneSet
from hcsflow.plate import FieldGrid
from hcsflow.storage.documents import write_array_document
from hcsflow.storage.plane_files import PlaneFileWriter, plane_file, read_plane_file
from hcsflow.storage.well_images import MAX_OPEN_IMAGES, WellImageWriter

NUM_FIELDS = 3 * MAX_OPEN_IMAGES


def lay_out(fields=2, *, z=((0, 2), (1,)), dtype="uint16", side=64, um=0.5, **settings):
    grid = FieldGrid(1, fields, tuple((0, c) for c in range(fields)), "field number")
    planes = PlaneSet(tuple(range(fields)), (0,), (0, 1), z, (side, side), dtype)
    config = ZarrConfig(field_layout=FieldLayout.IMAGES, **settings)
    layout = plan_image(
        path="0",
        kind="image",
        planes=planes,
        grid=grid,
        config=config,
        pixel_size_um=um,
        z_step_um=None,
    )
    return layout, planes


def plane_of(key, side=64):
    return np.full((side, side), 1 + key.field * 100 + key.channel * 10 + key.z, "uint16")


def write_all(root, layout, keys):
    writer = WellImageWriter(root, layout)
    for key in keys:
        writer.write(*key, plane_of(key))
    made = writer.close()
    for image, _ in made:
        for array in image.levels:
            write_array_document(root, array)
    return made


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@given(order=st.permutations(range(6)))
def test_planes_may_come_in_any_order(tmp_path_factory, version, order):
    root = tmp_path_factory.mktemp("any")
    layout, planes = lay_out(ngff_version=version)
    keys = list(planes.iter_keys())
    made = write_all(root, layout, [keys[i] for i in order])
    assert [image.path for image, _ in made] == ["0", "1"]
    for key in keys:
        pixels = zarr.open_array(root / str(key.field) / "0", mode="r")[...]
        slot = 0 if key.channel == 1 else (0, 2).index(key.z)
        assert (pixels[key.channel, slot] == plane_of(key)[0, 0]).all()


def test_many_fields_at_a_time_keep_few_files_open(tmp_path):
    layout, planes = lay_out(fields=NUM_FIELDS)
    keys = sorted(planes.iter_keys(), key=lambda key: (key.channel, key.z, key.field))
    writer = WellImageWriter(tmp_path, layout)
    most = 0
    for key in keys:
        writer.write(*key, plane_of(key))
        links = Path("/proc/self/fd")
        if links.is_dir():
            targets = (str(link.readlink()) for link in links.iterdir() if link.is_symlink())
            most = max(most, sum(str(tmp_path) in target for target in targets))
    made = writer.close()
    assert most <= MAX_OPEN_IMAGES
    assert [record.planes for _, record in made] == [3] * NUM_FIELDS


def test_a_field_without_planes_is_an_image_of_zeros(tmp_path):
    layout, planes = lay_out()
    write_all(tmp_path, layout, [key for key in planes.iter_keys() if key.field == 1])
    assert not zarr.open_array(tmp_path / "0" / "0", mode="r")[...].any()
    assert zarr.open_array(tmp_path / "1" / "0", mode="r")[...].any()


def test_an_aborted_well_leaves_no_unfinished_files(tmp_path):
    layout, planes = lay_out()
    writer = WellImageWriter(tmp_path, layout)
    writer.write(*next(planes.iter_keys()), np.zeros((64, 64), "uint16"))
    with pytest.raises(ContractError, match="takes planes"):
        writer.write(0, 0, 0, 2, np.zeros((32, 64), "uint16"))
    writer.abort()
    writer.abort()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "float32", "float64"])
def test_files_hold_any_pixels_exactly(tmp_path, dtype):
    layout, _ = lay_out(dtype=dtype)
    pixels = np.random.default_rng(0).integers(0, 100, (64, 64)).astype(dtype)
    writer = PlaneFileWriter(tmp_path, "labels/x", "B03", layout)
    writer.write(1, 0, 0, 2, pixels)
    ((_, record),) = writer.close()
    (stored,) = record.objects
    assert stored.path == "labels/x/B03_s002_w1_z003_t001.tif"
    found = tifffile.imread(tmp_path / stored.path)
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype == dtype
    np.testing.assert_array_equal(read_plane_file(tmp_path / stored.path, layout), pixels)


def test_without_a_pixel_size_files_say_none(tmp_path):
    layout, _ = lay_out(um=None)
    writer = PlaneFileWriter(tmp_path, "", "B03", layout)
    writer.write(0, 0, 0, 0, np.zeros((64, 64), "uint16"))
    with tifffile.TiffFile(tmp_path / plane_file("B03", field=0, timepoint=0, channel=0, z=0)) as f:
        assert f.pages.first.get_resolution() == (1, 1)
        assert f.pages.first.resolutionunit == tifffile.RESUNIT.NONE


def test_a_file_is_written_once_and_in_its_size(tmp_path):
    layout, _ = lay_out()
    writer = PlaneFileWriter(tmp_path, "", "B03", layout)
    writer.write(0, 0, 0, 0, np.zeros((64, 64), "uint16"))
    for place, shape in product([(0, 0, 0, 0)], [(64, 64), (64, 63)]):
        with pytest.raises(ContractError):
            writer.write(*place, np.zeros(shape, "uint16"))
    file = tmp_path / "B03_s001_w1_z001_t001.tif"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(PlaneError, match="B03_s001_w1_z001_t001"):
        read_plane_file(file, layout)
