"""Where data lives: backends behind one interface, chosen by name, and the FileManager over them.

Everything is loaded on first use: listing backends imports neither zarr nor pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hcsflow.storage.lazy import load_object

if TYPE_CHECKING:
    from hcsflow.storage.abc import (
        DataSink,
        DataSource,
        StorageBackend,
        StreamingBackend,
        VerifiableBackend,
        VirtualBackend,
    )
    from hcsflow.storage.checksums import ChecksumBackend
    from hcsflow.storage.disk import DiskStorageBackend
    from hcsflow.storage.filemanager import FileManager
    from hcsflow.storage.memory import MemoryStorageBackend
    from hcsflow.storage.registry import (
        StorageRegistry,
        create_storage_registry,
        storage_registry,
    )
    from hcsflow.storage.shared_memory import SharedMemoryStorageBackend
    from hcsflow.storage.traffic import Traffic
    from hcsflow.storage.wrappers import CountingBackend, ReadOnlyBackend
    from hcsflow.storage.zarr import ZarrStorageBackend

__all__ = [
    "ChecksumBackend",
    "CountingBackend",
    "DataSink",
    "DataSource",
    "DiskStorageBackend",
    "FileManager",
    "MemoryStorageBackend",
    "ReadOnlyBackend",
    "SharedMemoryStorageBackend",
    "StorageBackend",
    "StorageRegistry",
    "StreamingBackend",
    "Traffic",
    "VerifiableBackend",
    "VirtualBackend",
    "ZarrStorageBackend",
    "create_storage_registry",
    "storage_registry",
]

_HOMES = {
    "ChecksumBackend": "checksums",
    "CountingBackend": "wrappers",
    "ReadOnlyBackend": "wrappers",
    "Traffic": "traffic",
    "DiskStorageBackend": "disk",
    "FileManager": "filemanager",
    "MemoryStorageBackend": "memory",
    "SharedMemoryStorageBackend": "shared_memory",
    "ZarrStorageBackend": "zarr",
    "StorageRegistry": "registry",
    "create_storage_registry": "registry",
    "storage_registry": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_object(f"{__name__}.{_HOMES.get(name, 'abc')}:{name}")
