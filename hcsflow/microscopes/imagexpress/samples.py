"""The few files that are opened when a plate is: their header, metadata and no pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hcsflow.errors import PlaneError
from hcsflow.microscopes.imagexpress.files import Images
from hcsflow.microscopes.imagexpress.metaseries import PlaneInfo, parse_metaseries
from hcsflow.storage.tiff_header import parse_description, parse_header

__all__ = ["Sample", "Samples", "read_sample"]

MAX_TRIES = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """One file's header and metadata.

    Parameters
    ----------
    file : str
        POSIX path relative to the plate.
    shape : tuple of int
        (y, x) for a grey image.
    dtype : str
        Numpy name.
    resolution_um : float or None
        From the TIFF's resolution tags, where they are no printer's.
    info : PlaneInfo
        MetaSeries metadata; all None where there are none.
    """

    file: str
    shape: tuple[int, ...]
    dtype: str
    resolution_um: float | None
    info: PlaneInfo

    @property
    def kind(self) -> str:
        """Size and pixel type in words."""
        return f"{' × '.join(map(str, self.shape))} {self.dtype}"


def read_sample(root: Path, file: str) -> Sample:
    """Open one file and read what it says about itself, but no pixels.

    Raises
    ------
    PlaneError
        If it cannot be read or is not a whole TIFF.
    PlateError
        If its XML declares a document type.
    """
    try:
        with (root / file).open("rb") as stream:
            header = parse_header(stream, file)
            description = parse_description(stream, file)
    except OSError as error:
        raise PlaneError(f"{file}: cannot be read: {error.strerror}", file=file) from error
    info = parse_metaseries(description, file=file) or PlaneInfo()
    return Sample(file, header.shape, header.dtype, header.resolution_um, info)


@dataclass(slots=True)
class Samples:
    """Files read so far, by row of the image table, each opened once."""

    root: Path
    images: Images
    read: dict[int, Sample | PlaneError] = field(default_factory=dict)

    def get(self, row: int) -> Sample | PlaneError:
        """Return a file's sample, or the error that it gave."""
        if row not in self.read:
            try:
                self.read[row] = read_sample(self.root, self.images.path(row))
            except PlaneError as error:
                self.read[row] = error
        return self.read[row]

    def first(self, rows: Iterable[int]) -> tuple[int, Sample] | None:
        """Return the first sound file of the first few with its row, None if none is."""
        for row, _ in zip(rows, range(MAX_TRIES), strict=False):
            sample = self.get(row)
            if isinstance(sample, Sample):
                return row, sample
        return None
