"""What a step function declares about itself: memory types, shapes, side inputs and outputs.

A contract is attached to the function as ``__hcsflow_contract__`` by the decorators of
`hcsflow.arrays` and by `special_inputs` and `special_outputs`; the compiler reads it and never
calls the function to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from hcsflow.errors import PipelineError

__all__ = [
    "BUILTIN_INPUTS",
    "Contract",
    "Materializer",
    "SpecialOutput",
    "contract",
    "contract_of",
    "special_inputs",
    "special_outputs",
]

BUILTIN_INPUTS = (
    "pixel_size_um",
    "z_step_um",
    "stage_positions_um",
    "plane_keys",
    "channel_names",
)
"""Special inputs that hcsflow itself provides.

``pixel_size_um`` float or None; ``z_step_um`` float or None; ``stage_positions_um`` a list of
(y, x) field centres in µm, one per plane of the stack, or None; ``plane_keys`` a list of
`hcsflow.plate.PlaneKey`, one per plane of the stack; ``channel_names`` a list of the plate's
channel labels (``"w1"``), indexed by ``PlaneKey.channel``.
"""

ATTRIBUTE = "__hcsflow_contract__"
F = TypeVar("F", bound=Callable[..., Any])


@runtime_checkable
class Materializer(Protocol):
    """Anything that writes a special output: ``(data, path, filemanager, backend) -> path``."""

    def __call__(self, data: Any, path: str, filemanager: Any, backend: str) -> str:
        """Write ``data`` at or near ``path`` and return the primary file's path."""
        ...


@dataclass(frozen=True, slots=True)
class SpecialOutput:
    """A named value that a function returns after its main output."""

    name: str
    materializer: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """What a step function promises.

    Parameters
    ----------
    input_type, output_type : str
        Memory types of the stack taken and returned.
    z_out : "same", "one" or int
        Planes returned: as many as taken (keys kept), one (the component collapses), or n.
    output_shape : callable, optional
        ``(shape_yx, **parameters) -> (y, x)`` where the planes' size changes.
    dtype : str or None
        Dtype returned; None keeps the input's.
    per_slice : bool
        Each plane is treated alone, so a stack may be cut.
    ragged : bool
        The stack may lack members (channels with fewer z).
    special_inputs : tuple of str
        Names of keyword arguments filled by the compiler.
    special_outputs : tuple of SpecialOutput
        What is returned after the main output, in order.
    working_planes : float
        Temporary memory in planes of float32, for the budget.
    oom_recovery : bool
        Whether an out-of-memory error may be retried on smaller pieces.
    """

    input_type: str = "numpy"
    output_type: str = "numpy"
    z_out: str | int = "same"
    output_shape: Callable[..., tuple[int, int]] | None = None
    dtype: str | None = None
    per_slice: bool = False
    ragged: bool = False
    special_inputs: tuple[str, ...] = ()
    special_outputs: tuple[SpecialOutput, ...] = ()
    working_planes: float = 2.0
    oom_recovery: bool = True


def contract_of(func: Callable[..., Any]) -> Contract:
    """Return a function's contract; an undecorated function is a numpy one.

    Examples
    --------
    >>> contract_of(lambda stack: stack).input_type
    'numpy'
    """
    found = getattr(func, ATTRIBUTE, None)
    return found if isinstance(found, Contract) else Contract()


def contract(**changes: Any) -> Callable[[F], F]:
    """Declare parts of a function's contract; what is not named stays as it was.

    Examples
    --------
    >>> @contract(z_out="one")
    ... def brightest(stack):
    ...     return stack.max(axis=0, keepdims=True)
    >>> contract_of(brightest).z_out
    'one'
    """

    def attach(func: F) -> F:
        setattr(func, ATTRIBUTE, replace(contract_of(func), **changes))
        return func

    return attach


def special_inputs(*names: str) -> Callable[[F], F]:
    """Declare keyword arguments that earlier steps or hcsflow itself provide.

    Parameters
    ----------
    *names : str
        Special outputs of earlier steps, or names in `BUILTIN_INPUTS`.
    """
    return contract(special_inputs=tuple(names))


def special_outputs(
    *outputs: str | tuple[str, Callable[..., Any]] | SpecialOutput,
) -> Callable[[F], F]:
    """Declare what a function returns after its main output.

    Parameters
    ----------
    *outputs : str or (str, materializer)
        A bare name stays in memory for later steps; with a materializer it is also written.

    Raises
    ------
    PipelineError
        If a name occurs twice.
    """
    parsed = tuple(_special_output(item) for item in outputs)
    names = [item.name for item in parsed]
    if len(set(names)) != len(names):
        raise PipelineError(f"special outputs must differ in name, got {names}")
    return contract(special_outputs=parsed)


def _special_output(item: str | tuple[str, Callable[..., Any]] | SpecialOutput) -> SpecialOutput:
    if isinstance(item, SpecialOutput):
        return item
    if isinstance(item, str):
        return SpecialOutput(item)
    name, materializer = item
    return SpecialOutput(name, materializer)
