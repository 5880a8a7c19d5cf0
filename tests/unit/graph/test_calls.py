"""A step function is held to its contract at the boundary."""

import gc
import importlib.util
import subprocess
import sys
import traceback
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.arrays import convert, memory_type_of
from hcsflow.arrays.counting import count_arrays
from hcsflow.contracts import contract, contract_of
from hcsflow.errors import ContractError, OutOfMemoryError
from hcsflow.functions.catalogue import find
from hcsflow.graph.calls import apply
from hcsflow.plan import Call

STACK = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)


@pytest.fixture(scope="module", autouse=True)
def small_garbage():
    """Each rung collects garbage: not that of all modules loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


def call_of(func, *, z_out="same", dtype="uint16", special_outputs=(), output_type="numpy"):
    return Call(
        function=f"lab:{func.__name__}",
        fingerprint="",
        input_type="numpy",
        output_type=output_type,
        parameters=(),
        special_inputs=(),
        special_outputs=special_outputs,
        z_out=z_out,
        shape_yx=(4, 5),
        dtype=dtype,
        func=func,
    )


def nothing(_stack):
    return None


def flat(stack):
    return stack.max(axis=0)


def projected(stack):
    return stack.max(axis=0, keepdims=True)


def smaller(stack):
    return stack[:, ::2]


def floats(stack):
    return stack.astype(np.float64)


def masked(stack):
    return np.ma.array(stack, mask=stack > 3)


def pair(stack):
    return stack, 7


def kept(stack):
    return stack


@pytest.mark.parametrize(
    ("func", "says", "advice"),
    [
        (nothing, "returned None", "return the processed stack"),
        (flat, "returned shape (4, 5), expected (3, 4, 5)", "keepdims=True"),
        (projected, "returned shape (1, 4, 5)", "z_out='one'"),
        (smaller, "returned shape (3, 2, 5)", "output_shape"),
        (floats, "returned float64, expected uint16", "dtype='float64'"),
        (pair, "returned a tuple", None),
        (masked, "returned a masked array", ".filled(value)"),
    ],
)
def test_another_result_names_step_function_and_what_to_do(func, says, advice):
    with pytest.raises(ContractError) as caught:
        apply("blur", call_of(func), STACK, {})
    text = str(caught.value)
    assert "'blur'" in text
    assert func.__name__ in text
    assert says in text
    assert advice is None or advice in text


def test_special_outputs_must_be_all_there():
    with pytest.raises(ContractError, match="must return \\(stack, cells\\)"):
        apply("find", call_of(kept, special_outputs=("cells",)), STACK, {})
    main, extras = apply("find", call_of(pair, special_outputs=("cells",)), STACK, {})
    assert np.shares_memory(main, STACK)
    assert extras == [7]


def test_what_is_declared_is_accepted_without_a_copy():
    main, extras = apply("keep", call_of(kept), STACK, {})
    assert np.shares_memory(main, STACK)
    assert extras == []
    assert apply("p", call_of(projected, z_out="one"), STACK, {})[0].shape == (1, 4, 5)
    assert apply("f", call_of(floats, dtype="float64"), STACK, {})[0].dtype == np.float64


class Room:
    """Memory for some planes: a step function that allocates here fails on more."""

    def __init__(self, planes, failing=()):
        self.planes, self.failing, self.calls = planes, failing, []

    def take(self, stack):
        self.calls.append(int(stack.shape[0]))
        if self.calls[-1] > self.planes or len(self.calls) in self.failing:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def sharpener(room, **declared):
    @contract(**{"per_slice": True, **declared})
    def sharpen(stack, **inputs):
        room.take(stack)
        for value in inputs.values():
            assert value is None or len(value) == len(stack)
        return stack * np.uint16(3)

    return sharpen


def test_a_stack_too_large_is_cut_where_planes_are_treated_alone():
    room = Room(1)
    with count_arrays() as counts:
        main, extras = apply("sharpen", call_of(sharpener(room)), STACK, {})
    np.testing.assert_array_equal(main, STACK * 3)
    assert extras == []
    assert room.calls == [3, 3, 1, 1, 1]
    assert [record.rung for record in counts.oom] == ["free", "halve"]
    assert counts.oom[0].where == "step 'sharpen': sharpen"
    assert counts.notes() == (
        "step 'sharpen': sharpen: out of memory, pools freed (1 ×)",
        "step 'sharpen': sharpen: out of memory, stack halved (1 ×)",
    )


@given(failing=st.sets(st.integers(1, 8)), room=st.integers(1, 3))
def test_the_result_never_depends_on_memory(failing, room):
    before = STACK.copy()
    try:
        main, _ = apply("sharpen", call_of(sharpener(Room(room, failing))), STACK, {})
    except OutOfMemoryError:
        assert failing
    else:
        np.testing.assert_array_equal(main, STACK * 3)
    np.testing.assert_array_equal(STACK, before)


@pytest.mark.parametrize(
    ("declared", "changes"),
    [
        ({"per_slice": False}, {}),
        ({"z_out": 3}, {"z_out": 3}),
        ({"special_inputs": ("labels",)}, {"special_inputs": ("labels",)}),
    ],
)
def test_what_concerns_the_whole_stack_is_not_cut(declared, changes):
    room = Room(2)
    call = replace(call_of(sharpener(room, **declared)), **changes)
    with pytest.raises(OutOfMemoryError, match="uncut, without a CPU variant"):
        apply("sharpen", call, STACK, {})
    assert room.calls == [3, 3]


def test_special_outputs_are_never_put_together_from_pieces():
    room = Room(2)

    @contract(per_slice=True)
    def count(stack):
        room.take(stack)
        return stack, len(stack)

    with pytest.raises(OutOfMemoryError, match="uncut"):
        apply("count", call_of(count, special_outputs=("number",)), STACK, {})


def test_inputs_of_each_plane_are_cut_with_it():
    call = replace(call_of(sharpener(Room(1))), special_inputs=("plane_keys", "stage_positions_um"))
    inputs = {"plane_keys": ["a", "b", "c"], "stage_positions_um": None}
    main, _ = apply("sharpen", call, STACK, inputs)
    np.testing.assert_array_equal(main, STACK * 3)


def test_a_function_may_refuse_recovery():
    room = Room(2)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        apply("sharpen", call_of(sharpener(room, oom_recovery=False)), STACK, {})
    assert room.calls == [3]


TORCH = ["gaussian_filter", "max_projection", "mean_projection", "add_constant", "threshold_fixed"]
PARAMETERS = {"add_constant": {"value": 7}, "threshold_fixed": {"value": 30}}


@pytest.mark.parametrize("name", TORCH)
def test_the_cpu_variant_steps_in_and_equals(name):
    pytest.importorskip("torch", reason="torch is not installed")
    real = find(name, "torch")
    z_out = contract_of(real).z_out

    def starved(stack, **parameters):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    starved.__hcsflow_contract__ = contract_of(real)
    call = replace(
        call_of(starved, z_out=z_out, dtype=contract_of(real).dtype or "uint16"),
        function=f"hcsflow.functions.by_torch:{name}",
        input_type="torch",
        output_type="torch",
        parameters=tuple(PARAMETERS.get(name, {}).items()),
    )
    with count_arrays() as counts:
        main, _ = apply("blur", call, STACK, {})
    undisturbed, _ = apply("blur", replace(call, func=real), STACK, {})
    assert memory_type_of(main) == "numpy"
    assert [record.rung for record in counts.oom][-1] == "cpu"
    difference = main.astype(int) - convert(undisturbed, "numpy").astype(int)
    assert abs(difference).max() <= 1  # rounding
    assert main.dtype == convert(undisturbed, "numpy").dtype


def test_conversions_are_counted_by_kind():
    pytest.importorskip("torch", reason="torch is not installed")
    on_torch = replace(call_of(kept), input_type="torch", output_type="torch")
    writable, frozen = STACK.copy(), STACK.copy()
    frozen.flags.writeable = False
    with count_arrays() as counts:
        apply("keep", on_torch, writable, {})
        apply("keep", on_torch, frozen, {})
        with count_arrays() as inner:
            apply("keep", on_torch, writable, {})
        apply("keep", call_of(kept), writable, {})
    assert counts.conversions == {"zero-copy": 2, "copy": 1}
    assert counts.nbytes == {"zero-copy": 2 * STACK.nbytes, "copy": STACK.nbytes}
    assert inner.conversions == {"zero-copy": 1}
    assert counts.notes() == ()
    np.testing.assert_array_equal(writable, frozen)


def test_a_round_trip_through_the_host_is_counted_as_one():
    if not all(map(importlib.util.find_spec, ("pyclesperanto", "torch"))):
        pytest.skip("pyclesperanto or torch is not installed")
    code = """
