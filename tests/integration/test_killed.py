"""Kill anything at any moment, run the same command: the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

CommandLine = Callable[..., "subprocess.CompletedProcess[str]"]
HashTree = Callable[[Path], dict[str, str]]
WELLS = ["A01", "A02", "B01", "B02", "C01", "C02"]


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six wells that take long enough to be killed in the middle."""
    from hcsflow.testing.plates import write_imagexpress_plate

    folder = tmp_path_factory.mktemp("killed") / "PLATE"
    write_imagexpress_plate(folder, wells=WELLS, fields=4, channels=2, z=3, size=512)
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    plate: Path, cli: CommandLine, hash_tree: HashTree, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Hashes of all results of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp("undisturbed") / "OUT"
    result = cli("run", "count-nuclei", plate, "-o", output, "--workers", "2")
    assert result.returncode == 0, result.stderr
    return results_of(output, hash_tree)


def results_of(output: Path, hash_tree: HashTree) -> dict[str, str]:
    """Hash the plate (pixels, labels, tables, metadata) and the consolidated tables."""
    found = hash_tree(output)
    return {p: h for p, h in found.items() if p.startswith(("images.zarr/", "results/"))}


@contextmanager
def started(command: list[str], output: Path, plate: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a process group of its own; whatever is left of it is killed at the end."""
    arguments = ["run", "count-nuclei", str(plate), "-o", str(output), "--workers", "2"]
    log = output.parent / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        family = {process.pid}
        try:
            yield process
        finally:
            family |= {child.pid for child in children_of(process.pid)}
            kill_all(family, process.pid)
            process.wait(timeout=60)


def children_of(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_all(pids: set[int], group: int) -> None:
    """Kill the process group at once, then every known member that left it."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for_wells(output: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until some wells are in the journal; fail if the run ends before."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if len(list((output / ".hcsflow" / "journal").rglob("*.json"))) >= count:
            return
        assert process.poll() is None, (output.parent / "log.txt").read_text()
        time.sleep(0.02)
    raise AssertionError("no well was done within 120 s")


@pytest.mark.parametrize("wells_done", [0, 1, 3])
def test_a_killed_run_completes_with_the_same_bytes(
    wells_done: int,
    plate: Path,
    undisturbed: dict[str, str],
    cli: CommandLine,
    hcsflow_command: list[str],
    hash_tree: HashTree,
    tmp_path: Path,
) -> None:
    output = tmp_path / "OUT"
    with started(hcsflow_command, output, plate) as process:
        if wells_done:
            wait_for_wells(output, wells_done, process)
        else:
            wait_for_scratch(output, process)
        kill_all({child.pid for child in children_of(process.pid)}, process.pid)
    assert len(list((output / ".hcsflow" / "journal").rglob("*.json"))) < len(WELLS)
    again = cli("run", "count-nuclei", plate, "-o", output, "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert results_of(output, hash_tree) == undisturbed
    assert not any((output / ".hcsflow" / "scratch").glob("*"))
    assert cli("verify", output).returncode == 0


def wait_for_scratch(output: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the first well is being written."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if any((output / ".hcsflow" / "scratch").glob("*")):
            return
        time.sleep(0.02)
    raise AssertionError((output.parent / "log.txt").read_text())


def test_a_killed_worker_is_replaced(
    plate: Path,
    undisturbed: dict[str, str],
    hcsflow_command: list[str],
    hash_tree: HashTree,
    tmp_path: Path,
) -> None:
    output = tmp_path / "OUT"
    with started(hcsflow_command, output, plate) as process:
        wait_for_wells(output, 1, process)
        os.kill(busiest(children_of(process.pid)).pid, signal.SIGKILL)
        assert process.wait(timeout=180) == 0, (tmp_path / "log.txt").read_text()
    assert results_of(output, hash_tree) == undisturbed


def busiest(processes: list[psutil.Process]) -> psutil.Process:
    """Return the process that used most CPU time: a worker, not a helper of Python's."""
    return max(processes, key=lambda process: process.cpu_times().user)


def test_a_run_leaves_no_process(plate: Path, hcsflow_command: list[str], tmp_path: Path) -> None:
    output = tmp_path / "OUT"
    with started(hcsflow_command, output, plate) as process:
        wait_for_wells(output, 1, process)
        family = children_of(process.pid)
        assert family
        assert process.wait(timeout=180) == 0
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive


def test_an_interrupted_run_says_so_and_can_go_on(
    plate: Path,
    undisturbed: dict[str, str],
    cli: CommandLine,
    hcsflow_command: list[str],
    hash_tree: HashTree,
    tmp_path: Path,
) -> None:
    output = tmp_path / "OUT"
    with started(hcsflow_command, output, plate) as process:
        wait_for_wells(output, 1, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, (tmp_path / "log.txt").read_text()
    again = cli("run", "count-nuclei", plate, "-o", output, "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert results_of(output, hash_tree) == undisturbed
