"""Rows of tables as columns of numpy; only what is not plain numbers or text goes through pandas.

Loading pandas takes a worker longer than its first wells need for all their tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.storage.lazy import load_object
from hcsflow.storage.tables import arrow_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    Column = NDArray[Any] | pd.Series[Any]

__all__ = ["Rows", "join_rows", "rows_of"]

_PLAIN_KINDS = frozenset("?bBhHiIlLqQfd")
"""Characters of dtypes that Arrow and pandas have, too."""

_PLAIN_TYPES: dict[type, type] = {
    bool: np.bool_,
    int: np.int64,
    float: np.float64,
    np.bool_: np.bool_,
    np.int64: np.int64,
    np.float64: np.float64,
    str: np.object_,
}
"""What the cells of a plain column are, all alike, and its dtype."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a table.

    Parameters
    ----------
    count : int
        How many.
    columns : mapping
        By name; each an array of numbers or of text (dtype object), or a pandas Series.
    """

    count: int
    columns: Mapping[str, Column]


def rows_of(data: Any) -> Rows:
    """Return ``data`` as rows: those of `as_table`, by way of pandas where they are not plain.

    Raises
    ------
    ContractError
        As `as_table` does.

    Examples
    --------
    >>> rows_of([{"count": 3, "kind": "a"}, {"count": 1, "kind": "b"}]).columns["count"]
    array([3, 1])
    """
    columns = _plain_columns(data)
    if columns is not None:
        return Rows(len(next(iter(columns.values()))), columns)
    frame = load_object("hcsflow.materialize.tables:as_table")(data)
    return Rows(len(frame), {name: frame[name] for name in frame.columns})


def join_rows(parts: Sequence[Rows]) -> pa.Table:
    """Return all rows of one or more parts, one after the other; types widen as pandas does it."""
    kinds = {tuple((name, column.dtype) for name, column in p.columns.items()) for p in parts}
    columns = [column for part in parts for column in part.columns.values()]
    if len(kinds) > 1 or not all(isinstance(column, np.ndarray) for column in columns):
        joined: pa.Table = load_object("hcsflow.materialize.tables:join_frames")(parts)
        return joined
    first = parts[0].columns
    return arrow_table({name: np.concatenate([p.columns[name] for p in parts]) for name in first})


def _plain_columns(data: Any) -> dict[str, NDArray[Any]] | None:
    """Return columns of one length, None where pandas has to say what they are."""
    if is_dataclass(data) and not isinstance(data, type):
        data = [data]
    if type(data) is list:
        data = _turned(data)
    if type(data) is not dict or not data or any(type(name) is not str for name in data):
        return None
    columns = {name: _plain_column(cells) for name, cells in data.items()}
    sizes = {column.size for column in columns.values() if column is not None and column.ndim}
    if len(sizes) > 1 or any(column is None for column in columns.values()):
        return None
    count = sizes.pop() if sizes else 1
    return {n: c if c.ndim else np.repeat(c, count) for n, c in columns.items() if c is not None}


def _turned(items: Sequence[Any]) -> dict[Any, list[Any]] | None:
    """Return the columns of rows, None unless all have the same ones."""
    is_record = [is_dataclass(item) and not isinstance(item, type) for item in items]
    rows = [
        {f.name: getattr(item, f.name) for f in fields(item)} if is_one else item
        for item, is_one in zip(items, is_record, strict=True)
    ]
    if not rows or any(type(row) is not dict or list(row) != list(rows[0]) for row in rows):
        return None
    return {name: [row[name] for row in rows] for name in rows[0]}


def _plain_column(cells: Any) -> NDArray[Any] | None:
    """Return numbers or text as an array, of no dimensions where it is one for all rows."""
    if type(cells) is np.ndarray:
        is_plain = cells.dtype.char in _PLAIN_KINDS and cells.dtype.isnative
        return cells.copy() if cells.ndim == 1 and is_plain else None
    kinds = set(map(type, cells)) if type(cells) in (list, tuple) else {type(cells)}
    if len(kinds) != 1 or (dtype := _PLAIN_TYPES.get(kinds.pop())) is None:
        return None
    try:
        return np.array(cells, dtype)
    except OverflowError:
        return None
