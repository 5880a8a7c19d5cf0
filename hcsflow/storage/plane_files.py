"""A well's planes as TIFF files, one each, named after `hcsflow.plate.names`."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from hcsflow.errors import ContractError
from hcsflow.ngff.model import ImageLayout
from hcsflow.plate.names import PlaneName, format_plane_name
from hcsflow.storage.images import ImageRecord
from hcsflow.storage.objects import ObjectFile, StoredObject
from hcsflow.storage.tiff import read_plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PlaneFileWriter", "plane_file", "read_plane_file"]

UM_PER_CM = 10_000.0


def plane_file(well: str, *, field: int, timepoint: int, channel: int, z: int) -> str:
    """Return a plane's file name from dense indices.

    Examples
    --------
    >>> plane_file("B03", field=3, timepoint=0, channel=0, z=1)
    'B03_s004_w1_z002_t001.tif'
    """
    return f"{format_plane_name(PlaneName(well, field, channel, z, timepoint))}.tif"


def read_plane_file(path: Path, layout: ImageLayout) -> NDArray[Any]:
    """Return the pixels of a plane that `PlaneFileWriter` wrote, (y, x).

    Raises
    ------
    MissingPlaneError
        If there is no such file.
    PlaneError
        If it is damaged, or not as the layout says.
    """
    dtype = layout.levels[0].dtype
    return read_plane(path, shape_yx=layout.field_yx, dtype=dtype, file=path.name)


class PlaneFileWriter:
    """Write planes of an image, or of labels, to uncompressed TIFF files.

    The files say the pixel size where it is known, and nothing of when or by what version they
    were written: the same planes give the same bytes.

    Parameters
    ----------
    root : Path
        The well's folder, which the paths of what is stored are relative to.
    folder : str
        Where the files go below it; ``""`` is the root itself.
    well : str
        Well name.
    layout : ImageLayout
        Size, dtype and pixel size.

    Examples
    --------
    >>> from hcsflow.config import FieldLayout, ZarrConfig
    >>> from hcsflow.ngff.layout import plan_image
    >>> from hcsflow.plan import PlaneSet
    >>> from hcsflow.plate import FieldGrid
    >>> planes = PlaneSet((0,), (0,), (0,), ((0,),), (64, 64), "uint16")
    >>> layout = plan_image(path="0", kind="image", planes=planes,
    ...                     grid=FieldGrid(1, 1, ((0, 0),), "field number"),
    ...                     config=ZarrConfig(field_layout=FieldLayout.IMAGES, pyramid=False),
    ...                     pixel_size_um=0.65, z_step_um=None)
    >>> writer = PlaneFileWriter(getfixture("tmp_path"), "", "B03", layout)
    >>> writer.write(0, 0, 0, 0, np.zeros((64, 64), "uint16"))
    >>> [stored.path for _, record in writer.close() for stored in record.objects]
    ['B03_s001_w1_z001_t001.tif']
    """

    def __init__(self, root: Path, folder: str, well: str, layout: ImageLayout) -> None:
        self._root = Path(root)
        self._folder = folder
        self._well = well
        self._layout = layout
        self._dtype = np.dtype(layout.levels[0].dtype).newbyteorder("<")
        size_um = layout.levels[0].scale[-1] if layout.has_unit else None
        self._header = _header(layout.field_yx, self._dtype, size_um)
        self._stored: dict[str, StoredObject] = {}

    def write(self, field: int, timepoint: int, channel: int, z: int, plane: NDArray[Any]) -> None:
        """Write one plane, (y, x), by dense indices.

        Raises
        ------
        ContractError
            If its size or dtype is not the layout's, or it was written before.
        OSError
            If it cannot be written.
        """
        if plane.shape != self._layout.field_yx or plane.dtype != self._dtype:
            raise ContractError(
                f"image {self._layout.path!r} takes planes of {self._layout.field_yx} "
                f"{self._dtype}, got {plane.shape} {plane.dtype}"
            )
        name = plane_file(self._well, field=field, timepoint=timepoint, channel=channel, z=z)
        path = f"{self._folder}/{name}" if self._folder else name
        if path in self._stored:
            raise ContractError(f"image {self._layout.path!r}: {name} was written before")
        file = ObjectFile(self._root / path)
        try:
            file.write(self._header)
            file.write(np.ascontiguousarray(plane, self._dtype).reshape(-1).view(np.uint8))
        except BaseException:
            file.discard()
            raise
        self._stored[path] = file.commit()._replace(path=path)

    def close(self) -> tuple[tuple[ImageLayout, ImageRecord], ...]:
        """Return what was stored."""
        record = ImageRecord(tuple(self._stored.values()), (), None, len(self._stored))
        return ((self._layout, record),)

    def abort(self) -> None:
        """Do nothing: every file is whole, and its folder is never committed."""


@lru_cache(maxsize=16)
def _header(shape_yx: tuple[int, int], dtype: np.dtype[Any], size_um: float | None) -> bytes:
    """Return what comes before the pixels of a TIFF, little-endian, in one strip.

    It is the same for all planes of an image, whose pixels go from memory to the file.
    """
    stream = BytesIO()
    resolution = None if size_um is None else (UM_PER_CM / size_um,) * 2
    plane = np.zeros(shape_yx, dtype)
    tifffile.imwrite(
        stream,
        plane,
        byteorder="<",
        photometric="minisblack",
        metadata=None,
        software=False,
        resolution=resolution,
        resolutionunit="CENTIMETER" if resolution else None,
    )
    return stream.getvalue()[: -plane.nbytes]
