"""Whole runs on jobs of a Grid Engine: the real dask-jobqueue, a stand-in for qsub and qdel."""

import importlib.util
import json
import os
import signal
import stat
import time
from pathlib import Path

import jsonschema
import psutil
import pytest

from hcsflow.cli.main import main
from hcsflow.cli.schemas import json_schema
from hcsflow.execute.clusterplan import ClusterRequest
from hcsflow.execute.clusters import open_cluster
from hcsflow.execute.probe import Probe, probe_machine
from hcsflow.execute.profiles import find_profile
from hcsflow.execute.select import select_cluster
from hcsflow.testing.plates import key_coded_plate

needs = [
    name for name in ("dask_jobqueue", "cryptography") if importlib.util.find_spec(name) is None
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(needs), reason=f"{', '.join(needs)} not installed"),
    pytest.mark.skipif(os.name != "posix", reason="the stand-ins are shell scripts"),
]

QSUB = """#!/bin/bash
# The last argument is the job's script; a job is a process group of its own.
job=$(mktemp "$FAKE_SGE/job-XXXXXX")
cp "${@: -1}" "$job"
setsid bash "$job" > "$job.out" 2>&1 < /dev/null &
echo $! >> "$FAKE_SGE/submitted"
echo "Your job $! (\\"hcsflow\\") has been submitted"
"""

QDEL = """#!/bin/bash
for job; do
    echo "$job" >> "$FAKE_SGE/deleted"
    kill -TERM -- "-$job"
done
"""

PROFILE = """
kind: sge
walltime: "00:30:00"
memory: 2 GiB
maximum_jobs: 2
interface: {interface}
"""


class GridEngine:
    """A folder that records what was submitted and deleted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _numbers(self, name: str) -> list[int]:
        file = self.folder / name
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    @property
    def submitted(self) -> list[int]:
        return self._numbers("submitted")

    @property
    def deleted(self) -> list[int]:
        return self._numbers("deleted")

    def processes(self) -> list[psutil.Process]:
        """Every process of every job that is still there."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getpgid(process.pid) in self.submitted and (
                    process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except (ProcessLookupError, psutil.Error):
                continue
        return found


@pytest.fixture
def grid_engine(tmp_path, monkeypatch):
    tools, folder = tmp_path / "bin", tmp_path / "sge"
    tools.mkdir()
    folder.mkdir()
    for name, text in {"qsub": QSUB, "qdel": QDEL}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SGE", str(folder))
    engine = GridEngine(folder)
    yield engine
    for process in engine.processes():
        process.kill()


@pytest.fixture
def loopback() -> str:
    addresses = psutil.net_if_addrs().items()
    return next(name for name, found in addresses if any(a.address == "127.0.0.1" for a in found))


@pytest.fixture
def profile(tmp_path, loopback):
    file = tmp_path / "mine.yaml"
    file.write_text(PROFILE.format(interface=loopback))
    return file


