"""What is stored of every well."""

from __future__ import annotations

from dataclasses import dataclass

from hcsflow.ngff.layout import ImageLayout

__all__ = ["Carried", "LabelWrite", "SideWrite", "TableWrite", "WritePlan"]


@dataclass(frozen=True, slots=True)
class LabelWrite:
    """A label image written with a well: from which special output, laid out how."""

    name: str
    step: int
    special: str
    layout: ImageLayout


@dataclass(frozen=True, slots=True)
class TableWrite:
    """A table written with a well and consolidated under ``results/``."""

    name: str
    step: int
    special: str
    labels: str | None


@dataclass(frozen=True, slots=True)
class SideWrite:
    """A special output written by a materializer function, under ``results/<name>/<well>/``."""

    name: str
    step: int
    special: str


@dataclass(frozen=True, slots=True)
class Carried:
    """A special output that is needed after a cut: of which step, under which name."""

    step: int
    special: str


@dataclass(frozen=True, slots=True)
class WritePlan:
    """One materialised output: a plate of its own, committed well by well.

    Parameters
    ----------
    output : str
        "" for the final output, else ``<nn>_<step>``.
    step : int
        Index of the step whose main output is the image.
    store : str
        Plate folder relative to the output root, e.g. ``"images.zarr"``.
    image : ImageLayout
        The wells' image.
    labels, tables, sides : tuple
        What is stored along with it.
    carried : tuple of Carried
        Special outputs kept with a checkpoint, so that a run can go on from it alone.
    objects_per_well : int
        Stored image and label objects (chunks or shards).
    raw_bytes_per_well : int
        Uncompressed pixels, all levels.
    backend : str
        ``"zarr"``, or ``"disk"`` for TIFF files.
    has_ngff : bool
        Whether its groups say what they are in NGFF's words; False: plain Zarr.
    lists_wells : bool
        Whether a plate group lists its wells; False: a well is known by the journal alone.
    """

    output: str
    step: int
    store: str
    image: ImageLayout
    labels: tuple[LabelWrite, ...] = ()
    tables: tuple[TableWrite, ...] = ()
    sides: tuple[SideWrite, ...] = ()
    carried: tuple[Carried, ...] = ()
    objects_per_well: int = 0
    raw_bytes_per_well: int = 0
    backend: str = "zarr"
    has_ngff: bool = True
    lists_wells: bool = True
