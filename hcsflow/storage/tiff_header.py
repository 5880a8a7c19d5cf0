"""The first directory of a TIFF file, parsed and checked against the file's size.

TIFF 6.0 section 2 and BigTIFF. Nothing is decoded here, and no offset or count in the file is
believed before it is known to lie inside the file.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from hcsflow.errors import PlaneError

__all__ = [
    "DEFLATE",
    "LZW",
    "UNCOMPRESSED",
    "HeaderMemory",
    "PlaneHeader",
    "parse_description",
    "parse_header",
]

WINDOW_BYTES = 8192
"""Read at once: a directory with all its values and a microscope's description, as a rule."""

MAX_WINDOWS = 4
MAX_REMEMBERED = 64

UNCOMPRESSED = 1
LZW = 5
DEFLATE = (8, 32946)

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _FILL_ORDER = 256, 257, 258, 259, 266
_DESCRIPTION, _TEXT_TYPES = 270, (1, 2, 7)
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS = 273, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_SUBFILE_TYPE, _PLANAR, _PREDICTOR, _SAMPLE_FORMAT = 254, 284, 317, 339
_KNOWN = frozenset(range(_SUBFILE_TYPE, _SAMPLE_FORMAT + 1))
_REDUCED, _MASK = 1, 4

_TYPES = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}
_TYPES |= {16: "Q", 17: "q", 18: "Q"}
_KINDS = {1: "uint", 2: "int", 3: "float"}
_UNIT_UM = {2: 25_400.0, 3: 10_000.0}
_PRINT_UM = 40.0  # 635 dpi and coarser is a printer's resolution, not a microscope's

Tags = dict[int, tuple[float, ...]]
_Piece = tuple[int, bytes]  # some bytes, and where they lie
_Entry = tuple[int, int, int, bytes]  # tag, kind of value, how many, the values or their offset


class PlaneHeader(NamedTuple):
    """What a TIFF's first directory says about its plane.

    ``offsets`` and ``nbytes`` are those of its strips or tiles; ``is_plain`` if they are the
    pixels themselves, uncompressed and end to end. ``strip_rows`` is the height of all strips but
    the last, 0 for tiles and what else is not row by row; ``predictor`` is 0 where unclear.
    ``dtype`` is numpy's name, or such as ``"12-bit"`` where numpy has none. ``byteorder`` is
    ``"<"`` or ``">"``. ``resolution_um`` is the size of a pixel in µm, None where unknown:
    without a unit, for pixels that are not square, and for the resolutions of printers that many
    writers put in (72 dpi).
    """

    shape: tuple[int, ...]
    dtype: str
    byteorder: str
    compression: int
    offsets: tuple[int, ...]
    nbytes: tuple[int, ...]
    is_plain: bool
    strip_rows: int
    predictor: int
    is_single: bool
    resolution_um: float | None


@dataclass(slots=True)
class _Source:
    """A file of known size that refuses to be read past its end.

    ``used`` is what was asked for. Beside the size nothing else decides what the parser returns.
    """

    stream: BinaryIO
    file: str
    size: int
    order: str = "<"
    is_big: bool = False
    used: list[_Piece] = field(default_factory=list)
    windows: list[_Piece] = field(default_factory=list)

    def error(self, reason: str) -> PlaneError:
        hint = "copy the file from the instrument again"
        return PlaneError(f"{self.file}: {reason}", hint=hint, file=self.file)

    def check(self, offset: int, nbytes: int, what: str) -> None:
        if offset + nbytes > self.size:
            raise self.error(
                f"cut short: {what} end at byte {offset + nbytes:,}, the file at {self.size:,}"
            )

    def bytes_at(self, offset: int, nbytes: int, what: str) -> bytes:
        self.check(offset, nbytes, what)
        found = self._read(offset, nbytes)
        if len(found) < nbytes:
            raise self.error(f"cut short while it was read: {what}")
        self.used.append((offset, found))
        return found

    def holds(self, pieces: tuple[_Piece, ...]) -> bool:
        """Tell whether the file has the same bytes at the same places."""
        return all(self._read(offset, len(held)) == held for offset, held in pieces)

    def _read(self, offset: int, nbytes: int) -> bytes:
        """Return bytes of a window, less than asked for at the file's end."""
        for start, window in self.windows:
            if start <= offset and offset + nbytes <= start + len(window):
                return window[offset - start : offset - start + nbytes]
        self.stream.seek(offset)
        window = self.stream.read(max(nbytes, WINDOW_BYTES))
        self.windows = [*self.windows[1 - MAX_WINDOWS :], (offset, window)]
        return window[:nbytes]

    def unpack(self, code: str, offset: int, what: str) -> tuple[int, ...]:
        layout = struct.Struct(self.order + code)
        return layout.unpack(self.bytes_at(offset, layout.size, what))


def parse_header(stream: BinaryIO, file: str) -> PlaneHeader:
    """Parse an open TIFF file's first directory.

    Parameters
    ----------
    stream : binary file
        Seekable; its position is changed.
    file : str
        The file's name for messages.

    Raises
    ------
    PlaneError
        If it is no TIFF, or is cut short or damaged.
    """
    return _parse(_Source(stream, file, stream.seek(0, os.SEEK_END)))


