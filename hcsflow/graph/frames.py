"""Data frames as bytes, by Arrow, and back. Loaded where there is one: pandas takes long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

__all__ = ["frame_bytes", "frame_of"]


def frame_bytes(frame: pd.DataFrame) -> tuple[memoryview, list[int]]:
    """Return a table as Arrow's bytes, and the columns whose cells are to be stored one by one.

    Those columns, by position, hold objects that Arrow would change; the bytes hold 0 for them.

    Raises
    ------
    TypeError
        If Arrow cannot hold the rest, or would change it.
    """
    kinds: set[type[Any]] = {type(name) for name in frame.columns}
    if len(kinds) > 1 or type(None) in kinds:
        raise TypeError("DataFrame with columns named by None, or by values of several types")
    changed = [n for n in range(frame.shape[1]) if not _is_kept(frame.iloc[:, n])]
    plain = frame.copy(deep=False)
    for n in changed:
        plain.isetitem(n, 0)
    return _arrow_bytes(plain), changed


def frame_of(
    content: memoryview | bytes, cells: Mapping[int, Sequence[Any]] | None = None
) -> pd.DataFrame:
    """Return the table that `frame_bytes` took, given the cells of the columns it named."""
    frame: pd.DataFrame = pa.ipc.open_stream(content).read_pandas()
    for n, values in (cells or {}).items():
        column = np.empty(len(values), object)
        for row, cell in enumerate(values):
            column[row] = cell
        frame.isetitem(n, pd.Series(column, dtype=object).array)
    return frame


def _arrow_bytes(frame: pd.DataFrame) -> memoryview:
    try:
        table = pa.Table.from_pandas(frame)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise TypeError(f"DataFrame that Arrow cannot hold: {error}") from error
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        # without a batch there would be no categories either
        for batch in table.to_batches() or [pa.RecordBatch.from_pandas(frame)]:
            stream.write_batch(batch)
    content = memoryview(sink.getvalue())
    _check_frame(frame, content)
    return content


def _check_frame(frame: pd.DataFrame, content: memoryview) -> None:
    """Refuse a table that does not come back as it is: names, index, types."""
    try:
        found = frame_of(content)
        pd.testing.assert_frame_equal(
            found,
            frame,
            check_exact=True,
            check_freq=False,
        )
    except (AssertionError, pa.ArrowException, ValueError, TypeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise TypeError(f"DataFrame that Arrow would change ({reason})") from error
    for one, other in ((found.index, frame.index), (found.columns, frame.columns)):
        if not all(map(_is_same, one, other)):
            raise TypeError("DataFrame whose names or index Arrow would change")


def _is_kept(column: pd.Series[Any]) -> bool:
    """Tell whether Arrow leaves the cells of a column of objects as they are."""
    if column.dtype != object:
        return True
    try:
        found = pa.Array.from_pandas(column).to_pandas()
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return False
    return found.dtype == object and all(map(_is_same, column, found))


def _is_same(one: object, other: object) -> bool:
    """Tell whether two cells are of one type and value; of lists and such it is not asked."""
    if type(one) is not type(other) or isinstance(one, (list, dict, set, np.ndarray)):
        return False
    return one is other or bool(one == other) or bool(one != one and other != other)  # noqa: PLR0124
