"""What an ImageXpress writes around its pixels: file names, HTD, MetaSeries XML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import numpy as np

from hcsflow.plate.names import parse_well, plate_labels, well_name

__all__ = ["CHANNEL_NAMES", "Address", "Stage", "file_path", "htd_text", "metaseries_xml"]

CHANNEL_NAMES = ("DAPI", "FITC", "TRITC", "Cy5", "Brightfield", "CFP", "YFP", "mCherry")

DATABASE_FOLDER = "2024-05-06/1701"


class Address(NamedTuple):
    """One image file: zero-based indices; ``z`` None is a projection, ``copied_to`` a copy."""

    well: str
    field: int
    timepoint: int
    channel: int
    z: int | None
    copied_to: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """The plate's geometry, from which positions follow.

    Parameters
    ----------
    name : str
        Plate name.
    layout : str
        ``"exported"``, ``"flat"`` or ``"database"``.
    fields, channels, timepoints : int
        How many.
    z : tuple of int
        Planes of each channel.
    size : int
        Side of a field in pixels.
    pixel_size_um, z_step_um : float
        Calibration and spacing.
    """

    name: str
    layout: str
    fields: int
    channels: int
    timepoints: int
    z: tuple[int, ...]
    size: int
    pixel_size_um: float
    z_step_um: float

    @property
    def columns(self) -> int:
        """Columns of the near-square site grid."""
        return int(np.ceil(np.sqrt(self.fields)))

    @property
    def rows(self) -> int:
        """Rows of the site grid."""
        return -(-self.fields // self.columns)

    def position_um(self, at: Address) -> tuple[float, float, float]:
        """Return (y, x, z) of a plane in µm; y grows downward, the stage jitters a little."""
        row, column = parse_well(at.well)
        site_row, site_column = divmod(at.field, self.columns)
        pitch = self.size * self.pixel_size_um
        y = 11_240 + 9_000 * row + (site_row - (self.rows - 1) / 2) * pitch
        x = 14_380 + 9_000 * column + (site_column - (self.columns - 1) / 2) * pitch
        middle = (max(self.z) - 1) / 2
        planes = self.z[at.channel]
        height = middle if at.z is None or planes == 1 else at.z
        rng = np.random.default_rng([row, column, at.field, at.timepoint])
        jitter_y, jitter_x = rng.uniform(-0.04, 0.04, 2).tolist()
        return (
            round(y + jitter_y, 2),
            round(x + jitter_x, 2),
            round(9_300 + height * self.z_step_um, 2),
        )


def file_path(stage: Stage, at: Address, *, thumb: bool = False) -> str:
    """Return a file's POSIX path relative to the plate, as the layout has it."""
    if stage.layout == "flat":
        return _flat_name(stage, at)
    step = at.copied_to if at.copied_to is not None else at.z
    folders = []
    if stage.layout == "database":
        folders.append(DATABASE_FOLDER)
    if stage.layout == "exported" or stage.timepoints > 1:
        folders.append(f"TimePoint_{at.timepoint + 1}")
    is_stack = max(stage.z) > 1
    if step is not None and (is_stack or stage.layout == "exported"):
        folders.append(f"ZStep_{step + 1}")
    elif step is None and stage.layout == "exported":
        folders.append("ZStep_0")
    stem = f"{stage.name}_{at.well}_s{at.field + 1}_w{at.channel + 1}"
    if stage.layout == "database":
        stem += ("_thumb" if thumb else "") + _uuid(at, thumb=thumb)
    return "/".join([*folders, f"{stem}.tif"])


def _flat_name(stage: Stage, at: Address) -> str:
    z = "" if at.z is None else f"_z{at.z + 1}"
    time = f"_t{at.timepoint + 1}" if stage.timepoints > 1 else ""
    return f"{at.well}_s{at.field + 1}_w{at.channel + 1}{z}{time}.tif"


def _uuid(at: Address, *, thumb: bool) -> str:
    z = 0 if at.z is None else at.z + 1
    numbers = [*parse_well(at.well), at.field, at.timepoint, at.channel, z, int(thumb)]
    return str(UUID(bytes=np.random.default_rng(numbers).bytes(16), version=4)).upper()


