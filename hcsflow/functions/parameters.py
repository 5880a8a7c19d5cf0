"""What a user may set of a step function: names, types, limits and choices, from its signature."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from hcsflow.contracts import Limits, contract_of
from hcsflow.errors import PipelineError, nearest

__all__ = ["Parameter", "check_parameters", "parameters_of"]

NO_LIMITS = Limits()

_PLAIN_TYPES: dict[str, tuple[type, ...]] = {
    "float": (float, int),
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A keyword argument that a user may set.

    Parameters
    ----------
    name, type : str
        Name, and annotation as written, without limits.
    default : object
        Default value; meaningless if required.
    required : bool
        There is no default.
    limits : Limits
        What its numbers are held to.
    choices : tuple
        The only values there are, for ``Literal``; empty elsewhere.
    """

    name: str
    type: str
    default: Any
    required: bool
    limits: Limits = NO_LIMITS
    choices: tuple[Any, ...] = ()

    @property
    def allowed(self) -> str:
        """Limits or choices in words, ``""`` where there are none."""
        if self.choices:
            *others, last = map(repr, self.choices)
            return f"{', '.join(others)} or {last}" if others else last
        return str(self.limits)


def parameters_of(func: Callable[..., Any]) -> list[Parameter]:
    """Return what a user may set: all named arguments but the stack and special inputs.

    Limits are read from ``Annotated[float, Limits(ge=0)]`` (or the marks of ``annotated_types``),
    choices from ``Literal["disk", "square"]``.

    Examples
    --------
    >>> def smooth(stack, *, sigma: Annotated[float, Limits(ge=0)] = 1.0): ...
    >>> parameters_of(smooth)[0].allowed
    'at least 0'
    """
    special = contract_of(func).special_inputs
    found = list(inspect.signature(func).parameters.values())[1:]
    return [
        _parameter(func, item)
        for item in found
        if item.name not in special and item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
    ]


def _parameter(func: Callable[..., Any], item: inspect.Parameter) -> Parameter:
    required = item.default is item.empty
    default = None if required else item.default
    kind = _annotation(func, item)
    marks: tuple[Any, ...] = ()
    if get_origin(kind) is Annotated:
        kind, *rest = get_args(kind)
        marks = tuple(rest)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    kinds = dict.fromkeys(type(choice).__name__ for choice in choices)
    text = " | ".join(kinds) or _type_text(kind)
    return Parameter(item.name, text, default, required, Limits.of(marks), choices)


def _annotation(func: Callable[..., Any], item: inspect.Parameter) -> Any:
    """Return an annotation as an object; as text where what it names is not there at run time."""
    if not isinstance(item.annotation, str):
        return item.annotation
    while isinstance(func, partial):
        func = func.func
    bare = inspect.unwrap(func)
    names = getattr(bare if inspect.isroutine(bare) else type(bare).__call__, "__globals__", {})
    stub = SimpleNamespace(__annotations__={"it": item.annotation})
    try:
        return get_type_hints(stub, names, include_extras=True)["it"]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return item.annotation


def _type_text(kind: Any) -> str:
    if kind is inspect.Parameter.empty:
        return ""
    if kind is type(None):
        return "None"
    return kind.__name__ if isinstance(kind, type) else str(kind)


def check_parameters(func: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Check parameters against a function's signature, without calling it.

    Parameters
    ----------
    func : callable
        ``(stack, *, …)``; special inputs need not be given.
    kwargs : mapping
        Parameters by name.

    Raises
    ------
    PipelineError
        For an unknown name (the nearest is named), a special input given by hand, a missing one
        that has no default, a value that is not of the plain type annotated, beyond its limits or
        none of its choices, or values that do not go together (the contract's ``check``).

    Examples
    --------
    >>> def smooth(stack, *, sigma: float = 1.0): ...
    >>> check_parameters(smooth, {"sigma": 2.0})
    """
    known = {parameter.name: parameter for parameter in parameters_of(func)}
    label = getattr(func, "__name__", repr(func))
    _check_names(func, label, known, kwargs)
    for name in kwargs:
        if name in known:
            _check_value(label, known[name], kwargs[name])
    missing = [name for name, item in known.items() if item.required and name not in kwargs]
    if missing:
        raise PipelineError(f"{label} needs a value for {', '.join(missing)}")
    check = contract_of(func).check
    if check is not None:
        given = {name: kwargs.get(name, item.default) for name, item in known.items()}
        try:
            check(**given)
        except ValueError as error:
            raise PipelineError(f"{label}: {error}") from error


def _check_names(
    func: Callable[..., Any],
    label: str,
    known: Mapping[str, Parameter],
    kwargs: Mapping[str, Any],
) -> None:
    special = contract_of(func).special_inputs
    kinds = [item.kind for item in inspect.signature(func).parameters.values()]
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds
    for name in kwargs:
        if name in special:
            raise PipelineError(f"{label}: {name!r} is filled by hcsflow and cannot be set")
        if name not in known and not takes_any:
            near = nearest(name, known)
            there = ", ".join(known) or "none"
            raise PipelineError(
                f"{label} has no parameter {name!r}; there are: {there}",
                hint=f"did you mean {near!r}?" if near else None,
            )


def _check_value(label: str, parameter: Parameter, value: Any) -> None:
    """Refuse a value of another plain type, beyond its limits or not among the choices."""
    value = value.item() if isinstance(value, np.generic) else value
    if parameter.choices:
        _check_choice(label, parameter, value)
        return
    names = [name.strip() for name in parameter.type.split("|")]
    if all(name in _PLAIN_TYPES for name in names):
        allowed = {kind for name in names for kind in _PLAIN_TYPES[name]}
        is_bool = isinstance(value, bool)
        fits = (bool in allowed) if is_bool else isinstance(value, tuple(allowed))
        if not fits:
            raise _refusal(label, parameter, " or ".join(names), value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value) and parameter.limits != NO_LIMITS:
            raise _refusal(label, parameter, "a finite number", value)
        if not parameter.limits.admit(value):
            raise _refusal(label, parameter, parameter.allowed, value)


def _check_choice(label: str, parameter: Parameter, value: Any) -> None:
    if any(type(value) is type(choice) and value == choice for choice in parameter.choices):
        return
    meant = nearest(str(value), [str(choice) for choice in parameter.choices])
    error = _refusal(label, parameter, parameter.allowed, value)
    raise PipelineError(error.message, hint=f"did you mean {meant!r}?" if meant else error.hint)


def _refusal(label: str, parameter: Parameter, wanted: str, value: Any) -> PipelineError:
    return PipelineError(
        f"{label}: {parameter.name} must be {wanted}, got {value!r:.80}",
        hint="hcsflow functions NAME describes the parameters",
    )
