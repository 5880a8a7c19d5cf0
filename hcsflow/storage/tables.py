"""Tables beside an image, after ngio's conventions: ROIs, features of labels, anything else.

A table is a group ``<image>/tables/<name>`` with its kind in the attributes and one Parquet file.
NGFF knows no tables: readers that do not know ngio's convention leave them alone.
(https://biovisioncenter.github.io/ngio/stable/table_specs/overview)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hcsflow.errors import ContractError
from hcsflow.ngff.layout import ImageLayout
from hcsflow.ngff.metadata import VERSION, Version, table_attributes, tables_attributes
from hcsflow.storage.documents import write_group_documents
from hcsflow.storage.objects import StoredObject, checksum_of
from hcsflow.storage.zarr_nodes import node_of

__all__ = ["FILE_NAME", "roi_tables", "write_table"]

FILE_NAME = "table.parquet"
"""The file that ngio's parquet backend opens."""


def write_table(
    image_root: Path,
    name: str,
    frame: pd.DataFrame,
    *,
    kind: Literal["feature_table", "roi_table"] = "feature_table",
    labels: str | None = None,
    version: Version = VERSION,
) -> tuple[StoredObject, ...]:
    """Write a table beside an image, and list it.

    Parameters
    ----------
    image_root : Path
        The image's folder, ``<well>/0``.
    name : str
        Name of the table.
    frame : DataFrame
        Its rows; the index is left out. ROI tables have a column FieldIndex; tables tied to
        labels have one named label.
    kind : "feature_table" or "roi_table"
        A feature table without ``labels`` is stored as ngio's generic table.
    labels : str or None
        Label image whose values the column label holds.
    version : "0.4" or "0.5"
        Of NGFF: that of the image.

    Returns
    -------
    tuple of StoredObject
        The table's file, its documents, and the list of tables as it is now; paths relative to
        the well's folder. The list is written again by the next table: its last record holds.

    Raises
    ------
    ContractError
        If the column that ties rows to labels or ROIs is absent or repeats a value.
    OSError
        If it cannot be written.
    """
    if kind == "feature_table" and labels is None:
        attributes = table_attributes("generic_table")
    else:
        attributes = table_attributes(kind, labels=labels)
        _check_index(name, frame, attributes["index_key"])
    root, group = image_root.parent, f"{image_root.name}/tables"
    file = _write_parquet(root, f"{group}/{name}/{FILE_NAME}", frame)
    documents = write_group_documents(root, f"{group}/{name}", attributes, version)
    names = [*(n for n in _listed(image_root) if n != name), name]
    listed = write_group_documents(root, group, tables_attributes(names), version)
    return file, *documents, *listed


def _check_index(name: str, frame: pd.DataFrame, key: str) -> None:
    if key not in frame.columns:
        raise ContractError(
            f"table {name!r} has no column {key!r}, only {list(map(str, frame.columns))}",
            hint=f"add {key!r}, or leave the table untied",
        )
    repeated = frame.loc[frame[key].duplicated(), key]
    if len(repeated):
        raise ContractError(
            f"table {name!r}: {key} {repeated.iloc[0]} occurs more than once",
            hint="one row for each",
        )


def _listed(image_root: Path) -> list[str]:
    group = node_of(image_root / "tables")
    return [] if group is None else list(group.attributes["tables"])


def _write_parquet(root: Path, path: str, frame: pd.DataFrame) -> StoredObject:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    sink = pa.BufferOutputStream()
    # without pandas' own metadata, which carries its version
    pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return StoredObject(path, len(data), checksum_of(data))


def roi_tables(
    layout: ImageLayout,
    field_labels: Sequence[str],
    stage_positions: Sequence[tuple[float, float] | None],
) -> Mapping[str, pd.DataFrame]:
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
    mapping of str to DataFrame
        ``FOV_ROI_table`` with a row per field (FieldIndex ``FOV_<label>``) and
        ``well_ROI_table`` with one. ``x_micrometer``, ``y_micrometer`` and ``len_`` are the
        field's true extent in the image, without a tile's padding; ``_original`` are the stage
        positions as the instrument states them, NaN where it does not. Where the pixel size is
        unknown, a micrometer is a pixel.
    """
    array = layout.levels[0]
    z_um = array.scale[-3] if "z" in array.axes else 1.0
    pixel_um = array.scale[-1]
    depth = {"z_micrometer": 0.0, "len_z_micrometer": layout.z * z_um}
    fields = [
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
    well = {
        "FieldIndex": "well_1",
        "x_micrometer": 0.0,
        "y_micrometer": 0.0,
        "len_x_micrometer": array.shape[-1] * pixel_um,
        "len_y_micrometer": array.shape[-2] * pixel_um,
        **depth,
    }
    return {"FOV_ROI_table": pd.DataFrame(fields), "well_ROI_table": pd.DataFrame([well])}


def _original(position: tuple[float, float] | None) -> dict[str, float]:
    y, x = position or (float("nan"), float("nan"))
    return {"x_micrometer_original": x, "y_micrometer_original": y}
