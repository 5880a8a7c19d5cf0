"""What a step function declares about itself: memory types, shapes, side inputs and outputs.

A contract is attached to the function as ``__hcsflow_contract__`` by the decorators of
`hcsflow.arrays` and by `special_inputs` and `special_outputs`; the compiler reads it and never
calls the function to find out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from hcsflow.errors import PipelineError, nearest

__all__ = [
    "BUILTIN_INPUTS",
    "Contract",
    "Limits",
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


@dataclass(frozen=True, slots=True)
class Limits:
    """What a number may be; stands in a parameter's annotation.

    Parameters
    ----------
    ge, gt, le, lt : float or None
        At least, above, at most, below; None is no limit.
    odd : bool
        An odd whole number.

    Examples
    --------
    ``def smooth(stack, *, sigma: Annotated[float, Limits(ge=0)] = 1.0): ...``

    >>> Limits(ge=3, odd=True).admit(4), str(Limits(ge=3, odd=True))
    (False, 'odd, at least 3')
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    odd: bool = False

    @classmethod
    def of(cls, marks: Iterable[object]) -> Limits:
        """Gather the limits among an annotation's marks; later ones win.

        Marks that have the same attributes, like those of ``annotated_types``, count too.
        """
        names = [item.name for item in fields(cls)]
        found = {
            name: value
            for mark in marks
            for name in names
            if (value := getattr(mark, name, None)) is not None and value is not False
        }
        return cls(**found)

    def admit(self, value: float) -> bool:
        """Tell whether a number is within the limits."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
            and (not self.odd or value % 2 == 1)
        )

    def __str__(self) -> str:
        words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        told = ["odd"] if self.odd else []
        bounds = [(text, getattr(self, name)) for name, text in words.items()]
        return ", ".join(
            told + [f"{text} {bound:g}" for text, bound in bounds if bound is not None]
        )


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
        ``(shape_yx, **parameters) -> (y, x)`` where the planes' size changes. Where it has an
        argument ``grid``, that is the plate's `hcsflow.plate.FieldGrid`: a canvas for all fields.
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
        Temporary memory per plane of the stack, in planes of float32, for the budget.
    fixed_planes : float
        The same, for what does not grow with the stack.
    oom_recovery : bool
        Whether an out-of-memory error may be retried on smaller pieces.
    check : callable, optional
        ``(**parameters) -> None``, called when a plan is made, defaults included; raises ValueError
        for parameters that do not go together.
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
    fixed_planes: float = 0.0
    check: Callable[..., None] | None = None

    def __post_init__(self) -> None:
        """Refuse what no plan could keep.

        Raises
        ------
        PipelineError
            If ``z_out`` is neither "same", "one" nor a count, or there is no such dtype.
        """
        is_count = isinstance(self.z_out, int) and not isinstance(self.z_out, bool)
        if self.z_out not in ("same", "one") and not (is_count and int(self.z_out) > 0):
            raise PipelineError(
                f"z_out must be 'same', 'one' or a number of planes, got {self.z_out!r}"
            )
        if self.dtype is not None and not _is_pixel_dtype(self.dtype):
            raise PipelineError(
                f"dtype must be numpy's name of integers, floats or bool, got {self.dtype!r}",
                hint='for example dtype="uint16"; None keeps the input\'s',
            )


def _is_pixel_dtype(name: object) -> bool:
    try:
        return isinstance(name, str) and np.dtype(name).kind in "biuf"
    except TypeError:
        return False


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

    Parameters
    ----------
    **changes
        Fields of `Contract`.

    Raises
    ------
    PipelineError
        If there is no such field, or its value means nothing.

    Examples
    --------
    >>> @contract(z_out="one")
    ... def brightest(stack):
    ...     return stack.max(axis=0, keepdims=True)
    >>> contract_of(brightest).z_out
    'one'
    """
    known = [item.name for item in fields(Contract)]
    for name in changes:
        if name not in known:
            meant = nearest(name, known)
            raise PipelineError(
                f"a contract has no {name!r}; there are: {', '.join(known)}",
                hint=f"did you mean {meant!r}?" if meant else None,
            )

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
