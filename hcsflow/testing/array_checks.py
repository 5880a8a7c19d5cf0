"""Small arrays of every layout, and what must hold after they are converted or cast."""

from __future__ import annotations

import ctypes
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hcsflow.arrays import MEMORY_TYPES, memory_type_of
from hcsflow.arrays.conversions import DTYPES, HOLDS, Conversion, Place, conversion
from hcsflow.arrays.families import lies_on_device
from hcsflow.arrays.libraries import adapter_of, dtype_name, is_installed
from hcsflow.errors import MemoryConversionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "address_of",
    "cast_value",
    "check_conversion",
    "conversion_table",
    "edges_of",
    "numpy_array",
    "overwrite",
    "raises",
    "values_of",
    "why_absent",
]

Error = TypeVar("Error", bound=BaseException)

SHAPE = (2, 4, 6)
EDGES = 96


def _address_by_dlpack(array: Any) -> int:
    """Return the first field of a DLPack structure, of a library that shows no address."""
    open_capsule = ctypes.pythonapi.PyCapsule_GetPointer
    open_capsule.restype, open_capsule.argtypes = (
        ctypes.c_void_p,
        (ctypes.py_object, ctypes.c_char_p),
    )
    capsule = array.__dlpack__()
    structure = ctypes.c_void_p(open_capsule(capsule, b"dltensor"))
    return ctypes.cast(structure, ctypes.POINTER(ctypes.c_void_p))[0] or 0


_ADDRESSES: Mapping[str, Callable[[Any], int | None]] = {
    "numpy": lambda array: int(array.ctypes.data),
    "cupy": lambda array: int(array.data.ptr),
    "torch": lambda array: int(array.data_ptr()),
    "tensorflow": _address_by_dlpack,
    "jax": lambda array: int(array.unsafe_buffer_pointer()),
    "pyclesperanto": lambda _array: None,  # OpenCL shows none
}


def why_absent(memory_type: str) -> str | None:
    """Return why a library cannot be used here, for the message of a skipped test; None if it can.

    Imports the library where that alone tells whether there is a device for it.
    """
    if not is_installed(memory_type):
        extra = {"cupy": "cuda12", "pyclesperanto": "opencl"}.get(memory_type, memory_type)
        return f"{memory_type} is not installed: pip install 'hcsflow[{extra}]'"
    if "host" in HOLDS[memory_type].places:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            adapter_of(memory_type).from_host(np.zeros((1, 1, 1), np.uint8), None)
    except MemoryConversionError as error:
        return f"{memory_type}: {error.reason}"
    return None


def address_of(array: Any) -> int | None:
    """Return where an array's first element lies; None where its library does not tell."""
    return _ADDRESSES[memory_type_of(array)](array)


def values_of(array: Any) -> Any:
    """Return an array's values as nested lists of Python numbers."""
    if memory_type_of(array) == "jax" and lies_on_device(array):
        array = array.copy()  # of what was read once from a device jax keeps the values
    return (array if hasattr(array, "tolist") else array.numpy()).tolist()


def numpy_array(dtype: str, layout: str) -> NDArray[Any]:
    """Return a small numpy array, (2, 4, 6) but for the layouts zero-size and 0-d.

    Raises
    ------
    TypeError
        For bfloat16, where no library has brought it.
    """
    base = np.arange(math.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    array = _LAYOUTS[layout](base)
    array.flags.writeable = layout != "read-only"
    return array


def _unaligned(base: NDArray[Any]) -> NDArray[Any]:
    moved = np.empty(base.size + 1, base.dtype)[1:].reshape(base.shape)
    moved[:] = base
    return moved


_LAYOUTS: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": lambda base: np.repeat(base, 2, axis=1)[:, ::2],
    "unaligned": _unaligned,
    "negative": lambda base: base[:, ::-1].copy()[:, ::-1],
    "read-only": np.ascontiguousarray,
    "big-endian": lambda base: base.astype(base.dtype.newbyteorder(">")),
    "zero-size": lambda base: base[:0].copy(),
    "0-d": lambda base: np.array(base[0, 0, 1]),
}


def conversion_table() -> str:
    """Return the whole table of conversions as comma-separated text."""
    lines = [
        "# = zero-copy   c copy   - refused   nothing: the source has no such array",
        ",".join(["source", "place", "target", "layout", *DTYPES]),
    ]
    for source in MEMORY_TYPES:
        holds = HOLDS[source]
        for place in holds.places:
            for target in MEMORY_TYPES:
                for layout in holds.layouts if source != target else ():
                    cells = _cells(source, place, target, layout)
                    lines.append(",".join([source, place, target, layout, *cells]))
    return "\n".join(lines) + "\n"


