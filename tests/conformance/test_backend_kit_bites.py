"""The kit itself: a backend with one fault fails the test that is about it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from hcsflow.arrays import is_installed
from hcsflow.errors import PlaneError
from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.testing.backends import BackendTests


class Kit(BackendTests):
    __test__ = False
    makes_folders = False
    is_shared = False
    holds_anything = True


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


class Squeezes(MemoryStorageBackend):
    def save(self, data, path, *, overwrite=False, copy=None):
        super().save(np.squeeze(data), path, overwrite=overwrite, copy=copy)


class NumpyOnly(MemoryStorageBackend):
    def load(self, path, *, copy=True):
        found = super().load(path, copy=copy)
        return found if isinstance(found, np.ndarray) else np.zeros(found.shape)


class BlindToCase(MemoryStorageBackend):
    def save(self, data, path, *, overwrite=False, copy=None):
        super().save(data, os.fspath(path).lower(), overwrite=True, copy=copy)

    def load(self, path, *, copy=True):
        return super().load(os.fspath(path).lower(), copy=copy)


class CutsNames(MemoryStorageBackend):
    def save(self, data, path, *, overwrite=False, copy=None):
        super().save(data, os.fspath(path)[:100], overwrite=overwrite, copy=copy)


class ReplacesFolders(MemoryStorageBackend):
    def save(self, data, path, *, overwrite=False, copy=None):
        if self.is_dir(path):
            self.delete_all(path)
        super().save(data, path, overwrite=overwrite, copy=copy)


class GoesOn(MemoryStorageBackend):
    def save_batch(self, data, paths, *, overwrite=False):
        if len(data) != len(paths):
            raise ValueError("unequal")
        errors = []
        for item, path in zip(data, paths, strict=True):
            try:
                self.save(item, path, overwrite=overwrite)
            except FileExistsError as error:
                errors.append(error)
        if errors:
            raise errors[0]


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Shares, "test_isolation"),
        (Replaces, "test_overwrite_is_refused"),
        (Replaces, "test_one_of_two_writers_wins"),
        (SortsByLetter, "test_listing_is_natural"),
        (LosesDtype, "test_round_trip"),
        (MovesByCopy, "test_move"),
        (Squeezes, "test_odd_shapes"),
        (NumpyOnly, "test_memory_types"),
        (BlindToCase, "test_case"),
        (CutsNames, "test_names"),
        (ReplacesFolders, "test_files_are_no_folders"),
        (GoesOn, "test_a_failed_batch_keeps_its_first_parts"),
    ],
)
def test_a_fault_is_found(broken, test):
    if broken is NumpyOnly and not (is_installed("torch") or is_installed("jax")):
        pytest.skip("neither torch nor jax is installed: pip install 'hcsflow[torch]'")
    getattr(Kit(), test)(MemoryStorageBackend())
    with pytest.raises((AssertionError, OSError)):
        getattr(Kit(), test)(broken())


class DiskKit(BackendTests):
    __test__ = False

    def damage(self, backend, path):
        file = backend.root / path
        file.write_bytes(file.read_bytes()[:-7])
        return True


class Disk(DiskStorageBackend):
    def __init__(self, root=None):
        self.root = Path(root or tempfile.mkdtemp(dir=tempfile.tempdir))
        super().__init__(self.root)


class Sound(Disk):
    def __reduce__(self):  # classes of a test file cannot be imported by another process
        return DiskStorageBackend, (self.root,)


class HidesDamage(Disk):
    def load(self, path, *, allow_pickle=False):
        try:
            return super().load(path, allow_pickle=allow_pickle)
        except PlaneError:
            return np.zeros((4, 5), np.uint16)


class MovesHouse(Disk):
    def __reduce__(self):
        return type(self), ()


class LeavesHalf(Disk):
    def save(self, data, path, *, overwrite=False, allow_pickle=False):
        if not isinstance(data, np.ndarray):
            (self.root / path).write_bytes(b"")
            raise ValueError("not an array")  # noqa: TRY004 - as backends do
        super().save(data, path, overwrite=overwrite, allow_pickle=allow_pickle)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (HidesDamage, "test_damage_is_found"),
        (MovesHouse, "test_pickling"),
        (MovesHouse, "test_another_process"),
        (LeavesHalf, "test_what_cannot_be_held_is_refused"),
    ],
)
def test_a_fault_on_disk_is_found(broken, test, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    getattr(DiskKit(), test)(Sound(tmp_path))
    with pytest.raises((AssertionError, FileNotFoundError)):
        getattr(DiskKit(), test)(broken())
