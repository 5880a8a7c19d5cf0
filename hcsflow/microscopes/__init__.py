"""Vendor folder → (Plate, Manifest). Locates, never decodes.

A microscope is a module with ``LOOKS_FOR`` (what its plates hold, in words), ``is_plate_file``
(whether a file name is one of its own), ``open_plate`` and ``read_stage_positions``. Where each
plane's file tells where its field lay, it has ``stage_position`` too (see `position_teller`), so
that a run opens no file a second time for that. Others join by an entry point of the group
``hcsflow.microscopes``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from importlib.metadata import entry_points
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Protocol, TypeAlias, cast

from hcsflow.errors import PlateError, PlateNotFoundError, UsageError, nearest
from hcsflow.plate import Manifest, Plate

__all__ = [
    "ENTRY_POINT_GROUP",
    "MICROSCOPES",
    "Microscope",
    "Position",
    "PositionTeller",
    "checked_pixel_size",
    "open_plate",
    "plate_folder",
    "position_teller",
    "read_stage_positions",
]

Position: TypeAlias = tuple[float, float] | None
"""(y, x) of a field's centre in µm, y growing downward; None where unknown."""

ENTRY_POINT_GROUP = "hcsflow.microscopes"

MICROSCOPES = {"imagexpress": "hcsflow.microscopes.imagexpress"}
"""Name → module, imported when asked for."""

MAX_PIXEL_UM = 1e6
MAX_LOOKS = 20_000
MAX_DEPTH = 6
_IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".czi", ".nd2", ".lif")


class Microscope(Protocol):
    """What a microscope's module offers."""

    LOOKS_FOR: str

    def is_plate_file(self, name: str) -> bool:
        """Say whether a file name is one that only this microscope's plates hold."""
        ...

    def open_plate(
        self, root: Path, *, acquisition: str | None, pixel_size_um: float | None
    ) -> tuple[Plate, Manifest]:
        """Open a plate."""
        ...

    def read_stage_positions(
        self, plate: Plate, manifest: Manifest, well: int
    ) -> list[tuple[float, float] | None]:
        """Return (y, x) in µm of each field's centre."""
        ...


class PositionTeller(Protocol):
    """Finds a field's stage position in a plane's description."""

    def __call__(self, description: str, *, file: str) -> Position:
        """Return (y, x) in µm; None where the description does not tell."""
        ...


def open_plate(
    path: str | Path,
    *,
    microscope: str | None = None,
    acquisition: str | None = None,
    pixel_size_um: float | None = None,
) -> tuple[Plate, Manifest]:
    """Open a plate's folder; its microscope is recognised by its file names.

    Parameters
    ----------
    path : str or Path
        The plate's folder (or an HTD file in it). Never written to.
    microscope : str, optional
        A name in `MICROSCOPES` or an entry point, instead of recognising it.
    acquisition : str, optional
        Needed if the folder holds several.
    pixel_size_um : float, optional
        Overrides what the files say.

    Returns
    -------
    (Plate, Manifest)
        What the plate is, and where each plane lies.

    Raises
    ------
    PlateNotFoundError
        If there is no such folder.
    PlateError
        If it holds no plate that is known, or one that cannot be understood.
    PlanRefusedError
        If channels or fields differ in size or pixel type.
    UsageError
        If there is no such microscope, or the pixel size is no number above 0.
    """
    pixel_size_um = checked_pixel_size(pixel_size_um)
    root = plate_folder(Path(path))
    reader = _load(microscope) if microscope else _recognise(root)
    return reader.open_plate(root, acquisition=acquisition, pixel_size_um=pixel_size_um)


def checked_pixel_size(um: object) -> float | None:
    """Return a pixel size as a plain float, from a number of any library; None is left as it is.

    Parameters
    ----------
    um : number, optional
        In µm: a float, int, ``Fraction``, ``Decimal`` or a scalar of numpy.

    Raises
    ------
    UsageError
        If it is no number above 0 and below 10⁶.

    Examples
    --------
    >>> from fractions import Fraction
    >>> checked_pixel_size(Fraction(1, 2))
    0.5
    """
    if um is None:
        return None
    is_number = isinstance(um, (Real, Decimal)) and not isinstance(um, bool)
    try:
        size = float(um) if is_number else math.nan  # type: ignore[arg-type]
    except (OverflowError, ValueError):  # a fraction beyond all floats, a signalling NaN
        size = math.nan
    if not 0 < size < MAX_PIXEL_UM:
        raise UsageError(f"expected a pixel size in µm above 0, got {um!r}")
    return size


