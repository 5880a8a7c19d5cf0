from __future__ import annotations

import pytest

from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.testing.backends import BackendTests


class OnDisk(BackendTests):
    @pytest.fixture
    def backend(self, tmp_path):
        self.root = tmp_path
        return DiskStorageBackend(tmp_path)

    def damage(self, backend, path):
        file = self.root / path
        file.write_bytes(file.read_bytes()[:-7])
        return True


class TestDiskStorageBackend(OnDisk):
    pass


class TestTiffOnDisk(OnDisk):
    suffix = ".tif"
    dtypes = ("uint8", "uint16", "int32", "float32", "float64")
    holds_odd_shapes = False

    @pytest.fixture
    def backend(self, tmp_path):
        self.root = tmp_path
        return DiskStorageBackend(tmp_path, enable_compression=True)