import numpy as np
from hcsflow.arrays import convert
from hcsflow.arrays.counting import convert_planned, count_arrays
stack = np.ones((2, 500, 500), np.uint16)
array = convert(stack, "pyclesperanto")
with count_arrays() as counts:
    tensor = convert_planned(array, "torch")
    convert_planned(tensor, "pyclesperanto")
    convert_planned(array, "numpy")
assert np.array_equal(tensor.numpy(), stack)
assert counts.conversions == {"host round trip": 1, "copy": 2}, counts
assert counts.nbytes == {"host round trip": 1_000_000, "copy": 2_000_000}
assert counts.notes() == ("round trips through host memory: 1, 1.0 MB",)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_opencl_stacks_are_cut_and_joined():
    if importlib.util.find_spec("pyclesperanto") is None:
        pytest.skip("pyclesperanto is not installed")
    code = """
import sys
import numpy as np
from hcsflow.arrays import convert
from hcsflow.contracts import contract
from hcsflow.graph.calls import apply
from hcsflow.plan import Call
@contract(per_slice=True, input_type="pyclesperanto", output_type="pyclesperanto")
def kept(stack):
    if stack.shape[0] > 1:
        raise RuntimeError("OpenCL error: CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)")
    return stack
stack = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
kind = "pyclesperanto"
call = Call("lab:kept", "", kind, kind, (), (), (), "same", (4, 5), "uint16", kept)
for given in (stack, convert(stack, kind)):
    main, _ = apply("keep", call, given, {})
    assert np.array_equal(convert(main, "numpy"), stack)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_special_inputs_on_a_device_come_as_the_function_takes_arrays():
    if importlib.util.find_spec("pyclesperanto") is None:
        pytest.skip("pyclesperanto is not installed")
    code = """
