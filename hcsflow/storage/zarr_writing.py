"""Writing batches of planes into Zarr stores, and what is refused before anything is written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcsflow.config import ZarrConfig
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
from hcsflow.storage.well_index import (
    describe,
    find_plane,
    holder_of,
    mark_batch,
    names_of,
)
from hcsflow.storage.well_plates import finish_plate, refuse_other_plate, well_folder
from hcsflow.storage.zarr_arrays import create_array
from hcsflow.storage.zarr_commit import replacing
from hcsflow.storage.zarr_nodes import WHOLE, node_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "checked_attributes",
    "checked_config",
    "numbers",
    "plane_error",
    "refuse_hidden",
    "refuse_place",
    "refuse_shadow",
    "save_planes",
    "store_and_names",
]

_MAX_ITEMSIZE = {"b": 1, "u": 8, "i": 8, "f": 8, "c": 16}
"""Largest numbers that Zarr has a name for, by kind, in bytes."""


def checked_config(given: object, default: ZarrConfig) -> ZarrConfig:
    """Return the settings of a call, or the backend's own.

    Raises
    ------
    UsageError
        If they are no `ZarrConfig`.
    """
    config = default if given is None else given
    if not isinstance(config, ZarrConfig):
        raise UsageError(
            f"zarr_config must be a ZarrConfig, got {type(config).__name__} {config!r}",
            hint="e.g. zarr_config=ZarrConfig(chunk_strategy='file')",
        )
    return config


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


def checked_attributes(attributes: Mapping[str, Any] | None, path: StrPath) -> dict[str, Any]:
    """Return attributes that JSON can hold.

    Raises
    ------
    UsageError
        If it cannot: it has no NaN and no infinity, and no objects of numpy.
    """
    given = dict(attributes or {})
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{os.fspath(path)}: its attributes cannot be JSON: {error}",
            hint="give text, numbers, lists and mappings of them; None for NaN",
        ) from error
    return given


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
    IsADirectoryError
        If a folder of other things would be replaced.
    UsageError, FileExistsError, NotADirectoryError
        As for `refuse_shadow`.
    """
    refuse_shadow(target, overwrite=overwrite)
    _refuse_folder(target, overwrite=overwrite)


def _refuse_folder(target: Path, *, overwrite: bool) -> None:
    if overwrite and target.is_dir() and any(target.iterdir()) and not _is_unit(target):
        raise IsADirectoryError(
            errno.EISDIR, "a folder, not an array: delete it first", str(target)
        )


def refuse_shadow(target: Path, *, overwrite: bool) -> None:
    """Refuse a place below an array, and the name of a plane that a batch keeps.

    Raises
    ------
    NotADirectoryError
        If a folder above is an array, or a plane.
    FileExistsError, UsageError
        If the place is a plane's: without, and with ``overwrite``, as it is not to be replaced.
    """
    for above in target.parents:
        node = node_of(above)
        if node is not None and node.kind == "array":
            raise NotADirectoryError(
                errno.ENOTDIR, f"{above} is an array, not a folder", str(target)
            )
        if node is None and not above.exists() and holder_of(above.parent, above.name):
            raise NotADirectoryError(
                errno.ENOTDIR, f"{above} is a plane of a batch, not a folder", str(target)
            )
    holder = None if os.path.lexists(target) else holder_of(target.parent, target.name)
    if holder is not None and overwrite:
        raise plane_error(target)
    if holder is not None:
        raise FileExistsError(errno.EEXIST, f"a plane of {holder}", str(target))


def refuse_hidden(start: Path, end: Path) -> None:
    """Refuse to bring a batch to where arrays have the names of its planes.

    Raises
    ------
    FileExistsError
        If one has.
    """
    try:
        node = node_of(start)
    except PlaneError:
        return  # what is damaged may still be moved; it names no planes
    if node is None:
        return
    store = end.parent if node.kind == "array" else end.parent.parent
    for name in names_of(node):
        _refuse_array(store / name)


def _refuse_array(place: Path) -> None:
    if os.path.lexists(place):
        text = "an array or folder of its own: delete it first"
        raise FileExistsError(errno.EEXIST, text, str(place))


def plane_error(path: StrPath) -> UsageError:
    """Return the error for changing a plane of a batch by itself."""
    return UsageError(
        f"{os.fspath(path)} is a plane of a stored image, not an array of its own",
        hint="load it, or rearrange the folder of the whole image",
    )


def _is_unit(folder: Path) -> bool:
    """Whether a folder is one thing to replace: an array (damaged ones too) or a batch."""
    try:
        node = node_of(folder)
    except PlaneError:
        return True
    return node is not None and (node.kind == "array" or bool(names_of(node)))


def save_planes(
    place: Callable[[str], Path],
    names: Sequence[str],
    planes: Sequence[NDArray[Any]],
    *,
    chunk_name: str,
    config: ZarrConfig,
    overwrite: bool,
) -> None:
    """Write a batch into a store; see `ZarrStorageBackend.save_batch`.

    ``place`` gives the folder of a path below the store, and refuses one that a link leads out of
    the backend's base.
    """
    store = place("")
    check_names(names, chunk_name)
    require_alike(planes)
    well = plane_set(names, planes[0], chunk_name)
    if well is None:
        if chunk_name in names:
            raise UsageError(f"{chunk_name!r} is both a plane and the batch", hint="rename one")
        target = place(chunk_name)
        _refuse_names(store, names, target)
        refuse_place(target, overwrite=overwrite)
        mark = partial(mark_batch, target)
        with replacing(target, overwrite=overwrite, after=mark) as folder:
            starts = {name: (index, 0, 0) for index, name in enumerate(names)}
            height, width = planes[0].shape
            facts = describe("", starts, (height, width))
            create_array(folder, stacked(planes), config, {**facts, WHOLE: True})
        return
    keys, held = well
    target = place(well_folder(keys[0].well))
    zarr_format = 2 if config.ngff_version == "0.4" else 3
    _refuse_names(store, names, target)
    refuse_shadow(target.parent, overwrite=False)  # a well is no plane: its row's need not be read
    _refuse_folder(target, overwrite=overwrite)
    if config.write_plate_metadata:
        refuse_other_plate(node_of(store), zarr_format)  # type: ignore[arg-type]

    def finish() -> None:
        if config.write_plate_metadata:
            finish_plate(store, zarr_format)  # type: ignore[arg-type]

    with replacing(target, overwrite=overwrite, after=finish) as folder:
        write_well(folder, planes, names, keys=keys, planes=held, config=config)


def _refuse_names(store: Path, names: Sequence[str], target: Path) -> None:
    """Refuse names that an array or another batch has: they could not be told apart."""
    for name in names:
        _refuse_array(store / name)
        found = find_plane(store, name)
        if found is not None and found.group.folder != target:
            text = f"a plane of {found.group.folder}: delete that first (delete_all)"
            raise FileExistsError(errno.EEXIST, text, str(store / name))
