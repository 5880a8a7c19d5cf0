"""Splitting, labelling, choosing, counting and measuring objects."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import label, regionprops_table

from hcsflow.contracts import contract_of
from hcsflow.errors import ContractError
from hcsflow.functions.catalogue import find
from hcsflow.functions.splitting import flood, mark_peaks
from hcsflow.materialize import Labels, Table, as_table
from hcsflow.plate import PlaneKey


def _blobs(seed, share=0.5, shape=(140, 180)):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random(shape), 3)
    return (smooth > np.quantile(smooth, 1 - share)).astype(np.uint8)


def _same_parts(one, other):
    """Whether two label images differ by numbering alone."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()], axis=1), axis=0)
    return len(pairs) == len(np.unique(one)) == len(np.unique(other))


def _one_by_one(mask, min_distance, smooth):
    """Each region flooded alone on an empty plane: no canvas, nothing taken for granted."""
    regions = label(mask, connectivity=2)
    result = np.zeros(mask.shape, np.int64)
    for region in range(1, regions.max() + 1):
        alone = np.pad(regions == region, 40).view(np.uint8)
        height, marks = mark_peaks(alone, min_distance, smooth)
        parts = flood(height, marks, alone > 0)[40:-40, 40:-40]
        result[parts > 0] = parts[parts > 0] + result.max()
    return label(result, connectivity=2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8])
@pytest.mark.parametrize(("min_distance", "smooth"), [(1, 0.0), (3, 1.0), (8, 0.5)])
def test_splitting_equals_a_watershed_of_each_region_alone(seed, share, min_distance, smooth):
    mask = _blobs(seed, share)
    result = find("split_touching")(mask[None], min_distance=min_distance, smooth=smooth)[0]
    np.testing.assert_array_equal(result, _one_by_one(mask, min_distance, smooth))


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 1)),
    st.integers(1, 5),
)
def test_splitting_any_mask(mask, min_distance):
    result = find("split_touching")(mask[None], min_distance=min_distance, smooth=0.7)[0]
    np.testing.assert_array_equal(result, _one_by_one(mask, min_distance, 0.7))


def test_rings_inside_rings_take_several_canvases():
    y, x = np.ogrid[:200, :200]
    mask = (np.hypot(y - 100, x - 100).astype(int) % 6 < 3).view(np.uint8)
    mask[:, 97:103] = 0
    mask[98:101] = 1
    rings = (np.maximum(abs(y - 100), abs(x - 100)) % 8 < 4).view(np.uint8)
    for one in (mask, rings):
        result = find("split_touching")(one[None], min_distance=4, smooth=0.5)[0]
        np.testing.assert_array_equal(result, _one_by_one(one, 4, 0.5))


def test_distances_are_scipys():
    height, _ = mark_peaks(np.pad(_blobs(0), 1), 3, 0.0)
    exact = ndimage.distance_transform_edt(np.pad(_blobs(0), 1))
    np.testing.assert_allclose(height / 1024, exact, atol=1e-3)


def test_two_touching_discs_become_two():
    y, x = np.mgrid[:60, :80]
    mask = (np.hypot(y - 30, x - 28) <= 10) | (np.hypot(y - 30, x - 46) <= 10)
    result = find("split_touching")(mask[None].view(np.uint8))[0]
    assert result.max() == 2
    assert result[30, 28] != result[30, 46]
    areas = np.bincount(result.ravel())[1:]
    assert areas.max() / areas.min() < 1.1


@pytest.mark.parametrize("radius", [3, 8, 20, 29])
def test_one_disc_stays_one(radius):
    y, x = np.mgrid[:60, :61]
    mask = (np.hypot(y - 30, x - 30) <= radius).view(np.uint8)
    assert find("split_touching")(mask[None]).max() == 1


@pytest.mark.parametrize("value", [0, 1])
def test_an_even_mask(value):
    mask = np.full((1, 30, 40), value, np.uint8)
    assert find("split_touching")(mask).max() == value
    assert find("label_objects")(mask)[0].max() == value


def test_a_small_object_beside_a_large_one_is_not_lost():
    mask = np.zeros((1, 40, 40), np.uint8)
    mask[0, 5:25, 5:25] = 1
    mask[0, 26:28, 10:12] = 1
    assert find("split_touching")(mask, min_distance=10).max() == 2


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint32", "int64"])
def test_labelling_a_mask_is_scikit_images(connectivity, dtype):
    mask = np.stack([_blobs(0), _blobs(1)]).astype(dtype)
    stack, labels = find("label_objects")(mask, connectivity=connectivity)
    assert stack is labels
    assert labels.dtype == np.uint32
    first = label(mask[0] != 0, connectivity=connectivity)
    second = label(mask[1] != 0, connectivity=connectivity)
    np.testing.assert_array_equal(labels[0], first)
    np.testing.assert_array_equal(labels[1], np.where(second, second + first.max(), 0))


def test_labelling_labels_keeps_touching_objects_apart():
    parts = find("split_touching")(_blobs(2)[None])
    _, labels = find("label_objects")(parts)
    assert _same_parts(labels, parts)
    np.testing.assert_array_equal(labels[0], label(parts[0].astype(int), connectivity=2))


