"""Decorators that say which memory type a step function takes and returns.

``@numpy``, ``@torch`` … attach a `hcsflow.contracts.Contract` and check at each call that the
stack is what the contract says. The function stays callable by hand and picklable by its import
path. Combine freely with `special_inputs` and `special_outputs`, in any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast, overload

from hcsflow.arrays.libraries import check_memory_type, find_memory_type
from hcsflow.arrays.stacks import check_stack
from hcsflow.contracts import contract, contract_of
from hcsflow.errors import ContractError

__all__ = [
    "cupy",
    "jax",
    "memory_types",
    "numpy",
    "pyclesperanto",
    "tensorflow",
    "torch",
]

F = TypeVar("F", bound=Callable[..., Any])


def memory_types(
    *, input_type: str, output_type: str, oom_recovery: bool = True
) -> Callable[[F], F]:
    """Declare the memory types of a step function.

    Parameters
    ----------
    input_type, output_type : str
        Memory types of the stack taken and returned.
    oom_recovery : bool
        Whether an out-of-memory error may be retried on smaller pieces; False for a function
        that changes its stack in place.

    Raises
    ------
    MemoryConversionError
        If a name is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> @memory_types(input_type="numpy", output_type="numpy")
    ... def halve(stack):
    ...     return stack // 2
    >>> halve(np.full((1, 1, 1), 4)).item()
    2
    """
    check_memory_type(input_type)
    check_memory_type(output_type)

    def decorate(func: F) -> F:
        attach = contract(input_type=input_type, output_type=output_type, oom_recovery=oom_recovery)
        return attach(_checked(func))

    return decorate


def _checked(func: F) -> F:
    """Wrap a function with the check of what goes in and comes out."""
    name = getattr(func, "__qualname__", repr(func))

    @functools.wraps(func)
    def checked(stack: Any, *args: Any, **kwargs: Any) -> Any:
        declared = contract_of(checked)
        check_stack(stack, where=f"{name} takes")
        _check_type(stack, declared.input_type, f"{name} takes")
        result = func(stack, *args, **kwargs)
        main = result[0] if isinstance(result, tuple) and result else result
        _check_type(main, declared.output_type, f"{name} returns")
        return result

    return cast("F", checked)


def _check_type(array: Any, expected: str, where: str) -> None:
    found = find_memory_type(array)
    if found != expected:
        convert = (
            f'hcsflow.arrays.convert(stack, "{expected}") converts; between steps that happens'
        )
        raise ContractError(
            f"{where} a {expected} stack, found {found or type(array).__name__}",
            hint="is a 'return' missing?" if array is None else f"{convert} by itself",
        )


class _Decorator(Protocol):
    """Usable bare, ``@numpy``, and with arguments, ``@numpy(oom_recovery=False)``."""

    @overload
    def __call__(self, func: F, /) -> F: ...
    @overload
    def __call__(
        self,
        func: None = None,
        /,
        *,
        input_type: str = ...,
        output_type: str = ...,
        oom_recovery: bool = ...,
    ) -> Callable[[F], F]: ...


def _decorator(memory_type: str) -> _Decorator:
    def decorate(
        func: Any = None,
        /,
        *,
        input_type: str = memory_type,
        output_type: str = memory_type,
        oom_recovery: bool = True,
    ) -> Any:
        attach = memory_types(
            input_type=input_type, output_type=output_type, oom_recovery=oom_recovery
        )
        return attach if func is None else attach(func)

    decorate.__name__ = decorate.__qualname__ = memory_type
    decorate.__doc__ = f"""Declare a step function that takes and returns {memory_type} stacks.

    Parameters
    ----------
    input_type, output_type : str
        Memory types where they differ from ``"{memory_type}"``.
    oom_recovery : bool
        Whether an out-of-memory error may be retried on smaller pieces; False for a function
        that changes its stack in place.
    """
    return cast("_Decorator", decorate)


numpy = _decorator("numpy")
cupy = _decorator("cupy")
torch = _decorator("torch")
tensorflow = _decorator("tensorflow")
jax = _decorator("jax")
pyclesperanto = _decorator("pyclesperanto")