class HeaderMemory:
    """Headers of files that went before, by size, so that one more like them is not parsed.

    A file has the header of another where it is as large, and has the same bytes wherever the
    parser looked: those are compared, all of them. Anything else is parsed. Only uncompressed
    files are remembered, since of others hardly two are equally large.

    Examples
    --------
    >>> from io import BytesIO
    >>> import numpy, tifffile
    >>> file = BytesIO()
    >>> tifffile.imwrite(file, numpy.zeros((2, 3), "u2"))
    >>> HeaderMemory().parse(file, "plane.tif").shape
    (2, 3)
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[_Piece, ...], PlaneHeader]] = {}

    def parse(self, stream: BinaryIO, file: str) -> PlaneHeader:
        """Return what `parse_header` returns; any number of threads may ask.

        Parameters
        ----------
        stream : binary file
            Seekable; its position is changed.
        file : str
            The file's name for messages.

        Raises
        ------
        PlaneError
            As `parse_header`.
        """
        source = _Source(stream, file, stream.seek(0, os.SEEK_END))
        known = self._known.get(source.size)
        if known is not None and source.holds(known[0]):
            return known[1]
        header = _parse(source)
        if header.is_plain:
            if len(self._known) >= MAX_REMEMBERED:
                self._known = {}
            self._known[source.size] = _merged(source.used), header
        return header


def _merged(pieces: list[_Piece]) -> tuple[_Piece, ...]:
    """Join pieces that lie end to end, to compare few long ones."""
    merged: list[_Piece] = []
    for offset, held in sorted(pieces):
        if merged and merged[-1][0] + len(merged[-1][1]) == offset:
            merged[-1] = merged[-1][0], merged[-1][1] + held
        else:
            merged.append((offset, held))
    return tuple(merged)


def _parse(source: _Source) -> PlaneHeader:
    tags, following = _directory(source, _first_offset(source))
    offsets, nbytes = _segments(source, tags)
    shape = _shape(source, tags)
    compression = int(tags.get(_COMPRESSION, (1,))[0])
    strip_rows = _strip_rows(tags, shape)
    return PlaneHeader(
        shape=shape,
        dtype=_dtype(tags),
        byteorder=source.order,
        compression=compression,
        offsets=offsets,
        nbytes=nbytes,
        is_plain=compression == UNCOMPRESSED
        and bool(strip_rows)
        and _is_end_to_end(offsets, nbytes),
        strip_rows=strip_rows,
        predictor=_only_value(tags, _PREDICTOR) if _only_value(tags, _COMPRESSION) else 0,
        is_single=_is_single(source, following),
        resolution_um=_resolution_um(tags),
    )


def parse_description(stream: BinaryIO, file: str) -> str:
    """Return an open TIFF file's description; empty where it has none.

    Raises
    ------
    PlaneError
        If it is no TIFF, or is cut short or damaged.
    """
    source = _Source(stream, file, stream.seek(0, os.SEEK_END))
    entries, _ = _entries(source, _first_offset(source))
    for tag, kind, number, raw in entries:
        if tag == _DESCRIPTION and kind in _TEXT_TYPES:
            text = _raw_values(source, number, raw).strip(b"\0 ")
            try:
                return text.decode()
            except UnicodeDecodeError:
                return text.decode("cp1252", "replace")
    return ""


def _first_offset(source: _Source) -> int:
    """Read the file's magic numbers; return where its first directory lies."""
    if not source.size:
        raise source.error("empty file (0 bytes)")
    magic = source.bytes_at(0, min(4, source.size), "TIFF's first bytes")
    orders = {b"II": "<", b"MM": ">"}
    source.order = orders.get(magic[:2], "")
    version = struct.unpack(source.order + "H", magic[2:])[0] if len(magic) == 4 else 0
    if not source.order or version not in (42, 43):
        raise source.error(f"not a TIFF: it starts with {magic!r}")
    source.is_big = version == 43
    if source.is_big:
        return source.unpack("Q", 8, "the TIFF header's 16 bytes")[0]
    return source.unpack("I", 4, "the TIFF header's 8 bytes")[0]


def _directory(source: _Source, offset: int) -> tuple[Tags, int]:
    """Read one directory's known tags, and the offset of the next (0: none)."""
    entries, following = _entries(source, offset)
    tags: Tags = {}
    for tag, kind, number, raw in entries:
        if tag in _KNOWN and kind in _TYPES and number:
            tags[tag] = _values(source, _TYPES[kind], number, raw)
        elif tag == _PREDICTOR:
            tags[tag] = ()  # there is one, and nobody knows which
    return tags, following


def _entries(source: _Source, offset: int) -> tuple[list[_Entry], int]:
    """Read one directory's entries as they stand, and the offset of the next (0: none)."""
    what = "the image directory's bytes"
    count_code, entry_code, pointer = ("Q", "HHQ8s", "Q") if source.is_big else ("H", "HHI4s", "I")
    (count,) = source.unpack(count_code, offset, what)
    entry = struct.Struct(source.order + entry_code)
    start = offset + struct.calcsize("<" + count_code)
    table = source.bytes_at(start, count * entry.size, what)
    (following,) = source.unpack(pointer, start + len(table), what)
    return list(entry.iter_unpack(table)), following