def test_small_objects_are_removed_and_numbers_have_no_gaps():
    mask = _blobs(4, 0.3)
    everything = label(mask, connectivity=2)
    areas = np.bincount(everything.ravel())
    _, labels = find("label_objects")(mask[None], min_area=40)
    found = np.bincount(labels.ravel())
    assert found[1:].min() >= 40
    assert labels.max() == (areas[1:] >= 40).sum()
    np.testing.assert_array_equal(labels[0] > 0, (areas >= 40)[everything] & (everything > 0))


def test_labels_are_a_label_output_and_objects_a_table_tied_to_them():
    (labels,) = contract_of(find("label_objects")).special_outputs
    assert (labels.name, labels.materializer) == ("labels", Labels())
    declared = contract_of(find("measure_objects"))
    (objects,) = declared.special_outputs
    assert (objects.name, objects.materializer) == ("objects", Table(labels="labels"))
    assert declared.ragged
    assert declared.z_out == "same"
    wanted = ("labels", "pixel_size_um", "plane_keys", "channel_names")
    assert declared.special_inputs == wanted


def test_keep_labels():
    labels = np.zeros((1, 20, 20), np.uint32)
    labels[0, 0:3, 0:3] = 7  # at the border, 9 px
    labels[0, 5:10, 5:10] = 3  # 25 px
    labels[0, 12:14, 12:14] = 5  # 4 px
    keep = find("keep_labels")
    assert np.unique(keep(labels)).tolist() == [0, 1, 2, 3]
    assert keep(labels)[0, 6, 6] == 1
    assert np.unique(keep(labels, min_area=5)).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(keep(labels, min_area=5, max_area=9) > 0, labels == 7)
    np.testing.assert_array_equal(
        keep(labels, exclude_border=True) > 0, (labels == 3) | (labels == 5)
    )
    assert keep(np.zeros_like(labels)).max() == 0


def test_count_objects():
    labels = np.array([[[0, 4, 4, 9]]], np.uint32)
    stack, counts = find("count_objects")(labels)
    assert stack is labels
    assert counts == {"count": 2}
    assert as_table(counts)["count"].tolist() == [2]


def _measured(**changes):
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 4000, (5, 140, 180)).astype(np.uint16)
    keys = [
        PlaneKey(0, 3, 1, 0, channel, z) for channel, z in [(0, 0), (0, 1), (2, 0), (0, 2), (2, 1)]
    ]
    _, labels = find("label_objects")(_blobs(0)[None])
    given = {
        "labels": labels,
        "pixel_size_um": 0.65,
        "plane_keys": keys,
        "channel_names": ["w1", "w2", "w3"],
    }
    main, table = find("measure_objects")(stack, **{**given, **changes})
    assert main is stack
    return stack, labels[0], table


@pytest.mark.parametrize(("reduction", "reduce"), [("max", np.max), ("mean", np.mean)])
def test_measuring_equals_regionprops(reduction, reduce):
    stack, labels, table = _measured(z_reduction=reduction)
    planes = {"w1": stack[[0, 1, 3]], "w3": stack[[2, 4]]}
    expected = regionprops_table(labels, properties=("label", "area", "centroid"))
    np.testing.assert_array_equal(table["label_in_field"], expected["label"])
    np.testing.assert_array_equal(table["area_px"], expected["area"])
    np.testing.assert_allclose(table["area_um2"], expected["area"] * 0.65**2)
    for number, axis in enumerate("yx"):
        np.testing.assert_allclose(table[f"centroid_{axis}_px"], expected[f"centroid-{number}"])
        np.testing.assert_allclose(
            table[f"centroid_{axis}_um"], expected[f"centroid-{number}"] * 0.65
        )
    for name, channel in planes.items():
        means = ndimage.mean(reduce(channel, axis=0), labels, expected["label"])
        np.testing.assert_allclose(table[f"mean_intensity_{name}"], means)
    assert not any(column.endswith("w2") for column in table)


def test_without_a_pixel_size_there_are_no_micrometres():
    _, _, table = _measured(pixel_size_um=None)
    assert not any("um" in column.split("_") or column.endswith("um2") for column in table)
    assert "area_px" in table


def test_a_field_without_objects_gives_an_empty_table_with_all_columns():
    _, _, full = _measured()
    _, _, empty = _measured(labels=np.zeros((1, 140, 180), np.uint32))
    assert list(full) == list(empty)
    assert {column: array.dtype for column, array in full.items()} == {
        column: array.dtype for column, array in empty.items()
    }
    frame = as_table(empty)
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 0


def test_labels_may_have_gaps_and_two_dimensions():
    _, labels, table = _measured()
    _, _, gaps = _measured(labels=labels * 3)
    np.testing.assert_array_equal(gaps["label_in_field"], table["label_in_field"] * 3)
    np.testing.assert_array_equal(gaps["mean_intensity_w1"], table["mean_intensity_w1"])


def test_without_keys_each_plane_is_a_channel():
    _, _, table = _measured(plane_keys=None, channel_names=None)
    assert [c for c in table if c.startswith("mean_")] == [
        f"mean_intensity_c{n}" for n in range(1, 6)
    ]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ContractError, match=r"found \(2, 140, 180\) uint32"):
        _measured(labels=np.zeros((2, 140, 180), np.uint32))
    with pytest.raises(ContractError, match="float64"):
        _measured(labels=np.zeros((1, 140, 180)))
    with pytest.raises(ContractError, match="1 keys for 5 planes"):
        _measured(plane_keys=[PlaneKey(0, 0, 0, 0, 0, 0)])
    with pytest.raises(ValueError, match="z_reduction"):
        _measured(z_reduction="median")
