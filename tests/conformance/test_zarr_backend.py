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


class Variation(ZarrTests):
    """The same backend with other settings, which have nothing to do with processes."""

    @pytest.mark.slow
    def test_another_process(self, backend):
        super().test_another_process(backend)


class TestZarrOnePlaneAnObject(Variation):
    __test__ = True
    config = ZarrConfig(chunk_strategy="file", compressor="lz4")


class TestZarrAdaptiveGzip(Variation):
    __test__ = True
    config = ZarrConfig(chunk_strategy="adaptive", compressor="gzip")


class TestZarr2(Variation):
    __test__ = True
    config = ZarrConfig(ngff_version="0.4")


class TestZarr2OnePlaneAnObjectPlain(Variation):
    __test__ = True
    config = ZarrConfig(ngff_version="0.4", chunk_strategy="file", compressor="none")
