"""Array families: size, place and passage through host memory, of every library."""

import importlib.util
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hcsflow.arrays import convert, find_memory_type
from hcsflow.arrays.families import (
    address_of,
    copied,
    freeze,
    lies_on_device,
    nbytes_of,
    thaw,
)
from hcsflow.errors import MemoryConversionError


def python(code: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def need(*libraries):
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")


DTYPES = st.sampled_from(["bool", "uint8", "uint16", "int32", "int64", "float32", "complex64"])


@given(
    array=hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
    library=st.sampled_from(["numpy", "torch"]),
)
def test_what_is_frozen_thaws_equal(array, library):
    if importlib.util.find_spec(library) is None:
        return
    native = convert(array, library)
    header, host = freeze(native)
    assert json.loads(json.dumps(header)) == header
    assert isinstance(host, np.ndarray)
    restored = thaw(header, host)
    assert find_memory_type(restored) == library
    assert nbytes_of(restored) == array.nbytes
    assert np.asarray(restored).dtype == array.dtype
    np.testing.assert_array_equal(np.asarray(restored), array)


def test_dtypes_that_numpy_lacks_travel_as_bits():
    need("torch")
    import torch

    for dtype in (torch.bfloat16, torch.float8_e4m3fn):
        tensor = torch.tensor([1.5, -2.0, 0.25]).to(dtype)[::2]
        header, host = freeze(tensor)
        assert host.dtype.isbuiltin == 1
        assert nbytes_of(tensor) == host.nbytes
        restored = thaw(header, host)
        assert restored.dtype == dtype
        assert restored.float().tolist() == tensor.float().tolist()
    assert thaw(*freeze(torch.tensor(1.5, dtype=torch.bfloat16))).shape == ()


def test_tensors_of_any_layout_and_no_gradients():
    need("torch")
    import torch

    tensor = torch.arange(24.0).reshape(4, 6)
    wanting = tensor.clone().requires_grad_()
    for view in (tensor.T, tensor[::2, 1::3], tensor.expand(2, 4, 6), tensor[:0], wanting):
        restored = thaw(*freeze(view))
        assert torch.equal(restored, view.detach())
        assert not restored.requires_grad
    assert wanting.requires_grad
    with pytest.raises(MemoryConversionError, match="torch"):
        freeze(tensor.to_sparse())


def test_host_arrays_freeze_without_a_copy():
    need("torch")
    tensor = convert(np.arange(6, dtype=np.uint16), "torch")
    _, host = freeze(tensor)
    assert address_of(host) == address_of(tensor)
    assert not lies_on_device(tensor)
    assert nbytes_of([1, 2]) is None
    assert not lies_on_device("text")


def test_jax_in_a_process_of_its_own():
    need("jax")
    code = """
import jax, numpy as np
from hcsflow.arrays.families import address_of, freeze, lies_on_device, nbytes_of, thaw
for dtype in ("uint16", "float32", "bfloat16", "float8_e4m3fn", "bool"):
    for shape in ((2, 3), (), (0, 3)):
        array = jax.numpy.ones(shape, dtype)
        header, host = freeze(array)
        assert host.dtype.isbuiltin == 1, dtype
        restored = thaw(header, host)
        assert restored.dtype == array.dtype and restored.shape == shape
        assert nbytes_of(array) == host.nbytes
        assert np.array_equal(np.asarray(restored), np.asarray(array))
assert not lies_on_device(array)
assert address_of(jax.numpy.ones(4)) is not None
"""
    python(code)


@pytest.mark.tensorflow
@pytest.mark.slow
def test_tensorflow_in_a_process_of_its_own():
    need("tensorflow")
    code = """
import numpy as np, tensorflow as tf
from hcsflow.arrays.families import address_of, freeze, lies_on_device, nbytes_of, thaw
for dtype in ("uint16", "float32", "bfloat16", "bool"):
    for shape in ((2, 3), (), (0, 3)):
        array = tf.cast(tf.ones(shape), dtype)
        header, host = freeze(array)
        assert host.dtype.isbuiltin == 1, dtype
        restored = thaw(header, host)
        assert restored.dtype == array.dtype and restored.shape == array.shape
        assert nbytes_of(array) == host.nbytes
        assert np.array_equal(restored.numpy(), array.numpy())
assert not lies_on_device(array)
assert address_of(tf.ones(4)) is not None and address_of(array) is not None
assert address_of(tf.cast(tf.ones(4), "bfloat16")) is None
"""
    python(code)


def test_opencl_in_a_process_of_its_own():
    need("pyclesperanto")
    code = """
import numpy as np
from hcsflow.arrays import convert
from hcsflow.arrays.families import address_of, freeze, lies_on_device, nbytes_of, thaw
stack = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
array = convert(stack, "pyclesperanto")
assert lies_on_device(array) and nbytes_of(array) == 48 and address_of(array) is None
assert np.array_equal(convert(thaw(*freeze(array)), "numpy"), stack)
"""
    python(code)


def test_asking_imports_no_library():
    code = """
import sys
import numpy as np
from hcsflow.arrays.families import FAMILIES, classes_of, lies_on_device, nbytes_of
assert nbytes_of(np.zeros(3)) == 24 and not lies_on_device(1)
assert [classes_of(name) for name in FAMILIES if name != "numpy"] == [()] * 5
from hcsflow.arrays.cleanup import cleanup_all_gpu_frameworks
from hcsflow.arrays.streams import thread_streams
cleanup_all_gpu_frameworks()
with thread_streams():
    pass
heavy = {"torch", "jax", "jaxlib", "tensorflow", "cupy", "pyclesperanto", "ml_dtypes"}
print(sorted(heavy & set(sys.modules)))
"""
    assert python(code).strip() == "[]"


@pytest.mark.gpu
def test_cuda_tensors_come_back_to_their_device():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    tensor = torch.arange(6, dtype=torch.bfloat16, device="cuda")
    assert lies_on_device(tensor)
    restored = thaw(*freeze(tensor))
    assert restored.is_cuda
    assert torch.equal(restored, tensor)


def test_a_quantized_tensor_is_refused():
    need("torch")
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = torch.quantize_per_tensor(torch.arange(3.0), 0.5, 0, torch.qint8)
    with pytest.raises(MemoryConversionError, match="quantized"):
        freeze(tensor)


@pytest.mark.parametrize(
    "library",
    ["numpy", "torch", "jax", pytest.param("tensorflow", marks=pytest.mark.tensorflow)],
)
def test_a_copy_lies_elsewhere(library):
    need(library)
    array = convert(np.arange(600, dtype=np.uint16), library)
    other = copied(array)
    assert find_memory_type(other) == library
    assert address_of(other) != address_of(array)
    np.testing.assert_array_equal(np.asarray(other), np.asarray(array))
