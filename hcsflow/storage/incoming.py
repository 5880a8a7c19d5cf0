"""Arrays of any memory type, as numpy, on their way into a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.arrays import to_numpy
from hcsflow.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["as_numbers", "refuse_masked"]


def refuse_masked(data: Any) -> None:
    """Refuse an array whose masked elements would come back as if they were not masked.

    Raises
    ------
    UsageError
        If it is a masked array of numpy.
    """
    if isinstance(data, np.ma.MaskedArray):
        raise UsageError(
            "files keep no mask: its masked elements would come back as numbers",
            hint="say .filled(value) first, or save the array's .data and its .mask",
        )


def as_numbers(data: Any) -> NDArray[Any]:
    """Return an array, scalar or nested list of numbers as numpy; a view where it can be one.

    Subclasses of numpy's array (memmap, matrix) become plain ones.

    Raises
    ------
    TypeError
        If it holds anything but numbers and booleans.
    UsageError
        If it is a masked array.
    """
    refuse_masked(data)
    is_plain = isinstance(data, (list, tuple, int, float, np.generic))
    array = np.asarray(data if is_plain else to_numpy(data))
    if array.dtype.kind not in "buifc":
        raise TypeError(f"an array of {array.dtype} is not one of numbers")
    return array
