"""Runs on real worker processes: death, time limits, interruption, sockets, closing."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from conftest import TinyRun
from distributed import Client, LocalCluster, Security
from tiny_task import tiny_manifest, tiny_plan

from hcsflow.errors import PlanRefusedError, UsageError
from hcsflow.execute import RunOptions
from hcsflow.execute.census import WorkerCensus
from hcsflow.execute.closing import asked
from hcsflow.execute.clusterplan import ClusterPlan, ClusterRequest
from hcsflow.execute.clusters import open_cluster
from hcsflow.execute.dashboard import offer_dashboard
from hcsflow.execute.forkserver import prestart
from hcsflow.execute.lock import cancel_run, live_holder
from hcsflow.execute.probe import Probe
from hcsflow.execute.profiles import LocalProfile
from hcsflow.execute.select import select_cluster
from hcsflow.graph.plugin import Bundle, PlanPlugin

HERE = Path(__file__).parent


def one_worker(kind: str) -> ClusterPlan:
    machine = Probe(cores=1, memory_bytes=8 << 30)
    return select_cluster(LocalProfile(kind=kind), machine, ClusterRequest(wells=1))


@contextmanager
def in_process_cluster(*, threads: int, memory_limit: int = 0) -> Iterator[LocalCluster]:
    """One worker with some threads, in this process."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=threads,
        memory_limit=memory_limit,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        yield cluster


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from conftest import TinyRun

if __name__ == "__main__":
    run = TinyRun.__new__(TinyRun)
    run.plate, run.output, run.events = Path(sys.argv[1]), Path(sys.argv[2]), []
    run.listen = print
    print(run(sys.argv[3], cluster="local", workers=2).counts)