import numpy as np
from hcsflow.arrays import convert, memory_type_of
from hcsflow.graph.calls import apply
from hcsflow.plan import Call
def measure(stack, *, labels, table):
    kinds = [memory_type_of(labels), *map(memory_type_of, table.values())]
    assert kinds == ["numpy", "numpy", "numpy"], kinds
    assert np.array_equal(labels, stack) and table.keys() == {"a", "b"}
    return stack
stack = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
names = ("labels", "table")
call = Call("lab:m", "", "numpy", "numpy", (), names, (), "same", (4, 5), "uint16", measure)
on_device = convert(stack, "pyclesperanto")
apply("measure", call, stack, {"labels": on_device, "table": {"a": on_device, "b": stack}})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Late:
    """A special output whose library computes it later, and runs out of memory on the way."""

    def block_until_ready(self):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")


def test_special_outputs_are_waited_for():
    def measure(stack):
        return stack, Late()

    with pytest.raises(OutOfMemoryError, match="RESOURCE_EXHAUSTED"):
        apply("m", call_of(measure, special_outputs=("cells",)), STACK, {})


def test_the_error_shows_where_memory_was_asked_for():
    def greedy(stack):
        return np.zeros((1 << 47, len(stack)))  # here

    with pytest.raises(OutOfMemoryError) as caught:
        apply("g", call_of(greedy), STACK, {})
    text = "".join(traceback.format_exception(caught.value))
    assert "in greedy" in text
    assert "return np.zeros((1 << 47, len(stack)))  # here" in text
