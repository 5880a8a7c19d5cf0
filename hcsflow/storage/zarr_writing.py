"""Writing batches of planes into Zarr stores, and what is refused before anything is written."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcsflow.errors import PlaneError, UsageError
from hcsflow.storage.incoming import as_numbers
from hcsflow.storage.paths import StrPath
from hcsflow.storage.well_batches import (
    check_names,
    plane_set,
    require_alike,
    stacked,
    write_well,
)
from hcsflow.storage.well_index import describe, find_plane, names_of
from hcsflow.storage.well_plates import finish_plate, refuse_other_plate, well_folder
from hcsflow.storage.zarr_arrays import create_array
from hcsflow.storage.zarr_commit import replacing
from hcsflow.storage.zarr_nodes import node_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hcsflow.config import ZarrConfig

__all__ = ["numbers", "refuse_place", "save_planes", "store_and_names"]

_MAX_ITEMSIZE = {"b": 1, "u": 8, "i": 8, "f": 8, "c": 16}
"""Largest numbers that Zarr has a name for, by kind, in bytes."""


def numbers(data: Any, path: StrPath) -> NDArray[Any]:
    """Return an array of any memory type as numbers in native byte order.

    Raises
    ------
    UsageError
        If zarr cannot hold it.
    """
    try:
        array = as_numbers(data)
    except TypeError as error:
        raise UsageError(
            f"{os.fspath(path)}: zarr stores arrays of numbers: {error}",
            hint="use the disk backend for tables and text",
        ) from error
    if array.itemsize > _MAX_ITEMSIZE[array.dtype.kind]:
        raise UsageError(f"{os.fspath(path)}: zarr has no {array.dtype}", hint="cast it first")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def store_and_names(paths: Sequence[StrPath]) -> tuple[str, list[str]]:
    """Return the folder that all paths of a batch lie in, and their names in it.

    Raises
    ------
    UsageError
        If they lie in several.
    """
    folders = {os.path.dirname(os.fspath(path)) for path in paths}  # noqa: PTH120 - as given
    names = [os.path.basename(os.fspath(path)) for path in paths]  # noqa: PTH119 - as given
    if len(folders) != 1:
        raise UsageError(f"a batch lies in one folder, got {len(folders)}: {sorted(folders)[:3]}")
    return folders.pop(), names


def refuse_place(target: Path, *, overwrite: bool) -> None:
    """Refuse to write an array within another, or in the place of a folder that is none.

    Raises
    ------
    NotADirectoryError
        If a folder above is an array.
    IsADirectoryError
        If a folder of other things would be replaced.
    """
    for above in target.parents:
        node = node_of(above)
        if node is not None and node.kind == "array":
            raise NotADirectoryError(
                errno.ENOTDIR, f"{above} is an array, not a folder", str(target)
            )
    if overwrite and target.is_dir() and any(target.iterdir()) and not _is_unit(target):
        raise IsADirectoryError(
            errno.EISDIR, "a folder, not an array: delete it first", str(target)
        )


def _is_unit(folder: Path) -> bool:
    """Whether a folder is one thing to replace: an array (damaged ones too) or a batch."""
    try:
        node = node_of(folder)
    except PlaneError:
        return True
    return node is not None and (node.kind == "array" or bool(names_of(node)))


def save_planes(
    store: Path,
    names: Sequence[str],
    planes: Sequence[NDArray[Any]],
    *,
    chunk_name: str,
    config: ZarrConfig,
    overwrite: bool,
) -> None:
    """Write a batch into a store; see `ZarrStorageBackend.save_batch`."""
    check_names(names, chunk_name)
    require_alike(planes)
    well = plane_set(names, planes[0])
    if well is None:
        target = store / chunk_name
        _refuse_names(store, names, target)
        refuse_place(target, overwrite=overwrite)
        with replacing(target, overwrite=overwrite) as folder:
            starts = {name: (index, 0, 0) for index, name in enumerate(names)}
            height, width = planes[0].shape
            create_array(folder, stacked(planes), config, describe("", starts, (height, width)))
        return
    keys, held = well
    target = store / well_folder(keys[0].well)
    zarr_format = 2 if config.ngff_version == "0.4" else 3
    _refuse_names(store, names, target)
    refuse_place(target, overwrite=overwrite)
    if config.write_plate_metadata:
        refuse_other_plate(node_of(store), zarr_format)  # type: ignore[arg-type]

    def finish() -> None:
        if config.write_plate_metadata:
            finish_plate(store, zarr_format)  # type: ignore[arg-type]

    with replacing(target, overwrite=overwrite, after=finish) as folder:
        write_well(folder, planes, names, keys=keys, planes=held, config=config)


def _refuse_names(store: Path, names: Sequence[str], target: Path) -> None:
    """Refuse names that another batch of the store has: they could not be told apart."""
    for name in names:
        found = find_plane(store, name)
        if found is not None and found.group.folder != target:
            raise FileExistsError(
                errno.EEXIST, f"a plane of {found.group.folder}", str(store / name)
            )
