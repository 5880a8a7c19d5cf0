"""Calling step functions and holding them to their contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hcsflow.arrays import conversion_path, convert, memory_type_of
from hcsflow.errors import ContractError
from hcsflow.plan import Call

__all__ = ["apply"]


def apply(step: str, call: Call, stack: Any, inputs: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """Call one function of a step.

    Parameters
    ----------
    step : str
        Step name, for errors.
    call : Call
        The function and what it promises.
    stack : array (Z, Y, X)
        Converted to the function's memory type if need be.
    inputs : mapping
        Special inputs by argument name.

    Returns
    -------
    tuple of (array (Z', Y', X'), list)
        The main output and the special outputs in declared order.

    Raises
    ------
    ContractError
        If the result is not what the contract says.
    """
    given = stack
    for memory_type in conversion_path(memory_type_of(stack), call.input_type)[1:]:
        given = convert(given, memory_type)
    result = call.func(given, **dict(call.parameters), **inputs)
    main, extras = _split(step, call, result)
    _check(step, call, main, len(stack))
    return main, extras


def _split(step: str, call: Call, result: Any) -> tuple[Any, list[Any]]:
    names = call.special_outputs
    if not names:
        return result, []
    if not isinstance(result, tuple) or len(result) != len(names) + 1:
        found = f"a tuple of {len(result)}" if isinstance(result, tuple) else _describe(result)
        raise ContractError(
            f"step {step!r}: {_name(call)} must return (stack, {', '.join(names)}), "
            f"returned {found}",
            hint="return the main stack first, then each special output in order",
        )
    return result[0], list(result[1:])


def _check(step: str, call: Call, main: Any, planes_in: int) -> None:
    where = f"step {step!r}: {_name(call)}"
    shape = tuple(getattr(main, "shape", ()))
    if not shape:
        raise ContractError(
            f"{where} returned {_describe(main)}, expected a stack (Z, Y, X)",
            hint="return the processed stack" if main is None else None,
        )
    if memory_type_of(main) != call.output_type:
        raise ContractError(
            f"{where} returned a {memory_type_of(main)} array, declared is {call.output_type}",
            hint="decorate it with memory_types(input_type=…, output_type=…)",
        )
    planes = {"same": planes_in, "one": 1}.get(str(call.z_out), call.z_out)
    expected = (planes, *call.shape_yx)
    if shape != expected:
        raise ContractError(
            f"{where} returned shape {shape}, expected {expected} (Z, Y, X)",
            hint=_shape_hint(shape, expected, planes_in),
        )
    dtype = str(getattr(main, "dtype", "")).removeprefix("torch.")
    if dtype != np.dtype(call.dtype).name:
        raise ContractError(
            f"{where} returned {dtype}, expected {call.dtype}",
            hint=f"cast it (hcsflow.arrays.cast), or declare @contract(dtype={dtype!r})",
        )


def _shape_hint(shape: tuple[int, ...], expected: tuple[object, ...], planes_in: int) -> str:
    if len(shape) == 2 or (len(shape) == 3 and shape[0] == 1 and planes_in > 1):
        return "a projection keeps the axis (keepdims=True) and is declared @contract(z_out='one')"
    if len(shape) == 3 and shape[1:] != expected[1:]:
        return "where y and x change, declare @contract(output_shape=…)"
    return "a step function takes and returns (Z, Y, X)"


def _name(call: Call) -> str:
    return call.function.rpartition(":")[2]


def _describe(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
