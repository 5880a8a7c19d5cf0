"""Array families: how large an array is, where it lies, and how it passes through host memory.

What memory tiers and Dask need to count, spill and move arrays of any library alike. Asking
imports nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hcsflow.arrays.convert import convert, to_numpy
from hcsflow.arrays.libraries import find_memory_type, memory_type_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["freeze", "lies_on_device", "nbytes_of", "thaw"]


def _on_torch(array: Any) -> bool:
    return str(array.device.type) != "cpu"


def _on_jax(array: Any) -> bool:
    return any(device.platform != "cpu" for device in array.devices())


def _on_tensorflow(array: Any) -> bool:
    return "GPU" in str(array.device)


_ON_DEVICE: Mapping[str, Callable[[Any], bool]] = {
    "numpy": lambda _array: False,
    "cupy": lambda _array: True,
    "torch": _on_torch,
    "tensorflow": _on_tensorflow,
    "jax": _on_jax,
    "pyclesperanto": lambda _array: True,
}


def nbytes_of(array: Any) -> int | None:
    """Return the bytes of an array's elements; None for anything that is no array."""
    return None if find_memory_type(array) is None else int(array.nbytes)


def lies_on_device(array: Any) -> bool:
    """Tell whether an array lies in a device's memory rather than the host's."""
    name = find_memory_type(array)
    return name is not None and _ON_DEVICE[name](array)


def freeze(array: Any) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return an array as host memory, and a header of plain values that `thaw` needs."""
    device = getattr(getattr(array, "device", None), "type", None)
    return {"memory_type": memory_type_of(array), "device": device}, to_numpy(array)


def thaw(header: Mapping[str, Any], host: NDArray[Any]) -> Any:
    """Return what `freeze` took, on the present device of the kind that it lay on."""
    name = header["memory_type"]
    on_device = name == "torch" and header["device"] != "cpu"
    return convert(host, name, device=header["device"] if on_device else None)
