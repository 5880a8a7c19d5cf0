"""What crosses a cut as a task's result; where a task's arrays go; outcomes added up."""

import os
import subprocess
import sys

import numpy as np
import pytest
from dask.sizeof import sizeof
from distributed.protocol import deserialize, serialize

from hcsflow.arrays.devices import using_gpus, worker_device
from hcsflow.graph.families import register_families
from hcsflow.graph.handover import HandedPlanes
from hcsflow.graph.results import HandedStack, HandedValue, Handover, outcome_of
from hcsflow.journal import Outcome, merged
from hcsflow.plan import Carried, LocalKey

KEYS = tuple(LocalKey(0, 0, 0, z) for z in range(4))


def handover():
    stack = np.arange(4 * 512 * 512, dtype=np.uint16).reshape(4, 512, 512)
    value = HandedValue(Carried(0, "labels"), 0, np.zeros((512, 512), np.uint32))
    outcome = Outcome("A01", "smooth", "done", seconds=1.0)
    return Handover(outcome, (outcome,), (HandedStack(KEYS, stack),), (value,))


def test_dask_counts_a_result_and_moves_it_whole():
    register_families()
    made = handover()
    held = made.planes[0].stack.nbytes + made.specials[0].value.nbytes
    assert held <= sizeof(made) < held + 20_000
    back = deserialize(*serialize(made))
    assert (back.outcome, back.uncommitted) == (made.outcome, made.uncommitted)
    assert back.planes[0].keys == KEYS
    np.testing.assert_array_equal(back.planes[0].stack, made.planes[0].stack)
    assert outcome_of(back) == outcome_of(made.outcome) == made.outcome


def test_planes_are_given_as_they_lie_or_put_together():
    made = handover()
    lower, upper = made.planes[0].stack[:2].copy(), made.planes[0].stack[2:].copy()
    planes = HandedPlanes([HandedStack(KEYS[:2], lower), HandedStack(KEYS[2:], upper)])
    assert np.shares_memory(planes.gather(KEYS[:2]), lower)
    mixed = planes.gather((KEYS[3], KEYS[0]))
    np.testing.assert_array_equal(mixed, np.stack([upper[1], lower[0]]))
    assert not planes.gather(KEYS[:2]).flags.writeable
    assert not mixed.flags.writeable
    stranger = LocalKey(9, 0, 0, 0)
    assert planes.missing([KEYS[0], stranger]) == [stranger]


def test_outcomes_add_up_to_the_last_ones_fate():
    first = Outcome(
        "A01", "a", "done", seconds=2.0, step_seconds=(("read", 1.0), ("a", 0.5)), bytes_read=10,
        bytes_written=3, peak_bytes=7, outputs=("00_a",), objects=2, notes=("n",),
        traffic=(("zarr", 2, 5, 0.5),), step_peaks=(("a", 7),),
    )  # fmt: skip
    last = Outcome(
        "A01", "b", "failed", step="b", error="ValueError", seconds=1.0, bytes_read=4,
        step_seconds=(("read", 0.25), ("b", 0.5)), peak_bytes=5, notes=("n", "m"),
        traffic=(("zarr", 1, 5, 0.25), ("memory", 1, 1, 0.0)), step_peaks=(("a", 2), ("b", 5)),
    )  # fmt: skip
    both = merged([first, last])
    assert (both.status, both.step, both.error, both.segment) == ("failed", "b", "ValueError", "b")
    assert both.step_seconds == (("read", 1.25), ("a", 0.5), ("b", 0.5))
    assert (both.seconds, both.bytes_read, both.bytes_written, both.objects) == (3.0, 14, 3, 2)
    assert (both.peak_bytes, both.step_peaks) == (7, (("a", 7), ("b", 5)))
    assert (both.outputs, both.notes) == (("00_a",), ("n", "m"))
    assert both.traffic == (("zarr", 3, 10, 0.75), ("memory", 1, 1, 0.0))
    assert merged([first]) == first


def test_no_gpu_is_asked_for_where_none_may_be_used():
    pytest.importorskip("torch")
    assert worker_device("torch") is None
    with using_gpus(True):
        assert worker_device("numpy") is None
        assert worker_device("cupy") is None  # takes its current device unasked
        with using_gpus(False):
            assert worker_device("torch") is None


@pytest.mark.gpu
def test_torch_is_given_the_workers_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    with using_gpus(True):
        assert worker_device("torch") == torch.cuda.current_device()


def test_worker_processes_leave_gpu_memory_to_others():
    code = (
        "import os\n"
        "from hcsflow.graph.process import limit_threads, restore_threads\n"
        "names = ['XLA_PYTHON_CLIENT_PREALLOCATE', 'TF_FORCE_GPU_ALLOW_GROWTH']\n"
        "limit_threads(1)\n"
        "print(*map(os.environ.get, names))\n"
        "restore_threads()\n"
        "print(*map(os.environ.get, names))\n"
    )
    for own, expected in ((None, ["false true", "None None"]), ("1", ["1 true", "1 None"])):
        environment = {**os.environ, **({"XLA_PYTHON_CLIENT_PREALLOCATE": own} if own else {})}
        ran = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        assert ran.stdout.splitlines() == expected
