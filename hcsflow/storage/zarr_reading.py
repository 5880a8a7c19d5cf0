"""Reading arrays and named planes of Zarr stores, our own and others'."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import zarr

from hcsflow.errors import PlaneError
from hcsflow.storage.well_index import StoredPlane, checksums_of, find_plane
from hcsflow.storage.zarr_chunks import DAMAGE, TOO_LARGE, ChunkReader, damaged, native, open_chunks
from hcsflow.storage.zarr_nodes import WHOLE, Node, node_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["find_array", "open_lazily", "read_all", "read_array", "read_planes", "stored_nbytes"]

TRIES = 100
"""How often something that is replaced while it is read is read again."""

T = TypeVar("T")
R = TypeVar("R")


def find_array(folder: Path, path: str) -> Node:
    """Return an array's node.

    Raises
    ------
    IsADirectoryError
        If it is a group or folder: says what it is, and what to load.
    FileNotFoundError
        If it is nothing.
    PlaneError
        If it is damaged.
    """
    node = node_of(folder)
    if node is not None and node.kind == "array":
        return node
    if node is not None:
        raise IsADirectoryError(errno.EISDIR, _kind_of_group(node, path), path)
    if folder.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder, not an array", path)
    if folder.exists():
        raise FileNotFoundError(errno.ENOENT, "a file, not a Zarr array (a folder)", path)
    raise FileNotFoundError(errno.ENOENT, "no array or plane", path)


def _kind_of_group(node: Node, path: str) -> str:
    space = node.attributes.get("ome", node.attributes)
    if not isinstance(space, Mapping):
        space = {}
    try:
        if "plate" in space:
            well = space["plate"]["wells"][0]["path"]
            return f"an OME-Zarr plate: load a plane by its name, or a well's '{path}/{well}/0/0'"
        if "multiscales" in space:
            levels = [level["path"] for level in space["multiscales"][0]["datasets"]]
            return f"an OME-Zarr image, not an array: load one of its levels, '{path}/{levels[0]}'"
        if "well" in space:
            image = space["well"]["images"][0]["path"]
            return f"an OME-Zarr well: load a level of one of its images, '{path}/{image}/0'"
    except (LookupError, TypeError):
        return "an OME-Zarr group whose attributes are damaged, not an array"
    return "a Zarr group, not an array: load one of the arrays in it (list_files names them)"


def open_lazily(node: Node) -> Any:
    """Return a read-only `zarr.Array`.

    Raises
    ------
    PlaneError
        If it is damaged, or has a codec or dtype that cannot be read.
    """
    document = node.document if node.zarr_format == 2 else {}
    codecs = (*(document.get("filters") or ()), document.get("compressor"))
    if any(isinstance(one, Mapping) and one.get("id") == "pickle" for one in codecs):
        raise damaged(node.file, "its elements are pickles, and reading one runs code")
    try:
        return zarr.open_array(node.folder, mode="r", zarr_format=node.zarr_format)
    except FileNotFoundError:
        raise
    except (*DAMAGE, *TOO_LARGE) as error:
        raise damaged(node.file, error) from error


def read_array(folder: Path, path: str) -> NDArray[Any]:
    """Return all of an array, as it was at one moment.

    Raises
    ------
    PlaneError
        If it is damaged or of a kind that cannot be read.
    OSError
        As `find_array`, and where a file cannot be read.
    """

    def find() -> Node:
        return find_array(folder, path)

    return _steady(find(), find, _whole, lambda node: [node])


def _whole(node: Node) -> NDArray[Any]:
    reader = open_chunks(node)
    if reader is not None:
        with reader:
            pixels = reader.read_all()
        if pixels is not None:
            return pixels
        _refuse_gone(node)
    array = open_lazily(node)  # knows more codecs, and what stands for chunks that are absent
    try:
        return native(np.asarray(array[...]))
    except (*DAMAGE, *TOO_LARGE) as error:
        raise damaged(node.folder, error) from error


def _refuse_gone(node: Node) -> None:
    """Refuse an array that lacks a chunk, unless it never had it.

    What a batch or another program left out is absent by design; of a batch, all objects are
    known by their checksums.
    """
    if node.attributes.get(WHOLE):
        raise damaged(node.folder, "it was written whole, and one of its chunks is missing")
    for above in (node.folder.parent, node.folder.parent.parent):
        group = node_of(above)
        recorded = {} if group is None else checksums_of(group)
        for name in recorded:
            file = above / name
            if file.is_relative_to(node.folder) and not file.exists():
                raise damaged(file, "the object is missing")


def read_all(
    folders: Sequence[Path], paths: Sequence[str], base: Path | None
) -> list[NDArray[Any]]:
    """Return what is at each place, an array or a named plane; errors as for both."""
    found: dict[int, NDArray[Any]] = {}
    planes: dict[Path, dict[int, str]] = {}
    for number, (folder, path) in enumerate(zip(folders, paths, strict=True)):
        if folder.exists():
            found[number] = read_array(folder, path)
        else:
            planes.setdefault(folder.parent, {})[number] = folder.name
    for store, names in planes.items():
        found.update(zip(names, read_planes(store, [*names.values()], base), strict=True))
    return [found[number] for number in range(len(paths))]


def read_planes(store: Path, names: Sequence[str], base: Path | None = None) -> list[NDArray[Any]]:
    """Return named planes of a store, each array opened once; none from out of ``base``.

    Raises
    ------
    PathError
        If a link leads out of the base.
    FileNotFoundError
        If a name is not there.
    PlaneError
        If a plane is damaged, or missing although its batch has its name.
    """
    found: dict[str, NDArray[Any]] = {}
    for group in _grouped(store, names, base).values():
        found.update(zip(group, _read_together(store, group, base), strict=True))
    if len(found) == len(names):
        return [found[name] for name in names]
    return [found[name].copy() for name in names]  # asked for twice, a plane is two arrays


def _grouped(
    store: Path, names: Sequence[str], base: Path | None
) -> dict[Path, dict[str, StoredPlane]]:
    """Return where planes lie, those of one array together."""
    groups: dict[Path, dict[str, StoredPlane]] = {}
    for name in dict.fromkeys(names):
        plane = _find(store, name, base)
        groups.setdefault(plane.array, {})[name] = plane
    return groups


def _read_together(
    store: Path, group: dict[str, StoredPlane], base: Path | None
) -> list[NDArray[Any]]:
    """Return planes that one array holds."""
    return _steady(
        list(group.values()),
        lambda: [_find(store, name, base) for name in group],
        _read_group,
        lambda planes: [plane.group for plane in planes],
    )


def _find(store: Path, name: str, base: Path | None) -> StoredPlane:
    plane = find_plane(store, name, base)
    if plane is None:
        raise FileNotFoundError(errno.ENOENT, "no array or plane", str(store / name))
    return plane


def _read_group(planes: Sequence[StoredPlane]) -> list[NDArray[Any]]:
    """Return planes of one array."""
    node = find_array(planes[0].array, str(planes[0].array))
    reader = open_chunks(node)
    if reader is None or not all(reader.holds(plane.start, plane.box) for plane in planes):
        array = open_lazily(node)
        return [_read_lazily(array, plane, node) for plane in planes]
    with reader:
        return [_read_plane(reader, plane) for plane in planes]


def _read_plane(reader: ChunkReader, plane: StoredPlane) -> NDArray[Any]:
    pixels = reader.read(plane.start, plane.box)
    if pixels is None:
        raise damaged(plane.array, f"the object of the plane at {list(plane.start)} is missing")
    return pixels.reshape(plane.shape_yx)


def _read_lazily(array: Any, plane: StoredPlane, node: Node) -> NDArray[Any]:
    cut = [slice(at, at + size) for at, size in zip(plane.start, plane.box, strict=True)]
    if len(cut) != array.ndim or any(
        one.stop > size for one, size in zip(cut, array.shape, strict=False)
    ):
        raise damaged(plane.array, f"{array.shape} has no plane at {list(plane.start)}")
    try:
        return native(np.asarray(array[tuple(cut)])).reshape(plane.shape_yx)
    except (*DAMAGE, *TOO_LARGE) as error:
        raise damaged(node.folder, error) from error


def stored_nbytes(plane: StoredPlane) -> int:
    """Return what a plane takes of its array's object, in bytes; 0 where that is not known."""
    reader = open_chunks(find_array(plane.array, str(plane.array)))
    if reader is None or not reader.holds(plane.start, plane.box):
        return 0
    with reader:
        return reader.nbytes(plane.start, plane.box)


def _steady(
    found: T,
    find_again: Callable[[], T],
    read: Callable[[T], R],
    nodes: Callable[[T], Sequence[Node]],
) -> R:
    """Read what was found; find and read it again where it was replaced while it was read."""
    for _ in range(TRIES):
        try:
            data = read(found)
        except (OSError, PlaneError):
            if all(node.is_current() for node in nodes(found)):
                raise
        else:
            if all(node.is_current() for node in nodes(found)):
                return data
        found = find_again()
    raise BlockingIOError(errno.EAGAIN, "replaced again and again", str(nodes(found)[0].folder))
