"""The kit itself: a backend with one fault fails the test that is about it."""

from __future__ import annotations

import pytest

from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.testing.backends import BackendTests


class Kit(BackendTests):
    __test__ = False
    makes_folders = False


class Shares(MemoryStorageBackend):
    def save(self, data, path, *, overwrite=False, copy=None):
        super().save(data.view(), path, overwrite=overwrite, copy=False)


class Replaces(MemoryStorageBackend):
    def save(self, data, path, *, overwrite=False, copy=None):
        super().save(data, path, overwrite=True, copy=copy)


class SortsByLetter(MemoryStorageBackend):
    def list_files(self, directory, **options):
        return sorted(super().list_files(directory, **options))


class LosesDtype(MemoryStorageBackend):
    def load(self, path, *, copy=True):
        return super().load(path, copy=copy).astype(float)


class MovesByCopy(MemoryStorageBackend):
    def move(self, source, target, *, overwrite=False):
        self.copy(source, target, overwrite=overwrite)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Shares, "test_isolation"),
        (Replaces, "test_overwrite_is_refused"),
        (Replaces, "test_one_of_two_writers_wins"),
        (SortsByLetter, "test_listing_is_natural"),
        (LosesDtype, "test_round_trip"),
        (MovesByCopy, "test_move"),
    ],
)
def test_a_fault_is_found(broken, test):
    getattr(Kit(), test)(MemoryStorageBackend())
    with pytest.raises(AssertionError):
        getattr(Kit(), test)(broken())
