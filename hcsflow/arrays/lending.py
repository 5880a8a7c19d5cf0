"""What a function is given to read, so that it can be called again on the same input.

A function that works in place and then runs out of memory leaves half-changed input behind. Numpy
arrays are lent read-only, torch tensors are watched, all others that can be written to are copied.
"""

from __future__ import annotations

from typing import Any

from hcsflow.arrays.families import address_of, copied
from hcsflow.arrays.libraries import memory_type_of

__all__ = ["Loan"]


class Loan:
    """An array that several attempts work on, or on parts of it.

    ====================  =======================================================
    numpy                 lent read-only
    torch                 lent as it is, and watched; a copy of what jax, tensorflow
                          or a tensor without version counter share their memory with
    cupy, pyclesperanto   lent as copies on the device: their writes leave no trace
    jax, tensorflow       lent as they are: they offer no way to write
    ====================  =======================================================

    A write that torch does not see (by ``Tensor.data``, or by numpy on ``Tensor.numpy()``) is not
    noticed.

    Examples
    --------
    >>> import numpy as np
    >>> stack = np.zeros((1, 2, 3))
    >>> loan = Loan()
    >>> loan.lend(stack, of=stack).flags.writeable
    False
    >>> loan.is_spent()
    False
    """

    def __init__(self) -> None:
        self._watched: list[tuple[Any, int]] = []

    def lend(self, given: Any, *, of: Any) -> Any:
        """Return what an attempt may have.

        Parameters
        ----------
        given : array
            What it is to work on.
        of : array
            What that was converted from, without copying or not: the original or a slice of it.
        """
        memory_type = memory_type_of(given)
        if memory_type == "numpy":
            return _read_only(given)
        if memory_type in ("jax", "tensorflow") or not _shares_memory(given, of):
            return given
        version = _version_of(given) if memory_type == "torch" else None
        if version is None or memory_type_of(of) in ("jax", "tensorflow"):
            return copied(given)
        self._watched.append((given, version))
        return given

    def is_spent(self) -> bool:
        """Tell whether anything lent was changed in place."""
        return any(_version_of(given) != version for given, version in self._watched)


def _read_only(array: Any) -> Any:
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def _shares_memory(given: Any, of: Any) -> bool:
    """Tell whether two arrays of equal values share memory; if in doubt, they do."""
    if given is of:
        return True
    addresses = address_of(given), address_of(of)
    return addresses[0] == addresses[1] or None in addresses


def _version_of(tensor: Any) -> int | None:
    """Return how often a tensor's memory was written to; None where torch does not count."""
    try:
        return int(tensor._version)  # noqa: SLF001 - the one sign there is, and views have it too
    except RuntimeError:  # made in inference mode
        return None
