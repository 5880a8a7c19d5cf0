"""CuPy variants equal the numpy ones: their own lines on numpy and scipy here, on cupy on a GPU."""

import warnings

import numpy as np
import pytest
from scipy import ndimage

from hcsflow.arrays import convert, to_numpy
from hcsflow.functions import by_cupy
from hcsflow.functions.array_math import BLOCK, Namespace
from hcsflow.functions.catalogue import entry, find, names

ON_CPU = Namespace(np, ndimage)
CASES = {
    "add_constant": [{"value": 3.5}, {"value": 60_000}],
    "gaussian_filter": [{"sigma": 0}, {"sigma": 1.5}, {"sigma": 9}],
    "label_objects": [{}, {"min_area": 3}, {"connectivity": 1}],
    "multiply_constant": [{"factor": 0.37}, {"factor": -1}],
    "subtract_background": [{}, {"radius": 0}, {"radius": 5}, {"radius": 12, "shape": "disk"}],
    "subtract_constant": [{"value": 300}],
    "threshold_fixed": [{"value": 100.5}, {"value": -1}],
    "threshold_otsu": [{}, {"scale": 0.5}, {"minimum": 150.0}],
    "white_tophat": [{"radius": r, "shape": s} for r in (0, 1, 7) for s in ("disk", "square")],
}
NAMES = [name for name in names() if "cupy" in entry(name).variants]
LABELLED = {"count_objects", "label_objects"}
DTYPES = ["uint8", "uint16", "int16", "int32", "uint32", "uint64", "float32", "float64"]


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def call(request, monkeypatch):
    """Call a CuPy variant: on numpy's arrays in place of cupy's, or as it is."""
    if request.param == "numpy":
        monkeypatch.setattr(by_cupy, "_space", lambda: ON_CPU)
        return lambda name, stack, **more: _main(find(name, "cupy").__wrapped__(stack, **more))
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    if not cupy.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return lambda name, stack, **more: _main(find(name, "cupy")(convert(stack, "cupy"), **more))


def _main(result):
    if not isinstance(result, tuple):
        return to_numpy(result)
    return to_numpy(result[0]), result[1]


def _stack(name, dtype, shape):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 250, shape)
    if name in LABELLED:
        values = np.where(ndimage.gaussian_filter(values, (0, 1, 1)) > 128, 1, 0)
    return values.astype(dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 3), (4, 33, 20), (BLOCK + 1, 12, 40)])
def test_cupy_equals_numpy(call, name, dtype, shape):
    if name in LABELLED and dtype.startswith("float"):
        pytest.skip("labels are integers")
    values = _stack(name, dtype, shape)
    for parameters in CASES.get(name, [{}]):
        expected, found = find(name)(values, **parameters), call(name, values, **parameters)
        if name in LABELLED:
            (expected, extra), (found, other) = expected, found
            np.testing.assert_equal(to_numpy(other) if name == "label_objects" else other, extra)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        if name != "gaussian_filter":
            np.testing.assert_array_equal(found, expected, err_msg=str(parameters))
            continue
        tolerance = 1e-3 if dtype.startswith("float") else 1
        np.testing.assert_allclose(found.astype(float), expected.astype(float), atol=tolerance)
        assert (np.rint(found) != np.rint(expected)).mean() < 0.01


@pytest.mark.parametrize("radius", [*range(7), 25])
@pytest.mark.parametrize("shape", ["disk", "octagon", "square"])
def test_backgrounds_under_every_footprint(call, radius, shape):
    stack = np.random.default_rng(2).integers(0, 65_535, (2, 64, 47)).astype(np.uint16)
    expected = find("white_tophat")(stack, radius=radius, shape=shape)
    np.testing.assert_array_equal(call("white_tophat", stack, radius=radius, shape=shape), expected)


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "uint32"])
def test_touching_regions_of_different_value_stay_apart(call, connectivity, dtype):
    rng = np.random.default_rng(3)
    stack = np.kron(rng.integers(0, 4, (3, 16, 21)), np.ones((1, 3, 2))).astype(dtype)
    stack[1] = stack[1] > 0
    expected = find("label_objects")(stack, connectivity=connectivity)[0]
    found = call("label_objects", stack, connectivity=connectivity)[0]
    np.testing.assert_array_equal(found, expected)


def test_a_spiral_is_one_region(call):
    spiral = np.zeros((1, 41, 41), np.uint32)
    for ring in range(0, 20, 2):
        spiral[0, ring : 41 - ring, [ring, 40 - ring]] = 5
        spiral[0, [ring, 40 - ring], ring : 41 - ring] = 5
        spiral[0, ring + 1, ring] = 0
        spiral[0, ring + 2, ring + 1] = 5
    spiral[0, 20, 20] = 7  # a label image
    expected = find("label_objects")(spiral)[0]
    np.testing.assert_array_equal(call("label_objects", spiral)[0], expected)


@pytest.mark.parametrize(
    ("name", "parameters", "problem"),
    [
        ("gaussian_filter", {"sigma": -1}, "at least 0"),
        ("white_tophat", {"radius": -1}, "at least 0"),
        ("white_tophat", {"shape": "star"}, "must be one of"),
        ("label_objects", {"connectivity": 3}, "must be 1 or 2"),
    ],
)
def test_senseless_parameters_are_refused(call, name, parameters, problem):
    with pytest.raises(ValueError, match=problem):
        call(name, _stack(name, "uint16", (1, 9, 9)), **parameters)


def test_flat_and_empty_planes(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flat = np.full((2, 8, 9), 7, np.uint16)
        assert not call("threshold_otsu", flat).any()
        assert call("threshold_otsu", flat, scale=0.5).all()
        assert not call("label_objects", flat * 0)[0].any()
        assert (call("label_objects", flat)[0] == [[[1]], [[2]]]).all()
        assert call("count_objects", flat * 0)[1] == {"count": 0}


def test_the_input_is_as_before(call):
    for name in NAMES:
        stack = _stack(name, "uint16", (3, 20, 20))
        before = stack.copy()
        stack.flags.writeable = False
        call(name, stack, **CASES.get(name, [{}])[-1])
        np.testing.assert_array_equal(stack, before)
