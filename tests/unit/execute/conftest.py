"""A tiny plan and a task that really writes, commits, fails and dies, without any images."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers import the task from here

from tiny_task import tiny_manifest, tiny_plan, tiny_task

from hcsflow.execute import RunOptions, RunResult, run_plan
from hcsflow.journal import Event


class TinyRun:
    """A plate's folder, an output folder, and runs of the tiny plan."""

    def __init__(self, root: Path) -> None:
        self.plate = root / "plate"
        self.output = root / "out"
        self.plate.mkdir()
        self.events: list[Event] = []
        self.listen: Callable[[Event], None] = lambda event: None

    def misbehave(self, well: str, how: str) -> None:
        """Tell the task what to do on a well: fail, die, die-once, sleep, hang, nap, again."""
        (self.plate / f"{well}.{how}").touch()

    def behave(self) -> None:
        for path in self.plate.iterdir():
            path.unlink()

    def __call__(self, planned: str = "A01 A02 B01", *, scale: int = 1, **options) -> RunResult:
        self.events = []
        plan = tiny_plan(tuple(planned.split()), scale=scale)
        asked = RunOptions(**{"cluster": "threads", "task": tiny_task} | options)
        return run_plan(
            plan,
            tiny_manifest(self.plate, plan),
            self.plate,
            self.output,
            options=asked,
            on_event=self._hear,
        )

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self.listen(event)

    def kinds(self) -> list[tuple[str, str | None]]:
        return [(event.kind, event.well) for event in self.events]


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRun:
    return TinyRun(tmp_path)


@pytest.fixture
def data_files(hash_tree) -> Callable[[Path], dict[str, str]]:
    """The hashes of all that must be byte-identical: images and results."""

    def hashes(output: Path) -> dict[str, str]:
        found = hash_tree(output)
        return {path: value for path, value in found.items() if not path.startswith(".hcsflow")}

    return hashes
