"""Out of memory: recognized in every library, and the ladder that follows."""

import errno
import gc
import importlib.util
import logging
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.arrays.counting import count_arrays
from hcsflow.arrays.oom import is_out_of_memory, recover
from hcsflow.errors import HcsflowError, MemoryConversionError, OutOfMemoryError

STACK = np.arange(5 * 4 * 3, dtype=np.uint16).reshape(5, 4, 3)


@pytest.fixture(scope="module", autouse=True)
def small_garbage():
    """Each rung collects garbage: not that of all modules loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


def errors_of_libraries():
    """Make each library's error as it raises it, without the library."""
    cupy = type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})
    torch = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})
    tensorflow = type(
        "ResourceExhaustedError",
        (Exception,),
        {"__module__": "tensorflow.python.framework.errors_impl"},
    )
    return [
        cupy("Out of memory allocating 8,589,934,592 bytes"),
        torch("CUDA out of memory. Tried to allocate 2.00 GiB"),
        tensorflow("OOM when allocating tensor with shape[99]"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 70368744177664 bytes."),
        RuntimeError("[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("Error: OpenCL error: CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)"),
        RuntimeError("clEnqueueNDRangeKernel: CL_OUT_OF_RESOURCES (-5)"),
        MemoryError("Unable to allocate 128. TiB for an array"),
    ]


@pytest.mark.parametrize("error", errors_of_libraries(), ids=lambda error: str(error)[:20])
def test_out_of_memory_is_recognized_also_as_a_cause(error):
    assert is_out_of_memory(error)
    wrapped = MemoryConversionError("numpy", "torch", "to", "no")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shape mismatch"), ValueError("wrong"), RecursionError(), KeyError("cuda")],
)
def test_other_errors_are_not(error):
    assert not is_out_of_memory(error)


REAL = {
    "numpy": "import numpy; numpy.empty(1 << 47)",
    "torch": "import torch; torch.empty(1 << 50)",
    "jax": "import jax; jax.numpy.zeros(1 << 44, 'float32').block_until_ready()",
    "pyclesperanto": "import pyclesperanto as c; c.create((1 << 17, 1 << 17, 4))",
    "tensorflow": "import tensorflow as tf; tf.zeros(1 << 45)",
}


