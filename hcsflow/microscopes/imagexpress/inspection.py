"""Which few files are opened, and what they tell together.

One file per wavelength (two where projections lie beside its stacks), one per field of one well,
and one stack where nothing else gives the spacing: however large the plate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcsflow.errors import PlanRefusedError, PlateError
from hcsflow.microscopes.imagexpress.files import Images
from hcsflow.microscopes.imagexpress.planes import Axes, Roles
from hcsflow.microscopes.imagexpress.samples import Sample, Samples

__all__ = ["Inspection", "WaveSamples", "copied_waves", "inspect", "sample_waves"]

Rows = NDArray[np.intp]
WaveSamples = dict[int, tuple[int, Sample]]
"""Row and sample of one file of each wavelength."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the opened files say.

    Parameters
    ----------
    waves : dict of int to Sample
        By wavelength; those without any file are not in it.
    fields : tuple of Sample or None
        By dense field, of one well.
    well : int
        That well's code.
    beside : dict of int to Sample
        One of the projections beside each wavelength's stacks.
    stack : tuple of (dense z index, Sample)
        One field's stack; empty where its spacing was known already.
    shape_yx, dtype : tuple of int, str
        Of every sample.
    """

    waves: dict[int, Sample]
    fields: tuple[Sample | None, ...]
    well: int
    beside: dict[int, Sample]
    stack: tuple[tuple[int, Sample], ...]
    shape_yx: tuple[int, int]
    dtype: str

    @property
    def samples(self) -> list[Sample]:
        """Wavelengths, then fields, then projections; each file once."""
        every = [*self.waves.values(), *self.fields, *self.beside.values()]
        return list({s.file: s for s in every if s is not None}.values())


def sample_waves(images: Images, roles: Roles, samples: Samples) -> WaveSamples:
    """Open one file of each wavelength: of a stack its second plane, which tells copies apart.

    Raises
    ------
    PlateError
        If none of the first few files of a wavelength is a sound TIFF.
    """
    well = _fullest_well(images, roles.planes)
    found = {}
    for wave in np.unique(images.wave[roles.planes]).tolist():
        rows = list(_wave_rows(images, roles.planes[images.wave[roles.planes] == wave], well))
        sample = samples.first(rows)
        if sample is None:
            raise PlateError(
                f"wavelength {wave}: none of its first files can be read; {samples.get(rows[0])}",
                hint="copy the files from the instrument again, or remove them",
            )
        found[wave] = sample
    return found


def _fullest_well(images: Images, rows: Rows) -> int:
    wells, counts = np.unique(images.well[rows], return_counts=True)
    return int(wells[counts.argmax()])


def _wave_rows(images: Images, rows: Rows, well: int) -> Iterator[int]:
    """One file per well, the given one first: first site and time, second height if any."""
    wells = np.unique(images.well[rows]).tolist()
    for code in sorted(wells, key=lambda code: (code != well, code)):
        mine = rows[images.well[rows] == code]
        first = mine[images.site[mine] == images.site[mine].min()]
        first = first[images.timepoint[first] == images.timepoint[first].min()]
        ordered = first[np.argsort(images.z[first], kind="stable")]
        yield int(ordered[min(1, len(ordered) - 1)])


def copied_waves(images: Images, roles: Roles, waves: WaveSamples) -> frozenset[int]:
    """Return the wavelengths whose file in a later ``ZStep_<n>`` is a copy of a single plane.

    Its own metadata tell: it is a projection, or carries another step's number.
    """
    copied = set()
    for wave in roles.stacked:
        row, sample = waves[wave]
        step = sample.info.z_step
        is_other_step = step is not None and step != int(images.z[row])
        if sample.info.projection is not None or is_other_step:
            copied.add(wave)
    return frozenset(copied)


def inspect(axes: Axes, roles: Roles, waves: WaveSamples, samples: Samples) -> Inspection:
    """Open one well's fields, and a stack where the spacing is not known yet.

    Raises
    ------
    PlanRefusedError
        If wavelengths or fields differ in size or pixel type.
    """
    images = samples.images
    well = _fullest_well(images, roles.planes)
    mine = roles.planes[images.well[roles.planes] == well]
    fields = [samples.first(mine[images.site[mine] == site].tolist()) for site in axes.sites]
    found = [*waves.values(), *(f for f in fields if f is not None)]
    reference = _refuse_odd(found, roles, samples)
    beside = _sample_projections(roles, samples)
    every = [*beside.values(), *(sample for _, sample in found)]
    is_spaced = any(sample.info.z_spacing_um is not None for sample in every)
    return Inspection(
        waves={wave: sample for wave, (_, sample) in waves.items()},
        fields=tuple(None if f is None else f[1] for f in fields),
        well=well,
        beside=beside,
        stack=() if is_spaced else tuple(_stack(mine, axes, roles, samples)),
        shape_yx=(reference.shape[0], reference.shape[1]),
        dtype=reference.dtype,
    )


def _sample_projections(roles: Roles, samples: Samples) -> dict[int, Sample]:
    """Open one of the projections beside each wavelength's stacks."""
    waves = samples.images.wave[roles.projections]
    found = {}
    for wave in np.unique(waves).tolist():
        first = samples.first(roles.projections[waves == wave].tolist())
        if first is not None:
            found[wave] = first[1]
    return found


def _refuse_odd(found: list[tuple[int, Sample]], roles: Roles, samples: Samples) -> Sample:
    """Return a sample of the usual kind; refuse where wavelengths or fields differ in kind.

    One odd plane fails only its own well: so what is odd here is looked up in another well.
    """
    usual = Counter(sample.kind for _, sample in found).most_common(1)[0][0]
    reference = next(sample for _, sample in found if sample.kind == usual)
    if len(reference.shape) != 2 or not _is_dtype(reference.dtype):
        raise PlanRefusedError(
            f"{reference.file}: expected a grey image (y, x) of 8 to 64 bits, found {usual}",
            hint="hcsflow reads one channel per file",
        )
    for row, sample in found:
        if sample.kind != usual and not _is_usual_elsewhere(row, usual, roles, samples):
            raise PlanRefusedError(
                f"planes of this plate differ: {sample.file} is {sample.kind}, "
                f"expected {usual} as in {reference.file}",
                hint="open a plate whose wavelengths and fields have one size and pixel type",
            )
    return reference


def _is_dtype(name: str) -> bool:
    return name.startswith(("uint", "int", "float"))


def _is_usual_elsewhere(row: int, usual: str, roles: Roles, samples: Samples) -> bool:
    images = samples.images
    rows = roles.planes
    is_same = images.well[rows] != images.well[row]
    for column in (images.site, images.wave, images.timepoint, images.z):
        is_same &= column[rows] == column[row]
    other = samples.first(rows[is_same].tolist())
    return other is not None and other[1].kind == usual


def _stack(mine: Rows, axes: Axes, roles: Roles, samples: Samples) -> Iterator[tuple[int, Sample]]:
    """Open one field's stack of the first stacked wavelength."""
    images = samples.images
    for wave in sorted(roles.stacked)[:1]:
        rows = mine[images.wave[mine] == wave]
        for column in (images.site, images.timepoint):
            rows = rows[column[rows] == column[rows].min(initial=1 << 30)]
        for row in rows[np.argsort(images.z[rows], kind="stable")].tolist():
            sample = samples.get(row)
            if isinstance(sample, Sample):
                yield axes.z.index(int(images.z[row])), sample