"""


def worker_processes() -> list[psutil.Process]:
    """Every process below this one but the forkserver, tracker and those that are ending."""
    found = []
    for process in psutil.Process().children(recursive=True):
        words = " ".join(process.cmdline())
        if process.status() == psutil.STATUS_ZOMBIE or "resource_tracker" in words:
            continue
        if "forkserver" in words and process.ppid() == os.getpid():
            continue
        found.append(process)
    return found


def wait_for(condition, seconds: float = 30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def program(tiny, tmp_path):
    """Start the tiny run as a program of its own."""
    script = tmp_path / "run.py"
    script.write_text(RUN.format(here=str(HERE)))
    started = []

    def start(wells: str) -> subprocess.Popen:
        command = [sys.executable, str(script), str(tiny.plate), str(tiny.output), wells]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_killed_worker_changes_nothing_and_nothing_is_left_running(
    tiny, data_files, capfd, hash_tree
):
    tiny(cluster="threads")
    undisturbed = data_files(tiny.output)
    tiny.misbehave("A02", "die-once")
    started = time.monotonic()
    result = tiny(cluster="local", workers=2, fresh=True)
    assert {o.status for o in result.outcomes} == {"done"}
    assert time.monotonic() - started < 30
    assert data_files(tiny.output) == undisturbed
    wait_for(lambda: not worker_processes(), 10)
    assert "distributed" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_killed_worker_comes_back_where_there_is_no_forkserver(tiny, monkeypatch):
    monkeypatch.setattr("hcsflow.execute.clusters.start_method", lambda: "spawn")
    tiny.misbehave("A02", "die-once")
    assert tiny(cluster="local", workers=2).counts == {"done": 3}


def test_everything_listens_on_loopback_only():
    plan = one_worker("local")
    with open_cluster(plan) as (client, cluster):
        pid = client.submit(os.getpid).result(timeout=30)
        listening = [
            connection.laddr.ip
            for process in (psutil.Process(), psutil.Process(pid))
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        assert set(listening) == {"127.0.0.1"}
        environment = client.submit(lambda: dict(os.environ)).result(timeout=30)
        assert "MALLOC_TRIM_THRESHOLD_" not in environment
        assert environment["OMP_NUM_THREADS"] == "1"
        assert cluster.status.name == "running"
    wait_for(lambda: not psutil.pid_exists(pid), 10)

    threads = one_worker("threads")
    with open_cluster(threads):
        ips = {
            connection.laddr.ip
            for connection in psutil.Process().net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
    assert ips == {"127.0.0.1"}


@pytest.mark.parametrize("kind", ["threads", "local"])
def test_what_goes_over_loopback_can_be_encrypted(kind):
    machine = Probe(cores=1, memory_bytes=8 << 30, packages={"cryptography": "50"})
    profile = LocalProfile(kind=kind, security=True)
    plan = select_cluster(profile, machine, ClusterRequest(wells=1))
    with open_cluster(plan) as (client, cluster):
        assert client.submit(abs, -7).result(timeout=60) == 7
        assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        assert all(name.startswith("tls://127.0.0.1:") for name in client.nthreads())


def test_a_scheduler_that_does_not_answer_is_not_waited_for():
    with in_process_cluster(threads=1) as cluster, Client(cluster, set_as_default=False) as client:
        assert list(asked(client, client.nthreads).values()) == [1]
        with pytest.raises(TimeoutError):
            asked(client, asyncio.sleep, 60, timeout_s=0.1)


def test_the_dashboard_is_there_for_whoever_looks():
    plan = one_worker("threads")
    with open_cluster(plan) as (_, cluster):
        link = offer_dashboard(cluster.scheduler)
        assert link.startswith("http://127.0.0.1:")
        for _ in range(2):
            with urllib.request.urlopen(link, timeout=30) as page:
                assert b"Dask Diagnostic UI" in page.read()


def test_an_address_without_a_scheduler_is_a_usage_error(tiny, monkeypatch):
    monkeypatch.setattr("hcsflow.execute.clusters.REACH_TIMEOUT_S", 0.5)
    with pytest.raises(UsageError, match=r"no scheduler answers at tcp://127.0.0.1:9"):
        tiny(cluster="tcp://127.0.0.1:9")


def test_a_cluster_is_closed_after_an_error_too():
    plan = one_worker("local")

    def fail_inside() -> None:
        with open_cluster(plan):
            raise ZeroDivisionError

    started = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert time.monotonic() - started < 25
    wait_for(lambda: not worker_processes(), 10)


@pytest.mark.slow
def test_a_well_that_kills_its_workers_crashes_and_the_others_are_done(tiny):
    tiny.misbehave("A02", "die")
    result = tiny("A01 A02 A03 B01 B02", cluster="local", workers=2)
    statuses = {o.well: o.status for o in result.outcomes}
    assert statuses.pop("A02") == "crashed"
    assert set(statuses.values()) == {"done"}
    (failure,) = result.failures
    assert failure.error == "KilledWorker"
    assert failure.hint is not None


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sleep", "hang"])
def test_a_well_over_its_time_is_failed_and_its_worker_restarted(tiny, how):
    tiny.misbehave("A01", how)
    result = tiny("A01 A02 A03", cluster="local", workers=1, timeout_s=4, retries=1)
    statuses = {o.well: (o.status, o.error) for o in result.outcomes}
    assert statuses == {
        "A01": ("failed", "TimeoutError"),
        "A02": ("done", None),
        "A03": ("done", None),
    }
    assert "longer than the 4 s" in result.failures[0].message
    if how == "sleep":
        assert tiny.kinds().count(("well_started", "A01")) == 2


@pytest.mark.slow
def test_a_second_run_is_refused_and_ctrl_c_ends_the_first_cleanly(tiny, program):
    tiny.misbehave("B01", "sleep")
    first = program("A01 A02 B01")
    wait_for((tiny.output / "images.zarr/A/02/zarr.json").exists)
    second = program("A01 A02 B01")
    _, errors = second.communicate(timeout=60)
    assert "OutputLockedError" in errors
    assert f"process {first.pid} on" in errors
    assert cancel_run(tiny.output) is True
    _, errors = first.communicate(timeout=60)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert live_holder(tiny.output) is None
    assert (tiny.output / "images.zarr" / "zarr.json").exists()
    tiny.behave()
    assert tiny().counts == {"skipped": 2, "done": 1}


@pytest.mark.slow
def test_a_run_killed_midway_is_completed_by_the_same_command(tiny, program, data_files):
    tiny(cluster="threads")
    undisturbed = data_files(tiny.output)
    tiny(cluster="threads", planned="", fresh=True)
    tiny.misbehave("B01", "sleep")
    first = program("A01 A02 B01")
    wait_for((tiny.output / ".hcsflow/journal/final/A02.json").exists)
    first.send_signal(signal.SIGKILL)
    first.wait()
    tiny.behave()
    assert tiny(cluster="local", workers=2).counts == {"skipped": 2, "done": 1}
    assert data_files(tiny.output) == undisturbed


def test_a_running_cluster_is_used_and_left_running(tiny):
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert tiny(cluster=client).counts == {"done": 3}
        assert tiny(cluster=cluster.scheduler_address, scale=2).counts == {"done": 3}
        assert client.submit(sum, [1, 2]).result(timeout=20) == 3


def test_a_scheduler_with_certificates_is_reached_by_a_profile(tiny, tmp_path):
    pytest.importorskip("cryptography", reason="certificates are made with it")
    made = Security.temporary()
    files = {"ca_file": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tls://",
        security=made,
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        listed = "".join(f"\n  {name}: {tmp_path / name}" for name in files)
        profile = tmp_path / "lab.yaml"
        address = cluster.scheduler_address
        profile.write_text(f"kind: address\naddress: {address}\nsecurity:{listed}\n")
        assert tiny(cluster=profile).counts == {"done": 3}


def test_the_memory_of_a_worker_is_shared_by_its_threads():
    plan = tiny_plan()
    big = plan.replace(segments=(replace(plan.segments[0], projected_bytes=1 << 30),))
    with (
        in_process_cluster(threads=4, memory_limit=2 << 30) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert WorkerCensus(client, plan, print).memory_per_task() == (2 << 30) // 4
        with pytest.raises(PlanRefusedError, match=r"needs 1.0 GiB, .* has 0.5 GiB"):
            WorkerCensus(client, big, print).memory_per_task()


def test_runs_that_share_a_scheduler_hear_of_their_own_wells_only(tiny, tmp_path):
    (tmp_path / "other").mkdir()
    other = TinyRun(tmp_path / "other")
    for run, well in ((tiny, "A01"), (other, "B01")):
        run.misbehave(well, "nap")
    with in_process_cluster(threads=2) as cluster, ThreadPoolExecutor(2) as pool:
        address = cluster.scheduler_address
        mine = pool.submit(tiny, "A01 A02", cluster=address)
        theirs = pool.submit(other, "B01 B02", cluster=address)
        assert mine.result(60).counts == theirs.result(60).counts == {"done": 2}
    assert {well for kind, well in tiny.kinds() if kind == "well_started"} == {"A01", "A02"}
    assert {well for kind, well in other.kinds() if kind == "well_started"} == {"B01", "B02"}


def test_workers_of_a_cluster_given_are_set_up_and_set_back(tiny):
    cv2 = pytest.importorskip("cv2")

    def look() -> tuple[str | None, int]:
        return os.environ.get("OMP_NUM_THREADS"), cv2.getNumThreads()

    def preset() -> None:
        os.environ["OMP_NUM_THREADS"] = "5"
        cv2.setNumThreads(3)

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.run(preset)
        plan = tiny_plan(("A01",))
        bundle = Bundle(plan, tiny_manifest(tiny.plate, plan), "", "", 1, 1)
        plugin = PlanPlugin("p", bundle)
        client.register_plugin(plugin)
        assert list(client.run(look).values()) == [("1", 1)]
        client.unregister_worker_plugin(plugin.name)
        assert list(client.run(look).values()) == [("5", 3)]


def test_threads_leave_the_users_process_as_it_was(tiny, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        assert tiny(cluster="threads").counts == {"done": 3}
        assert cv2.getNumThreads() == 2
        assert os.environ["OMP_NUM_THREADS"] == "7"
    finally:
        cv2.setNumThreads(before)


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "naked.py"
    script.write_text(
        "from hcsflow.execute.clusters import open_cluster\n"
        "from hcsflow.execute.clusterplan import ClusterPlan\n"
        "with open_cluster(ClusterPlan('local', {'n_workers': 1})): pass\n"
    )
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert "would run itself again" in ran.stderr


def test_options_that_make_no_sense_are_refused(tiny):
    with pytest.raises(UsageError, match="dask Client"):
        tiny(cluster=3)
    with pytest.raises(UsageError, match="workers"):
        RunOptions(workers=0)
    with pytest.raises(UsageError, match=r"tls://127.0.0.1:9 asks for certificates"):
        tiny(cluster="tls://127.0.0.1:9")


def test_prestart_returns_at_once():
    started = time.monotonic()
    prestart()
    assert time.monotonic() - started < 2
