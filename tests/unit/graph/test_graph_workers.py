"""What workers are given and set to: plan, allocator, threads, array families, measurements."""

import importlib.util
import queue
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dask.sizeof import sizeof
from distributed import Client, LocalCluster
from distributed.protocol import deserialize, serialize

from hcsflow.errors import HcsflowError
from hcsflow.graph.families import register_families
from hcsflow.graph.plugin import Bundle, PlanPlugin, bundle_of
from hcsflow.graph.worker import TELL_S, emit, emit_no_more, topic_of

sys.path.insert(0, str(Path(__file__).parents[1] / "execute"))

from dataclasses import replace

from tiny_task import tiny_manifest, tiny_plan, tiny_task

from hcsflow.graph.build import build_graph, final_keys
from hcsflow.plan import Segment


def python(code: str, **pipes) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, check=True, **pipes
    )
    return ran.stdout.decode().strip()


def test_a_graph_chains_the_segments_of_each_well():
    segments = (Segment("filter", 0, 0, ()), Segment("measure", 0, 0, ()))
    plan = tiny_plan(("A01", "B02")).replace(segments=segments)
    todo = {"A01": ("filter", "measure"), "B02": ("measure",)}
    graph = build_graph("p1", plan, todo, attempt=0, task=tiny_task)
    first, last = ("filter", "Tiny", "A01"), ("measure", "Tiny", "A01")
    assert graph[first] == (tiny_task, "p1", "filter", "A01", 0)
    assert graph[last] == (tiny_task, "p1", "measure", "A01", 0, first)
    # what starts from a checkpoint waits for nobody
    assert graph["measure", "Tiny", "B02"] == (tiny_task, "p1", "measure", "B02", 0)
    assert len(graph) == 3
    keys = final_keys(plan, {"A01": ("filter",), "B02": ("measure",)}, attempt=0)
    assert keys == {"A01": first, "B02": ("measure", "Tiny", "B02")}
    again = build_graph("p1", plan, todo, attempt=1, task=tiny_task)
    assert not set(again) & set(graph)


def test_a_function_of_a_loose_file_travels_by_value(tmp_path):
    file = tmp_path / "loose.py"
    file.write_text("OFFSET = 5\ndef shift(stack):\n    return stack + OFFSET\n")
    spec = importlib.util.spec_from_file_location("loose_file", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["loose_file"] = module
    try:
        spec.loader.exec_module(module)
        plan = tiny_plan(("A01",))
        step = plan.steps[0]
        call = replace(step.branches[0].calls[0], func=module.shift)
        step = replace(step, branches=(replace(step.branches[0], calls=(call,)),))
        plan = plan.replace(steps=(step,))
        bundle = Bundle(plan, tiny_manifest(tmp_path, plan), "", "", 1, 1)
        plugin = PlanPlugin("p", bundle)
    finally:
        del sys.modules["loose_file"]
    code = (
        "import sys, cloudpickle; bundle = cloudpickle.loads(sys.stdin.buffer.read());"
        "print(bundle.plan.steps[0].branches[0].calls[0].func(1))"
    )
    assert python(code, input=plugin.payload) == "6"


def test_a_plugin_gives_the_plan_and_takes_it_back(tmp_path):
    plan = tiny_plan(("A01",))
    bundle = Bundle(plan, tiny_manifest(tmp_path, plan), "in", "out", 3, 1)
    plugin = PlanPlugin("p2", bundle)
    with LocalCluster(
        n_workers=2,
        processes=False,
        host="127.0.0.1",
        protocol="tcp://",
        dashboard_address=None,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        one, other = cluster.workers.values()
        plugin.setup(one)
        plugin.setup(other)  # two workers in one process
        assert bundle_of("p2").plan == plan
        plugin.teardown(one)
        assert bundle_of("p2").epoch == 3
        plugin.teardown(other)
    with pytest.raises(LookupError, match="p2"):
        bundle_of("p2")


def test_threads_and_allocator_are_set_in_a_worker():
    code = (
        "from hcsflow.graph.process import limit_threads, tune_allocator\n"
        "import numcodecs.blosc, sys\n"
        "tuned = tune_allocator()\n"
        "limit_threads(1)\n"
        "import cv2\n"
        "print(tuned == (sys.platform == 'linux'), cv2.getNumThreads(),"
        " numcodecs.blosc.use_threads)"
    )
    assert python(code) in ("True 1 False", "False 1 False")


def test_the_peak_of_a_block_is_measured_above_the_idle_size():
    # in a process of its own: what other tests freed may stay with this one's allocator
    code = """
import numpy as np
from hcsflow.graph.worker import PeakMeter, measure_idle
measure_idle()
with PeakMeter() as meter:
    block = np.ones(64 << 20, np.uint8)
    del block
with PeakMeter() as later:
    pass
with PeakMeter() as first:
    with PeakMeter() as second:
        shared = np.ones(64 << 20, np.uint8)
for found in (meter, later, first, second):
    print(found.peak_bytes >> 20)
"""
    peak, later, *shared = map(int, python(code).split())
    if sys.platform == "linux":
        assert 60 < peak < 200
        assert later < 60
    assert shared == [0, 0], "two tasks in one process: nobody knows whose the memory is"


def test_the_peak_is_told_step_by_step():
    code = """
import numpy as np
from hcsflow.graph.worker import PeakMeter, measure_idle
measure_idle()
with PeakMeter() as meter:
    meter.begin("small")
    block = np.ones(16 << 20, np.uint8)
    del block
    meter.begin("large")
    block = np.ones(128 << 20, np.uint8)
    del block
    meter.begin("small")
print(*(meter.step_peaks.get(step, 0) >> 20 for step in ("small", "large")))
print(meter.peak_bytes == max(meter.step_peaks.values(), default=0))
"""
    small, large, is_largest = python(code).split()
    assert is_largest == "True"
    if sys.platform == "linux":
        assert int(small) < 60
        assert int(large) > 120


def test_telling_something_outside_a_worker_is_harmless():
    emit("step", "A01", plan_id="p", step="blur")


def test_what_is_over_before_it_is_told_is_not_told():
    def work():
        emit("well_started", "A01", plan_id="p")  # the first after a pause goes out at once
        emit("step", "A01", plan_id="p", step="blur")
        emit_no_more("A01", plan_id="p")
        emit("step", "A02", plan_id="p", step="blur")
        emit_no_more("A02", plan_id="another")

    heard = queue.SimpleQueue()
    with (
        LocalCluster(
            1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster) as client,
    ):
        client.subscribe_topic(topic_of("p"), lambda event: heard.put(event[1]))
        time.sleep(TELL_S)
        client.submit(work).result()
        told = [heard.get(timeout=10) for _ in range(2)]
        assert heard.empty()
    assert [(one["kind"], one["well"]) for one in told] == [
        ("well_started", "A01"),
        ("step", "A02"),
    ]


def test_torch_tensors_are_counted_and_moved():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    register_families()
    tensor = torch.arange(12, dtype=torch.int16).reshape(3, 4)
    assert sizeof(tensor) == 24
    restored = deserialize(*serialize({"stack": tensor}))["stack"]
    assert torch.equal(restored, tensor)
    assert restored.dtype == tensor.dtype


def test_errors_survive_the_way_from_a_worker():
    error = deserialize(*serialize(HcsflowError("what", hint="do")))
    assert str(error) == "what\n  → do"
