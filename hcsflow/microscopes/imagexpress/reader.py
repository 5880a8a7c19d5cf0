"""Opening an ImageXpress plate: folders → (Plate, Manifest)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hcsflow.errors import PlaneError, PlateError
from hcsflow.microscopes.imagexpress.files import (
    WELL_COLUMNS,
    Acquisition,
    Images,
    scan,
)
from hcsflow.microscopes.imagexpress.geometry import (
    UNKNOWN,
    FieldPlaces,
    find_grid,
    find_pixel_size,
    find_z_step,
    unique_names,
    z_step_from_stack,
)
from hcsflow.microscopes.imagexpress.htd import Htd, read_htd
from hcsflow.microscopes.imagexpress.inspection import (
    Inspection,
    copied_waves,
    inspect,
    sample_waves,
)
from hcsflow.microscopes.imagexpress.metaseries import parse_metaseries
from hcsflow.microscopes.imagexpress.planes import (
    Axes,
    Roles,
    assign_roles,
    collapse,
    dense_keys,
    find_axes,
)
from hcsflow.microscopes.imagexpress.samples import Samples, read_sample
from hcsflow.microscopes.walk import natural_key
from hcsflow.plate import (
    Channel,
    Manifest,
    Measured,
    PlaneColumns,
    Plate,
    StoredProjection,
    WellFault,
)
from hcsflow.plate.expected import Expectation, repeated_rows
from hcsflow.plate.names import plate_labels, well_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LOOKS_FOR", "open_plate", "read_stage_positions", "stage_position"]

LOOKS_FOR = (
    "ImageXpress: an .HTD file, or TIFFs named "
    "[<plate>_]<well>[_s<site>][_w<wave>][_z<z>][_t<time>][<UUID>].tif, "
    "also below <date>/<id>, TimePoint_<n> and ZStep_<n>"
)


@dataclass(frozen=True, slots=True)
class _Source:
    """One acquisition as it was found, before and while it is understood."""

    root: Path
    acquisition: Acquisition
    acquisitions: tuple[str, ...]
    ignored: Counter[str]
    htd: Htd | None
    images: Images
    roles: Roles
    axes: Axes
    seen: Inspection


def open_plate(
    root: Path, *, acquisition: str | None = None, pixel_size_um: float | None = None
) -> tuple[Plate, Manifest]:
    """Open an ImageXpress plate.

    Parameters
    ----------
    root : Path
        The plate's folder, resolved. Never written to.
    acquisition : str, optional
        Which one to take, by its folder or the end of it; needed if there are several.
    pixel_size_um : float, optional
        Overrides what the files say.

    Raises
    ------
    PlateError
        If a folder cannot be read, no image is found, or the acquisition is not decided.
    PlanRefusedError
        If wavelengths or fields differ in size or pixel type.
    """
    source = _read_source(root, acquisition)
    plate = _plate(source, pixel_size_um)
    return plate, _manifest(source, plate)


def _read_source(root: Path, wanted: str | None) -> _Source:
    ignored: Counter[str] = Counter()
    found = scan(root, ignored)
    with_images = [a for a in found if a.names]
    if not with_images:
        raise _no_image(root, [htd for a in found for htd in a.htds], ignored)
    acquisition = _choose(root, with_images, wanted)
    htd = _read_htd(root, acquisition)
    images = acquisition.images()
    roles = assign_roles(images)
    samples = Samples(root, images)
    waves = sample_waves(images, roles, samples)
    if acquisition.has_step_folders and not acquisition.has_z_names:
        roles = collapse(images, roles, copied_waves(images, roles, waves))
        waves = sample_waves(images, roles, samples)
    ignored["copy of a single plane"] += roles.copies
    axes = find_axes(images, roles, htd)
    return _Source(
        root=root,
        acquisition=acquisition,
        acquisitions=tuple(_label(root, a) for a in with_images),
        ignored=ignored,
        htd=htd,
        images=images,
        roles=roles,
        axes=axes,
        seen=inspect(axes, roles, waves, samples),
    )


def _no_image(root: Path, htds: list[str], ignored: Counter[str]) -> PlateError:
    aside = ", ".join(f"{count} × {reason}" for reason, count in sorted(ignored.items()))
    found = f"; left aside: {aside}" if aside else ""
    if not htds:
        return PlateError(f"{root} holds no image of an ImageXpress plate{found}")
    htd = read_htd(root / htds[0], file=htds[0])
    return PlateError(
        f"{root / htds[0]} promises {len(htd.wells)} wells ({', '.join(htd.wells[:6])}), "
        f"and no image lies beside or below it{found}",
        hint="copy the TimePoint_<n> folders along with the HTD file",
    )


def _label(root: Path, acquisition: Acquisition) -> str:
    return acquisition.label or root.name


def _choose(root: Path, found: list[Acquisition], wanted: str | None) -> Acquisition:
    """Return the acquisition asked for, or the only one."""
    labels = ", ".join(_label(root, a) for a in found)
    if wanted is None:
        if len(found) == 1:
            return found[0]
        raise PlateError(
            f"{root} holds {len(found)} acquisitions: {labels}",
            hint="choose one by its name: --acquisition NAME",
        )
    matching = [a for a in found if _label(root, a) == wanted]
    matching = matching or [a for a in found if wanted in _label(root, a).split("/")]
    if len(matching) != 1:
        what = "several acquisitions match" if matching else "there is no acquisition"
        raise PlateError(f"{what} {wanted!r}", hint=f"the plate holds: {labels}")
    return matching[0]


def _read_htd(root: Path, acquisition: Acquisition) -> Htd | None:
    """Read the topmost HTD; those below are copies."""
    if not acquisition.htds:
        return None
    file = min(acquisition.htds, key=lambda path: (path.count("/"), natural_key(path)))
    return read_htd(root / file, file=file)


def _plate(source: _Source, pixel_size_um: float | None) -> Plate:
    axes, seen, htd = source.axes, source.seen, source.htd
    pixel_size = find_pixel_size(seen.samples, htd, pixel_size_um)
    rows, columns = plate_labels(axes.well_names, htd.size if htd else None)
    return Plate(
        name=_plate_name(source),
        microscope="imagexpress",
        layout=source.acquisition.layout,
        uuid=htd.uuid if htd else None,
        rows=rows,
        columns=columns,
        acquisition=_label(source.root, source.acquisition),
        acquisitions=source.acquisitions,
        wells=axes.well_names,
        fields=tuple(map(str, axes.sites)),
        timepoints=tuple(map(str, axes.timepoints)),
        channels=_channels(source),
        z=tuple(map(str, axes.z)),
        shape_yx=seen.shape_yx,
        dtype=seen.dtype,
        pixel_size=pixel_size,
        z_step=_z_step(source),
        grid=find_grid(_places(source), shape_yx=seen.shape_yx, pixel_size_um=pixel_size.um),
    )


def _plate_name(source: _Source) -> str:
    """Return the plate's name: in the database layout the file names carry it."""
    acquisition = source.acquisition
    if acquisition.layout == "database" and acquisition.plate_name:
        return acquisition.plate_name
    return (source.root / acquisition.label).name


