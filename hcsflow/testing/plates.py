"""Synthetic ImageXpress plates with known truth, as the instrument would write them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from hcsflow.errors import UsageError
from hcsflow.plate.names import canonical_well
from hcsflow.testing.instrument import Address, Stage, file_path, htd_text, metaseries_xml
from hcsflow.testing.optics import expose, illumination, place_nuclei, render
from hcsflow.testing.truth import Nucleus, PlantedFault, Truth

__all__ = ["FAULTS", "KeyCode", "PlateSpec", "key_coded_plate", "write_imagexpress_plate"]

FAULTS = (
    "missing plane",
    "missing field",
    "missing channel",
    "missing well",
    "truncated TIFF",
    "duplicate plane",
    "odd shape",
    "odd dtype",
    "not a TIFF",
)
"""What can be planted in a well."""

Plane = NDArray[np.uint16]
Painter = Callable[[Address], Plane]


@dataclass(frozen=True, slots=True)
class PlateSpec:
    """What a synthetic plate holds.

    Parameters
    ----------
    wells : tuple of str
        Well names.
    fields, channels, timepoints : int
        How many.
    z : int or tuple of int
        Planes, of every channel or of each.
    size : int
        Side of a field in pixels.
    layout : str
        ``"exported"`` (HTD, ``TimePoint_1/ZStep_1``), ``"flat"`` (``A01_s1_w1_z1.tif``) or
        ``"database"`` (UUIDs, thumbnails, stored projections).
    nuclei : int
        Typical number per field.
    seed : int
        Of all random numbers.
    metaseries : bool
        Write MetaSeries XML; otherwise only resolution tags, and the pixel size in the HTD.
    htd : bool or None
        Write HTD files; None: all but the database layout has them.
    projections : tuple of int or None
        Channels with a projection stored beside their stack; None: the first one in the
        database layout. Not in the flat layout.
    faults : mapping of str to str
        Well → one of `FAULTS`.
    pixel_size_um, z_step_um : float
        As the metadata say.
    """

    wells: tuple[str, ...] = ("B02", "B03", "B04", "B05", "C02", "C03", "C04", "C05")
    fields: int = 4
    channels: int = 2
    timepoints: int = 1
    z: int | tuple[int, ...] = 3
    size: int = 512
    layout: Literal["exported", "flat", "database"] = "exported"
    nuclei: int = 25
    seed: int = 0
    metaseries: bool = True
    htd: bool | None = None
    projections: tuple[int, ...] | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    pixel_size_um: float = 0.65
    z_step_um: float = 3.0

    @property
    def planes(self) -> tuple[int, ...]:
        """Planes of each channel."""
        return (self.z,) * self.channels if isinstance(self.z, int) else tuple(self.z)

    @property
    def projected(self) -> tuple[int, ...]:
        """Channels with a stored projection."""
        default = (0,) if self.layout == "database" and self.planes[0] > 1 else ()
        return default if self.projections is None else self.projections

    @property
    def has_htd(self) -> bool:
        """Whether HTD files are written."""
        return self.layout != "database" if self.htd is None else self.htd

    def stage(self, name: str) -> Stage:
        """Return the geometry of a plate of this name."""
        return Stage(
            name=name,
            layout=self.layout,
            fields=self.fields,
            channels=self.channels,
            timepoints=self.timepoints,
            z=self.planes,
            size=self.size,
            pixel_size_um=self.pixel_size_um,
            z_step_um=self.z_step_um,
        )


def write_imagexpress_plate(
    root: str | Path, spec: PlateSpec | None = None, **changes: Any
) -> Truth:
    """Write a plate of nuclei of known number and place.

    The first channel shows nuclei, the others the cells around them. Nuclei blur and dim out of
    focus, illumination falls off towards a corner, the camera adds offset and noise.

    Parameters
    ----------
    root : str or Path
        Folder to make; it must be empty or not exist.
    spec : PlateSpec, optional
        What it holds.
    **changes : Any
        Fields of `PlateSpec` to change.

    Returns
    -------
    Truth
        Where the nuclei are and what is wrong with which well.

    Raises
    ------
    UsageError
        If the folder holds something, or the description contradicts itself.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     truth = write_imagexpress_plate(folder, wells=("A01",), size=64, nuclei=1)
    >>> truth.count("A01")
    4
    """
    spec = _checked(replace(spec or PlateSpec(), **changes))
    gain = illumination(spec.size)
    nuclei: dict[str, tuple[tuple[Nucleus, ...], ...]] = {}

    def paint(at: Address) -> Plane:
        if at.well not in nuclei:
            nuclei[at.well] = _nuclei_of(spec, spec.wells.index(at.well))
        return _photograph(spec, nuclei[at.well][at.field], at, gain)

    faults = _write(Path(root), spec, paint)
    for index, well in enumerate(spec.wells):
        nuclei.setdefault(well, _nuclei_of(spec, index))
    return Truth(
        root=str(root),
        layout=spec.layout,
        wells=spec.wells,
        fields=spec.fields,
        channels=spec.channels,
        timepoints=spec.timepoints,
        size=spec.size,
        z=spec.planes,
        pixel_size_um=spec.pixel_size_um,
        z_step_um=spec.z_step_um,
        nuclei={well: nuclei[well] for well in spec.wells},
        faults=tuple(faults),
    )


@dataclass(frozen=True, slots=True)
class KeyCode:
    """The pixel value of each plane of a `key_coded_plate`, by dense indices."""

    spec: PlateSpec

    def value(self, well: int, fld: int, timepoint: int, channel: int, z: int) -> int:
        """Return the value that every pixel of a plane has; 1 or more, distinct for each."""
        spec = self.spec
        code = (well * spec.fields + fld) * spec.timepoints + timepoint
        return (code * spec.channels + channel) * max(spec.planes) + z + 1


def key_coded_plate(root: str | Path, spec: PlateSpec | None = None, **changes: Any) -> KeyCode:
    """Write a plate whose pixels say which plane they are: a misplaced plane shows by value.

    Parameters
    ----------
    root, spec, **changes
        As for `write_imagexpress_plate`; fields are 32 px wide unless told otherwise.

    Raises
    ------
    UsageError
        If there are more planes than a uint16 can tell apart.
    """
    spec = _checked(replace(spec or PlateSpec(size=32), **changes))
    code = KeyCode(spec)
    wells = len(spec.wells) - 1, spec.fields - 1, spec.timepoints - 1
    if code.value(*wells, spec.channels - 1, max(spec.planes) - 1) > 65535:
        raise UsageError("more than 65,535 planes cannot be told apart in uint16")

    def paint(at: Address) -> Plane:
        z = 0 if at.z is None else at.z
        value = code.value(spec.wells.index(at.well), at.field, at.timepoint, at.channel, z)
        return np.full((spec.size, spec.size), value, np.uint16)

    _write(Path(root), spec, paint)
    return code


def _checked(spec: PlateSpec) -> PlateSpec:
    spec = replace(spec, wells=tuple(map(canonical_well, spec.wells)))
    unknown = sorted(set(spec.faults.values()) - set(FAULTS))
    if unknown:
        hint = f"there are: {', '.join(FAULTS)}"
        raise UsageError(f"there is no fault {unknown[0]!r}", hint=hint)
    strangers = sorted(set(spec.faults) - set(spec.wells))
    if strangers:
        raise UsageError(f"no well {strangers[0]} to plant a fault in")
    if len(spec.planes) != spec.channels:
        raise UsageError(f"{len(spec.planes)} numbers of planes for {spec.channels} channels")
    return spec


def _nuclei_of(spec: PlateSpec, index: int) -> tuple[tuple[Nucleus, ...], ...]:
    """Place a well's nuclei; wells differ in how many, and do not depend on their number."""
    rng = np.random.default_rng([spec.seed, index])
    share = rng.uniform(0.7, 1.3)
    return tuple(
        place_nuclei(rng, spec.size, max(1, round(spec.nuclei * share * rng.uniform(0.9, 1.1))))
        for _ in range(spec.fields)
    )