def wait_for(condition, seconds: float = 30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def listening_at(processes: list[psutil.Process]) -> set[str]:
    """The addresses at which processes and their children wait for others."""
    family = {each for one in processes for each in (one, *one.children(recursive=True))}
    return {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


def pixels(output: Path, hash_tree) -> dict[str, str]:
    return hash_tree(output / "images.zarr")


def test_a_plate_on_jobs_is_the_plate_that_threads_make(
    grid_engine, profile, tmp_path, hash_tree, monkeypatch
):
    key_coded_plate(tmp_path / "plate", wells=("B02", "B03", "C02"), fields=2)
    words = ["run", "max-projection", str(tmp_path / "plate"), "-o"]
    assert main([*words, str(tmp_path / "threads"), "--cluster", "threads"]) == 0
    monkeypatch.setenv("HCSFLOW_CLUSTER", str(profile))
    assert main([*words, str(tmp_path / "jobs")]) == 0
    assert pixels(tmp_path / "jobs", hash_tree) == pixels(tmp_path / "threads", hash_tree)
    assert grid_engine.submitted
    assert sorted(grid_engine.deleted) == sorted(grid_engine.submitted)
    wait_for(lambda: not grid_engine.processes())
    assert not list((tmp_path / "jobs" / ".hcsflow").rglob("*.pem"))


def test_jobs_are_encrypted_on_loopback_set_up_and_replaced(
    grid_engine, profile, tmp_path, monkeypatch
):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)  # Dask leaves it in this process
    plan = select_cluster(find_profile(profile), probe_machine(), ClusterRequest(wells=1))
    with open_cluster(plan, tmp_path) as (client, cluster):
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        environment = client.submit(lambda: dict(os.environ), pure=False).result(timeout=60)
        assert "MALLOC_TRIM_THRESHOLD_" not in environment
        assert environment["OMP_NUM_THREADS"] == "1"
        assert listening_at([psutil.Process(), *grid_engine.processes()]) == {"127.0.0.1"}
        (key,) = tmp_path.rglob("tls_worker_key.pem")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
        (worker,) = client.scheduler_info(n_workers=-1)["workers"].values()
        assert worker["nanny"].startswith("tls://127.0.0.1:")
        assert worker["memory_limit"] < 2 << 30
        os.killpg(grid_engine.submitted[0], signal.SIGKILL)
        again = client.submit(os.getppid, pure=False).result(timeout=120)
        assert psutil.pid_exists(again)
        assert len(grid_engine.submitted) == 2
        assert cluster.status.name == "running"
    wait_for(lambda: not grid_engine.processes())
    assert not list(tmp_path.rglob("*.pem"))


def test_a_refused_job_is_submitted_again(grid_engine, profile, tmp_path, monkeypatch):
    monkeypatch.setattr("hcsflow.execute.jobs.RETRY_S", 0.5)
    probe = Probe(4, 8 << 30, commands=frozenset({"qsub"}), packages=probe_machine().packages,
                  interfaces=tuple(psutil.net_if_addrs()))  # fmt: skip
    plan = select_cluster(find_profile(profile), probe, ClusterRequest(wells=2))
    with open_cluster(plan, tmp_path) as (client, cluster):
        client.wait_for_workers(1, timeout=60)
        qsub = tmp_path / "bin" / "qsub"
        working = qsub.read_text()
        qsub.write_text("#!/bin/bash\necho 'no answer' >&2\nexit 1\n")
        naps = client.map(time.sleep, [3] * 8, pure=False)
        wait_for(lambda: cluster.job_cls.refusals)
        qsub.write_text(working)
        client.wait_for_workers(2, timeout=60)
        assert set(cluster.job_cls.refusals) == {"no answer"}
        for nap in naps:
            nap.cancel()
    wait_for(lambda: not grid_engine.processes())


def test_the_doctor_tries_one_job(grid_engine, profile, tmp_path, capsys):
    words = ["doctor", "--cluster", str(profile), "--folder", str(tmp_path), "--json"]
    status = main(words)
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, json_schema("doctor"))
    found = {check["name"]: check for check in document["checks"]}
    assert status == 0
    assert document["cluster"] == str(profile)
    for name in ("scheduler", "worker", "versions", "hcsflow on the worker", "shared folder"):
        assert found[name]["ok"] is True, found[name]
    assert len(grid_engine.submitted) == 1
    wait_for(lambda: not grid_engine.processes())
    assert not list(tmp_path.glob("hcsflow-doctor-*"))


def test_the_doctor_says_that_no_worker_came(grid_engine, profile, tmp_path, capsys):
    profile.write_text(profile.read_text() + "prologue: [sleep 600]\n")
    status = main(["doctor", "--cluster", str(profile), "--folder", str(tmp_path),
                   "--timeout", "2", "--json"])  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    (bad,) = [check for check in document["checks"] if check["ok"] is False]
    assert status == 1
    assert bad["name"] == "worker"
    assert "none came within 2 s" in bad["detail"]
    wait_for(lambda: not grid_engine.processes())