def _z_step(source: _Source) -> Measured:
    if len(source.axes.z) < 2:
        return UNKNOWN
    return find_z_step(source.seen.samples) or z_step_from_stack(source.seen.stack)


def _places(source: _Source) -> FieldPlaces:
    htd = source.htd
    cells = dict(enumerate(htd.sites, start=1)) if htd else {}
    return FieldPlaces(
        positions=tuple(s.info.stage_yx_um if s else None for s in source.seen.fields),
        well=well_name(*divmod(source.seen.well, WELL_COLUMNS)),
        cells=tuple(cells.get(site) for site in source.axes.sites),
        htd=htd.file if htd else None,
    )


def _channels(source: _Source) -> tuple[Channel, ...]:
    labels = [f"w{wave}" for wave in source.axes.waves]
    named = [_channel_name(source, wave) for wave in source.axes.waves]
    names = unique_names(labels, [name for name, _ in named])
    channels = []
    for wave, label, name, (_, origin), heights in zip(
        source.axes.waves, labels, names, named, source.axes.heights, strict=True
    ):
        is_regular = heights == tuple(range(len(heights)))
        channel = Channel(
            label,
            name,
            len(heights),
            name_origin=origin,
            z_indices=() if is_regular else heights,
        )
        channels.append(_with_height(channel, source, wave))
    return tuple(channels)


def _channel_name(source: _Source, wave: int) -> tuple[str, str]:
    name = source.htd.waves.get(wave) if source.htd else None
    if name:
        return name, f"HTD WaveName{wave}"
    sample = source.seen.waves.get(wave)
    if sample is not None and sample.info.illumination:
        return sample.info.illumination, "MetaSeries _IllumSetting_"
    return f"w{wave}", "file name"


