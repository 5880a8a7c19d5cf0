"""File formats by suffix: what each takes, and how it is written to and read from a stream.

The table names functions as text, so that pandas or torch are imported only by those who use
their formats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO

from hcsflow.errors import HcsflowError, UsageError, nearest
from hcsflow.storage.lazy import load_object

__all__ = ["FORMATS", "Format", "format_of", "sniff"]


@dataclass(frozen=True, slots=True)
class Format:
    """One file format.

    Parameters
    ----------
    name, takes : str
        What it is called, and what it stores, for messages.
    module : str
        Module of the functions ``write_<key>(stream, data, compress)`` and ``read_<key>(stream)``.
    key : str
        Their common ending.
    is_pickle : bool
        Reading it may run code, so the caller must ask for it.
    """

    name: str
    takes: str
    module: str
    key: str
    is_pickle: bool = False

    def write(self, stream: BinaryIO, data: Any, *, compress: bool = False) -> None:
        """Write ``data``.

        Raises
        ------
        UsageError
            If the format cannot store this type.
        """
        function: Callable[..., None] = load_object(f"{self.module}:write_{self.key}")
        try:
            function(stream, data, compress)
        except (TypeError, ValueError) as error:
            reason, hint = str(error), None
            if isinstance(error, HcsflowError):
                reason, hint = error.message, error.hint
            raise UsageError(
                f"{self.name} files store {self.takes}, got {type(data).__name__}: {reason}",
                hint=hint or "choose another suffix, or convert the data first",
            ) from error

    def read(self, stream: BinaryIO) -> Any:
        """Read what `write` wrote; arrays as numpy."""
        function: Callable[[BinaryIO], Any] = load_object(f"{self.module}:read_{self.key}")
        return function(stream)


_ARRAYS = "hcsflow.storage.array_formats"
_TEXTS = "hcsflow.storage.text_formats"
_TABLES = "hcsflow.storage.table_formats"

_TIFF = Format("TIFF", "arrays of numbers", _ARRAYS, "tiff")
_TEXT = Format("text", "str or bytes", _TEXTS, "text")
_YAML = Format("YAML", "plain values", _TEXTS, "yaml")

FORMATS: Mapping[str, Format] = {
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".png": Format("PNG", "uint8 or uint16 images", _ARRAYS, "png"),
    ".npy": Format("NPY", "arrays", _ARRAYS, "npy"),
    ".npz": Format("NPZ", "a mapping of names to arrays", _ARRAYS, "npz"),
    ".pt": Format("PT", "tensors", _ARRAYS, "pt"),
    ".json": Format("JSON", "plain values or JSON text", _TEXTS, "json"),
    ".yaml": _YAML,
    ".yml": _YAML,
    ".csv": Format("CSV", "tables or CSV text", _TABLES, "csv"),
    ".parquet": Format("Parquet", "tables", _TABLES, "parquet"),
    ".txt": _TEXT,
    ".log": _TEXT,
    ".md": _TEXT,
    ".html": _TEXT,
    ".svg": _TEXT,
    ".xml": _TEXT,
    ".pkl": Format("pickle", "any object", _TEXTS, "pickle", is_pickle=True),
}
"""By lower-case suffix."""

_MAGIC = {b"\x93NUMPY": ".npy", b"PAR1": ".parquet"}


def format_of(path: PurePath, data: Any = None) -> Format:
    """Return the format that a path's suffix names; without one, NPY or Parquet by type.

    Raises
    ------
    UsageError
        If the suffix is unknown, or missing and ``data`` is no array or table.
    """
    suffix = path.suffix.lower()
    if not suffix and hasattr(data, "shape"):
        return FORMATS[".parquet" if hasattr(data, "columns") else ".npy"]
    if suffix in FORMATS:
        return FORMATS[suffix]
    close = nearest(suffix, FORMATS) if suffix else None
    raise UsageError(
        f"{path.name}: no file format for {suffix or 'a name without suffix'!r}",
        hint=f"did you mean {close}?" if close else f"there are {' '.join(FORMATS)}",
    )


def sniff(head: bytes, path: PurePath) -> Format:
    """Return the format of a file to be read, by suffix or, without one, by its first bytes."""
    for magic, suffix in _MAGIC.items():
        if not path.suffix and head.startswith(magic):
            return FORMATS[suffix]
    return format_of(path)
