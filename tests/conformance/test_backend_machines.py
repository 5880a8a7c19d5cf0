"""Any sequence of operations leaves a backend and a dict alike; a broken backend is found."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from hcsflow.config import ZarrConfig
from hcsflow.storage.checksums import ChecksumBackend
from hcsflow.storage.disk import DiskStorageBackend
from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.storage.shared_memory import SharedMemoryStorageBackend
from hcsflow.storage.zarr import ZarrStorageBackend
from hcsflow.testing.machine import BackendMachine

EXAMPLES = 200 if os.environ.get("CI") else 20
"""As the issue of the storage floor asks in CI; fewer while developing."""


class MemoryMachine(BackendMachine):
    makes_folders = False

    def make_backend(self):
        return MemoryStorageBackend()


class SpillingMachine(BackendMachine):
    makes_folders = False

    def make_backend(self):
        return MemoryStorageBackend(limit_bytes=5)

    def teardown(self):
        self.backend.close()


class CompressingMachine(SpillingMachine):
    """Some arrays stay in memory, the others lie on disk, compressed."""

    def make_backend(self):
        return MemoryStorageBackend(limit_bytes=20, cleanup_threshold=0.5, enable_compression=True)


class SharedMachine(SpillingMachine):
    def make_backend(self):
        return SharedMemoryStorageBackend()


class OnDisk(BackendMachine):
    kind = DiskStorageBackend

    def make_backend(self):
        self.folder = tempfile.mkdtemp(prefix="hcsflow-machine-")
        return self.kind(self.folder)

    def teardown(self):
        shutil.rmtree(self.folder)


class ZarrMachine(OnDisk):
    suffix = ".zarr"
    kind = ZarrStorageBackend


class Zarr2Machine(ZarrMachine):
    kind = partial(ZarrStorageBackend, config=ZarrConfig(ngff_version="0.4"))


class CheckedMachine(OnDisk):
    """Checksums go with their files, whatever becomes of these."""

    def make_backend(self):
        return ChecksumBackend(super().make_backend())

    def teardown(self):
        assert self.backend.verify().is_sound
        super().teardown()


def play(machine, *, examples=EXAMPLES, phases=tuple(Phase)):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


MACHINES = (
    MemoryMachine,
    SpillingMachine,
    CompressingMachine,
    SharedMachine,
    OnDisk,
    CheckedMachine,
    ZarrMachine,
    Zarr2Machine,
)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_backend_is_as_a_dict(machine):
    play(machine)


class KeepsOld(MemoryStorageBackend):
    def save(self, data, path, *, overwrite=False, copy=None):
        if not (overwrite and self.is_file(path)):
            super().save(data, path, overwrite=overwrite, copy=copy)


class DeletesAll(MemoryStorageBackend):
    def delete(self, path):
        self.delete_all(path)


@pytest.mark.parametrize("broken", [KeepsOld, DeletesAll])
def test_a_broken_backend_is_found(broken):
    class Machine(MemoryMachine):
        def make_backend(self):
            return broken()

    with pytest.raises(AssertionError):
        play(Machine, examples=200, phases=[Phase.generate])
