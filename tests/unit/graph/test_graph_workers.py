"""What workers are given and set to: plan, allocator, threads, array families, measurements."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from dask.sizeof import sizeof
from distributed.protocol import deserialize, serialize

from hcsflow.errors import HcsflowError
from hcsflow.graph.families import register_families
from hcsflow.graph.plugin import Bundle, PlanPlugin, bundle_of
from hcsflow.graph.worker import emit

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
    graph = build_graph("p1", plan, plan.wells, attempt=0, task=tiny_task)
    first, last = ("filter", "Tiny", "A01"), ("measure", "Tiny", "A01")
    assert graph[first] == (tiny_task, "p1", "filter", "A01", 0)
    assert graph[last] == (tiny_task, "p1", "measure", "A01", 0, first)
    assert len(graph) == plan.num_tasks
    assert final_keys(plan, ["A01"], attempt=0) == {"A01": last}
    again = build_graph("p1", plan, ["A01"], attempt=1, task=tiny_task)
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
    plugin.setup(None)
    plugin.setup(None)  # two workers in one process
    assert bundle_of("p2").plan == plan
    plugin.teardown(None)
    assert bundle_of("p2").epoch == 3
    plugin.teardown(None)
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
print(meter.is_exact, meter.peak_bytes >> 20, later.peak_bytes >> 20)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    is_exact, peak, later = ran.stdout.split()
    if is_exact == "True":
        assert 60 < int(peak) < 200
        assert int(later) < 60


def test_telling_something_outside_a_worker_is_harmless():
    emit("step", "A01", plan_id="p", step="blur")


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