def _cells(source: str, place: Place, target: str, layout: str) -> Iterator[str]:
    signs = {"zero-copy": "=", "copy": "c", "refused": "-"}
    for dtype in DTYPES:
        if dtype not in HOLDS[source].dtypes or (dtype, layout) == ("bfloat16", "big-endian"):
            yield ""
        else:
            yield signs[conversion(source, target, dtype, layout, place=place)]


def check_conversion(array: Any, convert: Callable[[Any], Any], expected: Conversion) -> None:
    """Fail unless converting an array shares, copies or refuses as expected.

    Values, dtype and shape must arrive as they were, and the array itself must stay so. Shared
    memory must show a write on either side on the other, a copy on none; both as far as the arrays
    can be written to. The array is overwritten.

    Raises
    ------
    AssertionError
        Saying what was found.
    """
    before = values_of(array)
    if expected == "refused":
        error = raises(MemoryConversionError, convert, array)
        assert all((error.source_type, error.target_type, error.method, error.reason))
        assert values_of(array) == before, "refused, and changed"
        return
    result = convert(array)
    assert dtype_name(result) == dtype_name(array), "another dtype"
    assert tuple(result.shape) == tuple(array.shape), "another shape"
    assert values_of(result) == before, "other values"
    assert values_of(array) == before, "the input was changed"
    if math.prod(array.shape) == 0:
        return
    if expected == "zero-copy":
        assert address_of(result) == address_of(array), "not the same memory"
    elif address_of(result) is not None:
        assert address_of(result) != address_of(array), "memory is shared"
    _check_writes(array, result, is_shared=expected == "zero-copy")


def _check_writes(array: Any, result: Any, *, is_shared: bool) -> None:
    for written, other in ((array, result), (result, array)):
        before = values_of(other)
        if overwrite(written):
            after = values_of(other)
            if is_shared:
                assert after == values_of(written), "a write was not seen"
            else:
                assert after == before, "a write changed a copy"


def overwrite(array: Any) -> bool:
    """Give an array other values, in place; tell whether its library lets one."""
    name = memory_type_of(array)
    if name in ("jax", "tensorflow", "pyclesperanto"):
        return False
    if name == "numpy" and not array.flags.writeable:
        return False
    array[...] = array == 0
    values_of(array)  # waits for a device, which another library would not
    return True


def raises(kind: type[Error], call: Any, *args: Any) -> Error:
    """Return the error that a call raises; fail if it raises none."""
    try:
        call(*args)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def edges_of(dtype: str) -> NDArray[Any]:
    """Return values of a dtype at which casts go wrong, (96,), some of them repeated.

    One shape for all, since jax compiles anew for each.
    """
    powers = [2**n + step for n in (7, 8, 15, 16, 31, 32, 63, 64) for step in (-1, 0, 1)]
    if dtype == "bool":
        return np.resize([False, True], EDGES)
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        wanted = {0, 1, 2, info.min, info.max, *powers, *(-n for n in powers)}
        return np.resize(np.array([n for n in wanted if info.min <= n <= info.max], dtype), EDGES)
    halves = [0.5, 1.5, 2.5, 126.5, 127.5, 254.5, 255.5, 65534.5, 65535.5, 65504.0, 1e5, 1e30]
    halves += [1 + 2**-11 + 2**-40, 1 + 3 * 2**-11 - 2**-40]  # once rounded to float32, in a middle
    ends = [float(np.finfo(dtype).max), float(np.finfo(dtype).tiny), math.inf]
    both = [sign * n for n in (0.0, *halves, *powers, *ends) for sign in (1, -1)]
    with np.errstate(over="ignore"):
        return np.resize(np.array([*both, math.nan]).astype(dtype), EDGES)


def cast_value(value: Any, target: np.dtype[Any]) -> tuple[Any, bool]:
    """Cast one numpy scalar by Python's own arithmetic; tell whether it fitted."""
    number = value.item()
    if target.kind == "b":
        return number != 0, True
    if target.kind == "f":
        with np.errstate(over="ignore"):
            found = value.astype(target)
        if not math.isfinite(number) or np.isfinite(found):
            return found.item(), True
        return math.copysign(float(np.finfo(target).max), number), False
    info = np.iinfo(target)
    low, high = int(info.min), int(info.max)
    if isinstance(number, float) and not math.isfinite(number):
        return (0 if math.isnan(number) else high if number > 0 else low), False
    nearest = round(number)  # half to even
    return min(max(nearest, low), high), low <= nearest <= high
