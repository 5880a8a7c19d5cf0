"""What a plate is: wells, fields, channels, geometry. Values only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "COMPONENTS",
    "Channel",
    "FieldGrid",
    "Measured",
    "PlaneKey",
    "Plate",
    "StoredProjection",
]

COMPONENTS = ("field", "timepoint", "channel", "z")
"""The components of a plane's key within a well, outermost first."""


class PlaneKey(NamedTuple):
    """Which plane: dense, zero-based positions along the plate's label lists.

    A tuple, so that a hundred thousand of them cost little; ordered and hashable.
    """

    acquisition: int
    well: int
    field: int
    timepoint: int
    channel: int
    z: int


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel as the instrument names it.

    Parameters
    ----------
    label : str
        The instrument's key, e.g. ``"w1"``.
    name : str
        Unique human name, e.g. ``"DAPI"`` or ``"FITC_05 (w1)"``.
    z : int
        Planes expected per field and timepoint.
    is_projection : bool
        The only plane is a projection that the instrument stored.
    projection : str or None
        Method of the stored projection (``"Maximum"``, ``"Best Focus"``), beside the stack or
        as the plane itself.
    name_origin : str
        Where the name was found, e.g. ``"HTD WaveName1"``.
    z_um : float or None
        Height of the plane of a channel that has only one, in µm, where known.
    z_indices : tuple of int
        Dense z indices of the planes, where they are not simply the first ``z``.
    """

    label: str
    name: str
    z: int
    is_projection: bool = False
    projection: str | None = None
    name_origin: str = ""
    z_um: float | None = None
    z_indices: tuple[int, ...] = ()

    @property
    def heights(self) -> tuple[int, ...]:
        """Dense z indices of the planes expected per field and timepoint, ascending."""
        return self.z_indices or tuple(range(self.z))


@dataclass(frozen=True, slots=True)
class Measured:
    """A length in µm (None where unknown) and where it was found."""

    um: float | None
    origin: str


@dataclass(frozen=True, slots=True)
class FieldGrid:
    """Where each field's tile lies in a well's mosaic.

    Parameters
    ----------
    rows, columns : int
        Size of the grid in tiles.
    cells : tuple of (int, int)
        (row, column) of each field, by dense field index; unique.
    origin : str
        ``"HTD"``, ``"stage positions of E07"`` or ``"field number"``.
    overlap_px : float or None
        Overlap of neighbouring fields in pixels, where stage positions tell.
    """

    rows: int
    columns: int
    cells: tuple[tuple[int, int], ...]
    origin: str
    overlap_px: float | None = None


class StoredProjection(NamedTuple):
    """A projection that the instrument stored beside a stack. Listed, never a plane."""

    well: int
    field: int
    timepoint: int
    channel: int
    path: str


@dataclass(frozen=True, slots=True)
class Plate:
    """A plate of one acquisition: labels by axis and geometry.

    Parameters
    ----------
    name, microscope, layout : str
        Plate name; module name of the reader (``"imagexpress"``); layout found.
    uuid : str or None
        The instrument's plate identifier.
    rows, columns : tuple of str
        All physical rows (``"A"``) and columns (``"01"``).
    acquisition : str
        Label of the acquisition read.
    acquisitions : tuple of str
        Labels of all acquisitions found.
    wells : tuple of str
        Canonical well names (``"E07"``) that hold at least one plane, row by row.
    fields, timepoints, z : tuple of str
        Labels by dense index, as the instrument numbers them.
    channels : tuple of Channel
        By dense index.
    shape_yx : tuple of int
        Plane size in pixels.
    dtype : str
        Pixel dtype, e.g. ``"uint16"``.
    pixel_size, z_step : Measured
        In µm, with origin.
    grid : FieldGrid
        The mosaic's grid.
    """

    name: str
    microscope: str
    layout: str
    uuid: str | None
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    acquisition: str
    acquisitions: tuple[str, ...]
    wells: tuple[str, ...]
    fields: tuple[str, ...]
    timepoints: tuple[str, ...]
    channels: tuple[Channel, ...]
    z: tuple[str, ...]
    shape_yx: tuple[int, int]
    dtype: str
    pixel_size: Measured
    z_step: Measured
    grid: FieldGrid
