"""Asking what an array is imports nothing."""

import subprocess
import sys

import numpy as np
import pytest

from hcsflow.arrays import MEMORY_TYPES, find_memory_type, is_installed, memory_type_of
from hcsflow.arrays.libraries import _ADAPTERS, adapter_of, dtype_name
from hcsflow.errors import MemoryConversionError


def test_numpy_and_its_subclasses(tmp_path):
    assert memory_type_of(np.zeros((1, 2, 3))) == "numpy"
    mapped = np.memmap(tmp_path / "x", mode="w+", shape=(1, 2, 3))
    assert memory_type_of(mapped) == "numpy"


@pytest.mark.parametrize("thing", [None, [1], (), "numpy", np.float32(1), 3])
def test_other_things_are_no_arrays(thing):
    assert find_memory_type(thing) is None
    with pytest.raises(MemoryConversionError, match="not an array of numpy"):
        memory_type_of(thing)


def test_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert memory_type_of(torch.zeros(1, 2, 3)) == "torch"


def test_detection_and_declaration_import_no_library():
    code = """
import sys
import numpy as np
import hcsflow.arrays as arrays
arrays.memory_type_of(np.zeros((1, 1, 1)))
[arrays.is_installed(name) for name in arrays.MEMORY_TYPES]
@arrays.torch
def by_torch(stack): return stack
@arrays.cupy(oom_recovery=False)
def by_cupy(stack): return stack
arrays.conversion_path("cupy", "pyclesperanto")
arrays.convert(np.zeros((1, 1, 1)), "numpy")
heavy = {"torch", "cupy", "jax", "tensorflow", "pyclesperanto", "cv2", "scipy", "skimage"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_gpu_library_counts_as_absent_when_gpus_are_forbidden(monkeypatch):
    monkeypatch.setenv("HCSFLOW_NO_GPU", "1")
    assert not is_installed("cupy")
    assert is_installed("numpy")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(MemoryConversionError, match="did you mean 'torch'"):
        is_installed("torhc")


def test_a_library_found_once_is_found_again():
    assert adapter_of("numpy") is adapter_of("numpy")

    class Image(np.ndarray):
        pass

    for _ in range(2):
        assert find_memory_type(np.zeros(2).view(Image)) == "numpy"
        assert find_memory_type(Image) is None


def test_an_adapter_that_was_loaded_obeys_a_ban_on_gpus(monkeypatch):
    monkeypatch.setitem(_ADAPTERS, "cupy", adapter_of("numpy"))
    assert adapter_of("cupy") is adapter_of("numpy")
    monkeypatch.setenv("HCSFLOW_NO_GPU", "1")
    with pytest.raises(MemoryConversionError, match="HCSFLOW_NO_GPU=1 forbids it"):
        adapter_of("cupy")


@pytest.mark.parametrize("dtype", ["bool", ">u2", "float16", "complex64"])
def test_dtypes_are_called_as_by_numpy(dtype):
    assert dtype_name(np.zeros(1, dtype)) == np.dtype(dtype).name


def test_bfloat16_has_one_name():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert dtype_name(torch.zeros(1, dtype=torch.bfloat16)) == "bfloat16"


def test_names():
    assert MEMORY_TYPES == ("numpy", "cupy", "torch", "tensorflow", "jax", "pyclesperanto")


def test_asking_for_an_unknown_library_says_that_it_is_no_memory_type():
    with pytest.raises(MemoryConversionError, match="'foo' is no memory type; there are numpy"):
        is_installed("foo")
    with pytest.raises(MemoryConversionError, match="'troch' is no memory type; did you mean"):
        adapter_of("troch")