def read_stage_positions(
    plate: Plate, manifest: Manifest, well: int
) -> list[tuple[float, float] | None]:
    """Return the stage position of each field of one well.

    Parameters
    ----------
    plate, manifest : Plate, Manifest
        As `open_plate` returned them.
    well : int
        Dense index of the well.

    Returns
    -------
    list of (y, x) or None
        By dense field: the field's centre in µm, y growing downward; None where unknown.
    """
    return _load(plate.microscope).read_stage_positions(plate, manifest, well)


def position_teller(plate: Plate) -> PositionTeller | None:
    """Return what finds a field's stage position in what a plane's file says about itself.

    Parameters
    ----------
    plate : Plate
        As `open_plate` returned it.

    Returns
    -------
    callable or None
        Its microscope's ``stage_position(description, *, file)``, which takes a TIFF's
        ImageDescription and returns what `read_stage_positions` does for the field of that plane,
        the first one of the field. None where the microscope's files do not tell.
    """
    teller: PositionTeller | None = getattr(_load(plate.microscope), "stage_position", None)
    return teller


def plate_folder(path: Path) -> Path:
    """Return the plate's folder, resolved, from its own path or that of an HTD file in it.

    Raises
    ------
    PlateNotFoundError
        If there is nothing.
    PlateError
        If it is another file.
    """
    folder = path.expanduser().resolve()
    if folder.suffix.lower() == ".htd" and folder.is_file():
        folder = folder.parent
    if folder.is_dir():
        return folder
    if folder.exists():
        raise PlateError(f"{path} is a file", hint="give the plate's folder")
    siblings = [p.name for p in folder.parent.glob("*")] if folder.parent.is_dir() else []
    close = nearest(folder.name, siblings)
    hint = f"did you mean {path.parent / close}?" if close else "check the path"
    raise PlateNotFoundError(f"there is no folder {path}", hint=hint)


def _load(name: str) -> Microscope:
    """Import a microscope's module by name."""
    if name in MICROSCOPES:
        return cast("Microscope", import_module(MICROSCOPES[name]))
    added = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in added:
        known = sorted({*MICROSCOPES, *added})
        close = nearest(name, known)
        hint = f"did you mean {close!r}?" if close else f"there are: {', '.join(known)}"
        raise UsageError(f"there is no microscope {name!r}", hint=hint)
    return cast("Microscope", added[name].load())


def _all_microscopes() -> Iterator[Microscope]:
    """Those built in, then those of entry points.

    Raises
    ------
    UsageError
        If an entry point takes the name of a microscope that is built in.
    """
    yield from map(_load, MICROSCOPES)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in MICROSCOPES:
            raise UsageError(
                f"the name {point.name!r} in the entry points {ENTRY_POINT_GROUP!r} is taken",
                hint=f"{point.value} must be registered under another name",
            )
        yield _load(point.name)


def _recognise(root: Path) -> Microscope:
    """Return the first microscope that knows one of the folder's files."""
    looked_for = []
    for reader in _all_microscopes():
        if any(map(reader.is_plate_file, _file_names(root))):
            return reader
        looked_for.append(reader.LOOKS_FOR)
    raise _unknown_layout(root, "; ".join(looked_for))


def _unknown_layout(root: Path, looked_for: str) -> PlateError:
    """Say what was looked for, and what there is instead, likely images first."""
    names = list(islice(_file_names(root), 1000))
    names.sort(key=lambda name: (not name.lower().endswith(_IMAGE_SUFFIXES), name))
    found = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    if not names:
        return PlateError(
            f"{root} holds no files. Looked for {looked_for}",
            hint="give the folder that holds the images",
        )
    return PlateError(
        f"{root} is no plate of a layout that is known. Looked for {looked_for}. Found {found}",
        hint="give the plate's own folder, or rename the files to one of these forms",
    )


def _file_names(root: Path) -> Iterator[str]:
    """Names of the folder's files, each folder's own before those below; hidden ones not."""
    return islice(_walk(str(root), MAX_DEPTH), MAX_LOOKS)


def _walk(folder: str, depth: int) -> Iterator[str]:
    below = []
    try:
        with os.scandir(folder) as items:
            for item in items:
                if item.name.startswith((".", "@")) or item.name.endswith(".zarr"):
                    continue
                if item.is_dir(follow_symlinks=False):
                    below.append(item.path)
                else:
                    yield item.name
    except OSError as error:
        raise PlateError(
            f"cannot read the folder {folder}: {error.strerror}",
            hint="check its permissions, and that the share is mounted",
        ) from error
    for path in sorted(below) if depth > 0 else []:
        yield from _walk(path, depth - 1)
