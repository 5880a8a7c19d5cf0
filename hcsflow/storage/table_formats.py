"""Tables to and from streams: CSV and Parquet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa

from hcsflow.errors import UsageError

__all__ = ["read_csv", "read_parquet", "write_csv", "write_parquet"]

_LEADING_ZERO = r"[+-]?0[0-9]"
_CELL_WITH_ONE = re.compile(rb'(?:^|[\n\r,"])' + _LEADING_ZERO.encode())
_NO_NUMBER = ("nan", "NaN", "NAN")


def _frame(data: Any) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, pa.Table):
        frame: pd.DataFrame = data.to_pandas()
        return frame
    if isinstance(data, (dict, list)):
        return pd.DataFrame(data)
    raise TypeError("neither a DataFrame, a pyarrow Table nor columns or rows")


def write_csv(stream: BinaryIO, data: Any, compress: bool) -> None:  # noqa: ARG001
    """Write a table as CSV; text is taken to be CSV already.

    Raises
    ------
    UsageError
        If the rows have an index other than 0, 1, 2 …: CSV could give it back only as a column.
    """
    if isinstance(data, str):
        stream.write(data.encode())
        return
    frame = _frame(data)
    if not _is_default(frame.index):
        raise UsageError(
            "its index would not come back as one",
            hint="say reset_index() to keep it as a column, reset_index(drop=True) to leave it "
            "out, or choose .parquet",
        )
    frame.to_csv(stream, mode="wb", index=False, lineterminator="\n")


def _is_default(index: pd.Index) -> bool:
    if index.nlevels > 1 or index.name is not None:
        return False
    return len(index) == 0 or index.equals(pd.RangeIndex(len(index)))


def read_csv(stream: BinaryIO) -> pd.DataFrame:
    """Read CSV; an empty file is an empty table.

    A column is numbers only if all its cells are, empty (NaN) or ``nan``; ``NA``, ``null`` and
    numbers with leading zeros are text, and make their column text.
    """
    try:
        has_zeros = _CELL_WITH_ONE.search(stream.read()) is not None
        stream.seek(0)
        as_text = _parse(stream, str) if has_zeros else pd.DataFrame()
        stream.seek(0)
        kept = [name for name in as_text if as_text[name].fillna("").str.match(_LEADING_ZERO).any()]
        found = _parse(stream, dict.fromkeys(kept, str))
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    for name in found.columns.difference(kept, sort=False):
        if not pd.api.types.is_numeric_dtype(found[name]):
            found[name] = _as_numbers(found[name])
    return found


_EXACT: Mapping[str, Any] = (
    {} if int(pd.__version__.partition(".")[0]) > 2 else {"float_precision": "round_trip"}
)
"""What makes numbers come back exactly; from pandas 3 on they do so by themselves."""


def _parse(stream: BinaryIO, dtype: Any) -> pd.DataFrame:
    found: pd.DataFrame = pd.read_csv(
        stream, dtype=dtype, keep_default_na=False, na_values=[""], **_EXACT
    )
    return found


def _as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column of text as numbers if what is no number in it is ``nan``."""
    is_missing = column.isin(_NO_NUMBER)
    if not is_missing.any():
        return column
    numbers = pd.to_numeric(column.mask(is_missing), errors="coerce")
    is_text = numbers.isna() & column.notna() & ~is_missing
    return column if is_text.any() else column.mask(is_missing).astype(float)  # exactly


def write_parquet(stream: BinaryIO, data: Any, compress: bool) -> None:
    """Write a table as Parquet, with its index."""
    codec = "zstd" if compress else "snappy"
    _frame(data).to_parquet(stream, compression=codec)  # type: ignore[call-overload]


def read_parquet(stream: BinaryIO) -> pd.DataFrame:
    """Read Parquet, with the index that was written."""
    try:
        return pd.read_parquet(stream)
    except pa.ArrowInvalid as error:
        raise ValueError(str(error)) from error
