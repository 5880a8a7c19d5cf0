"""From one memory type to another: the road that was asked for, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hcsflow.arrays.conversions import is_direct
from hcsflow.arrays.libraries import LIBRARIES, adapter_of, check_memory_type, memory_type_of
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hcsflow.arrays.libraries import SharingAdapter

__all__ = ["conversion_path", "convert", "to_numpy"]


def conversion_path(source: str, target: str) -> tuple[str, ...]:
    """Return the memory types that an array passes on its way, first and last included.

    Libraries that share device memory reach each other directly, without a copy; one that does
    not (pyclesperanto) is reached through host memory, which the plan then shows as a step of
    its own. The compiler asks here; `convert` itself never takes two roads.

    Raises
    ------
    MemoryConversionError
        If a name is unknown.

    Examples
    --------
    >>> conversion_path("cupy", "torch")
    ('cupy', 'torch')
    >>> conversion_path("cupy", "pyclesperanto")
    ('cupy', 'numpy', 'pyclesperanto')
    """
    if check_memory_type(source) == check_memory_type(target):
        return (source,)
    if is_direct(source, target):
        return (source, target)
    return (source, "numpy", target)


def convert(array: Any, target: str, *, device: int | str | None = None) -> Any:
    """Return an array in another memory type, values and dtype unchanged.

    `hcsflow.arrays.conversion` says of every library, dtype and layout whether memory is shared,
    copied, or the conversion refused. In short:

    ====================  =========================================================
    numpy → torch         zero-copy on the host; a copy if the array is read-only,
                          has negative strides or foreign byte order
    numpy → others        a copy
    torch, jax → numpy    zero-copy where they lie in host memory (jax: read-only)
    others → numpy        a copy
    cupy, torch, jax,     zero-copy by DLPack on the device where they lie; a copy
    tensorflow            on that device where jax and tensorflow cannot take views
    pyclesperanto         to and from numpy only
    ====================  =========================================================

    Of numpy's own subclasses, memmap and matrix are arrays like others; a masked array is refused,
    since its mask would be lost. A read-only numpy array stays protected: torch has no read-only
    tensors, so one that shared its memory could change it unseen. What DLPack exchanges is one
    memory with two owners: the arrays of jax and tensorflow are only as immutable as the tensor
    that shares with them.

    Parameters
    ----------
    array : array
        Any memory type, any shape.
    target : str
        Memory type wanted.
    device : int, str or None
        GPU number, or the library's own name of a device (``"cpu"``); None leaves the data where
        it is (host data for cupy, jax, tensorflow and pyclesperanto: their current device).

    Returns
    -------
    array
        The array itself where nothing is to do.

    Raises
    ------
    MemoryConversionError
        If the target cannot hold the dtype, has no such device, is not installed, or is not
        reached directly (`conversion_path` tells the way). Nothing is copied through host memory
        unasked, and the array is as before.

    Examples
    --------
    >>> import numpy as np
    >>> stack = np.zeros((1, 2, 3), np.uint16)
    >>> convert(stack, "numpy") is stack
    True
    """
    source = memory_type_of(array)
    if isinstance(array, np.ma.MaskedArray):
        reason = "its mask would be lost; say .filled(value) first"
        raise MemoryConversionError("numpy.ma", target, "convert", reason)
    if source == target and device is None:
        return array
    try:
        return _convert(array, source, check_memory_type(target), device)
    except MemoryConversionError as error:
        # An adapter knows its own library; the reader wants to know the whole way.
        raise MemoryConversionError(source, target, error.method, error.reason) from error


def _convert(array: Any, source: str, target: str, device: int | str | None) -> Any:
    if source == target:
        return adapter_of(target).place(array, device)
    if source == "numpy":
        return adapter_of(target).from_host(array, device)
    if target == "numpy":
        return adapter_of(target).place(adapter_of(source).to_host(array), device)
    if not is_direct(source, target):
        reason = "no shared device memory; convert to numpy first, which copies through the host"
        raise MemoryConversionError(source, target, "dlpack", reason)
    giver, taker = _sharing_adapter_of(source), _sharing_adapter_of(target)
    shared = giver.shareable(array, compact=not LIBRARIES[target].takes_views)
    return taker.from_dlpack(shared, device)


def _sharing_adapter_of(name: str) -> SharingAdapter:
    return cast("SharingAdapter", adapter_of(name))


def to_numpy(array: Any) -> NDArray[Any]:
    """Return any array as numpy: a view where it lies in host memory, else a copy.

    Raises
    ------
    MemoryConversionError
        If it is no array, or numpy has no such dtype (bfloat16 of torch).

    Examples
    --------
    >>> import numpy as np
    >>> to_numpy(np.ones((1, 1, 2))).tolist()
    [[[1.0, 1.0]]]
    """
    result: NDArray[Any] = convert(array, "numpy")
    return result
