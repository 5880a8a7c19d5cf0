"""Where a store keeps the plane of a name.

A plane that is named after its well is found by one document, however many wells there are. For
other names the documents of the batches that lie directly in the store are read once, and again
when a batch was added or removed; then a name costs one look at its own batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hcsflow.errors import PlaneError, PlateError
from hcsflow.plate.names import parse_plane_name
from hcsflow.storage.well_plates import well_folder, wells_of
from hcsflow.storage.zarr_nodes import PART, Cache, Node, node_of, signature_of

__all__ = ["StoredPlane", "checksums_of", "describe", "find_plane", "iter_planes", "names_of"]

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


def find_plane(store: Path, name: str) -> StoredPlane | None:
    """Return where a batch below ``store`` keeps the plane of this name, None if none does.

    Raises
    ------
    PlaneError
        If the document of its batch is damaged.
    """
    try:
        well = parse_plane_name(PurePosixPath(name).stem).well
    except PlateError:
        well = None
    found = None if well is None else _plane(node_of(store / well_folder(well)), name)
    if found is not None:
        return found
    batch = _batches_of(store).get(name)
    return None if batch is None else _plane(node_of(store / batch), name)


def _batches_of(store: Path) -> Mapping[str, str]:
    """Return the batch of each name that the batches directly in a store hold."""
    current = signature_of(store)
    if current is None or not store.is_dir():
        return {}
    key = os.fspath(store)
    kept = _batches.get(key, current)
    if kept is None:
        start = time.time_ns()
        kept = {name: node.folder.name for node in _flat(store) for name in names_of(node)}
        _batches.put(key, current, kept, read_ns=start)
    return kept


def _flat(store: Path) -> Iterator[Node]:
    """Yield the batches directly in a store; one whose document is damaged names no planes."""
    with os.scandir(store) as entries:
        names = sorted(e.name for e in entries if not e.name.endswith(PART) and e.is_dir())
    for name in names:
        with suppress(PlaneError):
            node = node_of(store / name)
            if node is not None and node.kind == "array" and names_of(node):  # a group is a well
                yield node


def iter_planes(store: Path) -> Iterator[str]:
    """Yield the names of all planes of the batches of a store."""
    yield from _batches_of(store)
    for folder in wells_of(store).values():
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
