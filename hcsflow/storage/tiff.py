"""Reading one plane from a vendor's TIFF, checked against what the manifest promises.

Uncompressed strips that lie end to end are read straight into the result; LZW goes to libtiff,
which takes half the time; the rest goes to tifffile.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile

from hcsflow.errors import MissingPlaneError, PlaneError
from hcsflow.storage.tiff_header import LZW, PlaneHeader, parse_header

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["read_header", "read_plane"]

_NATIVE = "<" if sys.byteorder == "little" else ">"

_DECODE_ERRORS = (ValueError, RuntimeError, LookupError, TypeError, AttributeError, struct.error)
"""What tifffile and imagecodecs raise on damaged data."""


def read_plane(
    path: Path, *, shape_yx: tuple[int, int], dtype: DTypeLike, file: str
) -> NDArray[Any]:
    """Read the one plane of a TIFF file.

    Parameters
    ----------
    path : Path
        The file; opened once.
    shape_yx : tuple of int
        Size expected, in pixels.
    dtype : dtype
        Pixel type expected.
    file : str
        The plane's name for messages, relative to the plate.

    Returns
    -------
    ndarray, (y, x) ``dtype``
        A new C-contiguous array in native byte order.

    Raises
    ------
    MissingPlaneError
        If there is no such file.
    PlaneError
        If it cannot be read, is no TIFF, is cut short or damaged, or holds another shape, dtype
        or more than one plane. Its ``__cause__`` is the `OSError` where there was one.
    """
    with _open(path, file) as stream:
        header = parse_header(stream, file)
        _check(header, shape_yx, np.dtype(dtype), file)
        plane = _decode(stream, header, file)
    if plane.shape != tuple(shape_yx):
        raise _damaged(file, f"its pixels decode to {plane.shape}, expected {tuple(shape_yx)}")
    return np.ascontiguousarray(plane, dtype=np.dtype(dtype).newbyteorder("="))


def read_header(path: Path, *, file: str) -> PlaneHeader:
    """Read shape, dtype and resolution of a TIFF's first plane, but no pixels.

    Raises
    ------
    MissingPlaneError
        If there is no such file.
    PlaneError
        If it cannot be read or is not a whole TIFF.
    """
    with _open(path, file) as stream:
        return parse_header(stream, file)


@contextmanager
def _open(path: Path, file: str) -> Iterator[BinaryIO]:
    """Open a plane's file; turn what the system says into errors that name it."""
    try:
        with path.open("rb", buffering=0) as stream:
            yield stream
    except FileNotFoundError as error:
        hint = "restore the file, or run with --missing skip or --missing fill"
        raise MissingPlaneError(f"{file}: no such file", hint=hint, file=file) from error
    except OSError as error:
        reason = "it is a folder" if error.errno == errno.EISDIR else error.strerror or str(error)
        raise PlaneError(
            f"{file}: cannot be read: {reason}",
            hint="check the file and its permissions",
            file=file,
        ) from error


def _check(header: PlaneHeader, shape_yx: tuple[int, int], want: np.dtype[Any], file: str) -> None:
    """Refuse a sound TIFF that is not the plane expected."""
    expected, found = _describe(tuple(shape_yx), want.name), _describe(header.shape, header.dtype)
    if expected != found:
        raise PlaneError(
            f"{file}: expected {expected}, found {found}",
            hint="all planes of a plate must have one size and pixel type",
            file=file,
        )
    if not header.is_single:
        raise PlaneError(
            f"{file}: expected one plane, found several pages",
            hint="stacks in one file are not read as a plane; export single planes",
            file=file,
        )


def _describe(shape: tuple[int, ...], dtype: str) -> str:
    return f"{' × '.join(map(str, shape))} {dtype}"


def _damaged(file: str, reason: str) -> PlaneError:
    hint = "copy the file from the instrument again"
    return PlaneError(f"{file}: damaged: {reason}", hint=hint, file=file)


def _decode(stream: BinaryIO, header: PlaneHeader, file: str) -> NDArray[Any]:
    dtype = np.dtype(header.byteorder + np.dtype(header.dtype).str[1:])
    nbytes = header.shape[0] * header.shape[1] * dtype.itemsize
    if header.is_plain and (sum(header.nbytes) == nbytes or len(header.nbytes) == 1):
        if header.nbytes[0] < nbytes and len(header.nbytes) == 1:
            raise _damaged(file, f"{header.nbytes[0]:,} bytes of pixels, expected {nbytes:,}")
        return _read_plain(stream, header, dtype, file)
    stream.seek(0)
    try:
        if header.compression == LZW:
            return np.asarray(imagecodecs.tiff_decode(stream.read()))
        with tifffile.TiffFile(stream) as pages:
            return np.asarray(pages.pages.first.asarray(maxworkers=1))
    except _DECODE_ERRORS as error:
        raise _damaged(file, f"cannot be decoded: {error}") from error


def _read_plain(
    stream: BinaryIO, header: PlaneHeader, dtype: np.dtype[Any], file: str
) -> NDArray[Any]:
    plane = np.empty(header.shape, dtype)
    stream.seek(header.offsets[0])
    rest = plane.view(np.uint8).reshape(-1).data
    while rest:  # an unbuffered read may return less than asked
        count = stream.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise _damaged(file, f"the file ended {len(rest):,} bytes early while being read")
        rest = rest[count:]
    if header.byteorder == _NATIVE or dtype.itemsize == 1:
        return plane
    return plane.byteswap(inplace=True).view(dtype.newbyteorder("="))
