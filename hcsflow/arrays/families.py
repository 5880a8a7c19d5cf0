"""Array families: how large an array is, where it lies, and how it passes through host memory.

What memory tiers and Dask need to count, spill and move arrays of any library alike: one table, by
memory type. Asking imports nothing; only `thaw` and `classes_of` with ``load`` do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.arrays.convert import convert, to_numpy
from hcsflow.arrays.libraries import adapter_of, dtype_name, find_memory_type, memory_type_of
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FAMILIES",
    "Family",
    "address_of",
    "classes_of",
    "copied",
    "freeze",
    "lies_on_device",
    "nbytes_of",
    "thaw",
]


@dataclass(frozen=True, slots=True)
class Family:
    """What is asked of one library's arrays.

    Parameters
    ----------
    nbytes : callable
        Bytes of an array's elements.
    place : callable
        Kind of memory that an array lies in: ``"cpu"``, or a name of the library's own.
    address : callable
        Address of the first element; None where the library does not tell.
    copy : callable
        The array in new memory of the same device; without gradient.
    packages : tuple of str
        Top-level packages that the types of its arrays belong to.
    classes : tuple of (str, str)
        Module and name of classes that the arrays really inherit (`isinstance` is not enough for
        a table by type), where such a module is loaded.
    """

    nbytes: Callable[[Any], int]
    place: Callable[[Any], str]
    address: Callable[[Any], int | None]
    copy: Callable[[Any], Any]
    packages: tuple[str, ...]
    classes: tuple[tuple[str, str], ...]


def _nbytes(array: Any) -> int:
    return int(array.nbytes)


def _torch_nbytes(array: Any) -> int:
    try:
        return int(array.nbytes)
    except RuntimeError:  # sparse: its parts are nobody's business but torch's
        return 0


def _tensorflow_nbytes(array: Any) -> int:
    return int(array.shape.num_elements() or 0) * int(array.dtype.size)


def _copy(array: Any) -> Any:
    return array.copy()


def _tensorflow_copy(array: Any) -> Any:
    return sys.modules["tensorflow"].raw_ops.DeepCopy(x=array)  # identity() shares the memory


def _jax_place(array: Any) -> str:
    kinds = {str(device.platform) for device in array.devices()}
    return "cpu" if kinds == {"cpu"} else next(iter(sorted(kinds - {"cpu"})))


def _jax_address(array: Any) -> int | None:
    return int(array.unsafe_buffer_pointer()) if len(array.devices()) == 1 else None


def _tensorflow_place(array: Any) -> str:
    return "gpu" if "GPU" in str(array.device) else "cpu"


def _tensorflow_address(array: Any) -> int | None:
    """Ask the buffer protocol, which on a GPU would copy."""
    if _tensorflow_place(array) != "cpu" or not _is_numpys(dtype_name(array)):
        return None
    return int(np.asarray(memoryview(array)).__array_interface__["data"][0])


FAMILIES: Mapping[str, Family] = {
    "numpy": Family(
        nbytes=_nbytes,
        place=lambda _array: "cpu",
        address=lambda array: int(array.__array_interface__["data"][0]),
        copy=_copy,
        packages=("numpy",),
        classes=(("numpy", "ndarray"),),
    ),
    "cupy": Family(
        nbytes=_nbytes,
        place=lambda _array: "cuda",
        address=lambda array: int(array.data.ptr),
        copy=_copy,
        packages=("cupy",),
        classes=(("cupy", "ndarray"),),
    ),
    "torch": Family(
        nbytes=_torch_nbytes,
        place=lambda array: str(array.device.type),
        address=lambda array: int(array.data_ptr()),
        copy=lambda array: array.detach().clone(),
        packages=("torch",),
        classes=(("torch", "Tensor"),),
    ),
    "tensorflow": Family(
        nbytes=_tensorflow_nbytes,
        place=_tensorflow_place,
        address=_tensorflow_address,
        copy=_tensorflow_copy,
        packages=("tensorflow",),
        classes=(("tensorflow", "Tensor"),),
    ),
    "jax": Family(
        nbytes=_nbytes,
        place=_jax_place,
        address=_jax_address,
        copy=_copy,
        packages=("jaxlib", "jax"),
        classes=(("jax", "Array"),),
    ),
    "pyclesperanto": Family(
        nbytes=_nbytes,
        place=lambda _array: "opencl",
        address=lambda _array: None,
        copy=_copy,
        packages=("pyclesperanto_opencl", "pyclesperanto_cuda", "pyclesperanto_prototype"),
        classes=(
            ("pyclesperanto_opencl._pyclesperanto", "_Array"),
            ("pyclesperanto_cuda._pyclesperanto", "_Array"),
            ("pyclesperanto_prototype._tier0._pycl", "OCLArray"),
        ),
    ),
}
"""What is asked of arrays, by memory type."""

# Of one size, and known to numpy and torch alike: what carries dtypes that numpy has not.
_BITS = {1: "uint8", 2: "int16", 4: "int32"}


def classes_of(name: str, *, load: bool = False) -> tuple[type, ...]:
    """Return the classes that a memory type's arrays inherit, of modules that are loaded.

    Parameters
    ----------
    name : str
        Memory type.
    load : bool
        Import the library first; MemoryConversionError if it cannot be.
    """
    if load:
        adapter_of(name)
    found = (getattr(sys.modules.get(m), attr, None) for m, attr in FAMILIES[name].classes)
    return tuple(kind for kind in found if isinstance(kind, type))


def nbytes_of(array: Any) -> int | None:
    """Return the bytes of an array's elements; None for anything that is no array.

    A view counts as what it shows; a sparse tensor counts 0.

    Examples
    --------
    >>> nbytes_of(np.zeros((2, 3), np.uint16))
    12
    """
    name = find_memory_type(array)
    return None if name is None else FAMILIES[name].nbytes(array)


def lies_on_device(array: Any) -> bool:
    """Tell whether an array lies in a device's memory rather than the host's."""
    name = find_memory_type(array)
    return name is not None and FAMILIES[name].place(array) != "cpu"


def address_of(array: Any) -> int | None:
    """Return the address of an array's first element; None where its library does not tell."""
    return FAMILIES[memory_type_of(array)].address(array)


