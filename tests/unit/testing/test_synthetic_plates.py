"""Synthetic plates: as an instrument writes them, and true to what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from hcsflow.errors import UsageError
from hcsflow.testing.plates import FAULTS, PlateSpec, key_coded_plate, write_imagexpress_plate
from hcsflow.testing.truth import Truth, match_labels

SMALL = PlateSpec(wells=("A01", "A02"), fields=2, channels=2, z=3, size=48, nuclei=2)


@pytest.fixture(scope="module")
def one_well(tmp_path_factory):
    """One well as in the demo."""
    root = tmp_path_factory.mktemp("synthetic") / "P"
    return root, write_imagexpress_plate(root, wells=("C03",))


def files(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def stack_of(root, field, channel):
    name = f"P_C03_s{field + 1}_w{channel + 1}.tif"
    paths = [root / "TimePoint_1" / f"ZStep_{z}" / name for z in (1, 2, 3)]
    return np.stack([tifffile.imread(path) for path in paths])


def test_a_plain_otsu_and_watershed_finds_the_nuclei(one_well):
    root, truth = one_well
    for field in range(truth.fields):
        image = stack_of(root, field, 0).max(axis=0).astype(np.float32)
        smooth = ndimage.gaussian_filter(image, 1.5)
        flat = smooth - ndimage.gaussian_filter(smooth, 40)
        mask = flat > threshold_otsu(flat)
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1)
        seeds = np.zeros(mask.shape, int)
        peaks = peak_local_max(depth, min_distance=5, labels=mask.astype(int))
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        match = match_labels(truth.label_image("C03", field), watershed(-depth, seeds, mask=mask))
        assert match.f1 >= 0.95


def test_some_nuclei_touch_and_all_are_of_the_size_promised(one_well):
    _, truth = one_well
    radii = [r for f in truth.nuclei["C03"] for n in f for r in (n.radius_1, n.radius_2)]
    assert 6 <= min(radii) <= max(radii) <= 10
    assert 15 <= truth.count("C03") / truth.fields <= 36
    joined = sum(ndimage.label(truth.label_image("C03", f))[1] for f in range(truth.fields))
    assert 0 < truth.count("C03") - joined <= 0.2 * truth.count("C03")


def test_light_is_uneven_and_planes_blur_out_of_focus(one_well):
    root, truth = one_well
    stack = stack_of(root, 0, 0).astype(float)
    background = np.where(truth.label_image("C03", 0) == 0, stack[1], np.nan)
    assert np.nanmedian(background[-60:, -60:]) < 0.85 * np.nanmedian(background[226:286, 180:240])
    edges = [np.abs(np.diff(plane, axis=1)).max() for plane in stack]
    assert edges[1] > 1.3 * max(edges[0], edges[2])


def test_every_image_carries_metaseries_metadata(one_well):
    root, _ = one_well
    with tifffile.TiffFile(root / "TimePoint_1" / "ZStep_2" / "P_C03_s4_w2.tif") as tif:
        assert tif.is_metaseries
        info = tif.metaseries_metadata["PlaneInfo"]
    assert info["spatial-calibration-x"] == 0.65
    assert info["spatial-calibration-units"] == "um"
    assert (info["SiteX"], info["SiteY"], info["Z Step"]) == (2, 2, 2)
    assert info["_IllumSetting_"] == "FITC"
    assert info["stage-label"] == "C03 : Site 4"


def test_labels_are_one_per_nucleus(one_well):
    _, truth = one_well
    labels = truth.label_image("C03", 0)
    assert labels.dtype == np.uint32
    assert set(np.unique(labels)) == set(range(len(truth.nuclei["C03"][0]) + 1))


def test_truth_is_read_back_as_written(one_well, tmp_path):
    _, truth = one_well
    truth.save(tmp_path / "truth.json")
    assert Truth.load(tmp_path / "truth.json") == truth


def test_the_same_seed_gives_the_same_bytes_whatever_else_is_written(tmp_path, hash_tree):
    write_imagexpress_plate(tmp_path / "one" / "P", SMALL)
    write_imagexpress_plate(tmp_path / "two" / "P", SMALL)
    write_imagexpress_plate(tmp_path / "fewer" / "P", SMALL, wells=("A01",))
    write_imagexpress_plate(tmp_path / "other" / "P", SMALL, seed=1)
    one, two, fewer, other = (
        hash_tree(tmp_path / name / "P") for name in ("one", "two", "fewer", "other")
    )
    assert one == two
    images = {name: value for name, value in fewer.items() if name.endswith(".tif")}
    assert images.items() <= one.items()
    assert all(one[name] != other[name] for name in images)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("exported", "TimePoint_1/ZStep_2/P_A02_s1_w2.tif"),
        ("flat", "A02_s1_w2_z2.tif"),
        ("database", "2024-05-06/1701/ZStep_2/P_A02_s1_w2"),
    ],
)
def test_layouts(tmp_path, layout, expected):
    write_imagexpress_plate(tmp_path / "P", SMALL, layout=layout)
    found = files(tmp_path / "P")
    assert sum(name.startswith(expected) for name in found) == (2 if layout == "database" else 1)
    thumbs = [name for name in found if "_thumb" in name]
    assert bool(thumbs) is (layout == "database")
    if thumbs:
        assert tifffile.imread(tmp_path / "P" / thumbs[0]).shape == (64, 80)
    assert sum(name.endswith(".HTD") for name in found) == {"exported": 2, "flat": 1}.get(layout, 0)


def test_the_stored_projection_is_in_focus_and_beside_the_steps(tmp_path):
    write_imagexpress_plate(tmp_path / "P", SMALL, layout="database")
    beside = [p for p in (tmp_path / "P").glob("2024*/1701/*.tif") if "_thumb" not in p.name]
    assert len(beside) == 2 * 2
    assert all("_w1" in path.name for path in beside)


@pytest.mark.parametrize("kind", FAULTS)
def test_every_fault_is_where_the_truth_says(tmp_path, kind):
    sound = write_imagexpress_plate(tmp_path / "sound" / "P", SMALL)
    truth = write_imagexpress_plate(tmp_path / "bad" / "P", SMALL, faults={"A02": kind})
    (fault,) = truth.faults
    assert (fault.well, fault.kind) == ("A02", kind)
    assert truth.intact_wells == ("A01",)
    assert truth.nuclei == sound.nuclei
    before, after = (tmp_path / name / "P" for name in ("sound", "bad"))
    changed = {
        name
        for name in {*files(before), *files(after)}
        if not (before / name).is_file()
        or not (after / name).is_file()
        or (before / name).read_bytes() != (after / name).read_bytes()
    }
    assert changed
    assert all("_A02_" in name for name in changed)
    if fault.file is not None:
        assert len(changed) == 1
        assert Path(fault.file).name in changed.pop()


def test_key_coded_planes_differ_from_each_other(tmp_path):
    code = key_coded_plate(tmp_path / "P", wells=("A01", "A02"), fields=2, channels=2, z=(3, 1))
    values = [
        code.value(w, f, 0, c, z)
        for w in range(2)
        for f in range(2)
        for c, planes in enumerate((3, 1))
        for z in range(planes)
    ]
    assert len(set(values)) == len(values)
    assert min(values) > 0
    image = tifffile.imread(tmp_path / "P" / "TimePoint_1" / "ZStep_3" / "P_A02_s2_w1.tif")
    assert image.shape == (32, 32)
    assert set(np.unique(image)) == {code.value(1, 1, 0, 0, 2)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"faults": {"A02": "on fire"}}, "on fire"),
        ({"faults": {"H12": "missing plane"}}, "H12"),
        ({"z": (1, 2, 3)}, "3 numbers of planes for 2 channels"),
    ],
)
def test_contradictions_are_refused(tmp_path, changes, said):
    with pytest.raises(UsageError, match=said):
        write_imagexpress_plate(tmp_path / "P", SMALL, **changes)


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_imagexpress_plate(tmp_path, SMALL)
    assert files(tmp_path) == ["mine.txt"]


def test_too_many_planes_to_tell_apart(tmp_path):
    with pytest.raises(UsageError, match="65,535"):
        key_coded_plate(tmp_path / "P", fields=9000, z=1)


def test_matching_counts_what_is_found_in_vain_and_not_found():
    true = np.zeros((4, 12), int)
    true[:, 0:3], true[:, 4:7], true[:, 8:11] = 1, 2, 3
    found = np.zeros_like(true)
    found[:, 0:3], found[:3, 4:7], found[0, 8:11] = 9, 4, 7
    match = match_labels(true, found)
    assert match == (2, 1, 1)
    assert match.f1 == pytest.approx(2 * 2 / (2 * 2 + 2))


def test_matching_nothing_with_nothing_is_perfect():
    nothing = np.zeros((4, 4), int)
    assert match_labels(nothing, nothing).f1 == 1.0
    assert match_labels(nothing, nothing + 1).f1 == 0.0


def test_two_objects_cannot_claim_one():
    true = np.array([[1, 1, 1, 1]])
    assert match_labels(true, np.array([[1, 1, 2, 2]])) == (1, 1, 0)
