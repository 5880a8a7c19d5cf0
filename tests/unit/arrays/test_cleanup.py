"""Cleaning up touches the libraries in use, and no array."""

import numpy as np
import pytest

from hcsflow.arrays import MEMORY_TYPES, convert
from hcsflow.arrays.cleanup import (
    FreedMemory,
    cleanup_all_gpu_frameworks,
    cleanup_gpu_memory_by_framework,
)
from hcsflow.errors import MemoryConversionError


def test_each_memory_type_is_answered_for():
    freed = cleanup_all_gpu_frameworks()
    assert tuple(each.memory_type for each in freed) == MEMORY_TYPES
    for name in ("numpy", "jax"):
        assert cleanup_gpu_memory_by_framework(name).memory_type == name
    with pytest.raises(MemoryConversionError, match="torch"):
        cleanup_gpu_memory_by_framework("pytorch")


def test_without_a_gpu_nothing_is_freed_and_arrays_stay():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = convert(np.arange(6), "torch")
    if not torch.cuda.is_initialized():
        assert cleanup_gpu_memory_by_framework("torch") == FreedMemory("torch", None)
    assert tensor.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.gpu
def test_torch_gives_back_its_cached_blocks():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    kept = torch.ones(1000, device="cuda")
    block = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    del block
    freed = cleanup_gpu_memory_by_framework("torch", 0)
    assert freed.freed_bytes is not None
    assert freed.freed_bytes >= 256 << 20
    assert float(kept.sum()) == 1000


@pytest.mark.gpu
def test_cupy_gives_back_its_pools():
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    if not cupy.cuda.is_available():
        pytest.skip("there is no CUDA device")
    kept = cupy.ones(1000)
    block = cupy.empty(256 << 20, dtype=cupy.uint8)
    del block
    freed = cleanup_gpu_memory_by_framework("cupy")
    assert freed.freed_bytes is not None
    assert freed.freed_bytes >= 256 << 20
    assert float(kept.sum()) == 1000