@pytest.mark.parametrize(
    "library",
    [
        "numpy",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("torch", "jax", "pyclesperanto")),
        pytest.param("tensorflow", marks=[pytest.mark.slow, pytest.mark.tensorflow]),
    ],
)
def test_what_a_library_really_raises_is_recovered_from(library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    code = f"""
from hcsflow.arrays.oom import recover
def attempt(planes):
    {REAL[library]}
print(recover(attempt, 1, where="here", on_cpu=lambda: lambda: "on the CPU"))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.stdout.strip().endswith("on the CPU"), ran.stderr


class Allocator:
    """Fails on chosen calls, or on more planes than there is room for."""

    def __init__(self, failing=(), room=10**9):
        self.calls, self.failing, self.room = [], set(failing), room

    def __call__(self, span):
        self.calls.append(span.stop - span.start)
        if len(self.calls) in self.failing or self.calls[-1] > self.room:
            raise MemoryError(f"call {len(self.calls)}")
        return STACK[span] * 2


def climb(allocator, *, join=True, on_cpu=False):
    with count_arrays() as counts:
        result = recover(
            allocator,
            len(STACK),
            where="step 'double'",
            join=np.concatenate if join else None,
            on_cpu=(lambda: lambda: STACK * 2) if on_cpu else None,
        )
    np.testing.assert_array_equal(result, STACK * 2)
    return [(record.rung, record.planes) for record in counts.oom]


def test_rungs_come_in_order(caplog):
    caplog.set_level(logging.WARNING)
    assert climb(Allocator()) == []
    assert not caplog.records
    assert climb(Allocator(failing={1})) == [("free", 5)]
    assert climb(Allocator(room=3)) == [("free", 5), ("halve", 2)]
    assert climb(Allocator(room=1)) == [("free", 5), ("halve", 2), ("halve", 1)]
    rungs = climb(Allocator(room=0), on_cpu=True)
    assert rungs == [("free", 5), ("halve", 2), ("halve", 1), ("cpu", 5)]
    assert climb(Allocator(room=4), join=False, on_cpu=True) == [("free", 5), ("cpu", 5)]
    assert all("step 'double'" in record.getMessage() for record in caplog.records)


def test_the_last_rung_is_a_clear_error():
    with pytest.raises(OutOfMemoryError) as caught:
        climb(Allocator(room=0))
    text = str(caught.value)
    assert "step 'double' ran out of memory on 5 planes" in text
    assert "plane by plane" in text
    assert "without a CPU variant" in text
    assert "MemoryError: call" in text
    assert isinstance(caught.value, HcsflowError)
    assert isinstance(caught.value, MemoryError)


def test_other_errors_pass_at_once():
    calls = []

    def attempt(span):
        calls.append(span)
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        recover(attempt, 4, where="x", join=np.concatenate, on_cpu=lambda: lambda: None)
    assert len(calls) == 1


@given(failing=st.sets(st.integers(1, 12)), room=st.integers(1, 6), on_cpu=st.booleans())
def test_whatever_fails_the_result_is_that_of_an_undisturbed_run(failing, room, on_cpu):
    before = STACK.copy()
    allocator = Allocator(failing, room)
    try:
        climb(allocator, on_cpu=on_cpu)
    except OutOfMemoryError:
        assert not on_cpu
        assert len(allocator.calls) in failing  # one plane failed: a call that had to fail
    np.testing.assert_array_equal(STACK, before)


def test_what_a_failed_attempt_held_is_let_go_before_the_next():
    class Temporary:
        pass

    alive = []

    def attempt(span):
        gc.collect()
        assert not [ref for ref in alive if ref() is not None]
        temporary = Temporary()
        alive.append(weakref.ref(temporary))
        if span.stop - span.start > 1:
            raise MemoryError
        return STACK[span]

    recover(attempt, 4, where="x", join=np.concatenate)
    assert len(alive) == 7  # four planes twice, two once, and each alone


@pytest.mark.gpu
def test_a_full_gpu_is_recovered_from():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    free, _ = torch.cuda.mem_get_info()
    planes = 8
    side = free // planes * 3 // 2  # a plane and a half each: two fit no more than four

    def attempt(span):
        block = torch.empty(((span.stop - span.start), side), dtype=torch.uint8, device="cuda")
        return [int(block.shape[0])]

    with count_arrays() as counts:
        pieces = recover(
            attempt, planes, where="x", join=lambda parts: [n for part in parts for n in part]
        )
    assert sum(pieces) == planes
    assert [record.rung for record in counts.oom][:2] == ["free", "halve"]


def test_the_systems_own_error_is_recovered_from():
    def attempt(_span):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))
    assert recover(attempt, 1, where="x", on_cpu=lambda: lambda: "on the CPU") == "on the CPU"
    with pytest.raises(FileNotFoundError):
        recover(lambda _span: open("/nowhere"), 1, where="x")  # noqa: SIM115, PTH123


def test_causes_that_go_round_in_a_circle_come_to_an_end():
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert not is_out_of_memory(one)


def test_spent_input_is_not_tried_again():
    calls = []

    def attempt(span):
        calls.append(span)
        raise MemoryError("no room")

    with pytest.raises(OutOfMemoryError, match="had changed its input by then") as caught:
        recover(attempt, 4, where="x", join=np.concatenate, is_spent=lambda: True)
    assert len(calls) == 1
    assert "oom_recovery=False" in caught.value.hint
    assert "MemoryError: no room" in caught.value.__notes__[0]
    assert 'raise MemoryError("no room")' in caught.value.__notes__[0]
