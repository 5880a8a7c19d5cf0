"""Memory types: one table from name to library, classes and adapter. Asking imports nothing."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast

from hcsflow.errors import MemoryConversionError, nearest

if TYPE_CHECKING:
    from numpy import dtype as np_dtype
    from numpy import ndarray

__all__ = [
    "MEMORY_TYPES",
    "Adapter",
    "Library",
    "SharingAdapter",
    "adapter_of",
    "check_memory_type",
    "dtype_name",
    "find_memory_type",
    "is_installed",
    "memory_type_of",
]


@dataclass(frozen=True, slots=True)
class Library:
    """One array library.

    Parameters
    ----------
    classes : tuple of (str, str)
        Module and attribute of each array class, looked up only in modules already imported.
    adapter : str
        Module that speaks to the library; it alone imports it.
    shares_device : bool
        Exchanges memory by DLPack; otherwise only numpy arrays go in and out.
    takes_views : bool
        Takes memory of any strides and alignment by DLPack; otherwise C order on 64 bytes alone.
    needs_gpu : bool
        Cannot allocate without a GPU.
    """

    classes: tuple[tuple[str, str], ...]
    adapter: str
    shares_device: bool = True
    takes_views: bool = True
    needs_gpu: bool = False


LIBRARIES: dict[str, Library] = {
    "numpy": Library((("numpy", "ndarray"),), "hcsflow.arrays._numpy", shares_device=False),
    "cupy": Library((("cupy", "ndarray"),), "hcsflow.arrays._cupy", needs_gpu=True),
    "torch": Library((("torch", "Tensor"),), "hcsflow.arrays._torch"),
    "tensorflow": Library(
        (("tensorflow", "Tensor"),), "hcsflow.arrays._tensorflow", takes_views=False
    ),
    "jax": Library((("jax", "Array"),), "hcsflow.arrays._jax", takes_views=False),
    "pyclesperanto": Library(
        (("pyclesperanto", "Array"), ("pyclesperanto_prototype._tier0._pycl", "OCLArray")),
        "hcsflow.arrays._pyclesperanto",
        shares_device=False,
    ),
}

MEMORY_TYPES = tuple(LIBRARIES)
"""Names of all memory types, numpy first."""

# What was found once stays so: a class keeps its library, a library stays imported.
_TYPES: dict[type, str] = {}
_ADAPTERS: dict[str, Adapter] = {}


class Adapter(Protocol):
    """What a library's private module offers. All arrays are of that library unless said."""

    def to_host(self, array: Any) -> ndarray[Any, Any]:
        """Return the array as numpy: a view where it lies in host memory, else a copy."""
        ...

    def from_host(self, array: ndarray[Any, Any], device: int | str | None) -> Any:
        """Return a numpy array as one of this library, on a device."""
        ...

    def place(self, array: Any, device: int | str | None) -> Any:
        """Return the array itself where it is on that device, else a copy there."""
        ...

    def cast(self, array: Any, dtype: np_dtype[Any], mode: str) -> Any:
        """Return the array with another dtype; see `hcsflow.arrays.cast`."""
        ...

    def stack(self, slices: list[Any]) -> Any:
        """Return a new (Z, Y, X) array from planes of equal shape and dtype."""
        ...


class SharingAdapter(Adapter, Protocol):
    """Of a library that exchanges memory by DLPack."""

    def shareable(self, array: Any, *, compact: bool) -> Any:
        """Return the array as DLPack can hand it on: itself, or a copy on the same device.

        ``compact`` asks for C order at an address that is a multiple of 64 bytes.
        """
        ...

    def from_dlpack(self, array: Any, device: int | str | None) -> Any:
        """Return another library's array as one of this library, in the same memory."""
        ...


def find_memory_type(array: object) -> str | None:
    """Return the memory type of an array, or None for anything else. Imports nothing.

    Examples
    --------
    >>> find_memory_type([1, 2]) is None
    True
    """
    found = _TYPES.get(type(array))
    if found is None:
        found = _find_in_modules(array)
        if found is not None:
            _TYPES[type(array)] = found
    return found


def _find_in_modules(array: object) -> str | None:
    for name, library in LIBRARIES.items():
        for module, attribute in library.classes:
            kind = getattr(sys.modules.get(module), attribute, None)
            if isinstance(kind, type) and isinstance(array, kind):
                return name
    return None


def memory_type_of(array: object) -> str:
    """Return the memory type of an array: ``"numpy"``, ``"torch"`` …. Imports nothing.

    Raises
    ------
    MemoryConversionError
        If it is not an array of a known library.

    Examples
    --------
    >>> import numpy as np
    >>> memory_type_of(np.zeros((1, 2, 3)))
    'numpy'
    """
    found = find_memory_type(array)
    if found is None:
        known = ", ".join(MEMORY_TYPES)
        raise MemoryConversionError(
            type(array).__name__, "any memory type", "detection", f"not an array of {known}"
        )
    return found


def dtype_name(array: Any) -> str:
    """Return an array's dtype as numpy calls it: ``"uint16"`` also for ``torch.uint16``."""
    name = getattr(array.dtype, "name", None) or str(array.dtype)
    return str(name).rpartition(".")[2]


def check_memory_type(name: str) -> str:
    """Return the name if it is a memory type.

    Raises
    ------
    MemoryConversionError
        Otherwise, with the nearest name.
    """
    if name in LIBRARIES:
        return name
    near = nearest(name, MEMORY_TYPES)
    advice = f"did you mean {near!r}?" if near else f"there are {', '.join(MEMORY_TYPES)}"
    raise MemoryConversionError("any", str(name), "name", f"{name!r} is no memory type; {advice}")


def is_installed(name: str) -> bool:
    """Tell whether a memory type's library can be imported, without importing it.

    With ``HCSFLOW_NO_GPU=1`` in the environment, libraries that need a GPU count as absent.

    Raises
    ------
    MemoryConversionError
        If there is no memory type of that name.
    """
    library = LIBRARIES[check_memory_type(name)]
    if _is_forbidden(library):
        return False
    packages = {module.partition(".")[0] for module, _ in library.classes}
    return any(find_spec(package) is not None for package in packages)


def _is_forbidden(library: Library) -> bool:
    return library.needs_gpu and os.environ.get("HCSFLOW_NO_GPU") == "1"


def adapter_of(name: str) -> Adapter:
    """Return the adapter of a memory type, importing its library's module lazily.

    Raises
    ------
    MemoryConversionError
        If the name is unknown, or the library is not installed or cannot be imported.
    """
    found = _ADAPTERS.get(name)
    if found is not None and not _is_forbidden(LIBRARIES[name]):
        return found
    if not is_installed(name):
        reason = f"{name} is not installed, or HCSFLOW_NO_GPU=1 forbids it"
        raise MemoryConversionError("any", name, "import", reason)
    try:
        adapter = cast("Adapter", import_module(LIBRARIES[name].adapter))
    except ImportError as error:
        raise MemoryConversionError("any", name, "import", str(error)) from error
    return _ADAPTERS.setdefault(name, adapter)
