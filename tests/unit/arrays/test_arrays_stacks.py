"""Planes to stacks and back; three dimensions, always."""

import numpy as np
import pytest

from hcsflow.arrays import (
    check_stack,
    is_installed,
    memory_type_of,
    stack_slices,
    to_numpy,
    unstack_slices,
)
from hcsflow.arrays.libraries import MEMORY_TYPES, adapter_of
from hcsflow.errors import ContractError, MemoryConversionError


def _planes(n=3):
    return [np.full((4, 5), i, np.uint16) for i in range(n)]


@pytest.mark.parametrize("memory_type", MEMORY_TYPES)
@pytest.mark.parametrize("number", [1, 3])
def test_round_trip(memory_type, number):
    if not is_installed(memory_type):
        pytest.skip(f"{memory_type} is not installed")
    if memory_type == "cupy" and not adapter_of("cupy").cupy.cuda.is_available():
        pytest.skip("cupy finds no GPU")
    planes = _planes(number)
    stack = stack_slices(planes, memory_type)
    assert memory_type_of(stack) == memory_type
    assert tuple(stack.shape) == (number, 4, 5)
    back = unstack_slices(stack, "numpy")
    assert len(back) == number
    for plane, found in zip(planes, back, strict=True):
        np.testing.assert_array_equal(plane, found)
        assert found.dtype == plane.dtype
    native = unstack_slices(stack, memory_type)
    assert [memory_type_of(plane) for plane in native] == [memory_type] * number
    np.testing.assert_array_equal(to_numpy(native[0]), planes[0])


@pytest.mark.parametrize("number", [1, 2])
def test_a_stack_is_a_copy_also_of_one_plane(number):
    planes = _planes(number)
    for plane in planes:
        plane.flags.writeable = False
    stack = stack_slices(planes, "numpy")
    stack[:] = 9
    assert planes[0].max() == 0


def test_planes_of_different_libraries_stack_together():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    mixed = [torch.full((4, 5), 7, dtype=torch.uint16), np.full((4, 5), 8, np.uint16)]
    stack = stack_slices(mixed, "numpy")
    assert stack[:, 0, 0].tolist() == [7, 8]


def test_the_error_gives_the_shape_found():
    with pytest.raises(ContractError, match=r"plane 1 must be two-dimensional.*\(2, 4, 5\)"):
        stack_slices([np.zeros((4, 5)), np.zeros((2, 4, 5))], "numpy")
    with pytest.raises(ContractError, match=r"found shape \(4, 5\)"):
        unstack_slices(np.zeros((4, 5)), "numpy")
    with pytest.raises(ContractError, match=r"found shape \(1, 2, 3, 4\)"):
        check_stack(np.zeros((1, 2, 3, 4)), where="step 'x' returned")


def test_other_wrong_planes():
    with pytest.raises(ContractError, match="no plane"):
        stack_slices([], "numpy")
    with pytest.raises(ContractError, match=r"shape \(4, 6\), plane 0 \(4, 5\)"):
        stack_slices([np.zeros((4, 5)), np.zeros((4, 6))], "numpy")
    with pytest.raises(ContractError, match="uint8, plane 0 float64"):
        stack_slices([np.zeros((4, 5)), np.zeros((4, 5), np.uint8)], "numpy")
    with pytest.raises(ContractError, match="plane 0 is a list"):
        stack_slices([[[1]]], "numpy")
    with pytest.raises(MemoryConversionError, match="unknown memory type"):
        stack_slices(_planes(), "opencv")


def test_check_stack_says_whose_result_it_is():
    check_stack(np.zeros((1, 2, 3)), where="step 'x' returned")
    with pytest.raises(ContractError, match=r"step 'x' returned: .* found NoneType"):
        check_stack(None, where="step 'x' returned")
    with pytest.raises(ContractError, match="stack is empty"):
        check_stack(np.zeros((0, 2, 3)), where="step 'x' returned")
    with pytest.raises(ContractError, match=r"use stack\[None\]"):
        check_stack(np.zeros((2, 3)), where="step 'x' returned")
