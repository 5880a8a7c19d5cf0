"""Planes to stacks and back; three dimensions, always."""

import numpy as np
import pytest

from hcsflow.arrays import (
    check_stack,
    memory_type_of,
    stack_slices,
    to_numpy,
    unstack_slices,
)
from hcsflow.arrays.families import lies_on_device
from hcsflow.errors import ContractError, MemoryConversionError
from hcsflow.testing.array_checks import why_absent


def _planes(n=3):
    return [np.full((4, 5), i, np.uint16) for i in range(n)]


LIBRARIES = [
    "numpy",
    "torch",
    "jax",
    "pyclesperanto",
    pytest.param("tensorflow", marks=pytest.mark.tensorflow),
    pytest.param("cupy", marks=pytest.mark.gpu),
]


def _need(name):
    reason = why_absent(name)
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("memory_type", LIBRARIES)
@pytest.mark.parametrize("number", [1, 3])
def test_round_trip(memory_type, number):
    _need(memory_type)
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
    with pytest.raises(MemoryConversionError, match="is no memory type"):
        stack_slices(_planes(), "opencv")


def test_check_stack_says_whose_result_it_is():
    check_stack(np.zeros((1, 2, 3)), where="step 'x' returned")
    with pytest.raises(ContractError, match=r"step 'x' returned: .* found NoneType"):
        check_stack(None, where="step 'x' returned")
    with pytest.raises(ContractError, match="stack is empty"):
        check_stack(np.zeros((0, 2, 3)), where="step 'x' returned")
    with pytest.raises(ContractError, match=r"use stack\[None\]"):
        check_stack(np.zeros((2, 3)), where="step 'x' returned")


@pytest.mark.parametrize("memory_type", LIBRARIES[1:])
def test_only_three_dimensions_are_planes(memory_type):
    _need(memory_type)
    image = stack_slices(_planes(2), memory_type)[0]
    with pytest.raises(ContractError, match=r"cannot unstack: .* found shape \(4, 5\)"):
        unstack_slices(image, memory_type)
    with pytest.raises(ContractError, match=r"plane 0 must be two-dimensional.*\(2, 4, 5\)"):
        stack_slices([stack_slices(_planes(2), memory_type)], memory_type)


@pytest.mark.parametrize("memory_type", LIBRARIES[1:-1])
def test_a_gpu_that_is_not_there_is_refused(memory_type):
    _need(memory_type)
    with pytest.raises(MemoryConversionError, match="numpy to"):
        stack_slices(_planes(), memory_type, gpu_id=99)
    with pytest.raises(MemoryConversionError, match="numpy to"):
        unstack_slices(np.zeros((2, 4, 5), np.uint16), memory_type, gpu_id=99)


@pytest.mark.gpu
@pytest.mark.parametrize("memory_type", ["torch", "cupy"])
def test_a_gpu_takes_the_stack(memory_type):
    _need(memory_type)
    if memory_type == "torch" and not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("torch sees no GPU")
    stack = stack_slices(_planes(), memory_type, gpu_id=0)
    assert lies_on_device(stack)
    assert all(lies_on_device(plane) for plane in unstack_slices(stack, memory_type, gpu_id=0))
    assert [plane.max() for plane in unstack_slices(stack, "numpy")] == [0, 1, 2]


def test_a_worker_with_a_gpu_stacks_numpy_on_the_host():
    assert stack_slices(_planes(), "numpy", gpu_id=0).shape == (3, 4, 5)


def test_planes_of_numpy_are_views_of_their_stack():
    stack = np.zeros((2, 4, 5), np.uint16)
    unstack_slices(stack, "numpy")[1][:] = 7
    assert stack[1].min() == 7
