"""What a folder of a Zarr store is, by the documents in it, in both formats.

Documents are parsed once: a parsed one is used again as long as its file has the same times, size
and inode, and was not written within the resolution of a file system's clock.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Generic, Literal, TypeVar
from uuid import uuid4

from hcsflow.errors import PlaneError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "BATCHES",
    "PART",
    "WHOLE",
    "Cache",
    "Node",
    "Signature",
    "add_attributes",
    "holds_node",
    "is_array",
    "node_of",
    "put_group",
    "share_attributes",
    "signature_of",
    "write_json",
]

PART = ".hcsflow-part"
"""How names of unfinished files and folders end."""

BATCHES = ".hcsflow-batches"
"""Name of an empty file in folders that hold batches of planes other than wells."""

WHOLE = "hcsflow:whole"
"""Attribute of arrays that were written with all their chunks: none may be absent."""

SETTLING_NS = 100_000_000
"""Twice written within this time, a file may show the same times: its parse is not kept."""

V3, V2_ARRAY, V2_GROUP, V2_ATTRIBUTES = "zarr.json", ".zarray", ".zgroup", ".zattrs"

Signature = tuple[int, ...]
Document = Mapping[str, Any]
K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Values by key and signature, the last used ones; for any number of threads.

    A value is kept only if what it was read from had settled by then, see `SETTLING_NS`.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._lock = Lock()
        self._kept: OrderedDict[K, tuple[Signature, V]] = OrderedDict()

    def get(self, key: K, signature: Signature) -> V | None:
        """Return the value that was read from what has this signature."""
        with self._lock:
            found = self._kept.get(key)
            if found is None or found[0] != signature:
                return None
            self._kept.move_to_end(key)
            return found[1]

    def put(self, key: K, signature: Signature, value: V, *, read_ns: int) -> None:
        """Keep a value; ``read_ns`` is when its reading began, in ns since 1970."""
        if read_ns - max(signature[:2]) < SETTLING_NS:
            return
        with self._lock:
            self._kept[key] = signature, value
            self._kept.move_to_end(key)
            while len(self._kept) > self._length:
                self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A Zarr array or group.

    Parameters
    ----------
    folder : Path
        Where it lies.
    kind : "array" or "group"
        What it is.
    zarr_format : 2 or 3
        Format of its documents.
    document : mapping
        ``zarr.json``, ``.zarray`` or ``.zgroup``.
    attributes : mapping
        The user's attributes.
    signature : tuple of int
        Of the file of ``document``: another one means that the node was replaced.
    """

    folder: Path
    kind: Literal["array", "group"]
    zarr_format: Literal[2, 3]
    document: Document
    attributes: Document
    signature: Signature

    @property
    def file(self) -> Path:
        """The node's document."""
        if self.zarr_format == 3:
            return self.folder / V3
        return self.folder / (V2_ARRAY if self.kind == "array" else V2_GROUP)

    def is_current(self) -> bool:
        """Whether the document is still the one that was read."""
        return signature_of(self.file) == self.signature


_documents: Cache[str, Document] = Cache(1024)


def signature_of(path: str | os.PathLike[str]) -> Signature | None:
    """Return what changes when a file is replaced; None where there is none."""
    try:
        return _signature(os.stat(path))  # noqa: PTH116 - half the time of Path.stat
    except (FileNotFoundError, NotADirectoryError):
        return None


def _signature(status: os.stat_result) -> Signature:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def node_of(folder: Path) -> Node | None:
    """Return the array or group that a folder is; None if it is neither.

    Raises
    ------
    PlaneError
        If its document is damaged.
    OSError
        If it cannot be read.
    """
    found = _read(folder / V3)
    if found is not None:
        return _node_v3(folder, *found)
    for name, kind in ((V2_ARRAY, "array"), (V2_GROUP, "group")):
        found = _read(folder / name)
        if found is not None:
            if found[0].get("zarr_format") != 2:
                raise _damaged(folder / name, "zarr_format is not 2")
            attributes = _read(folder / V2_ATTRIBUTES)
            given = {} if attributes is None else attributes[0]
            return Node(folder, kind, 2, found[0], given, found[1])  # type: ignore[arg-type]
    return None


