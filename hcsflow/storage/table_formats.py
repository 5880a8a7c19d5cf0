"""Tables to and from streams: CSV and Parquet."""

from __future__ import annotations

from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa

__all__ = ["read_csv", "read_parquet", "write_csv", "write_parquet"]


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
    """Write a table as CSV without its index; text is taken to be CSV already."""
    if isinstance(data, str):
        stream.write(data.encode())
        return
    _frame(data).to_csv(stream, mode="wb", index=False, lineterminator="\n")


def read_csv(stream: BinaryIO) -> pd.DataFrame:
    """Read CSV; an empty file is an empty table."""
    try:
        return pd.read_csv(stream)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def write_parquet(stream: BinaryIO, data: Any, compress: bool) -> None:
    """Write a table as Parquet."""
    codec = "zstd" if compress else "snappy"
    _frame(data).to_parquet(stream, index=False, compression=codec)  # type: ignore[call-overload]


def read_parquet(stream: BinaryIO) -> pd.DataFrame:
    """Read Parquet."""
    try:
        return pd.read_parquet(stream)
    except pa.ArrowInvalid as error:
        raise ValueError(str(error)) from error
