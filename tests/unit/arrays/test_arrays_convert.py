"""Conversions beyond the table: protection, gradients, devices, refusals.

The table itself is proved cell by cell in ``tests/conformance/test_array_adapters.py``.
"""

import subprocess
import sys

import numpy as np
import pytest

from hcsflow.arrays import conversion, conversion_path, convert, memory_type_of, to_numpy
from hcsflow.errors import MemoryConversionError
from hcsflow.testing.array_checks import why_absent


def _need(name):
    reason = why_absent(name)
    if reason is not None:
        pytest.skip(reason)


def _stack(dtype="uint16"):
    return (np.arange(2 * 6 * 8) % 120).reshape(2, 6, 8).astype(dtype)


def test_a_read_only_array_cannot_be_changed_through_its_tensor():
    _need("torch")
    source = _stack()
    source.flags.writeable = False
    before = source.copy()
    convert(source, "torch").zero_()
    np.testing.assert_array_equal(source, before)
    assert not source.flags.writeable


def test_a_writable_array_shares_memory_with_its_tensor():
    _need("torch")
    source = _stack("float32")
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
    stack = _stack("uint16")
    assert convert(stack, "numpy") is stack
    assert convert(stack, "numpy", device=0) is stack


def test_an_unknown_target_is_refused():
    with pytest.raises(MemoryConversionError, match="did you mean 'cupy'"):
        convert(_stack("uint8"), "cuppy")


def test_an_absent_library_is_refused(monkeypatch):
    monkeypatch.setenv("HCSFLOW_NO_GPU", "1")
    with pytest.raises(MemoryConversionError, match="not installed"):
        convert(_stack("uint8"), "cupy")


def test_paths_go_through_the_host_only_where_nothing_else_is_possible():
    assert conversion_path("torch", "torch") == ("torch",)
    assert conversion_path("numpy", "pyclesperanto") == ("numpy", "pyclesperanto")
    assert conversion_path("torch", "jax") == ("torch", "jax")
    assert conversion_path("pyclesperanto", "torch") == ("pyclesperanto", "numpy", "torch")
    with pytest.raises(MemoryConversionError):
        conversion_path("numpy", "torhc")


def test_jax_does_not_narrow_unasked():
    _need("torch")
    _need("jax")
    tensor = convert(_stack("int64"), "torch")
    with pytest.raises(MemoryConversionError, match="jax would make int32"):
        convert(tensor, "jax")


def test_pyclesperanto_and_torch_do_not_meet_unasked():
    _need("torch")
    _need("pyclesperanto")
    tensor = convert(_stack("uint16"), "torch")
    with pytest.raises(MemoryConversionError, match="convert to numpy first"):
        convert(tensor, "pyclesperanto")


@pytest.mark.parametrize(
    "target", ["jax", pytest.param("tensorflow", marks=pytest.mark.tensorflow)]
)
def test_a_gradient_or_a_conjugate_bit_does_not_close_the_road(target):
    _need("torch")
    _need(target)
    import torch

    for tensor in (torch.ones(2, 3, requires_grad=True), torch.full((2, 3), 1 + 2j).conj()):
        found = to_numpy(convert(tensor, target))
        np.testing.assert_array_equal(found, tensor.detach().resolve_conj().numpy())


@pytest.mark.parametrize("target", ["numpy", "jax"])
def test_a_tensor_without_plain_memory_is_refused(target):
    _need("torch")
    _need(target)
    import torch

    for tensor in (torch.eye(3).to_sparse(), torch.zeros(2, 3, device="meta")):
        with pytest.raises(MemoryConversionError) as caught:
            convert(tensor, target)
        assert (caught.value.source_type, caught.value.target_type) == ("torch", target)


def test_odd_strides_are_copied():
    _need("torch")
    pixels = np.zeros(5, [("x", "f4"), ("flag", "u1")])
    pixels["x"] = range(5)
    tensor = convert(pixels["x"], "torch")
    assert tensor.tolist() == [0, 1, 2, 3, 4]
    tensor.zero_()
    assert pixels["x"].tolist() == [0, 1, 2, 3, 4]


def test_an_error_names_both_ends_also_where_a_device_is_at_fault():
    _need("torch")
    with pytest.raises(MemoryConversionError, match="numpy to torch by to") as caught:
        convert(_stack(), "torch", device="nowhere")
    error = caught.value
    assert (error.source_type, error.target_type) == ("numpy", "torch")
    assert "nowhere" in error.method
    assert error.reason


def test_a_device_that_numpy_has_not_is_refused_on_the_way_back():
    _need("torch")
    with pytest.raises(MemoryConversionError, match=r"torch to numpy .* numpy has no device"):
        convert(convert(_stack(), "torch"), "numpy", device="cuda:0")
    assert convert(convert(_stack(), "torch"), "numpy", device=0).shape == (2, 6, 8)


