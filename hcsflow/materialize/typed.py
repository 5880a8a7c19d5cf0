"""Materializers with a type: the compiler knows what they write, and where.

Each is also callable in the function form, ``(data, path, filemanager, backend) -> path``, for
use outside a plan. ``path`` may end in ``.pkl`` or any other suffix; the right one replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np

from hcsflow.errors import ContractError
from hcsflow.storage.lazy import load_object

__all__ = ["Json", "Labels", "Positions", "Rois", "Table"]

_AS_TABLE = "hcsflow.materialize.tables:as_table"  # pandas: not loaded to declare a table


def _with_suffix(path: object, suffix: str) -> str:
    return str(PurePosixPath(str(path)).with_suffix(suffix))


def _save(data: Any, path: str, filemanager: Any, backend: object) -> str:
    filemanager.ensure_directory(str(PurePosixPath(path).parent), backend)
    filemanager.save(data, path, backend)
    return path


@dataclass(frozen=True, slots=True)
class Table:
    """One row per measured object; becomes a table of the plate and ``results/<name>``.

    Parameters
    ----------
    name : str or None
        Name of the table; None takes the special output's.
    labels : str or None
        Name of the label image whose ids the ``label`` column holds.

    Examples
    --------
    >>> Table("nuclei", labels="nuclei").kind
    'table'
    """

    name: str | None = None
    labels: str | None = None

    kind: ClassVar[Literal["table"]] = "table"

    def __call__(self, data: Any, path: str, filemanager: Any, backend: object) -> str:
        """Write ``data`` (see `as_table`) as CSV and return the file's path."""
        frame = load_object(_AS_TABLE)(data)
        return _save(frame, _with_suffix(path, ".csv"), filemanager, backend)


@dataclass(frozen=True, slots=True)
class Labels:
    """An integer image of objects; becomes an NGFF label of the well's image.

    Parameters
    ----------
    name : str or None
        Name of the label; None takes the special output's.
    """

    name: str | None = None

    kind: ClassVar[Literal["labels"]] = "labels"

    def __call__(self, data: Any, path: str, filemanager: Any, backend: object) -> str:
        """Write ``data``, (..., y, x) integers, as a uint32 TIFF and return the file's path.

        Raises
        ------
        ContractError
            If ``data`` is not an integer array with ids from 0 to 2^32 - 1.
        """
        ids = np.asarray(data)
        if ids.dtype.kind not in "ui":
            raise ContractError(f"labels must be integers, got {ids.dtype} {ids.shape}")
        if ids.size and (ids.min() < 0 or ids.max() > np.iinfo(np.uint32).max):
            raise ContractError(f"label ids must fit uint32, got {ids.min()} to {ids.max()}")
        target = _with_suffix(path, ".tif")
        return _save(ids.astype(np.uint32), target, filemanager, backend)


@dataclass(frozen=True, slots=True)
class Positions:
    """Points in the plane, such as stitched tile positions: a CSV with ``y_um`` and ``x_um``.

    Parameters
    ----------
    name : str or None
        Name of the folder; None takes the special output's.
    """

    name: str | None = None

    kind: ClassVar[Literal["function"]] = "function"

    def __call__(self, data: Any, path: str, filemanager: Any, backend: object) -> str:
        """Write ``data``, (n, 2) positions (y, x) in µm, as CSV and return the file's path.

        Raises
        ------
        ContractError
            If ``data`` is not a list of (y, x) pairs.
        """
        points = np.asarray(data, dtype=np.float64).reshape(len(data), -1)
        if len(points) and points.shape[1] != 2:
            raise ContractError(f"positions must be (n, 2) as (y, x), got {points.shape}")
        points = points.reshape(-1, 2)
        columns = {"index": np.arange(len(points)), "y_um": points[:, 0], "x_um": points[:, 1]}
        frame = load_object(_AS_TABLE)(columns)
        return _save(frame, _with_suffix(path, ".csv"), filemanager, backend)


@dataclass(frozen=True, slots=True)
class Rois:
    """Regions of interest as vertices: GeoJSON polygons in pixels, read by QuPath.

    Parameters
    ----------
    name : str or None
        Name of the folder; None takes the special output's.
    """

    name: str | None = None

    kind: ClassVar[Literal["function"]] = "function"

    def __call__(self, data: Any, path: str, filemanager: Any, backend: object) -> str:
        """Write ``data``, (k, 2) vertices (y, x) per region, and return the file's path.

        ``data`` is a list of polygons or a mapping of name to polygon. Rings are closed and
        written as (x, y), as RFC 7946 wants.

        Raises
        ------
        ContractError
            If a polygon is not (k, 2) with three vertices or more.
        """
        named = data.items() if isinstance(data, dict) else enumerate(data, start=1)
        features = [_feature(str(name), polygon) for name, polygon in named]
        document = {"type": "FeatureCollection", "features": features}
        return _save(document, _with_suffix(path, ".json"), filemanager, backend)


def _feature(name: str, polygon: Any) -> dict[str, Any]:
    vertices = np.asarray(polygon, dtype=np.float64)
    if vertices.ndim != 2 or vertices.shape[1] != 2 or len(vertices) < 3:
        raise ContractError(f"region {name!r} must be (k >= 3, 2) as (y, x), got {vertices.shape}")
    if not np.array_equal(vertices[0], vertices[-1]):
        vertices = np.vstack([vertices, vertices[:1]])
    ring = vertices[:, ::-1].tolist()
    return {
        "type": "Feature",
        "properties": {"name": name},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


@dataclass(frozen=True, slots=True)
class Json:
    """Any small value as JSON: numbers, text, lists, mappings, dataclasses, numpy scalars.

    Parameters
    ----------
    name : str or None
        Name of the folder; None takes the special output's.
    """

    name: str | None = None

    kind: ClassVar[Literal["function"]] = "function"

    def __call__(self, data: Any, path: str, filemanager: Any, backend: object) -> str:
        """Write ``data`` as JSON and return the file's path."""
        return _save(data, _with_suffix(path, ".json"), filemanager, backend)
