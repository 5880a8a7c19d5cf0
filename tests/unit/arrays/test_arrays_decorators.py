"""Declared memory types are kept, checked, pickled."""

import inspect
import pickle
import subprocess
import sys

import cloudpickle
import numpy as np
import pytest

from hcsflow import arrays
from hcsflow.arrays import memory_types
from hcsflow.arrays import numpy as on_numpy
from hcsflow.arrays import torch as on_torch
from hcsflow.contracts import contract, contract_of, special_inputs, special_outputs
from hcsflow.errors import ContractError, MemoryConversionError
from hcsflow.functions.filters import gaussian_filter

STACK = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)


@on_numpy
def bare(stack, *, by=2):
    """Double."""
    return stack * by


@on_torch(output_type="numpy", oom_recovery=False)
def with_arguments(stack):
    return stack.numpy()


def test_bare_and_with_arguments():
    assert contract_of(bare).input_type == contract_of(bare).output_type == "numpy"
    found = contract_of(with_arguments)
    assert (found.input_type, found.output_type, found.oom_recovery) == ("torch", "numpy", False)


def test_plainly_callable_with_its_signature_and_docstring():
    np.testing.assert_array_equal(bare(STACK, by=3), STACK * 3)
    assert list(inspect.signature(bare).parameters) == ["stack", "by"]
    assert bare.__doc__ == "Double."


def test_combines_with_special_inputs_and_outputs_in_any_order():
    @special_outputs("count")
    @on_numpy
    @special_inputs("labels")
    @contract(z_out="one", working_planes=3.0)
    def function(stack, *, labels):
        return stack[:1], labels

    found = contract_of(function)
    assert (found.z_out, found.working_planes) == ("one", 3.0)
    assert found.special_inputs == ("labels",)
    assert [output.name for output in found.special_outputs] == ["count"]
    assert function(STACK, labels=4)[1] == 4


def test_the_input_is_checked_at_the_call():
    with pytest.raises(ContractError, match=r"bare takes: expected a stack.*found list"):
        bare([[1]])
    with pytest.raises(ContractError, match=r"found shape \(3, 4\)"):
        bare(STACK[0])
    with pytest.raises(ContractError, match="with_arguments takes a torch stack, found numpy"):
        with_arguments(STACK)


def test_the_output_is_checked_at_the_call():
    @on_numpy
    def forgets(stack):
        del stack

    with pytest.raises(ContractError, match="returns a numpy stack, found NoneType"):
        forgets(STACK)


def test_mixed_types():
    torch = pytest.importorskip("torch", reason="torch is not installed")

    @memory_types(input_type="numpy", output_type="torch")
    def infer(stack):
        return torch.from_numpy(stack.astype(np.float32))

    assert contract_of(infer).output_type == "torch"
    assert infer(STACK).shape == (2, 3, 4)


def test_unknown_memory_types_are_refused_when_declared():
    with pytest.raises(MemoryConversionError, match="is no memory type"):
        memory_types(input_type="numppy", output_type="numpy")


def test_pickled_by_import_path():
    data = pickle.dumps(gaussian_filter)
    assert len(data) < 100
    assert pickle.loads(data) is gaussian_filter


def test_a_notebook_function_travels_by_value():
    code = """
import sys, cloudpickle
from hcsflow.arrays import numpy
@numpy
def mine(stack): return stack + 1
sys.stdout.buffer.write(cloudpickle.dumps(mine))
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    function = cloudpickle.loads(made.stdout)
    np.testing.assert_array_equal(function(STACK), STACK + 1)
    assert contract_of(function).input_type == "numpy"


@pytest.mark.parametrize("name", arrays.MEMORY_TYPES)
def test_each_library_has_its_decorator(name):
    decorator = getattr(arrays, name)
    assert decorator.__name__ == name

    @decorator
    def plain(stack):
        return stack

    @decorator(oom_recovery=False, input_type="numpy")
    def mixed(stack):
        return stack

    assert (contract_of(plain).input_type, contract_of(plain).output_type) == (name, name)
    found = contract_of(mixed)
    assert (found.input_type, found.output_type, found.oom_recovery) == ("numpy", name, False)
    if name != "numpy":
        with pytest.raises(ContractError, match=f"takes a {name} stack, found numpy"):
            plain(STACK)
        with pytest.raises(ContractError, match=f"returns a {name} stack, found numpy"):
            mixed(STACK)


@pytest.mark.parametrize("recovery", [True, False])
def test_memory_types_keep_whether_memory_may_be_saved(recovery):
    @memory_types(input_type="numpy", output_type="numpy", oom_recovery=recovery)
    def function(stack):
        return stack

    assert contract_of(function).oom_recovery is recovery


def test_of_several_results_the_first_is_the_stack():
    @on_numpy
    def function(stack):
        return [1, 2], stack

    with pytest.raises(ContractError, match="returns a numpy stack, found list"):
        function(STACK)


def test_the_hint_says_how_to_convert():
    with pytest.raises(ContractError, match=r'hcsflow\.arrays\.convert\(stack, "torch"\)'):
        with_arguments(STACK)
