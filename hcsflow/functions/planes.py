"""Plane by plane over a stack, in a dtype that the plane's function can work in.

Rules that every catalogue function keeps: the stack is never written to and may be read-only;
the result has the stack's dtype, rounded half to even and saturated (masks and labels say so);
nothing depends on other planes or on an image's own minimum and maximum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcsflow.arrays import cast
from hcsflow.errors import ContractError

__all__ = [
    "Plane",
    "as_mask",
    "check_at_least",
    "check_integers",
    "check_pixels",
    "map_planes",
    "widened",
]

Plane = NDArray[Any]

# What a dtype becomes, without loss, where a plane's function cannot take it as it is.
_WIDER = {
    "bool": "uint8",
    "int8": "int16",
    "uint8": "float32",
    "uint16": "float32",
    "int16": "float32",
    "float16": "float32",
    "float32": "float64",
}


def widened(plane: Plane, allowed: tuple[str, ...]) -> Plane:
    """Return a plane in the narrowest of the allowed dtypes that holds it, C-contiguous.

    Parameters
    ----------
    plane : ndarray, (Y, X)
        Bool, integer or float. 64-bit integers are exact to 2^53.
    allowed : tuple of str
        Dtypes that the function takes; the last one must hold every value.

    Returns
    -------
    ndarray
        The plane itself where possible. Not to be written to.

    """
    name = plane.dtype.name
    while name not in allowed:
        name = _WIDER.get(name, allowed[-1])
        if name not in allowed and name not in _WIDER:
            name = allowed[-1]
    return np.ascontiguousarray(plane, dtype=name)


def map_planes(
    stack: NDArray[Any],
    func: Callable[[Plane], Plane],
    *,
    allowed: tuple[str, ...] | None = None,
    dtype: str | None = None,
) -> NDArray[Any]:
    """Apply a function to each plane and return a new stack.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Never written to.
    func : callable
        From a plane (Y, X) to a plane (Y, X).
    allowed : tuple of str, optional
        Dtypes that ``func`` takes, see `widened`; None keeps the stack's (planes are always
        C-contiguous and of native byte order).
    dtype : str, optional
        Dtype of the result; None keeps the stack's. Values are rounded and saturated.

    Raises
    ------
    ContractError
        If the stack is not of bool, integers or floats.
    """
    check_pixels(stack)
    native = stack.dtype.newbyteorder("=")
    result = np.empty(stack.shape, dtype=native if dtype is None else dtype)
    for index, plane in enumerate(stack):
        given = widened(plane, allowed) if allowed else np.ascontiguousarray(plane, dtype=native)
        result[index] = cast(func(given), result.dtype)
    return result


def check_pixels(stack: NDArray[Any]) -> None:
    """Raise ContractError unless a stack is of bool, integers or floats."""
    if stack.dtype.kind not in "biuf":
        raise ContractError(
            f"expected pixels of integers or floats, found {stack.dtype}",
            hint="hcsflow.arrays.cast changes a dtype explicitly",
        )


def as_mask(plane: Plane) -> NDArray[np.uint8]:
    """Return a plane as a mask of 0 and 1: what is not zero is foreground. A copy."""
    return np.asarray(plane != 0).view(np.uint8)


def check_integers(stack: NDArray[Any], name: str) -> None:
    """Raise ContractError unless a stack can be a mask or labels."""
    if stack.dtype.kind not in "biu":
        raise ContractError(
            f"{name} takes a mask or labels (integers), found {stack.dtype}",
            hint="threshold first, e.g. with threshold_otsu",
        )


def check_at_least(least: float, **values: float) -> None:
    """Raise ValueError for a parameter below its least value.

    Examples
    --------
    >>> check_at_least(1, size=3)
    """
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