def _values(source: _Source, code: str, number: int, raw: bytes) -> tuple[float, ...]:
    """Decode a tag's values, from the entry itself or from where it points."""
    raw = _raw_values(source, struct.calcsize("<" + code) * number, raw)
    values: tuple[float, ...] = struct.unpack(f"{source.order}{number * len(code)}{code[0]}", raw)
    return values


def _raw_values(source: _Source, size: int, raw: bytes) -> bytes:
    if size <= len(raw):
        return raw[:size]
    (offset,) = struct.unpack(source.order + ("Q" if len(raw) == 8 else "I"), raw)
    return source.bytes_at(offset, size, "a tag's values")


def _shape(source: _Source, tags: Tags) -> tuple[int, ...]:
    if _WIDTH not in tags or _LENGTH not in tags:
        raise source.error("damaged: no image size in its directory")
    shape = (int(tags[_LENGTH][0]), int(tags[_WIDTH][0]))
    samples = int(tags.get(_SAMPLES, (1,))[0])
    return shape if samples == 1 else (*shape, samples)


def _dtype(tags: Tags) -> str:
    bits = int(tags.get(_BITS, (1,))[0])
    kind = _KINDS.get(int(tags.get(_SAMPLE_FORMAT, (1,))[0]))
    floor = 16 if kind == "float" else 8
    return f"{kind}{bits}" if kind and bits in (8, 16, 32, 64) and bits >= floor else f"{bits}-bit"


def _segments(source: _Source, tags: Tags) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return offsets and sizes of all strips or tiles, every one inside the file."""
    is_tiled = _TILE_OFFSETS in tags
    offsets = tags.get(_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS, ())
    nbytes = tags.get(_TILE_COUNTS if is_tiled else _STRIP_COUNTS, ())
    promised = _segment_count(source, tags, is_tiled=is_tiled)
    if not len(offsets) == len(nbytes) == promised:
        raise source.error(
            f"damaged: {promised} strips promised, {len(offsets)} offsets, {len(nbytes)} sizes"
        )
    for number, (offset, size) in enumerate(zip(offsets, nbytes, strict=True), start=1):
        if size <= 0 or offset <= 0:
            raise source.error(f"damaged: strip {number} of {promised} was never written")
        source.check(int(offset), int(size), f"pixels (strip {number} of {promised})")
    return tuple(map(int, offsets)), tuple(map(int, nbytes))


def _segment_count(source: _Source, tags: Tags, *, is_tiled: bool) -> int:
    length, width, *samples = _shape(source, tags)
    if is_tiled:
        tile = tags.get(_TILE_LENGTH, (0,))[0], tags.get(_TILE_WIDTH, (0,))[0]
    else:
        tile = min(tags.get(_ROWS_PER_STRIP, (length,))[0], length), width
    if not all(size > 0 for size in tile):
        raise source.error("damaged: strips or tiles without size")
    across = -(-length // tile[0]) * -(-width // tile[1])
    is_planar = bool(samples) and tags.get(_PLANAR, (1,))[0] == 2
    return int(across) * (samples[0] if is_planar else 1)


def _strip_rows(tags: Tags, shape: tuple[int, ...]) -> int:
    """Return the rows of a strip; 0 where there are none that are rows of whole bytes in order."""
    is_simple = len(shape) == 2 and tags.get(_FILL_ORDER, (1,))[0] == 1
    if not is_simple or _STRIP_OFFSETS not in tags or _TILE_OFFSETS in tags:
        return 0
    return int(min(tags.get(_ROWS_PER_STRIP, (shape[0],))[0], shape[0]))


def _only_value(tags: Tags, tag: int) -> int:
    """Return a tag's value, 1 by default; 0 where there are several."""
    values = tags.get(tag, (1,))
    return int(values[0]) if len(values) == 1 else 0


def _is_end_to_end(offsets: tuple[int, ...], nbytes: tuple[int, ...]) -> bool:
    return all(
        first + size == second
        for (first, second), size in zip(pairwise(offsets), nbytes, strict=False)
    )


def _is_single(source: _Source, offset: int) -> bool:
    """Whether no further full-size page follows; previews and masks do not count."""
    seen = set()
    while offset and offset not in seen:
        seen.add(offset)
        tags, following = _directory(source, offset)
        if not int(tags.get(_SUBFILE_TYPE, (0,))[0]) & (_REDUCED | _MASK):
            return False
        offset = following
    return True


def _resolution_um(tags: Tags) -> float | None:
    unit = _UNIT_UM.get(int(tags.get(_RESOLUTION_UNIT, (2,))[0]))
    x, y = tags.get(_X_RESOLUTION, ()), tags.get(_Y_RESOLUTION, ())
    if unit is None or len(x) != 2 or x != y or not all(x):
        return None
    size = unit * x[1] / x[0]
    return size if size < _PRINT_UM else None
