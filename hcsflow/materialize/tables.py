"""Anything that looks like rows or columns, as a data frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hcsflow.errors import ContractError

if TYPE_CHECKING:
    from hcsflow.materialize.rows import Rows

__all__ = ["as_table", "join_frames"]


def as_table(data: Any) -> pd.DataFrame:
    """Return ``data`` as a data frame with a plain row index.

    Parameters
    ----------
    data : DataFrame, mapping, structured array, dataclass, or list of mappings or dataclasses
        A mapping whose values are all scalars is one row; otherwise its values are columns and
        scalars among them are repeated.

    Returns
    -------
    DataFrame
        A view or copy with string column names, an index that has a name as first column; the
        input is not changed.

    Raises
    ------
    ContractError
        If ``data`` is none of these, or its columns differ in length.

    Examples
    --------
    >>> as_table({"count": 3, "area_um2": 12.5}).to_dict("records")
    [{'count': 3, 'area_um2': 12.5}]
    """
    frame = _frame(data).rename(columns=str)
    kept = [name for name in frame.index.names if name is not None]
    doubled = [str(name) for name in kept if str(name) in frame.columns]
    if doubled:
        raise ContractError(f"a table has an index and a column named {doubled[0]!r}")
    left = [place for place, name in enumerate(frame.index.names) if name is None]
    frame = frame.reset_index(level=left, drop=True).reset_index(kept).rename(columns=str)
    if not frame.columns.is_unique:
        repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
        raise ContractError(f"a table's columns must differ in name, got {repeated} twice")
    return frame


def join_frames(parts: Sequence[Rows]) -> pa.Table:
    """Return the rows of all parts; where a column's types differ, pandas' common one."""
    frames = [pd.DataFrame(part.columns, index=range(part.count)) for part in parts]
    table = pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False)
    # pandas 3 makes large strings; a column's type shall not depend on what made it
    plain = {pa.large_string(): pa.string()}
    kinds = [field.with_type(plain.get(field.type, field.type)) for field in table.schema]
    return table.cast(pa.schema(kinds, table.schema.metadata))


def _frame(data: Any) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        return data
    if _is_record(data):
        return pd.DataFrame([_row(data)])
    if isinstance(data, Mapping):
        return _columns(data)
    if isinstance(data, np.ndarray) and data.dtype.names and data.ndim == 1:
        return pd.DataFrame({name: data[name] for name in data.dtype.names})
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _rows(data)
    raise ContractError(
        f"cannot make a table of {type(data).__name__}",
        hint="return a DataFrame, a dict of columns, or a list of dicts or dataclasses",
    )


def _is_record(item: Any) -> bool:
    return is_dataclass(item) and not isinstance(item, type)


def _row(item: Any) -> dict[Any, Any]:
    if _is_record(item):
        return {f.name: getattr(item, f.name) for f in fields(item)}
    return dict(item)


def _rows(items: Sequence[Any]) -> pd.DataFrame:
    for number, item in enumerate(items):
        if not (_is_record(item) or isinstance(item, Mapping)):
            raise ContractError(
                f"row {number} of a table is {type(item).__name__}, expected dict or dataclass"
            )
    return pd.DataFrame([_row(item) for item in items])


def _columns(data: Mapping[Any, Any]) -> pd.DataFrame:
    sizes = {name: _length(name, column) for name, column in data.items()}
    found = {size for size in sizes.values() if size is not None}
    if not found:
        return pd.DataFrame([dict(data)]) if data else pd.DataFrame()
    if len(found) > 1:
        listed = ", ".join(f"{name}: {size}" for name, size in sizes.items() if size is not None)
        raise ContractError(f"a table's columns must be equally long, got {listed}")
    return pd.DataFrame(dict(data), index=range(found.pop()))


def _length(name: Any, column: Any) -> int | None:
    """Return a column's length, None for a scalar."""
    if isinstance(column, (str, bytes)) or np.ndim(column) == 0:
        return None
    if np.ndim(column) != 1:
        raise ContractError(f"column {name!r} must be one-dimensional, got {np.shape(column)}")
    return len(column)
