from __future__ import annotations

import os

import pytest

from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.storage.shared_memory import SharedMemoryStorageBackend
from hcsflow.testing.backends import BackendTests


class TestMemoryStorageBackend(BackendTests):
    makes_folders = False
    is_shared = False
    holds_anything = True

    @pytest.fixture
    def backend(self):
        return MemoryStorageBackend()


class TestSpillingMemory(BackendTests):
    """Everything but the last few bytes lies on disk; nothing else may differ."""

    makes_folders = False
    is_shared = False
    holds_anything = True

    @pytest.fixture
    def backend(self, tmp_path):
        backend = MemoryStorageBackend(limit_bytes=100, spill_dir=tmp_path)
        yield backend
        backend.close()
        assert list(tmp_path.iterdir()) == []


class TestCompressedMemory(BackendTests):
    """All of it lies on disk, compressed."""

    makes_folders = False
    is_shared = False
    holds_anything = True

    @pytest.fixture
    def backend(self, tmp_path):
        backend = MemoryStorageBackend(
            limit_bytes=0, spill_dir=tmp_path, enable_compression=True, cleanup_threshold=0.5
        )
        yield backend
        backend.close()
        assert list(tmp_path.iterdir()) == []


class TestSharedMemory(BackendTests):
    """The store of several processes, in memory and in any other folder."""

    makes_folders = False
    holds_anything = True

    def damage(self, backend, path):
        file = backend.folder / "files" / path
        os.truncate(file, file.stat().st_size - 1)
        return True

    @pytest.fixture(params=["memory", "folder"])
    def backend(self, tmp_path, request):
        parent = tmp_path if request.param == "folder" else None
        backend = SharedMemoryStorageBackend(parent=parent)
        yield backend
        backend.close()
        assert list(tmp_path.iterdir()) == []
