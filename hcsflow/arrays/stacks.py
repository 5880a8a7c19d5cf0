"""Between lists of planes (Y, X) and stacks (Z, Y, X). Three dimensions, always."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hcsflow.arrays.convert import convert
from hcsflow.arrays.libraries import MEMORY_TYPES, adapter_of, dtype_name, find_memory_type
from hcsflow.errors import ContractError

__all__ = ["check_stack", "stack_slices", "unstack_slices"]


def check_stack(array: Any, *, where: str) -> None:
    """Raise unless something is a stack (Z, Y, X) with at least one plane.

    Parameters
    ----------
    array : object
        What a function takes or returned.
    where : str
        Subject of the message, e.g. ``"step 'count' returned"``.

    Raises
    ------
    ContractError
        Giving the type, or the shape, that was found.
    """
    if find_memory_type(array) is None:
        raise ContractError(
            f"{where}: expected a stack (Z, Y, X), found {type(array).__name__}",
            hint=f"use an array of one of: {', '.join(MEMORY_TYPES)}",
        )
    shape = tuple(int(n) for n in array.shape)
    if len(shape) != 3:
        hint = "use stack[None] for a single plane" if len(shape) == 2 else None
        raise ContractError(f"{where}: expected a stack (Z, Y, X), found shape {shape}", hint=hint)
    if 0 in shape:
        raise ContractError(f"{where}: the stack is empty, shape {shape}")


def stack_slices(slices: Sequence[Any], memory_type: str, gpu_id: int | None = None) -> Any:
    """Return planes as one new stack.

    Parameters
    ----------
    slices : sequence of array, (Y, X)
        Of any memory type, equal in shape and dtype.
    memory_type : str
        Memory type of the result.
    gpu_id : int, optional
        GPU that takes the result; None as in `convert`.

    Returns
    -------
    array, (Z, Y, X)
        A copy, also of a single plane: writing to it never reaches the planes.

    Raises
    ------
    ContractError
        If there is no plane, one is not two-dimensional, or they differ.
    MemoryConversionError
        If a plane cannot go to that memory type.

    Examples
    --------
    >>> import numpy as np
    >>> stack_slices([np.zeros((4, 5)), np.ones((4, 5))], "numpy").shape
    (2, 4, 5)
    """
    planes = list(slices)
    _check_planes(planes)
    native = [convert(plane, memory_type, device=gpu_id) for plane in planes]
    return adapter_of(memory_type).stack(native)


def _check_planes(planes: list[Any]) -> None:
    if not planes:
        raise ContractError("cannot stack: there is no plane")
    for index, plane in enumerate(planes):
        if find_memory_type(plane) is None:
            raise ContractError(f"cannot stack: plane {index} is a {type(plane).__name__}")
        shape = tuple(plane.shape)
        if len(shape) != 2:
            raise ContractError(
                f"cannot stack: plane {index} must be two-dimensional (Y, X), found shape {shape}"
            )
        first = planes[0]
        if shape != tuple(first.shape):
            raise ContractError(
                f"cannot stack: plane {index} has shape {shape}, plane 0 {tuple(first.shape)}"
            )
        if dtype_name(plane) != dtype_name(first):
            raise ContractError(
                f"cannot stack: plane {index} is {dtype_name(plane)}, plane 0 {dtype_name(first)}",
                hint="cast them first; hcsflow.arrays.cast says how values are treated",
            )


def unstack_slices(array: Any, memory_type: str, gpu_id: int | None = None) -> list[Any]:
    """Return the planes of a stack.

    Parameters
    ----------
    array : array, (Z, Y, X)
        Of any memory type.
    memory_type : str
        Memory type of the planes.
    gpu_id : int, optional
        GPU that takes the planes; None as in `convert`.

    Returns
    -------
    list of array, (Y, X)
        Views of the (converted) stack, which they keep alive.

    Raises
    ------
    ContractError
        If the array is not three-dimensional; the message gives its shape.
    MemoryConversionError
        If it cannot go to that memory type.
    """
    check_stack(array, where="cannot unstack")
    native = convert(array, memory_type, device=gpu_id)
    return [native[index] for index in range(int(native.shape[0]))]
