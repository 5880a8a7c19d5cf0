"""A function that works in place and runs out of memory spoils no pixel and no other well."""

import numpy as np
import pytest
import zarr

import hcsflow as hf
import hcsflow.arrays
from hcsflow.testing.plates import key_coded_plate

pytest.importorskip("torch", reason="torch is not installed")


def pixels(output, well):
    return np.asarray(zarr.open_array(output / "images.zarr" / well[0] / well[1:] / "0" / "0")[:])


def run(folder, steps):
    """Run over two wells; return the outcomes by well, and the output folder."""
    key_coded_plate(
        folder / "P", wells=["B02", "B03"], fields=1, channels=1, timepoints=1, z=1, size=32
    )
    output = folder / "out"
    plan = hf.compile(hf.Pipeline(steps), hf.open_plate(folder / "P"), output=output)
    return {one.well: one for one in plan.run("threads", workers=1).outcomes}, output


def in_place(*, fails_once):
    """Make a function that adds 100 to its input; once, memory runs out after that."""
    failing = [MemoryError("once")] if fails_once else []

    @hcsflow.arrays.torch
    def brighter(stack):
        stack.copy_(stack.int() + 100)
        if failing:
            raise failing.pop()
        return stack

    return brighter


@hcsflow.arrays.torch
def kept_in_torch(stack):
    return stack.clone()


@hcsflow.arrays.numpy
def kept_in_numpy(stack):
    return stack + np.uint16(0)


@hcsflow.arrays.jax
def kept_in_jax(stack):
    return stack + 0


@pytest.mark.parametrize("before", [kept_in_torch, kept_in_numpy])
def test_a_well_whose_input_is_spent_fails_and_the_others_go_on(tmp_path, before):
    undisturbed, expected = run(
        tmp_path / "a", [hf.FunctionStep([before, in_place(fails_once=False)])]
    )
    assert {one.status for one in undisturbed.values()} == {"done"}
    outcomes, output = run(tmp_path / "b", [hf.FunctionStep([before, in_place(fails_once=True)])])
    assert sorted(one.status for one in outcomes.values()) == ["done", "failed"]
    for well, one in outcomes.items():
        if one.status == "done":
            np.testing.assert_array_equal(pixels(output, well), pixels(expected, well))
        else:
            assert one.error == "OutOfMemoryError"
            assert "had changed its input" in one.message
            assert "oom_recovery=False" in one.hint
            assert "raise failing.pop()" in one.traceback


def test_a_stack_of_jax_is_as_it_was_when_torch_is_called_again(tmp_path):
    pytest.importorskip("jax", reason="jax is not installed")
    steps = [[kept_in_jax, in_place(fails_once=fails)] for fails in (False, True)]
    _, expected = run(tmp_path / "a", [hf.FunctionStep(steps[0])])
    outcomes, output = run(tmp_path / "b", [hf.FunctionStep(steps[1])])
    for well, one in outcomes.items():
        assert one.status == "done"
        np.testing.assert_array_equal(pixels(output, well), pixels(expected, well))
