"""The committed table of conversions, cell by cell, for every library that is here."""

import numpy as np
import pytest

from hcsflow.arrays import (
    conversion_path,
    convert,
    is_installed,
    memory_type_of,
    to_numpy,
)
from hcsflow.arrays.libraries import MEMORY_TYPES, adapter_of
from hcsflow.errors import MemoryConversionError

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32")
DTYPES = (*INTEGERS, "int64", "uint64", "float16", "float32", "float64", "bool")
LAYOUTS = ("C", "F", "strided", "negative", "read-only", "big-endian", "one-row")
REFUSED = {
    "pyclesperanto": {"int64", "uint64", "float16", "float64", "bool"},
    "jax": {"int64", "uint64", "float64"},
}


def _stack(dtype, layout):
    base = (np.arange(2 * 6 * 8) % 120).reshape(2, 6, 8).astype(dtype)
    if layout == "F":
        return np.asfortranarray(base)
    if layout == "strided":
        return base[:, ::2, 1::3]
    if layout == "negative":
        return base[:, ::-1]
    if layout == "one-row":
        return base[:1, :1]
    if layout == "big-endian":
        return base.astype(base.dtype.newbyteorder(">"))
    if layout == "read-only":
        base.flags.writeable = False
    return base


def _need(name):
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    if name == "cupy" and not adapter_of("cupy").cupy.cuda.is_available():
        pytest.skip("cupy finds no GPU")


@pytest.mark.parametrize("target", [name for name in MEMORY_TYPES if name != "numpy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_numpy_and_back(target, layout):
    _need(target)
    for dtype in DTYPES:
        source = _stack(dtype, layout)
        if dtype in REFUSED.get(target, set()):
            with pytest.raises(MemoryConversionError):
                convert(source, target)
            continue
        there = convert(source, target)
        assert memory_type_of(there) == target
        back = to_numpy(there)
        assert back.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(back, source, err_msg=dtype)
        if target == "torch":
            one_byte = layout == "big-endian" and source.dtype.itemsize == 1
            shares = layout in ("C", "F", "strided", "one-row") or one_byte
            assert (there.data_ptr() == source.ctypes.data) == shares, dtype


def test_a_read_only_array_cannot_be_changed_through_its_tensor():
    _need("torch")
    source = _stack("uint16", "read-only")
    before = source.copy()
    convert(source, "torch").zero_()
    np.testing.assert_array_equal(source, before)
    assert not source.flags.writeable


def test_a_writable_array_shares_memory_with_its_tensor():
    _need("torch")
    source = _stack("float32", "C")
    tensor = convert(source, "torch")
    tensor[0, 0, 0] = 77
    assert source[0, 0, 0] == 77
    assert np.shares_memory(to_numpy(tensor), source)


def test_a_tensor_with_gradient_or_a_conjugate_bit_becomes_numpy():
    _need("torch")
    import torch

    grad = torch.ones(1, 2, 3, requires_grad=True)
    np.testing.assert_array_equal(to_numpy(grad), np.ones((1, 2, 3), np.float32))


def test_what_numpy_cannot_hold_is_refused():
    _need("torch")
    import torch

    with pytest.raises(MemoryConversionError) as caught:
        to_numpy(torch.ones(1, 2, 3, dtype=torch.bfloat16))
    assert (caught.value.source_type, caught.value.target_type) == ("torch", "numpy")


def test_what_torch_cannot_hold_is_refused():
    _need("torch")
    with pytest.raises(MemoryConversionError, match="from_numpy"):
        convert(np.array([[["a"]]]), "torch")


def test_a_device_that_is_not_there_is_refused():
    _need("torch")
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(MemoryConversionError):
        convert(np.zeros((1, 2, 3)), "torch", device=0)
    with pytest.raises(MemoryConversionError, match="numpy has no device"):
        convert(np.zeros((1, 2, 3)), "numpy", device="cuda:0")


def test_the_same_type_is_the_same_array():
    stack = _stack("uint16", "C")
    assert convert(stack, "numpy") is stack
    assert convert(stack, "numpy", device=0) is stack


def test_an_unknown_target_is_refused():
    with pytest.raises(MemoryConversionError, match="did you mean 'cupy'"):
        convert(_stack("uint8", "C"), "cuppy")


def test_an_absent_library_is_refused(monkeypatch):
    monkeypatch.setenv("HCSFLOW_NO_GPU", "1")
    with pytest.raises(MemoryConversionError, match="not installed"):
        convert(_stack("uint8", "C"), "cupy")


def test_paths_go_through_the_host_only_where_nothing_else_is_possible():
    assert conversion_path("torch", "torch") == ("torch",)
    assert conversion_path("numpy", "pyclesperanto") == ("numpy", "pyclesperanto")
    assert conversion_path("torch", "jax") == ("torch", "jax")
    assert conversion_path("pyclesperanto", "torch") == ("pyclesperanto", "numpy", "torch")
    with pytest.raises(MemoryConversionError):
        conversion_path("numpy", "torhc")


@pytest.mark.parametrize("source", ["torch", "jax", "tensorflow"])
@pytest.mark.parametrize("target", ["torch", "jax", "tensorflow"])
def test_device_libraries_reach_each_other_directly(source, target):
    _need(source)
    _need(target)
    for dtype in ("uint8", "uint16", "int32", "float32"):
        stack = _stack(dtype, "C")
        there = convert(convert(stack, source), target)
        assert memory_type_of(there) == target
        np.testing.assert_array_equal(to_numpy(there), stack)


def test_jax_does_not_narrow_unasked():
    _need("torch")
    _need("jax")
    tensor = convert(_stack("int64", "C"), "torch")
    with pytest.raises(MemoryConversionError, match="jax would make int32"):
        convert(tensor, "jax")


def test_pyclesperanto_and_torch_do_not_meet_unasked():
    _need("torch")
    _need("pyclesperanto")
    tensor = convert(_stack("uint16", "C"), "torch")
    with pytest.raises(MemoryConversionError, match="convert to numpy first"):
        convert(tensor, "pyclesperanto")
