"""Tables beside an image, after ngio's conventions: ROIs, features of labels, anything else.

A table is a group ``<image>/tables/<name>`` with its kind in the attributes and one Parquet file.
NGFF knows no tables: readers that do not know ngio's convention leave them alone.
(https://biovisioncenter.github.io/ngio/stable/table_specs/overview)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hcsflow.errors import ContractError
from hcsflow.ngff.layout import ImageLayout
from hcsflow.ngff.metadata import (
    VERSION,
    Document,
    Version,
    table_attributes,
    tables_attributes,
)
from hcsflow.storage.documents import write_group_documents
from hcsflow.storage.objects import StoredObject, checksum_of, write_new

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FILE_NAME",
    "Regions",
    "arrow_table",
    "list_tables",
    "roi_tables",
    "write_roi_table",
    "write_table",
    "write_table_file",
]

FILE_NAME = "table.parquet"
"""The file that ngio's parquet backend opens."""

Regions = Mapping[str, tuple[str | float | None, ...]]
"""Columns of a ROI table by name; FieldIndex tells its rows apart."""


def write_table(
    image_root: Path,
    name: str,
    rows: pa.Table,
    *,
    labels: str | None = None,
    version: Version = VERSION,
) -> tuple[StoredObject, ...]:
    """Write a table of features beside an image; `list_tables` lists it.

    Parameters
    ----------
    image_root : Path
        The image's folder, ``<well>/0``.
    name : str
        Name of the table.
    rows : pyarrow.Table
        Its rows.
    labels : str or None
        Label image whose values the column label holds. Without, it is ngio's generic table.
    version : "0.4" or "0.5"
        Of NGFF: that of the image.

    Returns
    -------
    tuple of StoredObject
        The table's file and its documents; paths relative to the well's folder.

    Raises
    ------
    ContractError
        If the column that ties rows to labels is absent or repeats a value.
    OSError
        If it cannot be written.
    """
    if labels is None:
        attributes = table_attributes("generic_table")
    else:
        attributes = table_attributes("feature_table", labels=labels)
        _check_index(name, rows, attributes["index_key"])
    return _write(image_root, name, _encode(rows), attributes, version)


def write_roi_table(
    image_root: Path, name: str, regions: Regions, *, version: Version = VERSION
) -> tuple[StoredObject, ...]:
    """Write a table of regions beside an image, as `write_table` does one of features.

    Raises
    ------
    ContractError
        If two regions have the same FieldIndex.
    OSError
        If it cannot be written.
    """
    data = _encode_regions(name, tuple(regions.items()))
    return _write(image_root, name, data, table_attributes("roi_table"), version)


def _write(
    image_root: Path, name: str, data: bytes, attributes: Document, version: Version
) -> tuple[StoredObject, ...]:
    root, path = image_root.parent, f"{image_root.name}/tables/{name}"
    file = _stored(root, f"{path}/{FILE_NAME}", data)
    return file, *write_group_documents(root, path, attributes, version, is_new=True)


def list_tables(
    image_root: Path, names: Sequence[str], *, version: Version = VERSION
) -> tuple[StoredObject, ...]:
    """Write the list of an image's tables; returns its documents, as `write_table` does.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    group, attributes = f"{image_root.name}/tables", tables_attributes(names)
    return write_group_documents(image_root.parent, group, attributes, version, is_new=True)


def _check_index(name: str, rows: pa.Table, key: str) -> None:
    if key not in rows.column_names:
        raise ContractError(
            f"table {name!r} has no column {key!r}, only {rows.column_names}",
            hint=f"add {key!r}, or leave the table untied",
        )
    found = rows.column(key).to_pylist()
    if len(set(found)) < len(found):
        repeated = next(value for value, times in Counter(found).items() if times > 1)
        raise ContractError(
            f"table {name!r}: {key} {repeated} occurs more than once",
            hint="one row for each",
        )


def write_table_file(root: Path, path: str, rows: pa.Table) -> StoredObject:
    """Write a table as one Parquet file below ``root``; the same rows give the same bytes.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    return _stored(root, path, _encode(rows))