def _with_height(channel: Channel, source: _Source, wave: int) -> Channel:
    """Add what sets a channel with one plane apart, or a stack's stored projection."""
    sample = source.seen.waves.get(wave)
    if wave in source.roles.stacked or sample is None:
        beside = source.seen.beside.get(wave)
        return replace(channel, projection=beside.info.projection if beside else None)
    method = sample.info.projection
    is_projection = wave in source.roles.projected or method is not None
    return replace(channel, is_projection=is_projection, projection=method, z_um=sample.info.z_um)


def _manifest(source: _Source, plate: Plate) -> Manifest:
    images, axes, roles = source.images, source.axes, source.roles
    keys = dense_keys(images, roles.planes, axes)
    repeats = repeated_rows(keys)
    keep = np.ones(len(keys), bool)
    keep[[later for _, later in repeats]] = False
    rows = roles.planes[keep]
    expected = Expectation(
        wells=len(axes.wells),
        fields=len(axes.sites),
        timepoints=len(axes.timepoints),
        heights=axes.heights,
        z=len(axes.z),
    )
    columns = PlaneColumns(
        keys=keys[keep],
        folder_ids=images.folder[rows],
        folders=images.folders,
        names=[images.names[row] for row in rows.tolist()],
        nbytes=images.nbytes[rows],
        mtime_ns=images.mtime_ns[rows],
    )
    return Manifest.from_columns(
        str(source.root),
        columns,
        missing=expected.missing(keys[keep]),
        absent=expected.absent,
        missing_wells=axes.missing_wells,
        projections=_projections(source),
        ignored=tuple((why, n) for why, n in sorted(source.ignored.items()) if n),
        faults=_faults(source, plate, keys, repeats),
    )


def _projections(source: _Source) -> tuple[StoredProjection, ...]:
    """List the stored projections of wells that hold planes."""
    rows = source.roles.projections
    rows = rows[np.isin(source.images.well[rows], source.axes.wells)]
    rows = rows[np.isin(source.images.site[rows], source.axes.sites)]
    rows = rows[np.isin(source.images.timepoint[rows], source.axes.timepoints)]
    keys = dense_keys(source.images, rows, source.axes).tolist()
    return tuple(
        sorted(
            StoredProjection(well, site, timepoint, channel, source.images.path(row))
            for (well, site, timepoint, channel, _), row in zip(keys, rows.tolist(), strict=True)
        )
    )


def _faults(
    source: _Source, plate: Plate, keys: NDArray[np.int32], repeats: list[tuple[int, int]]
) -> tuple[WellFault, ...]:
    """Return a fault per well in which two files claim one plane."""
    by_well: dict[int, list[tuple[int, int]]] = {}
    for first, later in repeats:
        by_well.setdefault(int(keys[first, 0]), []).append((first, later))
    return tuple(
        _duplicate_fault(source, plate, keys[pairs[0][0]].tolist(), pairs)
        for _, pairs in sorted(by_well.items())
    )


def _duplicate_fault(
    source: _Source, plate: Plate, key: list[int], pairs: list[tuple[int, int]]
) -> WellFault:
    well, site, timepoint, channel, z = key
    one, other = (source.images.path(int(source.roles.planes[row])) for row in pairs[0])
    name = plate.wells[well]
    more = f" (and {len(pairs) - 1} more such planes)" if len(pairs) > 1 else ""
    reason = (
        f"two files claim one plane (field {plate.fields[site]}, time "
        f"{plate.timepoints[timepoint]}, {plate.channels[channel].label}, z {plate.z[z]}): "
        f"{one} and {other}{more}"
    )
    return WellFault(name, reason, other)


def read_stage_positions(
    plate: Plate, manifest: Manifest, well: int
) -> list[tuple[float, float] | None]:
    """Return the stage position of each field of a well: (y, x) of its centre in µm.

    Opens one file per field. None for a field without a readable file or without a position.
    """
    first_of: dict[int, int] = {}
    for row in manifest.rows_of(well):
        first_of.setdefault(int(manifest.keys[row, 1]), row)
    rows = [first_of.get(i) for i in range(len(plate.fields))]
    return [None if row is None else _position(manifest, row) for row in rows]


def stage_position(description: str, *, file: str) -> tuple[float, float] | None:
    """Return the stage position that a plane's description tells: (y, x) in µm.

    Raises
    ------
    PlateError
        If its XML declares a document type.
    """
    info = parse_metaseries(description, file=file)
    return None if info is None else info.stage_yx_um


def _position(manifest: Manifest, row: int) -> tuple[float, float] | None:
    try:
        return read_sample(Path(manifest.root), manifest.path(row)).info.stage_yx_um
    except PlaneError:
        return None  # the plane's own task reports it
