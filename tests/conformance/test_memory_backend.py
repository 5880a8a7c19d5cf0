from __future__ import annotations

import pytest

from hcsflow.storage.memory import MemoryStorageBackend
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
