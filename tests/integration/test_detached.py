"""Runs without a terminal: started, watched, stopped; and Ctrl-C at its worst."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

CommandLine = Callable[..., "subprocess.CompletedProcess[str]"]
WELLS = [f"{row}{column:02d}" for row in "ABCD" for column in range(1, 7)]

SLOW = """
import time
import hcsflow as hf


def smooth(stack):
    time.sleep(0.2)
    return stack


def label(stack):
    return smooth(stack)


pipeline = hf.Pipeline([hf.FunctionStep(smooth), hf.FunctionStep(label)], name="slow")
"""
"""A well takes more than three seconds: eight groups, twice."""


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hcsflow.testing.plates import write_imagexpress_plate

    folder = tmp_path_factory.mktemp("detached") / "PLATE"
    write_imagexpress_plate(folder, wells=WELLS, fields=4, channels=2, z=3, size=512)
    return folder


@pytest.fixture
def status(cli: CommandLine, tmp_path: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """Read the output's status; whatever still runs there at the end is killed."""

    def read() -> dict[str, Any]:
        answer = cli("status", tmp_path / "OUT", "--json")
        assert answer.returncode == 0, answer.stderr
        document: dict[str, Any] = json.loads(answer.stdout)
        return document

    yield read
    if (tmp_path / "OUT").exists():
        running = read()["running"]
        if running is not None:
            os.kill(running["pid"], signal.SIGKILL)


def wait_for(condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def some_well_is_done(output: Path) -> bool:
    return any((output / ".hcsflow" / "journal").rglob("*.json"))


def test_a_detached_run_goes_on_is_seen_and_can_be_stopped(
    plate: Path, cli: CommandLine, status: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    output, slow = tmp_path / "OUT", tmp_path / "slow.py"
    slow.write_text(SLOW)
    started = cli("run", slow, plate, "-o", output, "--workers", "1", "--detach")
    assert started.returncode == 0, started.stderr
    assert f"hcsflow status {output}" in started.stdout
    assert f"hcsflow cancel {output}" in started.stdout
    assert "ssh -L" in started.stdout
    process = psutil.Process(status()["running"]["pid"])
    assert os.getsid(process.pid) == process.pid
    wait_for(lambda: some_well_is_done(output))

    wait_for(lambda: status()["running"]["open"])  # a well's start is told a moment later
    seen = status()["running"]
    assert seen["detached"] is True
    assert seen["cluster"] == "local"
    assert seen["workers"] in (None, 1, 2)
    assert {step["step"] for step in seen["steps"]} >= {"smooth", "label"}
    shown = cli("status", output).stdout
    assert f"running, detached, as process {process.pid}" in shown
    assert "wells/min" in shown

    assert cli("cancel", output).returncode == 0
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    assert status()["running"] is None
    assert "interrupted" in (output / ".hcsflow" / "run.log").read_text()
    again = cli("run", slow, plate, "-o", output, "--wells", "A01", "--no-report")
    assert again.returncode == 0, again.stderr


def test_a_detached_run_that_cannot_start_says_why_and_leaves_nothing(
    plate: Path, cli: CommandLine, tmp_path: Path
) -> None:
    refused = cli("run", "count-nucleus", plate, "-o", tmp_path / "OUT", "--detach")
    assert refused.returncode == 2
    assert "count-nucleus" in refused.stderr
    assert not (tmp_path / "OUT").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    refused = cli("run", "count-nuclei", plate, "-o", tmp_path / "mine", "--detach")
    assert refused.returncode == 2
    assert "not empty" in refused.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["photo.jpg"]


def test_a_detached_run_is_told_how_it_was_and_how_to_run_wells_again(
    cli: CommandLine, status: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    from hcsflow.testing.plates import write_imagexpress_plate

    small, output = tmp_path / "SMALL", tmp_path / "OUT"
    write_imagexpress_plate(
        small, wells=["A01", "A02"], fields=1, size=64, faults={"A02": "truncated TIFF"}
    )
    started = cli(
        *("run", "max-projection", small, "-o", output, "--detach", "--json"),
        *("--cluster", "serial"),
    )
    assert started.returncode in (0, 4), started.stderr
    wait_for(lambda: status()["running"] is None)
    assert status()["failed"] == ["A02"]
    told = json.loads(cli("failures", output, "--json").stdout)["rerun"]
    assert told.endswith("--wells A02")
    assert "--detach" not in told


def test_ctrl_c_twice_leaves_no_process_and_the_same_command_goes_on(
    plate: Path, hcsflow_command: list[str], cli: CommandLine, tmp_path: Path
) -> None:
    output = tmp_path / "OUT"
    arguments = ["run", "count-nuclei", str(plate), "-o", str(output), "--workers", "2"]
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*hcsflow_command, *arguments], stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for(lambda: some_well_is_done(output))
            family = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.3)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()
            process.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert [each.cmdline() for each in alive] == []
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
    again = cli("run", "count-nuclei", plate, "-o", output, "--wells", "A*", "--no-report")
    assert again.returncode == 0, again.stderr
    assert cli("verify", output).returncode == 0
