from __future__ import annotations

import pytest

from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.testing.backends import BackendTests


class TestDiskStorageBackend(BackendTests):
    @pytest.fixture
    def backend(self, tmp_path):
        return DiskStorageBackend(tmp_path)


class TestTiffOnDisk(BackendTests):
    suffix = ".tif"
    dtypes = ("uint8", "uint16", "int32", "float32", "float64")

    @pytest.fixture
    def backend(self, tmp_path):
        return DiskStorageBackend(tmp_path, enable_compression=True)