def arrow_table(columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Return columns as an Arrow table, as pandas would give it: NaN is null.

    Parameters
    ----------
    columns : mapping of str to ndarray
        One-dimensional, of one length: numbers, bool, or ``str`` with dtype object.

    Examples
    --------
    >>> rows = arrow_table({"kind": np.array(["a", "b"], object), "n": np.array([1.5, np.nan])})
    >>> rows.to_pylist()
    [{'kind': 'a', 'n': 1.5}, {'kind': 'b', 'n': None}]
    """
    return pa.Table.from_arrays([_arrow(one) for one in columns.values()], names=list(columns))


def _arrow(column: NDArray[Any]) -> pa.Array:
    """Return a column from its bytes; `pyarrow.array` would load pandas to ask if it is one."""
    count = len(column)
    if column.dtype == object:
        return _text(column.tolist()) if count else pa.nulls(0)
    held = _bits(column) if column.dtype == bool else np.ascontiguousarray(column)
    is_null = np.isnan(column) if column.dtype.kind == "f" else np.zeros(0, bool)
    valid = pa.py_buffer(_bits(~is_null)) if is_null.any() else None
    kind = pa.from_numpy_dtype(column.dtype)
    return pa.Array.from_buffers(kind, count, [valid, pa.py_buffer(held)])


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(flags, bitorder="little")


def _text(cells: Sequence[str]) -> pa.Array:
    encoded = [cell.encode() for cell in cells]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    if ends[-1] > np.iinfo(np.int32).max:
        raise ContractError(f"a column holds {ends[-1]} bytes of text", hint="at most 2 GiB")
    parts = map(pa.py_buffer, (ends.astype(np.int32), b"".join(encoded)))
    return pa.StringArray.from_buffers(len(cells), *parts)


def _stored(root: Path, path: str, data: bytes) -> StoredObject:
    write_new(root / path, data)
    return StoredObject(path, len(data), checksum_of(data))


def _encode(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    # without pandas' own metadata, which carries its version
    pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


@lru_cache(maxsize=64)
def _encode_regions(name: str, columns: tuple[tuple[str, tuple[object, ...]], ...]) -> bytes:
    """Encode regions; many wells have the same."""
    held = dict(columns)
    key = table_attributes("roi_table")["index_key"]
    if len(set(held[key])) < len(held[key]):
        raise ContractError(f"table {name!r}: a {key} occurs more than once", hint="name each once")
    kinds = {key: object}
    # None becomes NaN, and that null
    return _encode(arrow_table({k: np.array(v, kinds.get(k, np.float64)) for k, v in columns}))


def roi_tables(
    layout: ImageLayout,
    field_labels: Sequence[str],
    stage_positions: Sequence[tuple[float, float] | None],
) -> Mapping[str, Regions]:
    """Return where each field, and the well, lies in a mosaic.

    Parameters
    ----------
    layout : ImageLayout
        The well's image.
    field_labels : sequence of str
        The instrument's labels, by dense field index.
    stage_positions : sequence of ((float, float) or None)
        Stage positions (y, x) of the fields' centres in µm, by dense field index.

    Returns
    -------
    mapping of str to Regions
        ``FOV_ROI_table`` with a row per field (FieldIndex ``FOV_<label>``) and
        ``well_ROI_table`` with one. ``x_micrometer``, ``y_micrometer`` and ``len_`` are the
        field's true extent in the image, without a tile's padding; ``_original`` are the stage
        positions as the instrument states them, None where it does not. Where the pixel size is
        unknown, a micrometer is a pixel.
    """
    array = layout.levels[0]
    z_um = array.scale[-3] if "z" in array.axes else 1.0
    pixel_um = array.scale[-1]
    depth = {"z_micrometer": 0.0, "len_z_micrometer": layout.z * z_um}
    fields: list[Mapping[str, str | float | None]] = [
        {
            "FieldIndex": f"FOV_{field_labels[field]}",
            "x_micrometer": column * layout.pitch_yx[1] * pixel_um,
            "y_micrometer": row * layout.pitch_yx[0] * pixel_um,
            "len_x_micrometer": layout.field_yx[1] * pixel_um,
            "len_y_micrometer": layout.field_yx[0] * pixel_um,
            **depth,
            **_original(stage_positions[field] if field < len(stage_positions) else None),
        }
        for field, (row, column) in zip(layout.fields, layout.cells, strict=True)
    ]
    well: Mapping[str, str | float | None] = {
        "FieldIndex": "well_1",
        "x_micrometer": 0.0,
        "y_micrometer": 0.0,
        "len_x_micrometer": array.shape[-1] * pixel_um,
        "len_y_micrometer": array.shape[-2] * pixel_um,
        **depth,
    }
    return {"FOV_ROI_table": _columns(fields), "well_ROI_table": _columns([well])}


def _columns(rows: Sequence[Mapping[str, str | float | None]]) -> Regions:
    return {name: tuple(row[name] for row in rows) for name in rows[0]}


def _original(position: tuple[float, float] | None) -> dict[str, float | None]:
    y, x = position or (None, None)
    return {"x_micrometer_original": x, "y_micrometer_original": y}