def test_jax_takes_64_bits_where_they_are_enabled():
    _need("jax")
    code = """
import numpy as np
from hcsflow.arrays import cast, convert, to_numpy
for dtype in ("int64", "uint64", "float64"):
    array = np.array([0, 2**62 + 1]).astype(dtype)
    there = convert(array, "jax")
    assert there.dtype == dtype and to_numpy(there).tolist() == array.tolist(), dtype
    assert to_numpy(cast(there, "uint8")).tolist() == [0, 255], dtype
"""
    environment = {"JAX_ENABLE_X64": "1", "PATH": "/usr/bin:/bin"}
    environment["PYTHONPATH"] = ":".join(sys.path)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.tensorflow
def test_tensorflow_puts_nothing_elsewhere_than_asked():
    _need("tensorflow")
    for device in (99, "gpu:99", "nowhere"):
        with pytest.raises(
            MemoryConversionError, match="there is no such device, only /device:CPU"
        ):
            convert(_stack(), "tensorflow", device=device)
    for device in ("cpu", "/CPU:0", "/device:CPU:0"):
        assert "CPU:0" in convert(_stack(), "tensorflow", device=device).device


@pytest.mark.tensorflow
@pytest.mark.parametrize("target", ["numpy", "torch", "jax"])
def test_a_tensor_of_strings_is_refused(target):
    _need("tensorflow")
    _need(target)
    import tensorflow as tf

    with pytest.raises(MemoryConversionError, match=f"tensorflow to {target} by dtype: no dtype s"):
        convert(tf.constant(["a"]), target)
    with pytest.raises(MemoryConversionError, match="numpy to tensorflow by dtype"):
        convert(np.array(["a"]), "tensorflow")


@pytest.mark.tensorflow
def test_tensorflow_computes_with_a_tensor_at_any_address():
    _need("tensorflow")
    _need("torch")
    import tensorflow as tf
    import torch

    tensor = torch.arange(64, dtype=torch.float32)[3:]
    assert float(tf.reduce_sum(convert(tensor, "tensorflow"))) == float(tensor.sum())


@pytest.mark.parametrize("shape", [(), (0, 4), (2, 2, 3, 4)])
def test_a_shape_that_opencl_has_not_is_refused(shape):
    _need("pyclesperanto")
    with pytest.raises(MemoryConversionError, match="1 to 3 dimensions and an element"):
        convert(np.zeros(shape, np.uint8), "pyclesperanto")


@pytest.mark.parametrize("device", [99, -1, "no such device"])
def test_an_opencl_device_that_is_not_there_is_refused(device):
    _need("pyclesperanto")
    with pytest.raises(MemoryConversionError, match="there is no such device, only"):
        convert(np.zeros((1, 2, 3), np.uint8), "pyclesperanto", device=device)


def test_a_deleted_jax_array_is_refused():
    _need("jax")
    array = convert(_stack(), "jax")
    array.delete()
    with pytest.raises(MemoryConversionError, match="jax to numpy by asarray"):
        to_numpy(array)
    assert memory_type_of(array) == "jax"


@pytest.mark.parametrize("target", ["numpy", "torch", "jax", "pyclesperanto"])
def test_a_masked_array_is_refused_before_its_mask_is_lost(target):
    masked = np.ma.masked_equal(_stack(), 3)
    for given in (masked, np.ma.masked_array(_stack())):
        with pytest.raises(
            MemoryConversionError, match=r"mask would be lost; say \.filled\(value\)"
        ):
            convert(given, target)
    assert to_numpy(masked.filled(0)).max() == masked.max()


def test_other_subclasses_are_arrays_like_others(tmp_path):
    mapped = np.memmap(tmp_path / "x", mode="w+", shape=(1, 2, 3))
    assert convert(mapped, "numpy") is mapped
    _need("torch")
    assert np.shares_memory(to_numpy(convert(mapped, "torch")), mapped)
    assert convert(np.zeros((1, 2)).view(np.matrix), "torch").shape == (1, 2)


@pytest.mark.parametrize("dtype", [np.uint16, np.dtype("uint16"), ">u2"])
def test_the_table_takes_a_dtype_as_numpy_has_it(dtype):
    assert conversion("numpy", "torch", dtype) == "zero-copy"
    assert conversion("numpy", "jax", dtype) == "copy"


@pytest.mark.parametrize("dtype", ["uint12", object, None, np.complex128])
def test_a_dtype_that_is_not_in_the_table_is_a_conversion_error(dtype):
    with pytest.raises(MemoryConversionError, match="dtype must be one of bool"):
        conversion("numpy", "torch", dtype)


def test_c_types_of_one_size_are_one_dtype_to_torch():
    _need("torch")
    for kind in (np.ulonglong, np.longlong, np.uint64, np.int64, np.intc):
        array = np.array([1, 2, 3], kind)
        tensor = convert(array, "torch")
        tensor[0] = 7
        assert array.tolist() == [7, 2, 3]
        assert str(tensor.dtype) == f"torch.{array.dtype.name}"
        foreign = array.astype(array.dtype.newbyteorder(">"))
        assert convert(foreign, "torch").tolist() == [7, 2, 3]
