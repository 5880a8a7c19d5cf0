"""Values of special outputs in two files, a document and the arrays' bytes, and back.

What is stored is plain: numbers, text, lists, tuples, dicts, arrays of every library, DataFrames.
Nothing is pickled, so reading runs no code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np

from hcsflow.arrays.families import freeze, thaw
from hcsflow.arrays.libraries import find_memory_type
from hcsflow.errors import HcsflowError, MemoryConversionError
from hcsflow.storage.lazy import load_object
from hcsflow.storage.objects import ObjectFile, StoredObject, checksum_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DATA", "DOCUMENT", "ValueReader", "ValueWriter"]

DOCUMENT, DATA = "values.json", "values.data"
SCHEMA = "hcsflow.values/1"

BLOCK_BYTES = 1 << 28
"""Compressed at a time; the codec takes no more than 2 GiB."""

PLAIN = (type(None), bool, int, float, str)
Document = Any
Blob = dict[str, Any]


class ValueWriter:
    """Write values to a folder, one after the other; memory is that of one.

    Parameters
    ----------
    folder : Path
        Is made; holds ``values.json`` and ``values.data`` after `close`.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> writer = ValueWriter(folder)
    >>> writer.add({"index": 0}, {"count": 3, "mask": np.eye(2, dtype=bool)})
    >>> [stored.path for stored in writer.close()]
    ['values.data', 'values.json']
    >>> reader = ValueReader(folder)
    >>> [(facts["index"], reader.value(document)["count"]) for facts, document in reader.items]
    [(0, 3)]
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = ObjectFile(folder / DATA)
        self._codec = numcodecs.Zstd(level=1)
        self._items: list[dict[str, Any]] = []

    def add(self, facts: Mapping[str, Any], value: Any) -> None:
        """Write a value, with facts (JSON) that tell which it is.

        Raises
        ------
        TypeError
            If it is, or holds, what cannot be stored; says the type. What is written stays whole.
        OSError
            If writing fails; abort then.
        """
        self._items.append({**facts, "value": self._document(value)})

    def close(self) -> list[StoredObject]:
        """Finish both files."""
        text = json.dumps({"schema": SCHEMA, "items": self._items}, sort_keys=True)
        document = ObjectFile(self._folder / DOCUMENT)
        try:
            document.write(text.encode())
        except BaseException:
            document.discard()
            raise
        return [stored._replace(path=Path(stored.path).name)
                for stored in (self._file.commit(), document.commit())]  # fmt: skip

    def abort(self) -> None:
        """Remove what was written."""
        self._file.discard()

    def _document(self, value: Any) -> Document:
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind in (list, tuple):
            return {kind.__name__: [self._document(item) for item in value]}
        if kind is dict:
            pairs = [[self._document(k), self._document(v)] for k, v in value.items()]
            return {"dict": pairs}
        return self._with_bytes(value)

    def _with_bytes(self, value: Any) -> Document:
        """Store a table or an array, of another library by way of host memory."""
        if _is_frame(value):
            return self._frame(value)
        if isinstance(value, np.generic):
            return {"scalar": self._blob(_array_bytes(np.asarray(value)))}
        if type(value) is np.ndarray:
            return {"array": self._blob(_array_bytes(value))}
        if find_memory_type(value) in (None, "numpy"):
            raise TypeError(f"{type(value).__module__}.{type(value).__qualname__}")
        try:
            header, host = freeze(value)
        except MemoryConversionError as error:
            raise TypeError(str(error)) from error
        return {"frozen": header, "array": self._blob(_array_bytes(host))}

    def _frame(self, frame: pd.DataFrame) -> Document:
        """Store a table by Arrow; cell by cell those columns of objects that it would change."""
        content, changed = load_object("hcsflow.graph.frames:frame_bytes")(frame)
        cells = [[n, [self._document(cell) for cell in frame.iloc[:, n]]] for n in changed]
        return {"frame": self._blob(content), "cells": cells}

    def _blob(self, content: memoryview) -> Blob:
        at, blocks = self._file.nbytes, []
        for start in range(0, len(content), BLOCK_BYTES):
            encoded = bytes(self._codec.encode(content[start : start + BLOCK_BYTES]))
            self._file.write(encoded)
            blocks.append([len(encoded), checksum_of(encoded)])
        return {"at": at, "blocks": blocks}


def _is_frame(value: Any) -> bool:
    """Tell whether a value is a DataFrame; where there is one, pandas is loaded."""
    return isinstance(value, getattr(sys.modules.get("pandas"), "DataFrame", ()))


def _array_bytes(array: np.ndarray[Any, Any]) -> memoryview:
    stream = BytesIO()
    try:
        np.lib.format.write_array(stream, array, allow_pickle=False)
    except ValueError as error:
        raise TypeError(f"numpy array of {array.dtype}") from error
    return stream.getbuffer()


class ValueReader:
    """Read what a `ValueWriter` wrote, each value when it is asked for.

    Parameters
    ----------
    folder : Path
        As given to the writer.

    Attributes
    ----------
    items : list of (dict, document)
        The facts of each value, in the order of writing, and what `value` takes.

    Raises
    ------
    HcsflowError
        If the document is damaged or absent.
    """

    def __init__(self, folder: Path) -> None:
        self._data = folder / DATA
        self._codec = numcodecs.Zstd()
        path = folder / DOCUMENT
        try:
            found = json.loads(path.read_text("utf-8"))["items"]
            self.items = [({k: v for k, v in i.items() if k != "value"}, i["value"]) for i in found]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, error) from error

    def value(self, document: Document) -> Any:
        """Return a value; arrays are read-only.

        Raises
        ------
        HcsflowError
            If what is stored of it is damaged or absent.
        """
        if not isinstance(document, dict):
            return document
        makers: dict[str, Callable[[Any], Any]] = {
            "list": lambda items: [self.value(item) for item in items],
            "tuple": lambda items: tuple(self.value(item) for item in items),
            "dict": lambda pairs: {self.value(k): self.value(v) for k, v in pairs},
            "frame": lambda blob: self._frame(blob, document["cells"]),
            "scalar": lambda blob: self._array(blob)[()],
            "frozen": lambda header: thaw(header, self._array(document["array"])),
            "array": self._array,
        }
        try:
            kind = next(name for name in makers if name in document)
            return makers[kind](document[kind])
        except (StopIteration, KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            if isinstance(error, HcsflowError):
                raise
            raise _damaged(self._data, error) from error

    def _frame(self, blob: Blob, columns: Document) -> pd.DataFrame:
        cells = {n: [self.value(cell) for cell in found] for n, found in columns}
        frame: pd.DataFrame = load_object("hcsflow.graph.frames:frame_of")(
            self._content(blob), cells
        )
        return frame

    def _array(self, blob: Blob) -> np.ndarray[Any, Any]:
        array: np.ndarray[Any, Any] = np.lib.format.read_array(
            BytesIO(self._content(blob)), allow_pickle=False
        )
        array.flags.writeable = False
        return array

    def _content(self, blob: Blob) -> bytes:
        parts = []
        with self._data.open("rb") as file:
            file.seek(blob["at"])
            for nbytes, checksum in blob["blocks"]:
                encoded = file.read(nbytes)
                if checksum_of(encoded) != checksum:
                    raise ValueError("its bytes do not have their checksum")
                parts.append(bytes(self._codec.decode(encoded)))
        return b"".join(parts)


def _damaged(path: Path, error: BaseException) -> HcsflowError:
    return HcsflowError(
        f"{path}: cannot be read: {error}",
        hint="run the same command again: what is damaged is made anew",
    )
