"""Sizes, positions and names of a plate, each with where it was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from hcsflow.microscopes.imagexpress.htd import Htd
from hcsflow.microscopes.imagexpress.samples import Sample
from hcsflow.plate import FieldGrid, Measured
from hcsflow.plate.grid import grid_by_number, grid_from_positions, overlap_px

__all__ = [
    "UNKNOWN",
    "FieldPlaces",
    "find_grid",
    "find_pixel_size",
    "find_z_step",
    "unique_names",
    "z_step_from_stack",
]

UNKNOWN = Measured(None, "unknown")


def find_pixel_size(samples: Sequence[Sample], htd: Htd | None, given_um: float | None) -> Measured:
    """Return the pixel size: given ▸ MetaSeries ▸ HTD ▸ TIFF resolution."""
    if given_um is not None:
        return Measured(given_um, "given by the user")
    for sample in samples:
        if sample.info.pixel_size_um is not None:
            origin = f"MetaSeries spatial-calibration-x of {sample.file}"
            return Measured(sample.info.pixel_size_um, origin)
    if htd is not None and htd.pixel_size_um is not None:
        return Measured(htd.pixel_size_um, f"HTD PixelSizeUM of {htd.file}")
    for sample in samples:
        if sample.resolution_um is not None:
            origin = f"TIFF resolution of {sample.file}"
            return Measured(round(sample.resolution_um, 6), origin)
    return UNKNOWN


def find_z_step(samples: Sequence[Sample]) -> Measured | None:
    """Return the spacing that the instrument recorded, None where none of the files say."""
    found = Counter(s.info.z_spacing_um for s in samples if s.info.z_spacing_um is not None)
    if not found:
        return None
    spacing = found.most_common(1)[0][0]
    file = next(s.file for s in samples if s.info.z_spacing_um == spacing)
    return Measured(spacing, f"MetaSeries Z Projection Step Size of {file}")


def z_step_from_stack(stack: Sequence[tuple[int, Sample]]) -> Measured:
    """Return the median spacing of one stack's z positions, to 0.01 µm (the stage jitters).

    Parameters
    ----------
    stack : sequence of (dense z index, Sample)
        Ascending.
    """
    known = [(z, s.info.z_um, s.file) for z, s in stack if s.info.z_um is not None]
    spacings = [
        abs(after - before) / (j - i) for (i, before, _), (j, after, _) in pairwise(known) if j > i
    ]
    if not spacings or median(spacings) < 0.005:
        return UNKNOWN
    origin = f"median of MetaSeries z-position, {known[0][2]} and following"
    return Measured(round(median(spacings), 2), origin)


@dataclass(frozen=True, slots=True)
class FieldPlaces:
    """Where the fields lie, as far as the plate says.

    Parameters
    ----------
    positions : tuple of (y, x) or None
        Stage position of each field of one well, in µm, y growing downward.
    well : str
        That well.
    cells : tuple of (row, column) or None
        Cell of each field in the HTD's site grid.
    htd : str or None
        That HTD.
    """

    positions: tuple[tuple[float, float] | None, ...]
    well: str
    cells: tuple[tuple[int, int] | None, ...]
    htd: str | None


def find_grid(
    places: FieldPlaces, *, shape_yx: tuple[int, int], pixel_size_um: float | None
) -> FieldGrid:
    """Return the mosaic's grid: HTD ▸ stage positions of one well ▸ field number."""
    count = len(places.positions)
    positions = [p for p in places.positions if p is not None]
    grid = _htd_grid(places)
    if grid is None and len(positions) == count > 1:
        size = pixel_size_um and (shape_yx[0] * pixel_size_um, shape_yx[1] * pixel_size_um)
        origin = f"stage positions of {places.well}"
        grid = grid_from_positions(positions, field_um=size or None, origin=origin)
    if grid is None:
        return grid_by_number(count)
    if len(positions) < count or not pixel_size_um:
        return grid
    overlap = overlap_px(grid, positions, shape_yx=shape_yx, pixel_size_um=pixel_size_um)
    return replace(grid, overlap_px=overlap)


def _htd_grid(places: FieldPlaces) -> FieldGrid | None:
    cells = [cell for cell in places.cells if cell is not None]
    if not cells or len(cells) < len(places.cells):
        return None
    return FieldGrid(*_trimmed(cells), origin=f"HTD {places.htd}")


def _trimmed(
    cells: Sequence[tuple[int, int]],
) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """Cut rows and columns of a selection's margin that hold no site."""
    top, left = min(r for r, _ in cells), min(c for _, c in cells)
    inner = tuple((r - top, c - left) for r, c in cells)
    return max(r for r, _ in inner) + 1, max(c for _, c in inner) + 1, inner


def unique_names(labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return channel names that differ; repeated ones carry their label.

    Examples
    --------
    >>> unique_names(["w1", "w2", "w3"], ["FITC", "FITC", "DAPI"])
    ['FITC (w1)', 'FITC (w2)', 'DAPI']
    """
    count = Counter(names)
    if len(count) == len(names):
        return list(names)
    marked = [
        name if count[name] == 1 else f"{name} ({label})"
        for label, name in zip(labels, names, strict=True)
    ]
    return unique_names(labels, marked)
