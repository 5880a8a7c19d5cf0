"""Plans whose wells go from workers without a GPU to those with one: how many are under way."""

import time
from dataclasses import replace

import pytest
from distributed import Client, Scheduler, SpecCluster, Worker
from tiny_task import tiny_manifest, tiny_plan, tiny_task

from hcsflow.errors import UsageError
from hcsflow.execute import RunOptions, run_plan
from hcsflow.execute.window import changes_worker, wells_at_once
from hcsflow.graph.worker import emit
from hcsflow.journal import Outcome
from hcsflow.plan import Plan, Resources, Segment

ROOMY = Resources(workers=2, memory_bytes=1 << 30, gpus=1)


def two_kinds(resources: Resources = ROOMY) -> Plan:
    """A plan of two segments, the second on a GPU; its wells are 128 bytes."""
    infer = Segment("infer", 1, 1, (), projected_bytes=1 << 20, needs_gpu=True)
    segments = (Segment("scale", 0, 0, ()), infer)
    plan = tiny_plan()
    steps = (*plan.steps, replace(plan.steps[0], index=1, name="infer", source=0))
    writes = (replace(plan.writes[0], step=1),)
    return plan.replace(steps=steps, writes=writes, segments=segments, resources=resources)


def worker(threads: int, gpus: int = 0) -> dict:
    return {"nthreads": threads, "resources": {"GPU": gpus} if gpus else {}}


def test_only_results_that_change_the_kind_of_worker_pile_up():
    plan = two_kinds()
    filter_, infer = plan.segments
    assert changes_worker(plan)
    assert not changes_worker(tiny_plan())
    assert not changes_worker(plan.replace(segments=(filter_, replace(infer, needs_gpu=False))))
    # a checkpoint lies on the disk
    assert not changes_worker(plan.replace(segments=(filter_, replace(infer, reads="00_scale"))))


def test_every_thread_gets_a_well_as_far_as_memory_holds_what_waits():
    plan = two_kinds()
    assert wells_at_once(plan, []) == 3
    assert wells_at_once(plan, [worker(1)] * 15 + [worker(1, gpus=1)]) == 17
    assert wells_at_once(plan, [worker(8), worker(4, gpus=4)]) == 16
    tight = two_kinds(replace(ROOMY, memory_bytes=(1 << 20) + 3 * 128))
    assert wells_at_once(tight, [worker(1)] * 15 + [worker(1, gpus=1)]) == 4
    none_to_spare = two_kinds(replace(ROOMY, memory_bytes=1 << 20))
    assert wells_at_once(none_to_spare, [worker(1)] * 15 + [worker(1, gpus=1)]) == 2
    assert wells_at_once(none_to_spare, [worker(1)] * 2 + [worker(1, gpus=1)] * 2) == 4


def slow_on_gpus(plan_id, segment, well, attempt, *upstream):
    if segment == "infer":
        time.sleep(0.1)
        return tiny_task(plan_id, segment, well, attempt, *upstream)
    emit("well_started", well, plan_id=plan_id)
    return Outcome(well, segment, "done")


def cluster_of(**kinds: int) -> SpecCluster:
    """A worker of a thread for each name, with some GPUs."""
    options = {"nthreads": 1, "host": "127.0.0.1"}
    return SpecCluster(
        workers={
            name: {"cls": Worker, "options": options | {"resources": {"GPU": gpus} if gpus else {}}}
            for name, gpus in kinds.items()
        },
        scheduler={
            "cls": Scheduler,
            "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"},
        },
    )


@pytest.mark.parametrize("attempts", [1, 2])
def test_wells_for_a_slow_gpu_are_begun_one_by_one(tiny, attempts):
    plan = two_kinds()
    if attempts == 2:
        tiny.misbehave("A02", "fail")
    started, finished, under_way = set(), set(), []

    def count(event):
        if event.kind == "well_started":
            started.add(event.well)
        elif event.kind in ("well_done", "well_failed"):
            finished.add(event.well)
        under_way.append(len(started - finished))

    with cluster_of(cpu=0, gpu=1) as cluster, Client(cluster, set_as_default=False) as client:
        result = run_plan(
            plan,
            tiny_manifest(tiny.plate, plan),
            tiny.plate,
            tiny.output,
            options=RunOptions(cluster=client, task=slow_on_gpus, retries=attempts - 1),
            on_event=count,
        )
    expected = {"done": 6} if attempts == 1 else {"done": 5, "failed": 1}
    assert result.counts == expected
    assert max(under_way) <= 3


def test_a_cluster_that_was_given_without_a_gpu_is_refused(tiny):
    plan = two_kinds()
    with (
        cluster_of(one=0, other=0) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(UsageError, match="no worker of this cluster offers one"),
    ):
        run_plan(
            plan,
            tiny_manifest(tiny.plate, plan),
            tiny.plate,
            tiny.output,
            options=RunOptions(cluster=client, task=slow_on_gpus),
        )
