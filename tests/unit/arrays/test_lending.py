"""What an attempt is given cannot spoil the original unseen; the way to a device."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hcsflow.arrays import convert
from hcsflow.arrays.conversions import HOLDS
from hcsflow.arrays.counting import convert_planned, count_arrays
from hcsflow.arrays.families import FAMILIES
from hcsflow.arrays.lending import Loan
from hcsflow.arrays.libraries import LIBRARIES, is_installed


def need(*libraries):
    for library in libraries:
        if not is_installed(library):
            pytest.skip(f"{library} is not installed")


def numbers():
    return np.arange(600, dtype=np.int32).reshape(2, 15, 20)


def test_numpy_is_lent_read_only_and_stays_writable_for_its_owner():
    stack = numbers()
    lent = Loan().lend(stack, of=stack)
    with pytest.raises(ValueError, match="read-only"):
        lent += 1
    assert stack.flags.writeable


@pytest.mark.parametrize("source", ["numpy", "torch"])
def test_a_write_by_torch_to_shared_memory_is_noticed(source):
    need("torch")
    stack = convert(numbers(), source)
    loan = Loan()
    for span in (slice(0, 1), slice(1, 2)):
        part = stack[span]
        lent = loan.lend(convert(part, "torch"), of=part)
        assert not loan.is_spent()
    lent[0, 0].sub_(1)
    assert loan.is_spent()


def test_a_write_by_torch_to_memory_of_its_own_is_none_of_ours():
    need("torch")
    stack = numbers()
    stack.flags.writeable = False
    loan = Loan()
    loan.lend(convert(stack, "torch"), of=stack).zero_()
    assert not loan.is_spent()
    np.testing.assert_array_equal(stack, numbers())


@pytest.mark.parametrize(
    "source", ["jax", pytest.param("tensorflow", marks=pytest.mark.tensorflow)]
)
def test_torch_gets_a_copy_of_what_cannot_be_watched(source):
    need("torch", source)
    stack = convert(numbers(), source)
    loan = Loan()
    loan.lend(convert(stack, "torch"), of=stack).zero_()
    assert not loan.is_spent()
    np.testing.assert_array_equal(np.asarray(stack), numbers())


def test_a_tensor_that_torch_does_not_count_is_copied():
    need("torch")
    import torch

    with torch.inference_mode():
        stack = torch.ones(2, 3, 4)
        loan = Loan()
        loan.lend(stack, of=stack).zero_()
    assert not loan.is_spent()
    assert float(stack.sum()) == 24


class Device:
    """Stands in for cupy: arrays on a device, taken from numpy alone."""

    class ndarray:
        def __init__(self, host):
            self.host, self.dtype, self.shape = host.copy(), host.dtype, host.shape
            self.nbytes = host.nbytes
            self.data = SimpleNamespace(ptr=id(self))

        def copy(self):
            return Device.ndarray(self.host)


@pytest.fixture
def device(monkeypatch):
    given = []

    def from_host(array, device):
        given.append(device)
        return Device.ndarray(array)

    monkeypatch.setitem(sys.modules, "cupy", Device)
    monkeypatch.setitem(
        sys.modules["hcsflow.arrays.libraries"]._ADAPTERS,
        "cupy",
        SimpleNamespace(
            from_host=from_host,
            from_dlpack=lambda array, device: pytest.fail("cupy takes no host memory by DLPack"),
            place=lambda array, device: array,
        ),
    )
    monkeypatch.delenv("HCSFLOW_NO_GPU", raising=False)
    return given


@pytest.mark.parametrize("source", ["numpy", "torch", "jax"])
def test_host_memory_reaches_a_device_by_way_of_numpy(device, source):
    need(source)
    with count_arrays() as counts:
        found = convert_planned(convert(numbers(), source), "cupy", device=1)
    np.testing.assert_array_equal(found.host, numbers())
    assert device == [1]
    assert counts.conversions == {"copy": 1}


def test_what_can_lie_in_host_memory_goes_directly():
    need("torch", "jax")
    assert "host" in HOLDS["jax"].places
    with count_arrays() as counts:
        convert_planned(convert(numbers(), "torch"), "jax")
    assert sum(counts.conversions.values()) == 1


def test_a_target_on_a_device_is_asked_for_there():
    need("torch")
    array = numbers()
    assert convert_planned(array, "torch", device="meta").device.type == "meta"
    assert convert_planned(array, "torch", device="cpu").device.type == "cpu"
    assert convert_planned(array, "numpy", device=0) is array


def test_a_device_array_is_lent_as_a_copy(device):
    assert LIBRARIES["cupy"].needs_gpu
    assert set(FAMILIES) == set(LIBRARIES)
    stack = Device.ndarray(numbers())
    loan = Loan()
    lent = loan.lend(stack, of=stack)
    lent.host[:] = 0
    np.testing.assert_array_equal(stack.host, numbers())
    assert not loan.is_spent()
