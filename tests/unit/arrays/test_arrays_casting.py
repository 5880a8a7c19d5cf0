"""Casts: saturating or refusing, half to even, and blind to the rest of the image."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcsflow.arrays import cast, convert, is_installed, to_numpy
from hcsflow.errors import MemoryConversionError

WITHOUT_TORCH = "torch is not installed: pip install 'hcsflow[torch]'"
INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
FLOATS = ["float16", "float32", "float64"]


def _saturated(value, dtype):
    """One value, by Python's unbounded integers."""
    info = np.iinfo(dtype)
    if isinstance(value, float):
        if math.isnan(value):
            return 0
        if math.isinf(value):
            return info.max if value > 0 else info.min
    return min(max(round(value), info.min), info.max)  # round(): half to even


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32), min_size=1, max_size=6),
    st.sampled_from(FLOATS),
    st.sampled_from(INTEGERS),
)
def test_floats_to_integers(values, source, target):
    with np.errstate(over="ignore"):
        array = np.array(values, np.float64).astype(source)
    expected = [_saturated(float(value), target) for value in array]
    assert cast(array, target).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(INTEGERS), st.sampled_from(INTEGERS))
def test_integers_to_integers(data, source, target):
    info = np.iinfo(source)
    values = data.draw(st.lists(st.integers(int(info.min), int(info.max)), min_size=1, max_size=6))
    array = np.array(values, source)
    expected = [_saturated(value, target) for value in values]
    assert cast(array, target).tolist() == expected
    if expected == values:
        assert cast(array, target, mode="refuse").tolist() == values
    elif source != target:
        with pytest.raises(MemoryConversionError, match="do not fit"):
            cast(array, target, mode="refuse")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=8), st.sampled_from(INTEGERS))
def test_a_value_is_cast_the_same_whatever_lies_beside_it(values, target):
    together = cast(np.array(values, np.float32), target)
    alone = [cast(np.array([value], np.float32), target)[0] for value in values]
    assert together.tolist() == alone


def test_ties_go_to_even():
    array = np.array([0.5, 1.5, 2.5, 3.5, -0.5, 254.5], np.float32)
    assert cast(array, "uint8").tolist() == [0, 2, 2, 4, 0, 254]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 256.0])
def test_refusing(value):
    with pytest.raises(MemoryConversionError, match="cast"):
        cast(np.array([1.0, value]), "uint8", mode="refuse")
    assert cast(np.array([1.0, 255.0]), "uint8", mode="refuse").tolist() == [1, 255]


def test_narrower_floats_saturate_and_keep_infinities():
    array = np.array([1e300, -1e300, np.inf, -np.inf, np.nan, 1.5])
    result = cast(array, "float32")
    top = np.finfo("float32").max
    assert result[:4].tolist() == [top, -top, np.inf, -np.inf]
    assert np.isnan(result[4])
    assert result[5] == 1.5
    with pytest.raises(MemoryConversionError):
        cast(array, "float32", mode="refuse")


def test_bool_and_the_same_dtype():
    assert cast(np.array([0, 3]), "bool").tolist() == [False, True]
    assert cast(np.array([False, True]), "uint16").tolist() == [0, 1]
    same = np.zeros(2, "uint16")
    assert cast(same, np.uint16) is same


@pytest.mark.parametrize("pair", [("complex64", "float32"), ("float32", "complex64"), ("U1", "u1")])
def test_other_kinds_are_refused(pair):
    with pytest.raises(MemoryConversionError):
        cast(np.zeros(2, pair[0]), pair[1])


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode"):
        cast(np.zeros(2), "uint8", mode="stretch")


def test_the_input_is_not_touched():
    array = np.array([1.5, -7.0, 1e9], np.float32)
    array.flags.writeable = False
    before = array.copy()
    cast(array, "uint8")
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("target", ["bool", "uint8", "float32", "float64"])
def test_no_dimension_stays_an_array(target):
    result = cast(np.array(3.0), target)
    assert isinstance(result, np.ndarray)
    assert (result.shape, result.dtype, result.item()) == ((), target, np.array(3.0, target))


