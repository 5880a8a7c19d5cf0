"""Large raw plates that take little room: many names of few distinct TIFF files."""

from __future__ import annotations

import os
from pathlib import Path

from hcsflow.testing.instrument import Address, file_path, htd_text
from hcsflow.testing.plates import PlateSpec, write_imagexpress_plate

CHANNELS, HEIGHTS = 2, 5
MAX_LINKS = 60_000
"""Names of one file; ext4 allows 65,000."""


def write_linked_plate(root: Path, spec: PlateSpec, *, distinct: int) -> int:
    """Write an ImageXpress plate in the exported layout whose planes are hard links.

    Parameters
    ----------
    root : Path
        Folder to make; the files linked lie beside it, in ``<name>_planes``.
    spec : PlateSpec
        What the plate holds; positions and pixel size come from its HTD, since a file that
        stands for many planes cannot say where it was taken.
    distinct : int
        How many different planes there are at least; more where a file would get too many names.

    Returns
    -------
    int
        How many there are.
    """
    planes = len(spec.wells) * spec.fields * spec.timepoints * sum(spec.planes)
    fields = -(-max(distinct, -(-planes // MAX_LINKS)) // (CHANNELS * HEIGHTS))
    source = root.with_name(f"{root.name}_planes")
    write_imagexpress_plate(
        source, wells=("A01",), fields=fields, channels=CHANNELS, z=HEIGHTS, size=spec.size,
        nuclei=spec.nuclei, metaseries=False,
    )  # fmt: skip
    files = sorted(source.rglob("*.tif"))
    stage = spec.stage(root.name)
    for folder in (root, root / "TimePoint_1"):
        folder.mkdir(parents=True)
        (folder / f"{root.name}.HTD").write_bytes(htd_text(stage, spec.wells, pixel_size=True))
    for step in range(max(spec.planes)):
        (root / "TimePoint_1" / f"ZStep_{step + 1}").mkdir()
    for number, at in enumerate(addresses(spec)):
        os.link(files[number % len(files)], root / file_path(stage, at))
    return len(files)


def addresses(spec: PlateSpec) -> list[Address]:
    """Return all planes of a plate of one time point."""
    return [
        Address(well, field, 0, channel, z)
        for well in spec.wells
        for field in range(spec.fields)
        for channel, planes in enumerate(spec.planes)
        for z in range(planes)
    ]
