"""From image files to planes: which file is a plane, a stored projection, or a copy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcsflow.microscopes.imagexpress.files import WELL_COLUMNS, ZSTEP_0, Images
from hcsflow.microscopes.imagexpress.htd import Htd
from hcsflow.plate.names import well_name

__all__ = ["Axes", "Roles", "assign_roles", "collapse", "dense_keys", "find_axes"]

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Roles:
    """What each image file is.

    Parameters
    ----------
    planes : ndarray of int
        Rows of `Images` that are planes.
    projections : ndarray of int
        Rows that are projections stored beside a stack.
    stacked : frozenset of int
        Wavelengths with more than one height; the others have one plane, at z index 0.
    projected : frozenset of int
        Wavelengths whose only plane lies where projections lie.
    copies : int
        Files left aside: the instrument's copies of a single plane.
    """

    planes: Rows
    projections: Rows
    stacked: frozenset[int]
    projected: frozenset[int]
    copies: int = 0


def assign_roles(images: Images) -> Roles:
    """Tell planes from projections by where they lie.

    A file in ``ZStep_0``, or beside ``ZStep_<n>`` folders, is a projection: the plane of its
    wavelength if that has no other.
    """
    beside = images.z < 0
    if not np.any(images.z >= 0) and not np.any(images.z == ZSTEP_0):
        beside = np.zeros_like(beside)  # no stack anywhere: the files are the planes
    with_stack = np.unique(images.wave[~beside])
    is_projection = beside & np.isin(images.wave, with_stack)
    waves = {int(wave) for wave in np.unique(images.wave)}
    heights = {w: np.unique(images.z[~is_projection & (images.wave == w)]) for w in waves}
    return Roles(
        planes=np.flatnonzero(~is_projection),
        projections=np.flatnonzero(is_projection),
        stacked=frozenset(w for w in with_stack.tolist() if len(heights[w]) > 1),
        projected=frozenset(waves.difference(with_stack.tolist())),
    )


def collapse(images: Images, roles: Roles, waves: frozenset[int]) -> Roles:
    """Keep one plane of wavelengths that the export copied into each ``ZStep_<n>``.

    The one in ``ZStep_0`` is kept where there is one, else that of the first step.
    """
    everything = np.sort(np.concatenate([roles.planes, roles.projections]))
    mine = everything[np.isin(images.wave[everything], sorted(waves))]
    _, group = np.unique(_place_codes(images, mine), return_inverse=True)
    lowest = np.full(group.max(initial=-1) + 1, np.iinfo(np.int32).max, np.int32)
    np.minimum.at(lowest, group, images.z[mine])
    kept = mine[images.z[mine] == lowest[group]]
    others = ~np.isin(images.wave[roles.planes], sorted(waves))
    beside = ~np.isin(images.wave[roles.projections], sorted(waves))
    return Roles(
        planes=np.sort(np.concatenate([roles.planes[others], kept])),
        projections=roles.projections[beside],
        stacked=roles.stacked - waves,
        projected=roles.projected,
        copies=roles.copies + len(mine) - len(kept),
    )


def _place_codes(images: Images, rows: Rows) -> NDArray[np.int64]:
    """Return one number per (well, site, timepoint, wave), distinct for distinct ones."""
    codes = images.well[rows].astype(np.int64)
    for column, bits in ((images.site, 20), (images.timepoint, 20), (images.wave, 10)):
        codes = (codes << bits) | column[rows]
    return codes


@dataclass(frozen=True, slots=True)
class Axes:
    """The instrument's numbers along each axis, by dense index.

    Parameters
    ----------
    wells : tuple of int
        Codes (row × 64 + column) of wells that hold planes.
    missing_wells : tuple of str
        Wells promised that hold none.
    sites, timepoints, waves, z : tuple of int
        Numbers found or promised, ascending.
    heights : tuple of tuple of int
        Dense z indices expected of each wavelength.
    """

    wells: tuple[int, ...]
    missing_wells: tuple[str, ...]
    sites: tuple[int, ...]
    timepoints: tuple[int, ...]
    waves: tuple[int, ...]
    z: tuple[int, ...]
    heights: tuple[tuple[int, ...], ...]

    @property
    def well_names(self) -> tuple[str, ...]:
        """Canonical names of ``wells``."""
        return tuple(well_name(*divmod(code, WELL_COLUMNS)) for code in self.wells)


def find_axes(images: Images, roles: Roles, htd: Htd | None) -> Axes:
    """Find what is expected: what the HTD promises, and what any well holds."""
    rows = roles.planes
    sites = _union(images.site[rows], range(1, len(htd.sites) + 1) if htd else ())
    timepoints = _union(images.timepoint[rows], range(1, htd.timepoints + 1) if htd else ())
    waves = _union(images.wave[rows], htd.waves if htd else ())
    numbers = {wave: _heights(images, roles, wave, htd) for wave in waves}
    z = _union(np.zeros(0, np.int32), {n for own in numbers.values() for n in own}) or (1,)
    index = {number: i for i, number in enumerate(z)}
    wells = tuple(np.unique(images.well[rows]).tolist())
    names = {well_name(*divmod(code, WELL_COLUMNS)) for code in wells}
    beside = {well_name(*divmod(c, WELL_COLUMNS)) for c in np.unique(images.well).tolist()}
    promised = [*(htd.wells if htd else ()), *sorted(beside)]
    return Axes(
        wells=wells,
        missing_wells=tuple(dict.fromkeys(w for w in promised if w not in names)),
        sites=sites,
        timepoints=timepoints,
        waves=waves,
        z=z,
        heights=tuple(tuple(index[n] for n in numbers[w]) or (0,) for w in waves),
    )


def _union(found: NDArray[np.int32], promised: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted({*np.unique(found).tolist(), *promised}))


def _heights(images: Images, roles: Roles, wave: int, htd: Htd | None) -> tuple[int, ...]:
    """Return the z numbers expected of one wavelength; none for a single plane.

    A single plane beside other wavelengths' stacks is one by intention; where no wavelength has
    a stack, the steps that the HTD promises are missing.
    """
    steps = tuple(range(1, htd.z_steps + 1)) if htd and htd.z_steps > 1 else ()
    own = images.z[roles.planes[images.wave[roles.planes] == wave]]
    if wave in roles.stacked:
        return _union(own, steps)
    is_cut_short = len(own) > 0 and not roles.stacked and bool(np.all(own > 0))
    return steps if len(own) == 0 or (is_cut_short and not roles.copies) else ()


def dense_keys(images: Images, rows: Rows, axes: Axes) -> NDArray[np.int32]:
    """Return (n, 5) dense well, field, timepoint, channel, z of some rows."""
    channel = np.searchsorted(axes.waves, images.wave[rows])
    has_one = np.array([heights == (0,) for heights in axes.heights])
    z = np.searchsorted(axes.z, images.z[rows])
    return np.stack(
        [
            np.searchsorted(axes.wells, images.well[rows]),
            np.searchsorted(axes.sites, images.site[rows]),
            np.searchsorted(axes.timepoints, images.timepoint[rows]),
            channel,
            np.where(has_one[channel], 0, z),
        ],
        axis=1,
    ).astype(np.int32)
