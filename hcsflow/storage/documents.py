"""Write one ``zarr.json``."""

from __future__ import annotations

import json
from pathlib import Path

from hcsflow.ngff.metadata import Document
from hcsflow.storage.shards import StoredObject, checksum_of

__all__ = ["write_document"]


def write_document(root: Path, path: str, document: Document) -> StoredObject:
    """Write ``<root>/<path>/zarr.json`` whole or not at all.

    Parameters
    ----------
    root : Path
        Folder that the returned path is relative to.
    path : str
        POSIX path of the group or array below it; ``""`` is the root itself.
    document : dict
        Metadata; the same document gives the same bytes.

    Returns
    -------
    StoredObject
        The file.

    Raises
    ------
    OSError
        If it cannot be written; an earlier document still stands.
    """
    data = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    name = f"{path}/zarr.json".lstrip("/")
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name("zarr.json.part")
    try:
        part.write_bytes(data)
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return StoredObject(name, len(data), checksum_of(data))
