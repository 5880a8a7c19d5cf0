from __future__ import annotations

import pytest

from hcsflow.config import ZarrConfig
from hcsflow.storage.zarr import ZarrStorageBackend
from hcsflow.testing.backends import BackendTests


class ZarrTests(BackendTests):
    __test__ = False
    suffix = ".zarr"
    config = ZarrConfig()

    @pytest.fixture
    def backend(self, tmp_path):
        return ZarrStorageBackend(tmp_path, config=self.config)


class TestZarrStorageBackend(ZarrTests):
    __test__ = True


class TestZarrOnePlaneAnObject(ZarrTests):
    __test__ = True
    config = ZarrConfig(chunk_strategy="file", compressor="lz4")


class TestZarrAdaptiveGzip(ZarrTests):
    __test__ = True
    config = ZarrConfig(chunk_strategy="adaptive", compressor="gzip")


class TestZarr2(ZarrTests):
    __test__ = True
    config = ZarrConfig(ngff_version="0.4")


class TestZarr2OnePlaneAnObjectPlain(ZarrTests):
    __test__ = True
    config = ZarrConfig(ngff_version="0.4", chunk_strategy="file", compressor="none")
