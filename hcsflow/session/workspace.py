"""A plate's folder as flat files by name, to be read through the file manager."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from hcsflow.config import Backend
from hcsflow.errors import PlateError
from hcsflow.microscopes import plate_folder
from hcsflow.microscopes.index_cache import open_plate_again
from hcsflow.storage.listed_workspace import (
    ListedWorkspaceBackend,
    WorkspaceDocument,
    preferred_backend,
    read_workspace_document,
)
from hcsflow.storage.paths import contained, portable
from hcsflow.storage.virtual_workspace import VirtualWorkspaceBackend
from hcsflow.storage.wrappers import ReadOnlyBackend

__all__ = ["Workspace", "open_workspace"]

OPENHCS_METADATA = "openhcs_metadata.json"
OWN_METADATA = "hcsflow_metadata.json"
GROUP_DOCUMENTS = ("zarr.json", ".zgroup")

Workspace: TypeAlias = VirtualWorkspaceBackend | ListedWorkspaceBackend | ReadOnlyBackend


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
    a plane added, removed or renamed is noticed by its folder's times (not on FAT, exFAT and some
    FUSE mounts, where they do not follow), one overwritten in place when it is read.

    A metadata document may offer several ways to the planes. Of those that are really there the
    first is taken: the zarr store of its ``main`` subdirectory, its ``workspace_mapping``, the
    folder's own files.

    Parameters
    ----------
    folder : str or Path
        The plate's folder, or an output's, with ``hcsflow_metadata.json`` in it.
    metadata : str or Path, optional
        A document whose ``workspace_mapping`` is taken instead of what the folder holds, such as
        the ``hcsflow_metadata.json`` of an output made from this plate; its paths are relative to
        ``folder``. An ``openhcs_metadata.json`` in the folder is taken without being named.
    microscope, acquisition : str, optional
        As for `hcsflow.open_plate`; they play no part unless the folder's own files are taken.

    Returns
    -------
    VirtualWorkspaceBackend, ListedWorkspaceBackend or ReadOnlyBackend
        Read-only; for ``storage_registry.register_backend("virtual_workspace", workspace)``. The
        last is of a zarr store, whose files are not planes but arrays by their place in it:
        ``B/02/0/0`` is well B02 of an output, at full size.

    Raises
    ------
    PlateNotFoundError, PlateError
        If there is no plate, none that can be understood, or the document cannot be read or
        offers nothing that is there.
    PathError
        If a path of the document leads out of the folder.

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
    offered = _open_offered(root, metadata)
    if offered is not None:
        return offered
    model, manifest = open_plate_again(
        root, microscope=microscope, acquisition=acquisition, is_every_file_checked=False
    )
    return VirtualWorkspaceBackend(manifest, model)


def _open_offered(root: Path, metadata: str | Path | None) -> Workspace | None:
    """Open what a document offers and prefers; None for the folder's own files."""
    document = _find_document(root, metadata)
    offers = {} if document.main is None else document.backends[document.main]
    store = _find_store(root, document.main or "") if offers.get("zarr") else None
    backend = preferred_backend(
        {
            "zarr": store is not None,
            "virtual_workspace": bool(document.mapping),
            "disk": metadata is None or offers.get("disk", False),
        }
    )
    if backend is Backend.ZARR:
        from hcsflow.storage.zarr import ZarrStorageBackend

        return ReadOnlyBackend(ZarrStorageBackend(store))
    if backend is Backend.VIRTUAL_WORKSPACE:
        return ListedWorkspaceBackend(root, document.mapping)
    if backend is None:
        raise PlateError(
            f"{metadata} has no 'workspace_mapping', and offers no zarr store that is in {root}",
            hint=f"give a {OWN_METADATA}, or leave it out to read the folder itself",
        )
    return None


def _find_document(root: Path, metadata: str | Path | None) -> WorkspaceDocument:
    """Read the document that is given, or else one that lies in the folder."""
    if metadata is not None:
        return read_workspace_document(Path(metadata))
    if (root / OPENHCS_METADATA).is_file():
        return read_workspace_document(root / OPENHCS_METADATA)
    if (root / OWN_METADATA).is_file():  # in an output; its mapping is of the plate it was made of
        return read_workspace_document(root / OWN_METADATA)._replace(mapping={})
    return WorkspaceDocument(None, {}, {})


def _find_store(root: Path, name: str) -> Path | None:
    """Return where a subdirectory lies that is a zarr group; None where there is none."""
    store = contained(root, portable(name))
    return store if any((store / document).is_file() for document in GROUP_DOCUMENTS) else None
