"""Catalogue functions against scikit-image, scipy and numpy."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import filters as skimage_filters
from skimage import morphology, util

from hcsflow.functions.catalogue import find
from hcsflow.functions.footprints import footprint
from hcsflow.functions.threshold import otsu

DTYPES = ["uint8", "uint16", "float32"]


def _stack(dtype, seed=0, planes=2, shape=(70, 93)):
    rng = np.random.default_rng(seed)
    top = 250 if dtype == "uint8" else 60_000
    base = ndimage.gaussian_filter(rng.random((planes, *shape)), (0, 2, 2))
    base = (base - base.min()) / (base.max() - base.min())
    noise = rng.normal(0, 0.03, base.shape)
    return ((base + noise).clip(0, 1) * top).astype(dtype)


def _mask(seed=0):
    rng = np.random.default_rng(seed)
    return (ndimage.gaussian_filter(rng.random((2, 70, 93)), (0, 2, 2)) > 0.51).astype(np.uint8)


def _per_plane(stack, func):
    return np.stack([func(plane) for plane in stack])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigma", [0.4, 1.5, 5.0])
@pytest.mark.parametrize("shape", [(70, 93), (5, 7), (1, 3)])
def test_gaussian_filter(dtype, sigma, shape):
    stack = _stack(dtype, shape=shape) if shape[0] > 5 else _stack(dtype)[:, : shape[0], : shape[1]]
    expected = ndimage.gaussian_filter(stack.astype(float), (0, sigma, sigma))
    result = find("gaussian_filter")(stack, sigma=sigma).astype(float)
    if dtype == "float32":
        np.testing.assert_allclose(result, expected, atol=1e-5 * stack.max())
        return
    difference = np.abs(result - np.rint(expected))
    assert difference.max() <= 1
    assert (difference > 0).sum() <= 1 + 5e-3 * difference.size  # ties of rounding


def test_gaussian_filter_of_nothing_is_a_copy():
    stack = _stack("uint16")
    result = find("gaussian_filter")(stack, sigma=0)
    np.testing.assert_array_equal(result, stack)
    assert not np.shares_memory(result, stack)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_filter(dtype):
    stack = _stack(dtype)
    expected = ndimage.uniform_filter(stack.astype(float), (0, 5, 5), mode="reflect")
    result = find("mean_filter")(stack, size=5)
    tolerance = 1e-2 if dtype == "float32" else 0.5001
    np.testing.assert_allclose(result.astype(float), expected, atol=tolerance)


@pytest.mark.parametrize("dtype", [*DTYPES, "int16", "float64"])
@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_median_filter_is_exact(dtype, size):
    stack = _stack(dtype)
    if dtype == "int16":
        stack = _stack("uint16").astype("int16")
    expected = _per_plane(stack, lambda p: ndimage.median_filter(p, size=size, mode="nearest"))
    np.testing.assert_array_equal(find("median_filter")(stack, size=size), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ["disk", "octagon", "square"])
@pytest.mark.parametrize("radius", [1, 4, 11])
def test_tophats_are_exact(dtype, shape, radius):
    stack = _stack(dtype)
    element = footprint(radius, shape)
    white = _per_plane(stack, lambda p: morphology.white_tophat(p, element))
    black = _per_plane(stack, lambda p: morphology.black_tophat(p, element))
    parameters = {"radius": radius, "shape": shape}
    np.testing.assert_array_equal(find("white_tophat")(stack, **parameters), white)
    np.testing.assert_array_equal(find("black_tophat")(stack, **parameters), black)
    np.testing.assert_array_equal(find("subtract_background")(stack, **parameters), white)


def test_a_footprint_larger_than_the_image_leaves_the_minimum():
    stack = _stack("uint16", shape=(20, 30))
    result = find("subtract_background")(stack, radius=40)
    np.testing.assert_array_equal(result, stack - stack.min(axis=(1, 2), keepdims=True))


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 25])
def test_footprints(radius):
    side = 2 * radius + 1
    np.testing.assert_array_equal(footprint(radius, "disk"), morphology.disk(radius))
    np.testing.assert_array_equal(footprint(radius, "square"), np.ones((side, side)))
    octagon = footprint(radius, "octagon")
    assert octagon.shape == (side, side)
    np.testing.assert_array_equal(octagon, octagon.T)
    np.testing.assert_array_equal(octagon, octagon[::-1])
    holes = ndimage.binary_fill_holes(octagon) != octagon
    assert not holes.any()
    if radius >= 10:
        assert 0.9 < octagon.sum() / footprint(radius, "disk").sum() < 1.15


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("binary_erosion", morphology.erosion),
        ("binary_dilation", morphology.dilation),
        ("binary_opening", morphology.opening),
        ("binary_closing", morphology.closing),
    ],
)
@pytest.mark.parametrize("radius", [0, 1, 3])
def test_binary_morphology_is_exact(name, reference, radius):
    mask = _mask()
    expected = _per_plane(mask, lambda p: reference(p, morphology.disk(radius)))
    np.testing.assert_array_equal(find(name)(mask * 200, radius=radius), expected)


def test_fill_holes_is_exact():
    mask = 1 - _mask(3)
    expected = _per_plane(mask, ndimage.binary_fill_holes)
    assert (expected != mask).any()
    np.testing.assert_array_equal(find("fill_holes")(mask), expected)


@pytest.mark.parametrize("connectivity", [1, 2])
def test_remove_small_objects_is_exact(connectivity):
    mask = _mask(1)
    result = find("remove_small_objects")(mask, min_area=12, connectivity=connectivity)
    for plane, found in zip(mask, result, strict=True):
        labels, _ = ndimage.label(plane, ndimage.generate_binary_structure(2, connectivity))
        keep = np.bincount(labels.ravel()) >= 12
        keep[0] = False
        np.testing.assert_array_equal(found, keep[labels])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32"])
@pytest.mark.parametrize("seed", range(4))
def test_otsu_of_integers_is_scikit_images(dtype, seed):
    plane = (_stack("uint16", seed)[0] // (250 if dtype == "uint8" else 3)).astype(dtype)
    if dtype in ("int16", "int32"):
        plane = plane - np.array(3000, dtype)
    assert otsu(plane) == pytest.approx(skimage_filters.threshold_otsu(plane), abs=1)


@pytest.mark.parametrize("seed", range(4))
def test_otsu_of_floats_is_scikit_images(seed):
    plane = _stack("float32", seed)[0]
    width = float(plane.max() - plane.min()) / 256
    assert otsu(plane) == pytest.approx(skimage_filters.threshold_otsu(plane), abs=width * 1.01)


def test_otsu_of_a_flat_or_wide_plane():
    assert otsu(np.full((3, 4), 9, np.uint16)) == 9
    wide = np.array([[0, 1, 2, 2**31, 2**31 + 5]], np.uint32)
    assert 2 <= otsu(wide) < 2**31


def test_threshold_otsu_is_scaled_and_has_a_floor():
    stack = _stack("uint16")
    value = otsu(stack[0])
    threshold = find("threshold_otsu")
    np.testing.assert_array_equal(threshold(stack)[0], stack[0] > value)
    np.testing.assert_array_equal(threshold(stack, scale=0.5)[0], stack[0] > value * 0.5)
    assert threshold(stack, minimum=60_000).max() == 0
    np.testing.assert_array_equal(threshold(stack, minimum=1.0), threshold(stack))


@pytest.mark.parametrize("value", [-1, 0, 20_000, 20_000.5, 65_535, 1e9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_threshold_fixed(dtype, value):
    stack = _stack(dtype)
    expected = stack.astype(np.float64) > value
    np.testing.assert_array_equal(find("threshold_fixed")(stack, value=value), expected)


@pytest.mark.parametrize("method", ["gaussian", "mean"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_threshold_local(dtype, method):
    stack = _stack(dtype)
    result = find("threshold_local")(stack, block_size=15, offset=-3, method=method)
    for plane, found in zip(stack, result, strict=True):
        level = skimage_filters.threshold_local(plane.astype(float), 15, method, -3)
        unclear = np.abs(plane - level) < 1e-5 * 65_535
        np.testing.assert_array_equal(found[~unclear], (plane > level)[~unclear])
        assert unclear.mean() < 0.05


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("planes", [1, 4, 5])
def test_projections(dtype, planes):
    stack = _stack(dtype, planes=planes)
    wide = stack.astype(np.float64)
    exact = {
        "max_projection": wide.max(axis=0),
        "min_projection": wide.min(axis=0),
        "mean_projection": wide.mean(axis=0),
        "median_projection": np.median(wide, axis=0),
        "sum_projection": wide.sum(axis=0),
    }
    for name, expected in exact.items():
        whole = dtype != "float32"
        rounded = np.rint(expected).clip(0, np.iinfo(dtype).max) if whole else expected
        result = find(name)(stack)
        assert result.shape == (1, *stack.shape[1:])
        np.testing.assert_array_equal(result[0], rounded.astype(dtype), err_msg=name)


def test_best_focus_takes_the_sharp_plane():
    sharp = _stack("uint16")[0]
    blurred = [ndimage.gaussian_filter(sharp, sigma) for sigma in (3, 1)]
    result = find("best_focus")(np.stack([blurred[0], sharp, blurred[1]]))
    np.testing.assert_array_equal(result[0], sharp)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_invert(dtype):
    stack = _stack("uint8").astype(dtype)
    np.testing.assert_array_equal(find("invert")(stack), util.invert(stack))


def test_grey_values_saturate_and_round():
    stack = np.array([[[0, 1, 100, 65_000]]], np.uint16)
    assert find("add_constant")(stack, value=1000).tolist() == [[[1000, 1001, 1100, 65_535]]]
    assert find("subtract_constant")(stack, value=50.4).tolist() == [[[0, 0, 50, 64_950]]]
    assert find("multiply_constant")(stack, factor=1.5).tolist() == [[[0, 2, 150, 65_535]]]
    assert find("clip")(stack, low=1, high=99.6).tolist() == [[[1, 1, 100, 100]]]
    assert find("clip")(stack, high=7).tolist() == [[[0, 1, 7, 7]]]
    assert find("normalize_range")(stack, low=1, high=101).tolist() == [[[0, 0, 64_880, 65_535]]]
    floats = np.array([[[-1.0, 0.5, 3.0]]], np.float32)
    assert find("normalize_range")(floats, low=0, high=2).tolist() == [[[0, 0.25, 1]]]


def test_flat_field_makes_an_evenly_stained_field_even():
    y, x = np.mgrid[:70, :93]
    light = 1.5 - ((y - 35) ** 2 + (x - 46) ** 2) / 6000
    stack = np.rint(100 + 900 * light / light.mean()).astype(np.uint16)[None]
    result = find("flat_field")(stack, profile=light * 3, offset=100)
    assert np.abs(result.astype(int) - 1000).max() <= 1
