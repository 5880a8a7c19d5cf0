"""An opened plate as a user holds it: wells, lazy arrays, the plate map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hcsflow.errors import MissingPlaneError, PlaneError, UsageError, nearest
from hcsflow.microscopes import read_stage_positions
from hcsflow.microscopes.index_cache import open_plate_again
from hcsflow.plate.names import canonical_well
from hcsflow.session.inspection import describe_values, inspect_values, plane_name
from hcsflow.storage.tiff import read_plane

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from hcsflow.plate import Channel, Manifest
    from hcsflow.plate import Plate as PlateModel

__all__ = ["Plate", "Well", "describe", "inspect_json", "open_plate"]

DIMS = ("field", "t", "c", "z", "y", "x")


def open_plate(
    path: str | Path,
    *,
    microscope: str | None = None,
    acquisition: str | None = None,
    pixel_size_um: float | None = None,
) -> Plate:
    """Open a plate's folder. Reads names and a handful of headers, never writes into it.

    What it found is kept in the user's cache folder, and taken from there while every folder of
    the plate by its times and names, and every file by its size and time, is as it was.

    Parameters
    ----------
    path : str or Path
        The plate's folder.
    microscope : str, optional
        ``"imagexpress"`` …; recognised by the file names unless given.
    acquisition : str, optional
        Needed if the folder holds several.
    pixel_size_um : float, optional
        Overrides what the files say.

    Raises
    ------
    PlateNotFoundError, PlateError
        If there is no plate, or none that can be understood.
    PlanRefusedError
        If channels or fields differ in size or pixel type.
    UsageError
        If there is no such microscope, or the pixel size is no number above 0.
    """
    model, manifest = open_plate_again(
        path, microscope=microscope, acquisition=acquisition, pixel_size_um=pixel_size_um
    )
    return Plate(model, manifest)


@dataclass(frozen=True, slots=True, repr=False)
class Plate:
    """A plate of one acquisition. Index it by well name; iterate over the names.

    Parameters
    ----------
    model : hcsflow.plate.Plate
        Labels and geometry.
    manifest : Manifest
        Which plane lies where.
    """

    model: PlateModel
    manifest: Manifest

    @property
    def path(self) -> Path:
        """The plate's folder."""
        return Path(self.manifest.root)

    @property
    def wells(self) -> tuple[str, ...]:
        """Names of the wells that hold planes."""
        return self.model.wells

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels by dense index."""
        return self.model.channels

    def __len__(self) -> int:
        return len(self.wells)

    def __iter__(self) -> Iterator[str]:
        return iter(self.wells)

    def __contains__(self, well: object) -> bool:
        return well in self.wells

    def __getitem__(self, well: str) -> Well:
        """Return a well by name, padded or not.

        Raises
        ------
        PlateError
            If it is no well name.
        UsageError
            If the plate has no planes of that well.
        """
        name = canonical_well(well)
        if name not in self.wells:
            close = nearest(name, self.wells)
            is_promised = name in self.manifest.missing_wells
            why = "was promised but has no image" if is_promised else "was not acquired"
            raise UsageError(f"well {name} {why}", hint=close and f"did you mean {close}?")
        return Well(self, name)

    def __repr__(self) -> str:
        return describe(self)

    def _repr_html_(self) -> str:
        from hcsflow.view.platemap import plate_map_html

        return plate_map_html(self.model, self.manifest)


@dataclass(frozen=True, slots=True, repr=False)
class Well:
    """One well of a plate."""

    plate: Plate
    name: str

    @property
    def index(self) -> int:
        """Dense index of the well."""
        return self.plate.wells.index(self.name)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the planes that are expected and not there."""
        keys = self.plate.manifest.missing_of(self.index)
        return tuple(plane_name(self.plate.model, key) for key in keys)

    def __repr__(self) -> str:
        planes = len(self.plate.manifest.rows_of(self.index))
        lacking = f", {len(self.missing)} missing" if self.missing else ""
        return f"<Well {self.name} of {self.plate.model.name}: {planes} planes{lacking}>"

    def stage_positions_um(self) -> list[tuple[float, float] | None]:
        """Return (y, x) in µm of each field's centre, y growing downward; opens a file each."""
        return read_stage_positions(self.plate.model, self.plate.manifest, self.index)

    def to_xarray(self, *, missing: Literal["error", "fill"] = "error") -> xr.DataArray:
        """Return the well's planes, read only when they are asked for.

        Parameters
        ----------
        missing : "error" or "fill"
            What computing a plane does that is expected and not there: raise, or give zeros.

        Returns
        -------
        DataArray, (field, t, c, z, y, x)
            One Dask chunk per plane. Coordinates: labels of field, t and c; z, y and x in µm
            (in planes or pixels where the size is unknown; see their ``units``). Planes that were
            never expected (uneven z) are zeros; the coordinate ``acquired`` (field, t, c, z) says
            which planes there are, and ``attrs["absent"]``, ``attrs["missing"]`` count and name
            the others. A channel with one plane has it at z index 0, whatever its real height.

        Raises
        ------
        MissingPlaneError, PlaneError
            When computed: a file is missing, damaged or of another size or type.
        """
        import dask.array as da
        import xarray as xr

        if missing not in ("error", "fill"):
            raise UsageError(f"missing must be 'error' or 'fill', got {missing!r}")
        model = self.plate.model
        files = self._files()
        source = partial(
            _load_plane,
            files=files,
            holes={} if missing == "fill" else self._holes(),
            root=str(self.plate.path),
            shape_yx=model.shape_yx,
            dtype=model.dtype,
        )
        counts = (len(model.fields), len(model.timepoints), len(model.channels), len(model.z))
        data = da.map_blocks(
            source,
            chunks=(*((1,) * count for count in counts), *((size,) for size in model.shape_yx)),
            dtype=model.dtype,
            meta=np.empty((0,) * 6, model.dtype),
        )
        acquired = np.zeros(counts, bool)
        acquired[tuple(np.array(list(files), int).reshape(-1, 4).T)] = True
        coords = {**_coordinates(model), "acquired": (DIMS[:4], acquired)}
        attrs = {
            "plate": model.name,
            "well": self.name,
            "absent": int((~acquired).sum()) - len(self.missing),
            "missing": list(self.missing),
            "pixel_size_origin": model.pixel_size.origin,
            "z_step_origin": model.z_step.origin,
        }
        return xr.DataArray(data, dims=DIMS, coords=coords, name=self.name, attrs=attrs)

    def thumbnail(self, channel: int = 0, *, size: int = 256) -> NDArray[np.uint8]:
        """Return a small grey picture of the well: its fields side by side, middle plane.

        Parameters
        ----------
        channel : int
            Dense index of the channel.
        size : int
            Longest side in pixels, at most.

        Returns
        -------
        ndarray, (y, x) uint8
            Stretched between the 0.5 and 99.8 percentiles; what cannot be read stays black.
        """
        model = self.plate.model
        heights = model.channels[channel].heights
        grid, (height, width) = model.grid, model.shape_yx
        step = max(-(-max(grid.rows * height, grid.columns * width) // size), 1)
        tile_y, tile_x = len(range(0, height, step)), len(range(0, width, step))
        picture = np.zeros((grid.rows * tile_y, grid.columns * tile_x), np.float32)
        files = self._files()
        for fld, (row, column) in enumerate(grid.cells):
            plane = self._glance(files.get((fld, 0, channel, heights[len(heights) // 2])))
            if plane is not None:
                y, x = row * tile_y, column * tile_x
                picture[y : y + tile_y, x : x + tile_x] = plane[::step, ::step]
        return _stretched(picture)

    def _glance(self, file: str | None) -> NDArray[Any] | None:
        """Read a plane if it can be read."""
        model = self.plate.model
        if file is None:
            return None
        try:
            path = self.plate.path / file
            return read_plane(path, shape_yx=model.shape_yx, dtype=model.dtype, file=file)
        except PlaneError:
            return None

    def _files(self) -> dict[tuple[int, ...], str]:
        """Map (field, t, c, z) to a file."""
        manifest = self.plate.manifest
        return {
            key[2:]: manifest.path(row) for key, row in manifest.well_planes(self.index).items()
        }

    def _holes(self) -> dict[tuple[int, ...], str]:
        """Map (field, t, c, z) of each missing plane to its name."""
        keys = self.plate.manifest.missing_of(self.index)
        return {key[2:]: plane_name(self.plate.model, key) for key in keys}


def _load_plane(
    block_id: tuple[int, ...],
    *,
    files: dict[tuple[int, ...], str],
    holes: dict[tuple[int, ...], str],
    root: str,
    **expected: Any,
) -> NDArray[Any]:
    """Read the plane of one Dask chunk; zeros where none is expected."""
    key = block_id[:4]
    if key in holes:
        raise MissingPlaneError(
            f"plane {holes[key]} is missing",
            hint='restore the file, or use to_xarray(missing="fill")',
        )
    if key not in files:
        return np.zeros((1, 1, 1, 1, *expected["shape_yx"]), expected["dtype"])
    plane = read_plane(Path(root) / files[key], file=files[key], **expected)
    return plane[None, None, None, None]


def _coordinates(model: PlateModel) -> dict[str, Any]:
    """Labels and physical coordinates of a well's array."""
    rows, columns = model.shape_yx
    return {
        "field": list(model.fields),
        "t": list(model.timepoints),
        "c": [channel.name for channel in model.channels],
        "z": _physical("z", len(model.z), model.z_step.um, "plane"),
        "y": _physical("y", rows, model.pixel_size.um, "pixel"),
        "x": _physical("x", columns, model.pixel_size.um, "pixel"),
    }


def _physical(
    dim: str, count: int, spacing_um: float | None, unit: str
) -> tuple[str, NDArray[np.float64], dict[str, str]]:
    units = unit if spacing_um is None else "micrometer"
    return dim, np.arange(count, dtype=np.float64) * (spacing_um or 1.0), {"units": units}


def _stretched(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = np.percentile(picture, (0.5, 99.8)) if picture.size else (0.0, 1.0)
    scaled = (picture - low) * (255 / max(high - low, 1.0))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def inspect_json(plate: Plate) -> dict[str, Any]:
    """Return what a plate holds as plain values, schema ``hcsflow.inspect/1``."""
    return inspect_values(plate.model, plate.manifest)


def describe(plate: Plate) -> str:
    """Say in a few lines of plain text what a plate holds."""
    return describe_values(plate.model, plate.manifest)
