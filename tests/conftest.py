"""For every test: a clean environment, hypothesis profiles, the command line, real plates."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("dev", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("nightly", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's settings out of the tests, and the tests out of the user's folders."""
    private: Path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HCSFLOW_")]:
            patch.delenv(name)
        patch.setenv("XDG_CACHE_HOME", str(private / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(private / "config"))
        patch.setenv("MPLCONFIGDIR", str(private / "matplotlib"))
        patch.setenv("MPLBACKEND", "Agg")
        patch.setenv("NO_COLOR", "1")
        yield


REAL_PLATES = Path(__file__).parents[2] / "shared" / "data"

CommandLine = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def hcsflow_command() -> list[str]:
    """The program's command line, whether it is installed or runs from its source tree."""
    return [sys.executable, "-c", "import sys; from hcsflow.cli.main import main; sys.exit(main())"]


@pytest.fixture(scope="session")
def cli(hcsflow_command: list[str]) -> CommandLine:
    """Run ``hcsflow`` as a user does, in a process of its own; the exit status is not checked."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*hcsflow_command, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def hash_tree() -> Callable[[Path], dict[str, str]]:
    """Return the sha256 of every file below a folder, by relative path."""

    def hashes(folder: Path) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return hashes


@pytest.fixture(scope="session")
def projection_mix() -> Path:
    """A real ImageXpress plate: 2 wells, 2 fields, 4 channels of uneven z, stored projections."""
    plate = REAL_PLATES / "faim-ipa" / "ImageXpress" / "Projection-Mix"
    if not plate.is_dir():
        pytest.skip("the real plates are not beside this repository")
    return plate
