"""Arrays of any memory type, as numpy, on their way into a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.arrays import to_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["as_numbers"]


def as_numbers(data: Any) -> NDArray[Any]:
    """Return an array, scalar or nested list of numbers as numpy; a view where it can be one.

    Raises
    ------
    TypeError
        If it holds anything but numbers and booleans.
    """
    is_plain = isinstance(data, (list, tuple, int, float, np.generic))
    array = np.asarray(data if is_plain else to_numpy(data))
    if array.dtype.kind not in "buifc":
        raise TypeError(f"an array of {array.dtype} is not one of numbers")
    return array
