"""Write a well's image, or an image for each of its fields, plane by plane."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.ngff.layout import ImageLayout, image_of, images_of, planes_of, slot_of
from hcsflow.storage.encoding import Encoders
from hcsflow.storage.images import ImageRecord, ImageWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WellImageWriter"]


MAX_OPEN_IMAGES = 8
"""Images that keep file handles; those beyond reopen their files when their turn comes."""


class WellImageWriter:
    """Stream the planes of a well to the images that hold them.

    A field's image is begun with its first plane and finished with its last. Of fields that are
    under way at a time, some at most keep files open, see `MAX_OPEN_IMAGES`.

    Parameters
    ----------
    root : Path
        The well's folder; arrays lie below it as the layout says.
    layout : ImageLayout
        The well's image or label image, a mosaic or per field.
    encoders : Encoders, optional
        Threads that writers share. None: planes are encoded as they come.

    Raises
    ------
    OSError
        If files cannot be made.

    Examples
    --------
    >>> import numpy as np
    >>> from hcsflow.config import FieldLayout, ZarrConfig
    >>> from hcsflow.ngff.layout import plan_image
    >>> from hcsflow.plan import PlaneSet
    >>> from hcsflow.plate import FieldGrid
    >>> planes = PlaneSet((0, 1), (0,), (0,), ((0,),), (64, 64), "uint16")
    >>> layout = plan_image(path="0", kind="image", planes=planes,
    ...                     grid=FieldGrid(1, 2, ((0, 0), (0, 1)), "field number"),
    ...                     config=ZarrConfig(field_layout=FieldLayout.IMAGES),
    ...                     pixel_size_um=None, z_step_um=None)
    >>> writer = WellImageWriter(getfixture("tmp_path"), layout)
    >>> for field in planes.fields:
    ...     writer.write(field, 0, 0, 0, np.zeros((64, 64), "uint16"))
    >>> [stored.path for _, record in writer.close() for stored in record.objects]
    ['0/0/c/0/0/0', '1/0/c/0/0/0']
    """

    def __init__(self, root: Path, layout: ImageLayout, encoders: Encoders | None = None) -> None:
        self._root = root
        self._encoders = encoders or Encoders()
        self._layout = layout
        self._images = {image.path: image for image in images_of(layout)}
        self._place = {field: image_of(layout, field).path for field in layout.fields}
        self._writers: dict[str, ImageWriter] = {}
        self._missing = {path: planes_of(image) for path, image in self._images.items()}
        self._records: dict[str, ImageRecord] = {}

    def write(self, field: int, timepoint: int, channel: int, z: int, plane: NDArray[Any]) -> None:
        """Store one plane, (y, x), by dense plate indices; as `ImageWriter.write`."""
        path = self._place[field]
        writer = self._writer(path)
        slot = slot_of(self._layout, channel, z)
        if not self._encoders.is_inline and not _is_alone(plane):
            plane = plane.copy()
            plane.flags.writeable = False
        writer.write(field, timepoint, channel, slot, plane)
        self._missing[path] -= 1
        if not self._missing[path] and self._layout.is_per_field:
            # in its turn: nobody waits for the field's last planes
            self._encoders.submit(self, lambda: (path,), self._finish)

    def close(self) -> tuple[tuple[ImageLayout, ImageRecord], ...]:
        """Finish all images; return each with what was stored of it, in the order of fields.

        Planes that were not written are absent and read as 0.
        """
        self._encoders.settle(self)
        for path in self._images:
            if path not in self._records:
                self._writer(path)
                self._finish(path)
        return tuple((image, self._records[path]) for path, image in self._images.items())

    def abort(self) -> None:
        """Remove what is unfinished; safe to call twice."""
        self._encoders.drop(self)
        for writer in self._writers.values():
            writer.abort()
        self._writers.clear()

    def _writer(self, path: str) -> ImageWriter:
        writer = self._writers.pop(path, None)
        if writer is None:
            writer = ImageWriter(self._root, self._images[path], encoders=self._encoders)
        self._writers[path] = writer  # the last used stands last
        if len(self._writers) > MAX_OPEN_IMAGES:
            list(self._writers.values())[-1 - MAX_OPEN_IMAGES].rest()
        return writer

    def _finish(self, path: str) -> None:
        self._records[path] = self._writers[path].close()
        del self._writers[path]


def _is_alone(plane: NDArray[Any]) -> bool:
    """Tell whether a plane may wait for its turn: nobody writes to it, it keeps no stack alive."""
    owner: Any = plane if plane.base is None else plane.base
    return (
        isinstance(owner, np.ndarray)
        and owner.flags.owndata
        and not owner.flags.writeable
        and owner.nbytes == plane.nbytes
    )
