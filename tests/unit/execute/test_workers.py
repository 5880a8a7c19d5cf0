"""Workers that come late, are too small, cannot be restarted; time limits; Dask's own report."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from tiny_task import tiny_manifest, tiny_plan, tiny_task

from hcsflow.errors import PlanRefusedError, UsageError
from hcsflow.execute import RunOptions, read_status, run_plan
from hcsflow.execute.overtime import Overtime


@contextmanager
def cluster_of(workers: int, **options):
    """A cluster in this process that somebody else gave, with its client."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            **options,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield cluster, client


def test_a_run_waits_for_its_first_worker_and_gives_it_the_plan(tiny):
    tiny.misbehave("A01", "nap")
    with cluster_of(0) as (cluster, client):

        def start_one(event):
            if event.kind == "workers" and event.data["count"] == 0:
                threading.Thread(target=cluster.scale, args=(1,)).start()

        tiny.listen = start_one
        assert tiny(cluster=client).counts == {"done": 3}
    counts = [event.data["count"] for event in tiny.events if event.kind == "workers"]
    assert counts == [0, 1]


def test_a_late_worker_that_is_too_small_ends_the_run(tiny):
    tiny.misbehave("A01", "nap")
    plan = tiny_plan()
    big = plan.replace(segments=(replace(plan.segments[0], projected_bytes=1 << 30),))
    with cluster_of(0, memory_limit=512 << 20) as (cluster, client):

        def start_one(event):
            if event.kind == "workers":
                threading.Thread(target=cluster.scale, args=(1,)).start()

        options = RunOptions(cluster=client, task=tiny_task)
        with pytest.raises(PlanRefusedError, match=r"needs 1.0 GiB, .* has 0.5 GiB"):
            run_plan(
                big,
                tiny_manifest(tiny.plate, big),
                tiny.plate,
                tiny.output,
                options=options,
                on_event=start_one,
            )
    assert not (tiny.output / ".hcsflow" / "lock").exists()


def test_workers_without_a_nanny_cannot_keep_a_time_limit(tiny):
    with cluster_of(1) as (_, client), pytest.raises(UsageError, match="--timeout needs nannies"):
        tiny(cluster=client, timeout_s=5)


def test_dasks_own_report_is_written_with_its_scripts_in_it(tiny, tmp_path):
    report = tmp_path / "performance.html"
    assert tiny(cluster="threads", performance_report=report).counts == {"done": 3}
    text = report.read_text("utf-8")
    assert "Dask Performance Report" in text
    assert "scale" in text  # the segment's name
    assert not re.search(r"""<script[^>]+src=|<link[^>]+stylesheet""", text)
    with pytest.raises(UsageError, match="a file in a folder that exists"):
        tiny(performance_report=tmp_path / "absent" / "performance.html")


class Scheduler:
    """Stands for a client: which worker was given which tasks, as the test says."""

    def __init__(self):
        self.given = {}

    def sync(self, method, *args, callback_timeout):
        return asyncio.run(method(*args))

    async def processing(self):
        return self.given


@pytest.fixture
def overtime():
    scheduler, now = Scheduler(), [0.0]
    found = Overtime(scheduler, 10.0, clock=lambda: now[0])

    def late_at(second, *, segment="s", **places):
        now[0] = second
        scheduler.given = {}
        for well, worker in places.items():
            scheduler.given.setdefault(worker, []).append((segment, well))
        return found.late({well: [("s", well), ("t", well)] for well in ("A01", "A02")})

    late_at.hear = lambda second, well, segment="s": (
        now.__setitem__(0, second),
        found.hear(well, segment),
    )
    return late_at


def test_time_counts_from_when_the_worker_begins(overtime):
    assert overtime(0, A01="w1") == {}
    overtime.hear(5, "A01")
    assert overtime(14, A01="w1") == {}
    assert overtime(15.5, A01="w1") == {"A01": "w1"}


def test_a_well_that_waits_behind_another_is_not_late(overtime):
    overtime(0, A01="w1", A02="w1")
    overtime.hear(1, "A01")
    assert overtime(30, A01="w1", A02="w1") == {"A01": "w1"}


def test_a_worker_that_never_said_that_it_began_is_late_too(overtime):
    overtime(0, A01="w1")
    assert overtime(11, A01="w1") == {"A01": "w1"}


def test_time_in_the_queue_does_not_count(overtime):
    overtime(0)
    assert overtime(100, A01="w1") == {}
    assert overtime(109, A01="w1") == {}
    assert overtime(111, A01="w1") == {"A01": "w1"}


def test_time_starts_anew_on_another_worker(overtime):
    overtime(0, A01="w1")
    overtime.hear(1, "A01")
    assert overtime(20, A01="w2") == {}
    assert overtime(31, A01="w2") == {"A01": "w2"}


def test_each_segment_counts_by_itself(overtime):
    overtime(0, A01="w1")
    overtime.hear(1, "A01")
    overtime.hear(9, "A01", "t")
    assert overtime(10, segment="t", A01="w1") == {}
    assert overtime(18, segment="t", A01="w1") == {}
    assert overtime(20, segment="t", A01="w1") == {"A01": "w1"}


def test_a_segment_that_waits_where_the_one_before_it_ran_is_not_late(overtime):
    overtime(0, A01="w1", A02="w1")
    overtime.hear(1, "A01")
    overtime.hear(5, "A02")
    assert overtime(6, segment="t", A01="w1", A02="w1") == {}
    assert overtime(14, segment="t", A01="w1") == {}


@contextmanager
def dask_processes(tmp_path):
    """A scheduler and a worker as a user starts them; yields the scheduler and its address."""
    (tmp_path / "dask").mkdir()
    file = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(file)]
    place = ["--death-timeout", "20", "--local-directory", str(tmp_path / "dask")]
    commands = (
        ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *common],
        ["worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", *common, *place],
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with ExitStack() as stack, (tmp_path / "dask.log").open("wb") as log:
        started = []
        for command in commands:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": path},
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append(process)
            while not file.exists():
                time.sleep(0.05)
        yield started[0], json.loads(file.read_text())["address"]


@pytest.mark.slow
def test_a_cluster_that_is_lost_ends_the_run_which_the_same_command_completes(tiny, tmp_path):
    tiny.misbehave("A02", "sleep")
    with dask_processes(tmp_path) as (scheduler, address):

        def kill(event):
            if event.kind == "well_started" and event.well == "A02":
                scheduler.kill()

        tiny.listen = kill
        result = tiny(cluster=address)
    by_well = {o.well: (o.status, o.error) for o in result.outcomes}
    assert by_well["A02"] == ("crashed", "SchedulerLost")
    assert "cluster is gone" in next(o for o in result.outcomes if o.well == "A02").message
    tiny.behave()
    tiny.listen = lambda _event: None
    assert tiny(cluster="serial").counts["done"] >= 1
    assert set(read_status(tiny.output).done) == {"A01", "A02", "B01"}


def test_a_well_that_is_begun_again_and_again_is_given_up(tiny):
    tiny.misbehave("A02", "again")  # as where workers retire before it is done
    result = tiny(cluster="local", workers=1)
    statuses = {o.well: o.status for o in result.outcomes}
    assert statuses == {"A01": "done", "A02": "crashed", "B01": "done"}
    (failure,) = result.failures
    assert failure.error == "WorkerEnded"
    assert "walltime" in failure.hint
