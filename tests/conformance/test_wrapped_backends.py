"""Wrapped backends are backends: each wrapper around each of ours passes the kit."""

from __future__ import annotations

import numpy as np
import pytest

from hcsflow.storage.checksums import ChecksumBackend
from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.storage.wrappers import CountingBackend
from hcsflow.storage.zarr import ZarrStorageBackend
from hcsflow.testing.backends import BackendTests
from hcsflow.testing.failing import FailingBackend
from hcsflow.testing.wrappers import LatencyBackend


class TestCountedMemory(BackendTests):
    makes_folders = False
    is_shared = False
    holds_anything = True

    @pytest.fixture
    def backend(self):
        return CountingBackend(MemoryStorageBackend())


class TestCheckedMemory(BackendTests):
    makes_folders = False
    is_shared = False
    holds_anything = True

    @pytest.fixture
    def backend(self):
        backend = ChecksumBackend(MemoryStorageBackend())
        yield backend
        assert backend.verify().is_sound


class TestCheckedDisk(BackendTests):
    def damage(self, backend, path):
        backend.inner.save(np.full((4, 5), 99, np.uint16), path, overwrite=True)
        return True

    @pytest.fixture
    def backend(self, tmp_path):
        return ChecksumBackend(DiskStorageBackend(tmp_path))


class OtherChecked(BackendTests):
    """As on disk; what other formats do in other processes has its own test."""

    @pytest.mark.slow
    def test_another_process(self, backend):
        super().test_another_process(backend)


class TestCheckedTiff(OtherChecked):
    suffix = ".tif"
    holds_odd_shapes = False
    dtypes = ("uint8", "uint16", "int32", "float32", "float64")

    @pytest.fixture
    def backend(self, tmp_path):
        return ChecksumBackend(DiskStorageBackend(tmp_path))


class TestCheckedZarr(OtherChecked):
    suffix = ".zarr"

    @pytest.fixture
    def backend(self, tmp_path):
        backend = ChecksumBackend(ZarrStorageBackend(tmp_path))
        yield backend
        assert backend.verify().is_sound


class TestWrappersInWrappers(BackendTests):
    makes_folders = False
    is_shared = False
    holds_anything = True

    @pytest.fixture
    def backend(self):
        slow = LatencyBackend(ChecksumBackend(MemoryStorageBackend()), 1e-5)
        return CountingBackend(FailingBackend(slow, on=10**9))
