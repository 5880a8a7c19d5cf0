"""Reading planes back from a committed output: where a later segment of a well starts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hcsflow.config import Backend
from hcsflow.errors import MissingPlaneError
from hcsflow.graph.commit import unit_folder
from hcsflow.ngff.layout import ImageLayout, image_of, region_of, slot_of
from hcsflow.plan import LocalKey, Plan, PlaneSet, WritePlan
from hcsflow.storage.plane_files import plane_file, read_plane_file
from hcsflow.storage.zarr_chunks import ChunkReader, open_chunks
from hcsflow.storage.zarr_nodes import node_of

__all__ = ["StoredPlanes", "open_stored_planes"]

MAX_OPEN_ARRAYS = 16
"""Images (of fields) whose files are kept open."""

Plane = NDArray[np.generic]


def open_stored_planes(output: Path, plan: Plan, write: WritePlan, well: str) -> StoredPlanes:
    """Return the planes of one well of an output, on whatever backend it lies.

    Parameters
    ----------
    output : Path
        The output folder.
    plan, write : Plan, WritePlan
        Which of its outputs.
    well : str
        A well whose unit is committed.

    Returns
    -------
    StoredPlanes
        A context manager; nothing is opened before the first plane is asked for.
    """
    folder = Path(output) / unit_folder(plan, write, well)
    kind = _PlaneFiles if write.backend == Backend.DISK.value else _ZarrPlanes
    return kind(folder, well, write.image, plan.steps[write.step].output)


class StoredPlanes(ABC):
    """The image planes of one well of an output, by `LocalKey`.

    Not safe for threads: one of them reads at a time.

    Parameters
    ----------
    folder : Path
        The well's folder.
    well : str
        Its name.
    layout : ImageLayout
        Its image.
    planes : PlaneSet
        What the step that made it promised.

    Attributes
    ----------
    bytes_read : int
        Uncompressed pixels read so far.
    """

    def __init__(self, folder: Path, well: str, layout: ImageLayout, planes: PlaneSet) -> None:
        self.folder = folder
        self.well = well
        self.layout = layout
        self.planes = planes
        self.bytes_read = 0
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; a later `read` opens them again."""
        self._open.close()

    def read(self, key: LocalKey) -> Plane:
        """Return one plane, (y, x) of the field's size and the image's dtype.

        Raises
        ------
        MissingPlaneError
            If it was not written: its group was skipped.
        PlaneError
            If what is stored is damaged.
        """
        plane = self.find(key)
        if plane is None:
            raise MissingPlaneError(
                f"{self.folder}: holds no plane of field {key.field}, timepoint {key.timepoint}, "
                f"channel {key.channel}, z {key.z} (counted from 0)",
                file=str(self.folder),
            )
        return plane

    def find(self, key: LocalKey) -> Plane | None:
        """Return one plane as `read` does, None where it was not written."""
        plane = self._find(key)
        if plane is not None:
            self.bytes_read += plane.nbytes
        return plane

    @cached_property
    def missing(self) -> frozenset[LocalKey]:
        """The planes that were not written, because their groups were skipped."""
        return frozenset(key for key in self.planes.iter_keys() if not self._holds(key))

    @abstractmethod
    def _find(self, key: LocalKey) -> Plane | None:
        """Return one plane, None where it was not written."""

    @abstractmethod
    def _holds(self, key: LocalKey) -> bool:
        """Tell whether a plane was written, without reading it."""


class _ZarrPlanes(StoredPlanes):
    """Planes out of the well's image (or its fields' images) in Zarr."""

    def __init__(self, folder: Path, well: str, layout: ImageLayout, planes: PlaneSet) -> None:
        super().__init__(folder, well, layout, planes)
        self._images = {field: image_of(layout, field) for field in planes.fields}
        self._readers: dict[str, ChunkReader] = {}
        self._absent: dict[str, frozenset[LocalKey]] = {}

    def close(self) -> None:
        super().close()
        self._readers.clear()

    def _find(self, key: LocalKey) -> Plane | None:
        if not self._holds(key):
            return None
        image = self._images[key.field]
        slot = slot_of(image, key.channel, key.z)
        region = region_of(image, 0, key.field, key.timepoint, key.channel, slot)
        start = tuple(part.start for part in region.slices)
        box = (*(1 for _ in start[:-2]), *image.field_yx)
        pixels = self._reader(image).read(start, box)
        return None if pixels is None else pixels.reshape(image.field_yx)

    def _holds(self, key: LocalKey) -> bool:
        image = self._images[key.field]
        if image.path not in self._absent:
            self._absent[image.path] = _absent_planes(self.folder / image.path)
        return key not in self._absent[image.path]

    def _reader(self, image: ImageLayout) -> ChunkReader:
        path = image.levels[0].path
        if path not in self._readers:
            if len(self._readers) >= MAX_OPEN_ARRAYS:
                self.close()
            node = node_of(self.folder / path)
            reader = None if node is None else open_chunks(node)
            if reader is None:
                raise MissingPlaneError(
                    f"{self.folder / path}: no array of hcsflow's", file=str(self.folder / path)
                )
            self._readers[path] = self._open.enter_context(reader)
        return self._readers[path]


def _absent_planes(image_root: Path) -> frozenset[LocalKey]:
    """Return the planes that an image's group says were not written."""
    node = node_of(image_root)
    facts: dict[str, Any] = {} if node is None else dict(node.attributes.get("hcsflow", {}))
    return frozenset(LocalKey(*place) for place in facts.get("absent", ()))


class _PlaneFiles(StoredPlanes):
    """Planes out of TIFF files, one each."""

    def _find(self, key: LocalKey) -> Plane | None:
        if not self._holds(key):
            return None
        return read_plane_file(self._file(key), self.layout)

    def _holds(self, key: LocalKey) -> bool:
        return self._file(key).is_file()

    def _file(self, key: LocalKey) -> Path:
        return self.folder / plane_file(self.well, **key._asdict())
