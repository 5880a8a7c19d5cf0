"""Write the documents of Zarr groups and arrays, in both formats."""

from __future__ import annotations

import json
from pathlib import Path

from hcsflow.ngff.metadata import VERSION, Document, Version, array_document, group_documents
from hcsflow.ngff.model import ArrayLayout
from hcsflow.storage.objects import StoredObject, checksum_of

__all__ = ["remove_group", "write_array_document", "write_group_documents"]

_GROUP_FILES = ("zarr.json", ".zattrs", ".zgroup")


def write_group_documents(
    root: Path, path: str, attributes: Document | None = None, version: Version = VERSION
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

    Returns
    -------
    tuple of StoredObject
        The files, each written whole or not at all.

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
    stored = [_write(root, f"{path}/{name}", document) for name, document in documents.items()]
    for name in _GROUP_FILES:  # not before: a write that fails leaves the group that was there
        if name not in documents:
            (root / path / name).unlink(missing_ok=True)
    return tuple(stored)


def remove_group(folder: Path) -> None:
    """Make a folder no group any more, whatever its format; what lies in it stays."""
    for name in _GROUP_FILES:
        (folder / name).unlink(missing_ok=True)


def write_array_document(root: Path, array: ArrayLayout) -> StoredObject:
    """Write an array's document below ``root``, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written; an earlier document still stands.
    """
    name = ".zarray" if array.zarr_format == 2 else "zarr.json"
    return _write(root, f"{array.path}/{name}", array_document(array))


def _write(root: Path, path: str, document: Document) -> StoredObject:
    data = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    name = path.lstrip("/")
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_bytes(data)
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return StoredObject(name, len(data), checksum_of(data))
