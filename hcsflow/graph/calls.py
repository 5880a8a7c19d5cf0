"""Calling step functions and holding them to their contracts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from hcsflow.arrays import memory_type_of, stack_slices
from hcsflow.arrays.counting import convert_planned
from hcsflow.arrays.devices import worker_device
from hcsflow.arrays.families import lies_on_device
from hcsflow.arrays.lending import Loan
from hcsflow.arrays.oom import recover
from hcsflow.arrays.streams import thread_streams, wait_for
from hcsflow.contracts import BUILTIN_INPUTS, contract_of
from hcsflow.errors import ContractError
from hcsflow.functions.catalogue import variant_of
from hcsflow.plan import Call

__all__ = ["apply"]

PER_PLANE_INPUTS = ("stage_positions_um", "plane_keys")
"""Built-in special inputs that have one item per plane of the stack."""

Result = tuple[Any, list[Any]]


def apply(step: str, call: Call, stack: Any, inputs: Mapping[str, Any]) -> Result:
    """Call one function of a step.

    Out of memory, smaller means are tried (`hcsflow.arrays.oom.recover`), unless the contract says
    ``oom_recovery=False``: the stack is cut where each plane is treated alone and nothing but the
    stack returned; the catalogue's numpy variant steps in for another library's. Conversions and
    rungs are counted by `hcsflow.arrays.counting.count_arrays`.

    Parameters
    ----------
    step : str
        Step name, for errors.
    call : Call
        The function and what it promises.
    stack : array (Z, Y, X)
        Converted to the function's memory type if need be. A numpy stack is lent read-only; what
        else a function may do to it, see `hcsflow.arrays.lending.Loan`. With
        ``oom_recovery=False`` it is handed over as it is, and may be changed.
    inputs : mapping
        Special inputs by argument name.

    Returns
    -------
    tuple of (array (Z', Y', X'), list)
        The main output and the special outputs in declared order. The main output is of the
        declared memory type, or numpy where the numpy variant stepped in.

    Raises
    ------
    ContractError
        If the result is not what the contract says.
    OutOfMemoryError
        If memory runs out by all means, or the function had changed its stack when it did.
    """
    planes = int(stack.shape[0])
    if not contract_of(call.func).oom_recovery:
        return _run(step, call, stack, inputs, slice(0, planes))
    loan = Loan()
    attempt: Callable[[slice], Result] = partial(_run, step, call, stack, inputs, loan=loan)
    result: Result = recover(
        attempt,
        planes,
        where=f"step {step!r}: {_name(call)}",
        join=partial(_joined, call.output_type) if _may_be_cut(call) else None,
        on_cpu=partial(_on_cpu, step, call, stack, inputs),
        is_spent=loan.is_spent,
    )
    return result


def _run(
    step: str,
    call: Call,
    stack: Any,
    inputs: Mapping[str, Any],
    span: slice,
    loan: Loan | None = None,
) -> Result:
    """Call a function on some planes of a stack, converted on this thread's streams."""
    planes = span.stop - span.start
    is_cut = planes < int(stack.shape[0])
    with thread_streams():
        part = stack[span] if is_cut else stack
        given = convert_planned(part, call.input_type, device=worker_device(call.input_type))
        if loan is not None:
            given = loan.lend(given, of=part)
        own = _reachable(_of_planes(inputs, span) if is_cut else inputs, call.input_type)
        main, extras = _split(step, call, call.func(given, **dict(call.parameters), **own))
        for output in (main, *extras):
            wait_for(output)
    _check(step, call, main, planes)
    return main, extras


def _reachable(inputs: Mapping[str, Any], memory_type: str) -> dict[str, Any]:
    """Return special inputs, those on a device in the memory type of the function they are for."""

    def given(value: Any) -> Any:
        if type(value) is dict:
            return {key: given(item) for key, item in value.items()}
        return convert_planned(value, memory_type) if lies_on_device(value) else value

    return {name: given(value) for name, value in inputs.items()}


def _of_planes(inputs: Mapping[str, Any], span: slice) -> dict[str, Any]:
    """Return the built-in inputs of some planes."""
    return {
        name: value[span] if name in PER_PLANE_INPUTS and value is not None else value
        for name, value in inputs.items()
    }


def _may_be_cut(call: Call) -> bool:
    """Tell whether pieces of the stack give pieces of the result.

    Special outputs and other steps' special values may be of the whole stack: nobody says.
    """
    return (
        contract_of(call.func).per_slice
        and call.z_out == "same"
        and not call.special_outputs
        and set(call.special_inputs) <= set(BUILTIN_INPUTS)
    )


def _joined(memory_type: str, pieces: list[Result]) -> Result:
    planes = [main[index] for main, _ in pieces for index in range(int(main.shape[0]))]
    return stack_slices(planes, memory_type), []


def _on_cpu(
    step: str, call: Call, stack: Any, inputs: Mapping[str, Any]
) -> Callable[[], Result] | None:
    """Return the call by the catalogue's numpy variant; None where there is no such road."""
    if call.input_type == "numpy" or not set(call.special_inputs) <= set(BUILTIN_INPUTS):
        return None
    func = variant_of(call.function, "numpy")
    if func is None:
        return None
    instead = replace(call, func=func, input_type="numpy", output_type="numpy")
    return partial(_run, step, instead, stack, inputs, slice(0, int(stack.shape[0])))


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
    if isinstance(main, np.ma.MaskedArray):
        raise ContractError(
            f"{where} returned a masked array, whose mask no image keeps",
            hint="return .filled(value)",
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