def _node_v3(folder: Path, document: Document, signature: Signature) -> Node:
    kind, attributes = document.get("node_type"), document.get("attributes") or {}
    if document.get("zarr_format") != 3 or kind not in ("array", "group"):
        raise _damaged(folder / V3, "neither an array nor a group of Zarr 3")
    if not isinstance(attributes, Mapping):
        raise _damaged(folder / V3, "attributes are no mapping")
    return Node(folder, kind, 3, document, attributes, signature)


def _read(file: Path) -> tuple[Document, Signature] | None:
    """Return a document and its signature; None where there is none."""
    name = os.fspath(file)
    current = signature_of(name)
    if current is None:
        return None
    kept = _documents.get(name, current)
    if kept is not None:
        return kept, current
    start = time.time_ns()
    try:
        with file.open("rb", buffering=0) as stream:
            signature = _signature(os.fstat(stream.fileno()))
            found = json.loads(stream.readall())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(found, dict):
        raise _damaged(file, f"holds {type(found).__name__}, not a mapping")
    _documents.put(name, signature, found, read_ns=start)
    return found, signature


def _damaged(file: Path, reason: str) -> PlaneError:
    return PlaneError(
        f"{file}: not a Zarr document: {reason}",
        hint="the store is damaged: restore the file, or write the data again",
        file=str(file),
    )


def holds_node(folder: Path) -> bool:
    """Whether a folder has a document of an array or group, be it damaged."""
    return any((folder / name).is_file() for name in (V3, V2_ARRAY, V2_GROUP))


def is_array(folder: Path) -> bool:
    """Whether a folder is an array; one whose document is damaged counts as one."""
    try:
        found = node_of(folder)
    except PlaneError:
        return True
    return found is not None and found.kind == "array"


def add_attributes(node: Node, attributes: Mapping[str, Any]) -> None:
    """Add attributes to an array or group; those of the same name are replaced, all at once."""
    merged = {**node.attributes, **attributes}
    if node.zarr_format == 3:
        write_json(node.file, {**node.document, "attributes": merged})
    else:
        write_json(node.folder / V2_ATTRIBUTES, merged)


def share_attributes(node: Node, attributes: Mapping[str, Any]) -> None:
    """Add attributes as others may do at the same time: none are lost.

    Writers wait for each other: threads by a lock, processes by one of the system on the folder,
    where its file system has such. An array that is replaced meanwhile is given them again.

    Raises
    ------
    FileNotFoundError
        If it is removed meanwhile.
    """
    wanted = {**attributes}
    while True:
        with _alone(node.folder):
            now = node_of(node.folder)
            if now is None:
                raise FileNotFoundError(errno.ENOENT, "no array any more", os.fspath(node.folder))
            add_attributes(now, wanted)
        now = node_of(node.folder)
        if now is not None and wanted.keys() <= now.attributes.keys():
            return


_writers = Lock()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only one that changes a folder's attributes; on Windows, of this process."""
    with _writers:
        if sys.platform == "win32":
            yield
            return
        opened = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(opened, fcntl.LOCK_EX)
            yield
        finally:
            os.close(opened)


def put_group(folder: Path, zarr_format: int, attributes: Mapping[str, Any]) -> None:
    """Make a folder a group with these attributes, or give them to the group that it is."""
    if zarr_format == 3:
        document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
        write_json(folder / V3, document)
        return
    is_new = not (folder / V2_GROUP).is_file()
    if attributes or not is_new:
        write_json(folder / V2_ATTRIBUTES, attributes)
    if is_new:
        try:
            write_json(folder / V2_GROUP, {"zarr_format": 2})
        except OSError:
            (folder / V2_ATTRIBUTES).unlink(missing_ok=True)
            raise


def write_json(file: Path, document: Mapping[str, Any]) -> None:
    """Write a document whole or not at all; of several writers at once, the last one's stays.

    Raises
    ------
    ValueError, TypeError
        If it cannot be JSON; nothing was written.
    OSError
        If it cannot be written; the document that was there still stands.
    """
    data = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    part = file.with_name(f".{uuid4().hex}{PART}")
    try:
        part.write_bytes(data)
        part.replace(file)
    except OSError as error:
        error.filename, error.filename2 = os.fspath(file), None  # nobody knows the part
        raise
    finally:
        part.unlink(missing_ok=True)