def copied(array: Any) -> Any:
    """Return an array's values in new memory, of the same memory type and on the same device.

    jax and tensorflow offer no way to change an array, but torch and cupy may share its memory by
    DLPack and write to it: copies of these are real ones too.

    Examples
    --------
    >>> stack = np.zeros((1, 2, 3))
    >>> np.shares_memory(copied(stack), stack)
    False
    """
    return FAMILIES[memory_type_of(array)].copy(array)


def freeze(array: Any) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return an array as host memory, and a header of plain values that `thaw` needs.

    Parameters
    ----------
    array : array
        Any memory type, shape, strides and dtype. Gradients stay behind.

    Returns
    -------
    tuple of (dict, ndarray)
        The host memory is a view where the array lies there (tensorflow: a copy), with numpy's own
        dtypes: bfloat16 and its like come as integers of the same bits.

    Raises
    ------
    MemoryConversionError
        If it is no array, or a sparse, quantized, traced or deleted one.

    Examples
    --------
    >>> header, host = freeze(np.arange(3))
    >>> thaw(header, host).tolist()
    [0, 1, 2]
    """
    name = memory_type_of(array)
    header = {"memory_type": name, "dtype": None, "device": FAMILIES[name].place(array)}
    if name == "torch" and not _is_numpys(dtype_name(array)):
        header["dtype"] = dtype_name(array)
        return header, to_numpy(_torch_bits(array))
    host = to_numpy(array)
    if host.dtype.isbuiltin == 2:  # a dtype of ml_dtypes
        header["dtype"] = host.dtype.name
        return header, host.view(_BITS[host.dtype.itemsize])
    return header, host


def _is_numpys(dtype: str) -> bool:
    try:
        return np.dtype(dtype).isbuiltin == 1
    except TypeError:
        return False


def _torch_bits(array: Any) -> Any:
    if array.is_quantized:  # its scale would stay behind
        raise MemoryConversionError("torch", "numpy", "view", "a quantized tensor")
    bits = _BITS.get(array.dtype.itemsize, "uint8")
    try:
        plain = array.detach().resolve_conj().resolve_neg()
        return plain.view(getattr(sys.modules["torch"], bits))
    except RuntimeError as error:  # sparse
        raise MemoryConversionError("torch", "numpy", "view", str(error)) from error


def thaw(header: Mapping[str, Any], host: NDArray[Any]) -> Any:
    """Return what `freeze` took, on the present device of the kind that it lay on.

    Raises
    ------
    MemoryConversionError
        If the library is not installed here, or has no such device or dtype.
    """
    name, dtype = header["memory_type"], header["dtype"]
    device = _device(name, header["device"])
    if dtype is None:
        return convert(host, name, device=device)
    if name == "torch":
        bits = convert(host, name, device=device)
        return bits.view(getattr(sys.modules["torch"], dtype))
    try:
        kind = getattr(import_module("ml_dtypes"), dtype)
    except (ImportError, AttributeError) as error:
        raise MemoryConversionError("numpy", name, "ml_dtypes", str(error)) from error
    return convert(host.view(kind), name, device=device)


def _device(name: str, place: str) -> str | None:
    """Return the device to ask for: each library has one that it takes unasked."""
    if name == "torch":
        return None if place == "cpu" else place
    return "cpu" if name in ("jax", "tensorflow") and place == "cpu" else None
