"""The backend written out in the documentation of the interface passes the kit."""

from __future__ import annotations

import doctest
import subprocess
import sys
from typing import Any

import pytest

import hcsflow.storage.abc as interface
from hcsflow.testing.backends import BackendTests


def documented() -> Any:
    """Return the class that the documentation's example defines."""
    found: dict[str, Any] = dict(vars(interface))
    text = interface.StorageBackend.__doc__ or ""
    for example in doctest.DocTestParser().get_examples(text):
        exec(example.source, found)
    return found["DictBackend"]


class TestDocumentedBackend(BackendTests):
    makes_folders = False
    is_shared = False

    @pytest.fixture
    def backend(self):
        return documented()()


FAULTY = """
import numpy as np, pytest
from hcsflow.storage.memory import MemoryStorageBackend
from hcsflow.testing.backends import BackendTests

class TestFaulty(BackendTests):
    makes_folders = False

    @pytest.fixture
    def backend(self):
        class Faulty(MemoryStorageBackend):
            def load(self, path, **options):
                return super().load(path, **options).astype(np.float16)
        return Faulty()
"""


def test_the_kit_shows_what_it_compared(pytester_like):
    shown = pytester_like(FAULTY, "-k", "test_round_trip")
    assert "dtype('float16')" in shown
    assert "dtype('uint8')" in shown


@pytest.fixture
def pytester_like(tmp_path):
    """Run pytest on a file in a process of its own; return what it shows."""

    def run(code: str, *options: str) -> str:
        file = tmp_path / "test_mine.py"
        file.write_text(code)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
        done = subprocess.run(
            [*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    return run
