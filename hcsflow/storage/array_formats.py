"""Arrays to and from streams: TIFF, PNG, NPY, NPZ, PT. Any memory type in, numpy out."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile

from hcsflow.arrays import to_numpy
from hcsflow.storage.incoming import as_numbers, refuse_masked
from hcsflow.storage.lazy import load_object

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "read_npy",
    "read_npz",
    "read_png",
    "read_pt",
    "read_tiff",
    "write_npy",
    "write_npz",
    "write_png",
    "write_pt",
    "write_tiff",
]


def write_tiff(stream: BinaryIO, data: Any, compress: bool) -> None:
    """Write an array as TIFF, one page per plane; its exact shape is kept in the description.

    Booleans take one bit each.
    """
    array = as_numbers(data)
    if array.dtype.kind == "c" or array.itemsize > 8:
        raise TypeError(f"it has no such numbers as {array.dtype}")
    if array.ndim < 2 or not array.size:
        raise TypeError(
            f"an image has two axes or more and pixels, the array's shape is {array.shape}"
        )
    codec = "zlib" if compress else None
    tifffile.imwrite(stream, array, photometric="minisblack", compression=codec)


def read_tiff(stream: BinaryIO) -> NDArray[Any]:
    """Read all pages of a TIFF."""
    with tifffile.TiffFile(stream) as pages:
        return np.ascontiguousarray(pages.asarray(maxworkers=1))


def write_png(stream: BinaryIO, data: Any, compress: bool) -> None:  # noqa: ARG001
    """Write (y, x) or (y, x, 3 or 4) of uint8 or uint16 as PNG."""
    array = as_numbers(data)
    if array.dtype.name not in ("uint8", "uint16"):
        raise TypeError(f"its pixels have no other dtype, and the array is {array.dtype}")
    if not array.size or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise TypeError(f"it has one plane, (y, x) or (y, x, 3 or 4), the shape is {array.shape}")
    stream.write(imagecodecs.png_encode(np.ascontiguousarray(array)))


def read_png(stream: BinaryIO) -> NDArray[Any]:
    """Read a PNG."""
    return np.asarray(imagecodecs.png_decode(stream.read()))


def write_npy(stream: BinaryIO, data: Any, compress: bool) -> None:  # noqa: ARG001
    """Write an array as NPY."""
    np.lib.format.write_array(stream, as_numbers(data), allow_pickle=False)


def read_npy(stream: BinaryIO) -> NDArray[Any]:
    """Read an NPY file; one that holds pickles is refused."""
    return np.lib.format.read_array(stream, allow_pickle=False)


def write_npz(stream: BinaryIO, data: Any, compress: bool) -> None:
    """Write a mapping of names to arrays as NPZ."""
    if not isinstance(data, Mapping):
        raise TypeError("no names")
    arrays = {str(name): as_numbers(value) for name, value in data.items()}
    (np.savez_compressed if compress else np.savez)(stream, allow_pickle=False, **arrays)


def read_npz(stream: BinaryIO) -> dict[str, NDArray[Any]]:
    """Read an NPZ file into a dict of arrays."""
    try:
        with np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def write_pt(stream: BinaryIO, data: Any, compress: bool) -> None:  # noqa: ARG001
    """Write a tensor, an array or a mapping of names to them, as torch does."""
    for value in data.values() if isinstance(data, Mapping) else [data]:
        refuse_masked(value)
    tensor = load_object("torch:as_tensor")
    content = (
        {str(name): tensor(value) for name, value in data.items()}
        if isinstance(data, Mapping)
        else tensor(data)
    )
    load_object("torch:save")(content, stream)


def read_pt(stream: BinaryIO) -> Any:
    """Read tensors, as numpy; a file that holds anything else is refused (``weights_only``)."""
    try:
        content = load_object("torch:load")(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"it holds more than tensors: {error}") from error
    if isinstance(content, Mapping):
        return {name: to_numpy(value) for name, value in content.items()}
    return to_numpy(content)
