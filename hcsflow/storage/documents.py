"""Write the documents of Zarr groups and arrays, in both formats."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from hcsflow.ngff.arrays import array_document
from hcsflow.ngff.metadata import VERSION, Document, Version, group_documents
from hcsflow.ngff.model import ArrayLayout
from hcsflow.storage.objects import StoredObject, checksum_of, write_new

__all__ = ["remove_group", "write_array_document", "write_group_documents"]

_GROUP_FILES = ("zarr.json", ".zattrs", ".zgroup")

_KEPT_CHARACTERS = 1 << 12
"""Longer documents (label colours) stay on one line: nobody reads them, and to set each out takes
longer than to write all else of a well."""


def write_group_documents(
    root: Path,
    path: str,
    attributes: Document | None = None,
    version: Version = VERSION,
    *,
    is_new: bool = False,
) -> tuple[StoredObject, ...]:
    """Make a folder a group; what it was in the other format is removed.

    Parameters
    ----------
    root : Path
        Folder that the returned paths are relative to.
    path : str
        POSIX path of the group below it; ``""`` is the root itself.
    attributes : dict, optional
        Its attributes; the same ones give the same bytes.
    version : "0.4" or "0.5"
        Of NGFF: Zarr 2 or 3.
    is_new : bool
        The group lies in a folder that nobody reads yet and never was one: documents are written
        in place, and nothing needs to be removed.

    Returns
    -------
    tuple of StoredObject
        The files, each written whole or not at all, unless ``is_new``.

    Raises
    ------
    OSError
        If one cannot be written; the earlier one of its name still stands.

    Examples
    --------
    >>> [one.path for one in write_group_documents(getfixture("tmp_path"), "A", {"a": 1}, "0.4")]
    ['A/.zattrs', 'A/.zgroup']
    """
    documents = group_documents(attributes, version)
    write = _create if is_new else _replace
    stored = [write(root, f"{path}/{name}", _text(doc)) for name, doc in documents.items()]
    for name in () if is_new else _GROUP_FILES:  # last: after a failure the old group stands
        if name not in documents:
            (root / path / name).unlink(missing_ok=True)
    return tuple(stored)


def remove_group(folder: Path) -> None:
    """Make a folder no group any more, whatever its format; what lies in it stays."""
    for name in _GROUP_FILES:
        (folder / name).unlink(missing_ok=True)


def write_array_document(root: Path, array: ArrayLayout) -> StoredObject:
    """Write the document of a new array below ``root``.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    name = ".zarray" if array.zarr_format == 2 else "zarr.json"
    return _create(root, f"{array.path}/{name}", _array_text(array))


@lru_cache(maxsize=64)
def _array_text(array: ArrayLayout) -> bytes:
    """Return an array's document, which is the same in every well."""
    return _text(array_document(array))


def _text(document: Document) -> bytes:
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    return _spread(text) if len(text) <= _KEPT_CHARACTERS else text.encode() + b"\n"


@lru_cache(maxsize=64)
def _spread(text: str) -> bytes:
    """Set a document out line by line; that takes long, and many wells have the same."""
    return json.dumps(json.loads(text), indent=1, ensure_ascii=False).encode() + b"\n"


def _create(root: Path, path: str, data: bytes) -> StoredObject:
    name = path.lstrip("/")
    write_new(root / name, data)
    return StoredObject(name, len(data), checksum_of(data))


def _replace(root: Path, path: str, data: bytes) -> StoredObject:
    name = path.lstrip("/")
    file = root / name
    part = file.with_name(f"{file.name}.part")
    try:
        write_new(part, data)
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return StoredObject(name, len(data), checksum_of(data))
