from __future__ import annotations

import pytest

from hcsflow.storage.zarr import ZarrStorageBackend
from hcsflow.testing.backends import BackendTests


class TestZarrStorageBackend(BackendTests):
    suffix = ".zarr"

    @pytest.fixture
    def backend(self, tmp_path):
        return ZarrStorageBackend(tmp_path)
