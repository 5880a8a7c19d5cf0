"""A plate's folder as flat files by name, to be read through the file manager."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from hcsflow.errors import PlateError
from hcsflow.microscopes import plate_folder
from hcsflow.microscopes.index_cache import open_plate_again
from hcsflow.storage.listed_workspace import ListedWorkspaceBackend, read_workspace_document
from hcsflow.storage.virtual_workspace import VirtualWorkspaceBackend

__all__ = ["Workspace", "open_workspace"]

OPENHCS_METADATA = "openhcs_metadata.json"

Workspace: TypeAlias = VirtualWorkspaceBackend | ListedWorkspaceBackend


def open_workspace(
    folder: str | Path,
    *,
    metadata: str | Path | None = None,
    microscope: str | None = None,
    acquisition: str | None = None,
) -> Workspace:
    """Present a plate's planes as the files of one folder; nothing is copied, linked or written.

    The names are ``{well}_s{field}_w{channel}_z{z}_t{time}.tif``, counted from 1. What was found
    is kept in the user's cache folder and used again while the plate's folders are as they were:
    a plane added, removed or renamed is noticed then, one overwritten in place when it is read.

    Parameters
    ----------
    folder : str or Path
        The plate's folder.
    metadata : str or Path, optional
        A document whose ``workspace_mapping`` is taken instead of what the folder holds, such as
        the ``hcsflow_metadata.json`` of an output made from this plate. An
        ``openhcs_metadata.json`` in the folder that has one is taken without being named.
    microscope, acquisition : str, optional
        As for `hcsflow.open_plate`; they play no part where a mapping is taken.

    Returns
    -------
    VirtualWorkspaceBackend or ListedWorkspaceBackend
        Read-only; for ``storage_registry.register_backend("virtual_workspace", workspace)``.

    Raises
    ------
    PlateNotFoundError, PlateError
        If there is no plate, none that can be understood, or the document cannot be read or has
        no mapping.
    PathError
        If a path of the mapping leads out of the folder.

    Examples
    --------
    >>> import hcsflow as hf
    >>> from hcsflow.storage import create_storage_registry
    >>> registry = create_storage_registry()
    >>> workspace = hf.open_workspace("my_plate")  # doctest: +SKIP
    >>> registry.register_backend("virtual_workspace", workspace)  # doctest: +SKIP
    >>> files = hf.FileManager(registry)
    >>> files.load_image("A01_s001_w1_z001_t001.tif", "virtual_workspace")  # doctest: +SKIP
    """
    root = plate_folder(Path(folder))
    if metadata is not None:
        mapping = read_workspace_document(Path(metadata)).mapping
        if not mapping:
            raise PlateError(
                f"{metadata} has no 'workspace_mapping'",
                hint="give a hcsflow_metadata.json, or leave it out to read the folder itself",
            )
        return ListedWorkspaceBackend(root, mapping)
    beside = root / OPENHCS_METADATA
    mapping = read_workspace_document(beside).mapping if beside.is_file() else {}
    if mapping:
        return ListedWorkspaceBackend(root, mapping)
    model, manifest = open_plate_again(
        root, microscope=microscope, acquisition=acquisition, is_every_file_checked=False
    )
    return VirtualWorkspaceBackend(manifest, model)