def htd_text(stage: Stage, wells: tuple[str, ...], *, pixel_size: bool = False) -> bytes:
    """Return an HTD file: latin-1, CRLF, with a description that is no valid UTF-8."""
    rows, columns = plate_labels(wells)
    lines = [
        '"HTSInfoFile", Version 1.0',
        '"Description", "synthetic\x82\x81DAPI: nuclei, 20 °C"',
        '"PlateType", 2',
        f'"TimePoints", {stage.timepoints}',
        f'"ZSeries", {_flag(max(stage.z) > 1)}',
        f'"ZSteps", {max(stage.z) if max(stage.z) > 1 else 0}',
        '"ZProjection", FALSE',
        f'"XWells", {len(columns)}',
        f'"YWells", {len(rows)}',
    ]
    for row in range(len(rows)):
        names = [well_name(row, column) for column in range(len(columns))]
        flags = ", ".join(_flag(name in wells) for name in names)
        lines.append(f'"WellsSelection{row + 1}", {flags}')
    lines += [f'"Sites", {_flag(stage.fields > 1)}']
    lines += [f'"XSites", {stage.columns}', f'"YSites", {stage.rows}']
    for row in range(stage.rows if stage.fields > 1 else 0):
        cells = range(row * stage.columns, (row + 1) * stage.columns)
        flags = ", ".join(_flag(n < stage.fields) for n in cells)
        lines.append(f'"SiteSelection{row + 1}", {flags}')
    lines += [f'"Waves", {_flag(stage.channels > 1)}', f'"NWavelengths", {stage.channels}']
    lines += [f'"WaveName{n}", "{_channel_name(n)}"' for n in range(1, stage.channels + 1)]
    lines += [f'"WaveCollect{n}", 1' for n in range(1, stage.channels + 1)]
    lines += [f'"PixelSizeUM", {stage.pixel_size_um}'] if pixel_size else []
    lines += ['"UniquePlateIdentifier", "5b1e7c52-8a13-4e0c-9d0e-6f3f0d7a4c11"', '"EndFile"']
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _flag(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def _channel_name(number: int) -> str:
    return CHANNEL_NAMES[(number - 1) % len(CHANNEL_NAMES)]


def metaseries_xml(stage: Stage, at: Address) -> str:
    """Return the ImageDescription that MetaXpress writes for a plane."""
    y, x, z = stage.position_um(at)
    site_row, site_column = divmod(at.field, stage.columns)
    props = [
        ("prop", "pixel-size-x", "int", stage.size),
        ("prop", "pixel-size-y", "int", stage.size),
        ("prop", "bits-per-pixel", "int", 16),
        ("prop", "spatial-calibration-state", "bool", "on"),
        ("prop", "spatial-calibration-x", "float", stage.pixel_size_um),
        ("prop", "spatial-calibration-y", "float", stage.pixel_size_um),
        ("prop", "spatial-calibration-units", "string", "um"),
        ("prop", "image-name", "string", _channel_name(at.channel + 1)),
        ("prop", "acquisition-time-local", "time", "20240506 10:41:56.561"),
        ("prop", "stage-position-x", "float", x),
        ("prop", "stage-position-y", "float", y),
        ("prop", "stage-label", "string", f"{at.well} : Site {at.field + 1}"),
        ("prop", "z-position", "float", z),
        ("prop", "wavelength", "float", 452 + 80 * at.channel),
        ("prop", "_IllumSetting_", "string", _channel_name(at.channel + 1)),
        ("prop", "_MagNA_", "float", 0.75),
        ("custom-prop", "SiteX", "float", site_column + 1),
        ("custom-prop", "SiteY", "float", site_row + 1),
    ]
    if at.z is None:
        props.append(("custom-prop", "Z Projection Method", "string", "Maximum"))
        props.append(("custom-prop", "Z Projection Step Size", "float", stage.z_step_um))
    elif max(stage.z) > 1:
        props.append(("custom-prop", "Z Step", "float", at.z + 1))
    if stage.timepoints > 1:
        props.append(("custom-prop", "Timepoint", "float", at.timepoint + 1))
    body = "\n".join(f'<{tag} id="{k}" type="{kind}" value="{v}"/>' for tag, k, kind, v in props)
    return f"<MetaData>\n<PlaneInfo>\n{body}\n</PlaneInfo>\n</MetaData>"
