"""Folders of Zarr stores: what lies below them, and whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hcsflow.errors import PlaneError
from hcsflow.storage.abc import Verification
from hcsflow.storage.objects import checksum_of
from hcsflow.storage.paths import join
from hcsflow.storage.well_index import checksums_of, iter_planes, mark_batch, names_of
from hcsflow.storage.well_plates import finish_plate, is_plate, wells_of
from hcsflow.storage.zarr_commit import copy_folder
from hcsflow.storage.zarr_nodes import PART, Node, holds_node, is_array, node_of, put_group
from hcsflow.storage.zarr_reading import read_array
from hcsflow.storage.zarr_writing import refuse_hidden, refuse_shadow

__all__ = ["folders", "mirror", "nbytes_below", "update_plates", "verify", "walk"]


def folders(folder: Path) -> Iterator[str]:
    """Yield the names of the folders in a folder: no links, and nothing unfinished."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.endswith(PART) and entry.is_dir(follow_symlinks=False):
                yield entry.name


def walk(folder: Path, *, recursive: bool, below: str = "") -> Iterator[str]:
    """Yield what can be loaded from a folder: arrays, and planes of batches by name.

    The arrays of a well that was saved as a batch are listed below the well only: seen from above
    they are its planes.
    """
    yield from {below + name for name in iter_planes(folder)}
    for name in folders(folder):
        entry = folder / name
        if is_array(entry):
            yield below + name
        elif recursive and not _is_batch(entry):
            yield from walk(entry, recursive=True, below=f"{below}{name}/")


def _is_batch(folder: Path) -> bool:
    node = node_of(folder)
    return node is not None and bool(names_of(node))


def mirror(source: Path, target: Path, *, recursive: bool, overwrite: bool) -> None:
    """Copy arrays and batches, as they are stored, to the same names below another folder.

    Groups above them become groups there too, and plates list what is there.
    """
    refuse_shadow(target, overwrite=False)
    for name in folders(source):
        entry = source / name
        if is_array(entry) or _is_batch(entry):
            refuse_shadow(target / name, overwrite=overwrite)
            refuse_hidden(entry, target / name)
            copy_folder(entry, target / name, overwrite=overwrite)
            mark_batch(target / name)
        elif recursive:
            mirror(entry, target / name, recursive=True, overwrite=overwrite)
    if not recursive:
        for well in filter(_is_batch, wells_of(source).values()):
            refuse_hidden(well, target / well.relative_to(source))
            copy_folder(well, target / well.relative_to(source), overwrite=overwrite)
    group = node_of(source)
    target.mkdir(parents=True, exist_ok=True)
    if group is not None and not holds_node(target):
        put_group(target, group.zarr_format, group.attributes)
    if group is not None and is_plate(group):
        finish_plate(target)


def nbytes_below(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(
        os.stat(os.path.join(place, name)).st_size  # noqa: PTH116, PTH118 - many of them
        for place, _, names in os.walk(folder)
        for name in names
    )


def update_plates(folder: Path) -> None:
    """List the wells anew of the plates that a folder was or is a row or well of.

    Where it is a batch of other planes, the folder it lies in is marked.
    """
    with suppress(PlaneError):  # what is damaged names no planes
        mark_batch(folder)
    for store in (folder.parent, folder.parent.parent):
        node = node_of(store) if holds_node(store) else None
        if node is not None and is_plate(node):
            finish_plate(store)


def verify(folder: Path, path: str) -> Verification:
    """Check arrays and batches at and below a folder, which ``path`` names."""
    found = dict(_verify_below(folder, path))
    damaged = {name: fault for name, fault in found.items() if fault is not None}
    return Verification(len(found), damaged)


def _verify_below(folder: Path, path: str) -> Iterator[tuple[str, str | None]]:
    """Check arrays and batches at and below a folder.

    Yields
    ------
    (str, str or None)
        Path of an object, and what is wrong with it.
    """
    try:
        node = node_of(folder)
    except PlaneError as error:
        yield path, error.message
        return
    if node is not None and node.kind == "array":
        yield path, _fault_of(folder, path)
        return
    recorded = {} if node is None else checksums_of(node)
    if node is not None and recorded:
        for name, checksum in recorded.items():
            yield join(path, name), _difference(node, name, checksum)
        return
    for name in sorted(folders(folder)):
        yield from _verify_below(folder / name, join(path, name))


def _fault_of(folder: Path, path: str) -> str | None:
    try:
        read_array(folder, path)
    except (PlaneError, OSError) as error:
        return str(error)
    return None


def _difference(node: Node, name: str, checksum: str) -> str | None:
    """Return how an object differs from its checksum; None where it does not."""
    try:
        found = checksum_of((node.folder / name).read_bytes())
    except OSError as error:
        return str(error)
    return None if found == checksum else f"stored as {checksum}, found {found}"
