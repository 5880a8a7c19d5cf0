"""Where a store keeps the plane of a name.

A plane that is named after its well is found by one document, however many wells there are. For
other names the batches that lie directly in the store are looked through, again when a folder was
added or removed there; a document is read once. Then a name costs one look at its own batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hcsflow.errors import PlaneError, PlateError
from hcsflow.plate.names import parse_plane_name
from hcsflow.storage.paths import contained
from hcsflow.storage.well_plates import well_folder, wells_of
from hcsflow.storage.zarr_nodes import BATCHES, PART, Cache, Node, node_of, signature_of

__all__ = [
    "StoredPlane",
    "checksums_of",
    "describe",
    "find_plane",
    "holder_of",
    "iter_planes",
    "kept_in",
    "mark_batch",
    "names_of",
]

_NAMESPACE = "hcsflow"
_KEY = "filenames"


@dataclass(frozen=True, slots=True)
class StoredPlane:
    """Where a named plane lies: its batch's group, the array's folder, first element, size."""

    group: Node
    array: Path
    start: tuple[int, ...]
    shape_yx: tuple[int, int]

    @property
    def box(self) -> tuple[int, ...]:
        """The plane's size along the array's axes."""
        return (*(1,) * (len(self.start) - 2), *self.shape_yx)


_batches: Cache[str, dict[str, str]] = Cache(64)
_folders: Cache[str, tuple[str, ...]] = Cache(2**16)
"""Names of the planes that a folder directly in a store holds; none for most."""


def describe(
    array: str,
    starts: Mapping[str, Sequence[int]],
    shape_yx: tuple[int, int],
    checksums: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the attributes that say where in ``array`` each plane begins.

    ``checksums`` are those of stored objects, by path below the group.
    """
    planes = {name: list(start) for name, start in starts.items()}
    facts = {"array": array, "shape_yx": list(shape_yx), _KEY: planes}
    return {_NAMESPACE: facts if checksums is None else {**facts, "checksums": dict(checksums)}}


def find_plane(store: Path, name: str, base: Path | None = None) -> StoredPlane | None:
    """Return where a batch below ``store`` keeps the plane of this name, None if none does.

    Raises
    ------
    PathError
        If its well or array lies out of ``base``, where a link leads.
    PlaneError
        If the document of its batch is damaged.
    """
    well = _well_of(store, name)
    found = None if well is None else _plane(node_of(kept_in(base, well)), name)
    if found is None:
        batch = _batches_of(store).get(name)
        found = None if batch is None else _plane(node_of(store / batch), name)
    if found is not None:
        kept_in(base, found.array)
    return found


def kept_in(base: Path | None, folder: Path) -> Path:
    """Return a folder that was found below a base, if no link on its way leads out.

    Raises
    ------
    PathError
        If one does.
    """
    return folder if base is None else contained(base, folder.relative_to(base))


def mark_batch(folder: Path) -> None:
    """Mark the folder that a batch lies in, so that names are looked up there: see `holder_of`."""
    node = node_of(folder)
    if node is not None and node.kind == "array" and names_of(node):
        (folder.parent / BATCHES).touch()


def holder_of(store: Path, name: str) -> Path | None:
    """Return the batch's folder that keeps a name; None if it is free.

    A name of a well's plane is looked up in its well only: no other batch is given such names.
    Other names are looked up where a batch was written, copied or moved to, see `mark_batch`:
    beside arrays alone, however many, nothing is read.

    Raises
    ------
    PlaneError
        If the document of the well is damaged.
    """
    well = _well_of(store, name)
    if well is not None:
        node = node_of(well)
        return well if node is not None and name in names_of(node) else None
    if not (store / BATCHES).exists():
        return None
    batch = _batches_of(store).get(name)
    return None if batch is None else store / batch


def _well_of(store: Path, name: str) -> Path | None:
    """Return where the well lies that a plane is named after; None for other names."""
    try:
        return store / well_folder(parse_plane_name(PurePosixPath(name).stem).well)
    except PlateError:
        return None


def _batches_of(store: Path) -> Mapping[str, str]:
    """Return the batch of each name that the batches directly in a store hold."""
    current = signature_of(store)
    if current is None or not store.is_dir():
        return {}
    key = os.fspath(store)
    kept = _batches.get(key, current)
    if kept is None:
        start = time.time_ns()
        kept = {name: batch for batch, names in _flat(store) for name in names}
        _batches.put(key, current, kept, read_ns=start)
    return kept


def _flat(store: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the folders directly in a store, each with the planes that it holds as a batch."""
    with os.scandir(store) as entries:
        found = sorted(
            (entry.name, entry.path)
            for entry in entries
            if not entry.name.endswith(PART) and entry.is_dir(follow_symlinks=False)
        )
    for name, path in found:
        current = signature_of(path)
        kept = None if current is None else _folders.get(path, current)
        if current is not None and kept is None:
            start = time.time_ns()
            kept = _names_below(Path(path))
            _folders.put(path, current, kept, read_ns=start)
        yield name, kept or ()


def _names_below(folder: Path) -> tuple[str, ...]:
    """Return the planes of a batch; one whose document is damaged names none."""
    try:
        node = node_of(folder)
        is_batch = node is not None and node.kind == "array"  # a group is a well
        return tuple(names_of(node)) if node is not None and is_batch else ()
    except PlaneError:
        return ()


def iter_planes(store: Path) -> Iterator[str]:
    """Yield the names of all planes of the batches of a store."""
    yield from _batches_of(store)
    for folder in wells_of(store).values():
        if folder.is_symlink() or folder.parent.is_symlink():
            continue  # a listing follows no links
        node = node_of(folder)
        if node is not None:
            yield from names_of(node)


def names_of(node: Node) -> Mapping[str, Any]:
    """Return where each plane of a batch begins, by name; empty where a node is none.

    Raises
    ------
    PlaneError
        If what it says is no mapping.
    """
    found = _facts(node).get(_KEY, {})
    if not isinstance(found, Mapping):
        raise _damaged(node)
    return found


def checksums_of(node: Node) -> Mapping[str, str]:
    """Return the checksums of a batch's objects by path below its group; may be empty."""
    found = _facts(node).get("checksums", {})
    return found if isinstance(found, Mapping) else {}


def _facts(node: Node) -> Mapping[str, Any]:
    found = node.attributes.get(_NAMESPACE, {})
    return found if isinstance(found, Mapping) else {}


def _plane(node: Node | None, name: str) -> StoredPlane | None:
    if node is None or name not in names_of(node):
        return None
    facts = _facts(node)
    try:
        array = PurePosixPath(facts["array"])
        height, width = map(int, facts["shape_yx"])
        start = tuple(int(index) for index in names_of(node)[name])
    except (LookupError, TypeError, ValueError) as error:
        raise _damaged(node) from error
    if array.is_absolute() or ".." in array.parts or len(start) < 2 or min(start) < 0:
        raise _damaged(node)
    return StoredPlane(node, node.folder / array, start, (height, width))


def _damaged(node: Node) -> PlaneError:
    return PlaneError(
        f"{node.folder}: its attributes do not say where each plane lies",
        hint="the store is damaged: write the batch again",
        file=str(node.folder),
    )
