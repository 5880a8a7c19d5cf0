"""Side results: what a special output becomes on disk.

Typed materializers (`Table`, `Labels` …) are planned outputs; a plain function
``(data, path, filemanager[, backend])`` is called with the value when its well is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hcsflow.materialize.call import call_materializer, kind_of
from hcsflow.materialize.typed import Json, Labels, Positions, Rois, Table
from hcsflow.storage.lazy import load_object

if TYPE_CHECKING:
    from hcsflow.materialize.tables import as_table

__all__ = [
    "Json",
    "Labels",
    "Positions",
    "Rois",
    "Table",
    "as_table",
    "call_materializer",
    "kind_of",
]


def __getattr__(name: str) -> Any:
    if name == "as_table":  # needs pandas
        return load_object("hcsflow.materialize.tables:as_table")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
