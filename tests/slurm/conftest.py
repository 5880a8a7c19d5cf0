"""For the Slurm suite: a Slurm of one node for the session, and runs on its jobs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import hcsflow
from hcsflow.testing.plates import key_coded_plate

HERE = Path(__file__).parent
NEEDED = ("sbatch", "slurmctld", "slurmd", "munged")
DAEMONS = ("slurmctld", "slurmscriptd", "slurmd", "munged")
WELLS = ("A01", "A02", "B01", "B02", "C01", "C02", "D01", "D02")

PROFILE = """\
kind: slurm
walltime: "00:10:00"
memory: 1 GiB
maximum_jobs: 2
interface: lo
"""


def wait_until(condition: Callable[[], Any], seconds: float = 90.0, *, what: str = "it") -> Any:
    """Wait for something to become true; return what it then is."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)
    return found


class Queue:
    """The Slurm that is running, as its own commands tell it."""

    def __init__(self, conf: str, pid: int) -> None:
        self._conf = conf
        self._pid = pid

    def tell(self, *words: str) -> str:
        """Run one of Slurm's commands."""
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    def jobs(self, states: str = "PD,R,CG") -> dict[str, str]:
        """Return the state of each job, in the order of submission; by default of those left."""
        lines = self.tell("squeue", "-h", "-S", "i", "-t", states, "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def running(self) -> list[str]:
        """Return the jobs that have started and not ended."""
        return list(self.jobs("R"))

    def processes(self) -> list[psutil.Process]:
        """List what runs for this Slurm's users: the jobs' processes, and those of clients."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get("SLURM_CONF") == self._conf
                is_slurm = process.name() in DAEMONS or process.pid == self._pid
                if is_ours and not is_slurm and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def clear(self) -> None:
        """End all jobs and all processes."""
        self.tell("scancel", "--user=root")
        for process in self.processes():
            process.kill()
        wait_until(lambda: not self.jobs(), what="an empty queue")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Queue]:
    """Start a Slurm of its own; every process that is started meanwhile uses it."""
    search = f"{os.environ['PATH']}:/usr/sbin"
    absent = [name for name in NEEDED if shutil.which(name, path=search) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons start jobs as root only")
    folder = Path(tempfile.mkdtemp(prefix="hcsflow-slurm-", dir="/tmp"))
    server = subprocess.Popen(
        [sys.executable, str(HERE / "one_node.py"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    name, _, conf = server.stdout.readline().strip().partition("=")
    assert name == "SLURM_CONF", "Slurm did not start; see above"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", conf)
        yield Queue(conf, server.pid)
    server.communicate(timeout=90)
    assert server.returncode == 0
    shutil.rmtree(folder)


class Site:
    """One output folder, and runs that fill it on jobs."""

    def __init__(self, folder: Path, plate: Path, command: list[str], queue: Queue) -> None:
        self.folder = folder
        self.output = folder / "OUT"
        self.profile = folder / "site.yaml"
        self.log = folder / "log.txt"
        self.queue = queue
        self._before = set(queue.jobs("all"))
        self._plate = plate
        self._command = command
        self._run: subprocess.Popen[bytes] | None = None
        self.profile.write_text(PROFILE)

    def configure(self, **fields: Any) -> None:
        """Change fields of the profile."""
        lines = [line for line in PROFILE.splitlines() if line.partition(":")[0] not in fields]
        lines += [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
        self.profile.write_text("\n".join(lines))

    def words(self, pipeline: str = "steady") -> list[str]:
        """Return the arguments of a run."""
        words = ["run", HERE / f"{pipeline}.py", self._plate, "-o", self.output]
        return [*map(str, words), "--cluster", str(self.profile), "--no-report"]

    def stop(self) -> None:
        """Kill the latest run, if it is still there, and all that came of it."""
        if self._run is not None:
            self._run.kill()
            self._run.wait()
        self.queue.clear()

    def start(
        self, pipeline: str = "steady", *options: str, nap_s: float = 0
    ) -> subprocess.Popen[bytes]:
        """Start a run in a process group of its own, from a folder without any Python file."""
        changes = {"NAP_S": str(nap_s), "PYTHONPATH": str(Path(hcsflow.__file__).parents[1])}
        with self.log.open("ab") as log:
            self._run = subprocess.Popen(
                [*self._command, *self.words(pipeline), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
                env=os.environ | changes,
            )
        return self._run

    def run(self, pipeline: str = "steady", *, nap_s: float = 0) -> None:
        """Run to the end, which must be a good one."""
        self.end_well(self.start(pipeline, nap_s=nap_s))

    def end_well(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for a run's good end."""
        assert process.wait(timeout=150) == 0, self.log.read_text()

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind so far, of all runs."""
        try:
            lines = (self.output / ".hcsflow" / "log.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [event for event in found if event["kind"] == kind]

    def wait_for(self, kind: str, times: int = 1) -> None:
        """Wait until events of a kind have been told, by a run that has not failed meanwhile."""

        def is_told() -> bool:
            assert self._run is None or not self._run.poll(), self.log.read_text()
            return len(self.events(kind)) >= times

        wait_until(is_told, what=f"{times} × {kind}")

    def wait_for_text(self, text: str) -> None:
        """Wait until a run has printed something."""
        wait_until(lambda: text in self.log.read_text(), 20, what=text)

    def submitted(self) -> dict[str, str]:
        """Return all jobs since the site was made, and how each ended."""
        known = self.queue.jobs("all").items()
        return {job: state for job, state in known if job not in self._before}

    def expect_nothing_left(self) -> None:
        """See that all jobs end by themselves, and their processes with them."""
        wait_until(lambda: not self.queue.jobs(), what="an empty queue")
        wait_until(lambda: not self.queue.processes(), what="no process left")
        assert not list(self.output.rglob("*.pem"))


@pytest.fixture(scope="session")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight wells of one field, of which every pixel says where it belongs."""
    folder = tmp_path_factory.mktemp("slurm") / "PLATE"
    key_coded_plate(folder, wells=WELLS, fields=1, channels=1, z=2)
    return folder


@pytest.fixture(scope="session")
def results_of() -> Callable[[Path], dict[str, str]]:
    """Return the sha256 of all that a run gives: plates, tables, metadata."""

    def hashes(output: Path) -> dict[str, str]:
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(output.rglob("*"))
            if path.is_file()
            if not (name := path.relative_to(output).as_posix()).startswith(".hcsflow/")
        }

    return hashes


@pytest.fixture(scope="session")
def right(
    plate: Path, cli: Callable[..., Any], results_of: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What one thread makes of the plate."""
    output = tmp_path_factory.mktemp("slurm-right") / "OUT"
    words = ("run", HERE / "steady.py", plate, "-o", output, "--cluster", "serial", "--no-report")
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = results_of(output)
    return found


@pytest.fixture
def site(slurm: Queue, plate: Path, hcsflow_command: list[str], tmp_path: Path) -> Iterator[Site]:
    """A place for a test's runs; what is left of them is ended."""
    made = Site(tmp_path, plate, hcsflow_command, slurm)
    yield made
    made.stop()


@pytest.fixture
def closed_queue(slurm: Queue) -> Iterator[Callable[[], None]]:
    """A partition that takes jobs and starts none, until the returned function opens it."""

    def open_queue() -> None:
        slurm.tell("scontrol", "update", "PartitionName=main", "State=UP")

    slurm.tell("scontrol", "update", "PartitionName=main", "State=DOWN")
    yield open_queue
    open_queue()
