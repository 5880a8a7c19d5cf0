"""Folders of Zarr stores: what lies below them, and whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hcsflow.errors import PlaneError
from hcsflow.storage.objects import checksum_of
from hcsflow.storage.well_index import checksums_of, iter_planes, names_of
from hcsflow.storage.well_plates import finish_plate, is_plate, wells_of
from hcsflow.storage.zarr_commit import copy_folder
from hcsflow.storage.zarr_nodes import PART, Node, holds_node, is_array, node_of, put_group
from hcsflow.storage.zarr_reading import read_array

__all__ = ["folders", "mirror", "nbytes_below", "update_plates", "verify_below", "walk"]


def folders(folder: Path) -> Iterator[str]:
    """Yield the names of the folders in a folder; unfinished ones are not there."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.endswith(PART) and entry.is_dir():
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
    for name in folders(source):
        entry = source / name
        if is_array(entry) or _is_batch(entry):
            copy_folder(entry, target / name, overwrite=overwrite)
        elif recursive:
            mirror(entry, target / name, recursive=True, overwrite=overwrite)
    if not recursive:
        for well in filter(_is_batch, wells_of(source).values()):
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
    """List the wells anew of the plates that a folder was or is a row or well of."""
    for store in (folder.parent, folder.parent.parent):
        node = node_of(store) if holds_node(store) else None
        if node is not None and is_plate(node):
            finish_plate(store)


def verify_below(folder: Path, path: str) -> Iterator[tuple[str, str | None]]:
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
            yield f"{path}/{name}".lstrip("/"), _difference(node, name, checksum)
        return
    for name in sorted(folders(folder)):
        yield from verify_below(folder / name, f"{path}/{name}".lstrip("/"))


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