def _photograph(
    spec: PlateSpec, nuclei: tuple[Nucleus, ...], at: Address, gain: NDArray[np.float32]
) -> Plane:
    key = [spec.seed, spec.wells.index(at.well), at.field]
    light = np.random.default_rng([*key, at.channel])
    brightness = light.uniform(1100, 2200, len(nuclei))
    if at.channel:
        brightness *= light.uniform(0.15, 0.6, len(nuclei))
    planes = spec.planes[at.channel]
    defocus = 0.0 if at.z is None or planes == 1 else abs(at.z - (planes - 1) / 2)
    signal = render(nuclei, brightness, size=spec.size, defocus=defocus, wide=at.channel > 0)
    noise = np.random.default_rng([*key, at.timepoint, at.channel, 0 if at.z is None else at.z + 1])
    return expose(signal, gain, noise)


def _write(root: Path, spec: PlateSpec, paint: Painter) -> list[PlantedFault]:
    """Write all files, then plant the faults."""
    if root.exists() and any(root.iterdir()):
        raise UsageError(f"{root} is not empty", hint="choose a new folder for the plate")
    root.mkdir(parents=True, exist_ok=True)
    stage = spec.stage(root.name)
    if spec.has_htd:
        _write_htds(root, spec, stage)
    present = [well for well in spec.wells if spec.faults.get(well) != "missing well"]
    for well in present:
        for at in _addresses(spec, well):
            _write_plane(root, spec, stage, at, paint(at))
    return [
        PlantedFault(well, kind, _plant(root, spec, stage, well))
        for well, kind in spec.faults.items()
    ]


