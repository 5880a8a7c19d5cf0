"""For the chaos suite: what is counted, runs that can be killed at any change, what must hold."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from forks import Crew, Zygote

AT_ONCE = 2
_totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])


@dataclass
class Tally:
    """What a scenario did: steps drawn, faults that hit, runs, differences from what must be."""

    scenario: str
    faults: int = 0
    runs: int = 0
    steps: int = 0
    differences: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:
        """Note a difference unless it holds; the test goes on and fails at its end."""
        if not holds:
            self.differences.append(what)


@pytest.fixture
def tally(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[Tally]:
    """Count for the summary; the scenario is the test's mark ``scenario``'s or the file's name."""
    found = Tally(str(getattr(request.function, "scenario", request.path.stem)))
    yield found
    counts = [found.steps, found.faults, found.runs, len(found.differences)]
    record_property("chaos", [found.scenario, *counts])
    assert not found.differences, "\n".join(found.differences[:20])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up what the tests recorded, also those of other processes (pytest-xdist)."""
    if report.when == "teardown":
        for name, value in report.user_properties:
            if name == "chaos":
                scenario, *counts = value  # type: ignore[misc]
                totals = _totals[scenario]
                totals[:] = [a + b for a, b in zip(totals, counts, strict=True)]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was done to the runs, and what came of it."""
    if not _totals:
        return
    terminalreporter.section("chaos")
    form = "{:<44} {:>7} {:>7} {:>7} {:>12}"
    terminalreporter.line(form.format("scenario", "steps", "faults", "runs", "differences"))
    for scenario in sorted(_totals):
        terminalreporter.line(form.format(scenario, *_totals[scenario]))
    sums = [sum(column) for column in zip(*_totals.values(), strict=True)]
    terminalreporter.line(form.format("total", *sums))


@pytest.fixture(scope="session")
def arena() -> Iterator[Path]:
    """A folder for many small files: in memory where the system offers that."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="hcsflow-chaos-", dir=place))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def crew(arena: Path) -> Iterator[Crew]:
    """Forks runs for the tests of a file, two at a time."""
    made = Crew(Path(tempfile.mkdtemp(dir=arena)), AT_ONCE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def zygote(crew: Crew) -> Zygote:
    """The first of the crew."""
    return crew.zygotes[0]


@pytest.fixture(scope="session")
def tiny_pipeline() -> Path:
    """Three cheap steps, the first one's planes kept."""
    return Path(__file__).with_name("tiny.py")


@pytest.fixture(scope="session")
def results_of() -> Callable[[Path], dict[str, str]]:
    """Return the sha256 of all that a run gives: plates, tables, metadata."""

    def hashes(output: Path) -> dict[str, str]:
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(output.rglob("*"))
            if path.is_file()
            if not (name := path.relative_to(output).as_posix()).startswith(".hcsflow/")
            if name != "report.html"
        }

    return hashes


@pytest.fixture(scope="session")
def litter_of() -> Callable[[Path], list[str]]:
    """List what a run must not leave: scratch, drafts, parts, a lock."""

    def litter(output: Path) -> list[str]:
        names = [path.relative_to(output).as_posix() for path in output.rglob("*")]
        control = (".hcsflow/lock", ".hcsflow/scratch/")
        return [n for n in names if n.endswith((".tmp", ".part")) or n.startswith(control)]

    return litter
