"""The plate that the wells of a store make, written by whoever adds or removes a well.

Any number of processes may do so at once, without a lock: each writes what it finds, looks again,
and is done when what is written is what is there. So whoever writes last has seen all wells.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from hcsflow.errors import PlateError, UsageError
from hcsflow.ngff.metadata import plate_attributes
from hcsflow.plate.names import column_label, parse_well, plate_labels, row_label
from hcsflow.storage.zarr_commit import sweep
from hcsflow.storage.zarr_nodes import Node, holds_node, node_of, put_group

__all__ = [
    "finish_plate",
    "is_plate",
    "refuse_other_plate",
    "well_folder",
    "wells_of",
]

Format = Literal[2, 3]


def well_folder(name: str) -> str:
    """Return a well's folder below the store, ``"B/03"``."""
    row, column = parse_well(name)
    return f"{row_label(row)}/{column_label(column)}"


def wells_of(store: Path) -> dict[str, Path]:
    """Return the wells of a store that are groups, by canonical name."""
    return {
        row.name + entry.name: entry
        for row in sorted(store.iterdir())
        if _is_well(row.name, "01") and row.is_dir()
        for entry in sorted(row.iterdir())
        if _is_well(row.name, entry.name) and holds_node(entry)
    }


def _is_well(row: str, column: str) -> bool:
    try:
        return well_folder(row + column) == f"{row}/{column}"
    except PlateError:
        return False


def finish_plate(store: Path, zarr_format: Format | None = None) -> tuple[str, ...]:
    """Write the plate's document, listing exactly the wells that are there, and its rows'.

    What killed processes left unfinished among them goes, see `hcsflow.storage.zarr_commit.sweep`.

    Parameters
    ----------
    store : Path
        The plate's folder. Name and acquisitions that its document gives stay, and so do
        attributes that are not of the plate.
    zarr_format : 2 or 3, optional
        2 for NGFF 0.4, 3 for 0.5; the store's by default.

    Returns
    -------
    tuple of str
        Names of the wells, row by row. Without any there is no plate.

    Raises
    ------
    UsageError
        If the store is an array, of the other format, or a plate whose wells lie elsewhere than
        in ``<row>/<column>``.
    OSError
        If a document cannot be written; the plate that was there still stands.
    """
    rows = (row for row in store.iterdir() if _is_well(row.name, "01") and not row.is_symlink())
    for folder in (store, *rows):
        sweep(folder)
    while True:
        wells = tuple(wells_of(store))
        group = node_of(store)
        kind = zarr_format or (3 if group is None else group.zarr_format)
        refuse_other_plate(group, kind)
        found = {} if group is None else group.attributes
        wanted = _with_plate(found, store, wells, kind)
        if wanted == found and (group is not None or not wells):
            return wells
        _write(store, wells, kind, wanted)


def refuse_other_plate(group: Node | None, zarr_format: Format) -> None:
    """Refuse to add wells to what is no plate of this format, laid out as ours are."""
    if group is None:
        return
    if group.kind == "array":
        raise UsageError(f"{group.folder} is an array, not a plate", hint="choose another store")
    if group.zarr_format != zarr_format:
        raise UsageError(
            f"{group.folder} is a store of Zarr {group.zarr_format}, asked for is {zarr_format}",
            hint="give the ngff_version of the store (0.4 is Zarr 2, 0.5 is Zarr 3), or another",
        )
    plate = _plate_of(group.attributes, zarr_format)
    paths = [str(well.get("path")) for well in plate.get("wells", ())]
    odd = [path for path in paths if path.count("/") != 1 or not _is_well(*path.split("/"))]
    if odd:
        raise UsageError(
            f"{group.folder} is a plate of another program: its well {odd[0]!r} is not named "
            "as 'B/03' is",
            hint="save into a store of its own",
        )


def is_plate(group: Node) -> bool:
    """Whether a node is the group of a plate."""
    return bool(_plate_of(group.attributes, group.zarr_format))


def _plate_of(attributes: Mapping[str, Any], kind: Format) -> Mapping[str, Any]:
    space = attributes.get("ome") if kind == 3 else attributes
    found = space.get("plate") if isinstance(space, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _with_plate(
    attributes: Mapping[str, Any], store: Path, wells: tuple[str, ...], kind: Format
) -> dict[str, Any]:
    """Return a group's attributes with the plate's among them; without wells there is none."""
    rest = {key: value for key, value in attributes.items() if key not in ("ome", "plate")}
    if not wells:
        return rest if _plate_of(attributes, kind) else dict(attributes)
    old = _plate_of(attributes, kind)
    rows, columns = plate_labels(wells, (len(old.get("rows", ())), len(old.get("columns", ()))))
    name = store.name.removesuffix(".zarr")
    made = plate_attributes(
        name, rows=rows, columns=columns, wells=wells, version="0.4" if kind == 2 else "0.5"
    )
    kept = {key: old[key] for key in ("name", "acquisitions", "field_count") if key in old}
    plate = {**_plate_of(made, kind), **kept}
    return {**rest, **({"plate": plate} if kind == 2 else {"ome": {**made["ome"], "plate": plate}})}


def _write(store: Path, wells: tuple[str, ...], kind: Format, attributes: dict[str, Any]) -> None:
    rows = {store / well_folder(well).partition("/")[0] for well in wells}
    made = [row for row in sorted(rows) if not row.is_symlink() and not holds_node(row)]
    try:
        for row in made:
            put_group(row, kind, {})
        put_group(store, kind, attributes)
    except OSError:
        for row in made:
            (row / ("zarr.json" if kind == 3 else ".zgroup")).unlink(missing_ok=True)
        raise