def _write_htds(root: Path, spec: PlateSpec, stage: Stage) -> None:
    """Write the HTD; an export repeats it in each time point's folder."""
    text = htd_text(stage, spec.wells, pixel_size=not spec.metaseries)
    folders = [root]
    if spec.layout == "exported":
        folders += [root / f"TimePoint_{t + 1}" for t in range(spec.timepoints)]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        (folder / f"{stage.name}.HTD").write_bytes(text)


def _addresses(spec: PlateSpec, well: str) -> Iterator[Address]:
    """All files of a well; the exported layout copies single planes into every step."""
    steps = max(spec.planes)
    for fld in range(spec.fields):
        for timepoint in range(spec.timepoints):
            for channel, planes in enumerate(spec.planes):
                here = Address(well, fld, timepoint, channel, 0)
                yield from (here._replace(z=z) for z in range(planes))
                if spec.layout == "exported" and planes == 1:
                    yield from (here._replace(copied_to=step) for step in range(1, steps))
                if channel in spec.projected and spec.layout != "flat":
                    yield here._replace(z=None)


def _write_plane(root: Path, spec: PlateSpec, stage: Stage, at: Address, plane: Plane) -> None:
    path = root / file_path(stage, at)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_tiff(path, plane, metaseries_xml(stage, at) if spec.metaseries else None, spec)
    if spec.layout == "database":
        rows, columns = (np.linspace(0, spec.size - 1, n).astype(int) for n in (64, 80))
        thumb = root / file_path(stage, at, thumb=True)
        _write_tiff(thumb, plane[np.ix_(rows, columns)], None, spec)


def _write_tiff(path: Path, plane: NDArray[Any], description: str | None, spec: PlateSpec) -> None:
    per_cm = 1e4 / spec.pixel_size_um
    tifffile.imwrite(
        path,
        plane,
        photometric="minisblack",
        description=description,
        software="MetaSeries" if description else None,
        metadata=None,
        resolution=None if description else (per_cm, per_cm),
        resolutionunit=None if description else "CENTIMETER",
    )


def _plant(root: Path, spec: PlateSpec, stage: Stage, well: str) -> str | None:
    """Make something wrong with a well; return the file if it is one."""
    kind = spec.faults[well]
    last = Address(well, spec.fields - 1, 0, 0, spec.planes[0] // 2)
    file = file_path(stage, last)
    path = root / file
    match kind:
        case "missing field" | "missing channel":
            axis, value = ("field", spec.fields - 1)
            if kind == "missing channel":
                axis, value = ("channel", spec.channels - 1)
            for at in _addresses(spec, well):
                if getattr(at, axis) == value:
                    (root / file_path(stage, at)).unlink()
            return None
        case "missing well":
            return None
        case "missing plane":
            path.unlink()
        case "truncated TIFF":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "duplicate plane":
            shutil.copyfile(path, path.with_name(f"copy_{path.name}"))
        case "not a TIFF":
            path.write_text("This is no image.\n", encoding="utf-8")
        case _:
            pixels = tifffile.imread(path)
            odd = pixels[::2] if kind == "odd shape" else pixels.astype(np.uint8)
            _write_tiff(path, odd, None, spec)
    return file
