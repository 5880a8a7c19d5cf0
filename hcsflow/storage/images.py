"""Write a multiscale image plane by plane: downsample, encode, append, count grey values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import cv2
import numpy as np

from hcsflow.errors import ContractError
from hcsflow.ngff.layout import ImageLayout, region_of
from hcsflow.ngff.metadata import Window
from hcsflow.storage.encoding import Encoders
from hcsflow.storage.histogram import GreyCounts, GreyHistogram, grey_counts
from hcsflow.storage.objects import StoredObject
from hcsflow.storage.shards import ShardWriter, open_writer

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["MAX_LABEL_COLORS", "ImageRecord", "ImageWriter", "halve"]

MAX_LABEL_COLORS = 10_000
"""More label values than this are not listed with a colour each (50 bytes of JSON apiece)."""

_CV2_EXACT = ("uint8", "uint16", "int16")
"""Dtypes whose 2 × 2 mean cv2 computes in integers: (a + b + c + d + 2) >> 2."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What a writer stored.

    Parameters
    ----------
    objects : tuple of StoredObject
        Shards and chunks, level by level; paths relative to the writer's root.
    windows : tuple of Window
        Display range by position along the channel axis, from the grey values of level 1 (of
        level 0 where it is alone); empty for labels.
    values : tuple of int or None
        Label values that occur, sorted; None for images, or above `MAX_LABEL_COLORS`.
    planes : int
        Planes written.
    """

    objects: tuple[StoredObject, ...]
    windows: tuple[Window, ...]
    values: tuple[int, ...] | None
    planes: int

    @property
    def nbytes(self) -> int:
        """Stored bytes."""
        return sum(stored.nbytes for stored in self.objects)


class ImageWriter:
    """Stream a well's image (or label image) to disk; memory is that of a few planes.

    In Zarr 2 it is that of the objects under way, which are encoded as a whole, see
    `hcsflow.ngff.objects.held_bytes`. A context manager: leaving it by an error aborts.

    Parameters
    ----------
    root : Path
        The well's folder; arrays lie below it as the layout says.
    layout : ImageLayout
        The image.
    encoders : int or Encoders
        How many planes are worked on at a time, or threads that writers share; any number gives
        the same bytes. As many planes with all that is made of them are held, and one.

    Raises
    ------
    OSError
        If files cannot be made.

    Examples
    --------
    >>> from hcsflow.config import ZarrConfig
    >>> from hcsflow.ngff.layout import plan_image
    >>> from hcsflow.plan import PlaneSet
    >>> from hcsflow.plate import FieldGrid
    >>> planes = PlaneSet((0, 1), (0,), (0,), ((0,),), (256, 256), "uint16")
    >>> grid = FieldGrid(1, 2, ((0, 0), (0, 1)), "field number")
    >>> layout = plan_image(path="0", kind="image", planes=planes, grid=grid,
    ...                     config=ZarrConfig(), pixel_size_um=None, z_step_um=None)
    >>> with ImageWriter(getfixture("tmp_path"), layout) as writer:
    ...     for field in planes.fields:
    ...         writer.write(field, 0, 0, 0, np.zeros((256, 256), "uint16"))
    ...     record = writer.close()
    >>> [stored.path for stored in record.objects]
    ['0/0/c/0/0/0', '0/1/c/0/0/0', '0/2/c/0/0/0']
    """

    def __init__(self, root: Path, layout: ImageLayout, *, encoders: int | Encoders = 1) -> None:
        self.root = Path(root)
        self.layout = layout
        self._is_owner = isinstance(encoders, int)
        self._encoders = encoders if isinstance(encoders, Encoders) else Encoders(encoders)
        self._writers = [open_writer(self.root / a.path, a) for a in layout.levels]
        self._dtype = np.dtype(layout.levels[0].dtype)
        self._histograms = (
            [GreyHistogram(self._dtype) for _ in layout.channels] if layout.kind == "image" else []
        )
        self._pyramid = _Pyramid(layout, tuple(writer.maker() for writer in self._writers))
        self._values: set[int] | None = set() if layout.kind == "label" else None
        self._planes = 0

    def write(
        self, field: int, timepoint: int, channel: int, z_slot: int, plane: NDArray[Any]
    ) -> None:
        """Store one plane at every level.

        Shards hold planes in the order of these calls, so the same order gives the same bytes.

        Parameters
        ----------
        field, timepoint, channel : int
            Dense plate indices.
        z_slot : int
            Slot along z, from `hcsflow.ngff.layout.slot_of`.
        plane : ndarray, (y, x)
            Pixels of the field's size and the image's dtype. Not changed, and not kept: with
            several encoders a writable plane is copied; a read-only one is not, and must not
            change until `close`.

        Raises
        ------
        ContractError
            If size or dtype differ, or the place is taken; abort then.
        OSError
            If this plane or one before it cannot be written; abort then.
        """
        self._check(plane)
        index = region_of(self.layout, 0, field, timepoint, channel, z_slot).chunk
        self._writers[0].claim(index)  # whatever has its place there has it at every level
        if not self._encoders.is_inline and plane.flags.writeable:
            plane = plane.copy()
        at = self.layout.channels.index(channel) if self._histograms else 0
        make = partial(self._pyramid.pieces, plane)
        self._encoders.submit(self, make, partial(self._take, index, at))
        self._planes += 1

    def _take(self, index: tuple[int, ...], channel: int, piece: _Piece) -> None:
        """Store a level of a plane, and note what was found in it."""
        try:
            self._writers[piece.level].put(index, piece.made)
        except BaseException:
            self.abort()
            raise
        if piece.greys is not None:
            self._histograms[channel].take(piece.greys)
        if piece.values is not None and self._values is not None:
            self._values.update(piece.values.tolist())
            if len(self._values) > MAX_LABEL_COLORS:
                self._values = None

    def rest(self) -> None:
        """Give file handles back until the next plane; for many images written side by side."""
        self._encoders.settle(self)
        for writer in self._writers:
            if isinstance(writer, ShardWriter):
                writer.rest()

    def close(self) -> ImageRecord:
        """Finish all objects and say what was stored.

        Planes that were not written are absent and read as 0.
        """
        try:
            self._encoders.settle(self)
            objects = [stored for writer in self._writers for stored in writer.close()]
        except BaseException:
            self.abort()
            raise
        self._end()
        return ImageRecord(
            objects=tuple(self._relative(stored) for stored in objects),
            windows=tuple(histogram.window() for histogram in self._histograms),
            values=None if self._values is None else tuple(sorted(self._values)),
            planes=self._planes,
        )

    def abort(self) -> None:
        """Remove what was written; safe to call twice."""
        self._encoders.drop(self)
        for writer in self._writers:
            writer.abort()
        self._end()

    def _end(self) -> None:
        if self._is_owner:
            self._encoders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abort()

    def _check(self, plane: NDArray[Any]) -> None:
        if plane.shape != self.layout.field_yx or plane.dtype != self._dtype:
            raise ContractError(
                f"image {self.layout.path!r} takes planes of {self.layout.field_yx} "
                f"{self._dtype}, got {plane.shape} {plane.dtype}"
            )

    def _relative(self, stored: StoredObject) -> StoredObject:
        return stored._replace(path=Path(stored.path).relative_to(self.root).as_posix())


class _Piece(NamedTuple):
    """A level of a plane, as its array's writer takes it, and what was found in the pixels."""

    level: int
    made: Any
    greys: GreyCounts | None = None
    values: NDArray[Any] | None = None


