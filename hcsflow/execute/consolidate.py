"""One table per name for the whole plate, joined from the wells' own tables in the stores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute  # columns load it when they are cast: not at the run's very end
import pyarrow.csv
import pyarrow.parquet as pq

from hcsflow.config import Backend
from hcsflow.graph.commit import unit_folder
from hcsflow.ngff.layout import images_of
from hcsflow.plan import Plan, TableWrite, WritePlan
from hcsflow.storage.tables import FILE_NAME

__all__ = ["FIRST_COLUMNS", "consolidate_tables"]

FIRST_COLUMNS = ("plate", "well", "field", "channel", "z", "t", "step")
"""Where a row comes from; these stand first, as far as a table has them."""

GROUP_ROWS = 1 << 16


def consolidate_tables(
    plan: Plan, output: Path, write: WritePlan, wells: Sequence[str]
) -> list[str]:
    """Write ``results/<name>.parquet`` and ``.csv`` of an output's tables.

    Parameters
    ----------
    plan : Plan
        What was run.
    output : Path
        The output folder.
    write : WritePlan
        The output whose tables are joined.
    wells : sequence of str
        Whole wells, in the order in which their rows shall stand.

    Returns
    -------
    list of str
        Names of the tables written. One without any well is removed.

    Notes
    -----
    Well by well, so memory does not depend on the plate; the same rows give the same bytes. Both
    files appear whole or not at all.
    """
    names = []
    for table in write.tables:
        found = [
            (well, path)
            for well in wells
            for path in _table_files(plan, output, write, well, table)
            if path.is_file()
        ]
        target = output / "results" / table.name
        if found:
            _join(plan, [path for _, path in found], [well for well, _ in found], target)
            names.append(table.name)
        else:
            for suffix in (".parquet", ".csv"):
                target.with_name(target.name + suffix).unlink(missing_ok=True)
    return names


def _table_files(
    plan: Plan, output: Path, write: WritePlan, well: str, table: TableWrite
) -> Iterator[Path]:
    """Yield the files that hold a well's rows, one for each image, in the order of fields."""
    folder = output / unit_folder(plan, write, well)
    if write.backend == Backend.DISK.value:
        yield folder / "tables" / f"{table.name}.parquet"
        return
    for image in images_of(write.image):
        yield folder / image.path / "tables" / table.name / FILE_NAME


def _join(plan: Plan, files: Sequence[Path], wells: Sequence[str], target: Path) -> None:
    schema = _common_schema([pq.read_schema(path) for path in files])
    flat = pa.schema([pa.field(f.name, _flat_type(f.type)) for f in schema])
    with ExitStack() as stack:
        parquet_file = stack.enter_context(_draft(target, ".parquet"))
        csv_file = stack.enter_context(_draft(target, ".csv"))
        writer = stack.enter_context(pq.ParquetWriter(parquet_file, schema, compression="zstd"))
        text = stack.enter_context(pyarrow.csv.CSVWriter(csv_file, flat, write_options=_CSV))
        for part in _batches(plan, files, wells, schema):
            writer.write_table(part)
            text.write_table(_flattened(part, flat))


_CSV = pyarrow.csv.WriteOptions(quoting_style="needed")


def _batches(
    plan: Plan, files: Sequence[Path], wells: Sequence[str], schema: pa.Schema
) -> Iterator[pa.Table]:
    """Yield the wells' rows, some wells at a time, so that row groups have a useful size."""
    held: list[pa.Table] = []
    for path, well in zip(files, wells, strict=True):
        with pq.ParquetFile(path) as file:  # `pq.read_table` would load pandas for it
            rows = file.read()
        held.append(_conform(rows, schema, {"plate": plan.plate.name, "well": well}))
        if sum(part.num_rows for part in held) >= GROUP_ROWS:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return all columns of all wells: where types differ the wider one, text as a last resort."""
    kinds: dict[str, list[pa.DataType]] = {"plate": [pa.string()], "well": [pa.string()]}
    for schema in schemas:
        for item in schema:
            kinds.setdefault(item.name, []).append(_plain_type(item.type))
    first = [name for name in FIRST_COLUMNS if name in kinds]
    names = [*first, *(name for name in kinds if name not in FIRST_COLUMNS)]
    return pa.schema([pa.field(name, _widest(kinds[name])) for name in names])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _widest(kinds: Sequence[pa.DataType]) -> pa.DataType:
    parts = [pa.schema([pa.field("x", kind)]) for kind in dict.fromkeys(kinds)]
    try:
        return pa.unify_schemas(parts, promote_options="permissive").field("x").type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.string()


def _conform(table: pa.Table, schema: pa.Schema, known: dict[str, str]) -> pa.Table:
    rows = table.num_rows
    columns = []
    for item in schema:
        if item.name in table.column_names:
            columns.append(table.column(item.name).cast(item.type))
        elif item.name in known:
            columns.append(pa.chunked_array([pa.repeat(known[item.name], rows)]))
        else:
            columns.append(pa.chunked_array([pa.nulls(rows, item.type)]))
    return pa.Table.from_arrays(columns, schema=schema)


def _flat_type(kind: pa.DataType) -> pa.DataType:
    """Return what a column is in CSV, which knows no lists."""
    return pa.string() if pa.types.is_nested(kind) else kind


def _flattened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns: list[Any] = []
    for item in schema:
        column = table.column(item.name)
        if pa.types.is_nested(column.type):
            column = pa.chunked_array(
                [pa.array([_text(v) for v in column.to_pylist()], pa.string())]
            )
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


@contextmanager
def _draft(target: Path, suffix: str) -> Iterator[str]:
    """Give a temporary file's path and rename it at the end, unless something went wrong."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}{suffix}.{os.getpid()}.tmp")
    try:
        yield str(draft)
        draft.replace(target.with_name(target.name + suffix))
    finally:
        draft.unlink(missing_ok=True)