def test_the_result_is_of_native_byte_order():
    assert cast(np.array([1, 258], ">u2"), "uint16").dtype == np.dtype("uint16")
    assert cast(np.array([1, 258], "uint16"), ">u4").dtype == np.dtype("uint32")
    assert cast(np.array([1, 258], ">u2"), "uint8").tolist() == [1, 255]


def test_bfloat16_is_refused_by_name():
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    for mode in ("saturate", "refuse"):
        with pytest.raises(MemoryConversionError, match="bfloat16 to uint8 by cast: only bool"):
            cast(torch.ones(2, dtype=torch.bfloat16), "uint8", mode=mode)


@pytest.mark.parametrize("pair", [("uint64", "uint8"), ("float32", "uint64")])
def test_what_torch_cannot_cast_exactly_is_refused(pair):
    pytest.importorskip("torch", reason=WITHOUT_TORCH)
    with pytest.raises(MemoryConversionError, match="torch cannot compute with uint64"):
        cast(convert(np.ones(2, pair[0]), "torch"), pair[1])


def test_torch_casts_integers_to_wide_floats():
    pytest.importorskip("torch", reason=WITHOUT_TORCH)
    array = np.array([-128, 127], np.int8)
    assert to_numpy(cast(convert(array, "torch"), "float64")).tolist() == [-128.0, 127.0]


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize(("values", "low"), [([0.5, 300.4], 0.5), ([-0.25, 1e9], -0.25)])
def test_refusing_names_the_extremes_before_rounding(library, values, low):
    if not is_installed(library):
        pytest.skip(f"{library} is not installed")
    array = convert(np.array(values, np.float32), library)
    with pytest.raises(MemoryConversionError) as caught:
        cast(array, "uint8", mode="refuse")
    high = float(np.float32(values[1]))
    assert f"values from {low} to {high} do not fit" in str(caught.value)


@pytest.mark.parametrize("dtype", ["uint12", "float", object(), None, 3])
def test_what_is_no_dtype_is_a_conversion_error(dtype):
    array = np.zeros(3, np.uint8)
    if dtype == "float":
        assert cast(array, dtype).dtype == np.float64
        return
    with pytest.raises(MemoryConversionError, match="is no dtype of numpy"):
        cast(array, dtype)


def test_a_masked_array_is_not_cast_without_its_mask():
    masked = np.ma.array([1.0, 2.0], mask=[True, False])
    with pytest.raises(MemoryConversionError, match=r"mask would be lost; say \.filled"):
        cast(masked, "uint8")


def test_complex_numbers_of_foreign_byte_order_are_refused_by_name():
    with pytest.raises(MemoryConversionError, match="only bool, integers and floats"):
        cast(np.zeros(2, ">c8"), "complex64")
    assert cast(np.zeros(2, "complex64"), "complex64").dtype == np.complex64


def middles():
    """Return float64 on, just above and just below the middles between values of float16."""
    half = np.arange(0, 0x7BFF, 7, dtype=np.uint16).view(np.float16)
    middle = (half.astype(float) + np.nextafter(half, np.float16(np.inf)).astype(float)) / 2
    return np.concatenate([sign * middle * (1 + step) for sign in (1, -1) for step in STEPS])


STEPS = (0.0, 2.0**-50, -(2.0**-50), 2.0**-24, -(2.0**-24))


@pytest.mark.parametrize(
    "library", ["torch", pytest.param("tensorflow", marks=pytest.mark.tensorflow)]
)
def test_float64_becomes_float16_by_rounding_once(library):
    if not is_installed(library):
        pytest.skip(f"{library} is not installed")
    values = middles()
    found = to_numpy(cast(convert(values, library), "float16"))
    np.testing.assert_array_equal(found, values.astype(np.float16))


def test_jax_rounds_once_too_where_64_bits_are_enabled():
    if not is_installed("jax"):
        pytest.skip("jax is not installed")
    code = """
import numpy as np
from hcsflow.arrays import cast, convert, to_numpy
values = np.array([1 + 2**-11 + 2**-40, 1 + 3 * 2**-11 - 2**-40])
found = to_numpy(cast(convert(values, "jax"), "float16"))
assert found.tolist() == values.astype(np.float16).tolist(), found
"""
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