class _Pyramid:
    """What is made of each plane of an image; threads share it, and it knows no writer."""

    def __init__(
        self, layout: ImageLayout, makers: Sequence[Callable[[NDArray[Any]], Any]]
    ) -> None:
        self._layout = layout
        self._makers = makers
        self._is_label = layout.kind == "label"

    def pieces(self, plane: NDArray[Any]) -> Iterator[_Piece]:
        """Yield the levels of a plane, the largest first."""
        planes = [_padded(np.ascontiguousarray(plane), self._layout)]
        for _ in self._makers[1:]:  # all at first, while the plane is in the cache
            planes.append(halve(planes[-1], is_label=self._is_label))
        greys = None if self._is_label else grey_counts(planes[min(1, len(planes) - 1)])
        values = _values_of(plane) if self._is_label else None
        for level, (make, data) in enumerate(zip(self._makers, planes, strict=True)):
            yield _Piece(level, make(data), greys, values)
            greys = values = None  # told once


def _values_of(plane: NDArray[Any]) -> NDArray[Any]:
    """Return a label plane's values: each begins a run somewhere, so runs are enough."""
    flat = plane.ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return np.unique(np.append(flat[starts], flat[0]))


def _padded(plane: NDArray[Any], layout: ImageLayout) -> NDArray[Any]:
    """Extend a plane to its tile: images by their edge, labels by background."""
    if layout.field_yx == layout.pitch_yx:
        return plane
    extra = [(0, p - s) for p, s in zip(layout.pitch_yx, layout.field_yx, strict=True)]
    if layout.kind == "label":
        return np.pad(plane, extra)
    return np.pad(plane, extra, mode="edge")


def halve(plane: NDArray[Any], *, is_label: bool = False) -> NDArray[Any]:
    """Downsample by 2, keeping the dtype.

    Parameters
    ----------
    plane : ndarray, (y, x)
        Even sides.
    is_label : bool
        Take every second pixel in place of the mean.

    Returns
    -------
    ndarray, (y / 2, x / 2)
        A new array. Integer means are exact with halves rounded up, ``(a + b + c + d + 2) >> 2``;
        float means are ``((a + b) + (c + d)) / 4`` in the input's precision.

    Examples
    --------
    >>> halve(np.array([[1, 2], [3, 4]], "uint16"))
    array([[3]], dtype=uint16)
    """
    if is_label:
        return np.ascontiguousarray(plane[::2, ::2])
    if plane.dtype.name in _CV2_EXACT:
        size = (plane.shape[1] // 2, plane.shape[0] // 2)
        return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))
    if plane.dtype.kind == "f":
        pairs = plane[:, ::2] + plane[:, 1::2]
        return np.asarray((pairs[::2] + pairs[1::2]) * plane.dtype.type(0.25))
    total: NDArray[Any] = plane[::2, ::2].astype(np.int16 if plane.itemsize == 1 else np.int64)
    for part in (plane[::2, 1::2], plane[1::2, ::2], plane[1::2, 1::2]):
        total += part
    total += 2
    total >>= 2
    return np.asarray(total.astype(plane.dtype))
