"""The kit itself: an adapter with one fault fails the test that is about it."""

from __future__ import annotations

import time
import warnings
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from hcsflow.arrays.libraries import adapter_of
from hcsflow.testing.array_checks import numpy_array
from hcsflow.testing.arrays import ArrayAdapterTests


class Kit(ArrayAdapterTests):
    __test__ = False
    memory_type = "numpy"
    absent_device = "cuda:0"
    replaced: ClassVar[dict] = {}

    @property
    def adapter(self):
        return SimpleNamespace(**{**vars(adapter_of(self.memory_type)), **self.replaced})

    def make(self, dtype, layout):
        return numpy_array(dtype, layout)


class TorchKit(Kit):
    memory_type = "torch"

    def make(self, dtype, layout):
        raise NotImplementedError


def with_fault(kit, name, fault):
    broken = kit()
    broken.replaced = {name: fault}
    return broken


def copies_where_it_says_it_shares(array, device):
    return array.copy()


def narrows(array, device):
    return array.astype("int32") if array.dtype == "int64" else array


def changes_its_input(array, device):
    if array.flags.writeable and array.size:
        array[...] = 0
    return array


def forgets_the_shape(array, device):
    return array.reshape(-1)


def stretches_to_min_and_max(array, dtype, mode):
    values = np.nan_to_num(array.astype(float))
    span = np.ptp(values) or 1
    return ((values - values.min()) / span * 255).astype(dtype)


def wraps_around(array, dtype, mode):
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(array.astype(dtype))


def never_refuses(array, dtype, mode):
    return adapter_of("numpy").cast(array, dtype, "saturate")


def stacks_a_view(planes):
    return planes[0][None] if len(planes) == 1 else np.stack(planes)


def takes_any_device(array, device):
    return array


def shares_read_only_memory(array, device):
    import torch

    if array.flags.writeable:
        return adapter_of("torch").from_host(array, device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(array)


@pytest.mark.parametrize(
    ("name", "fault", "test"),
    [
        ("from_host", copies_where_it_says_it_shares, "test_from_numpy"),
        ("from_host", narrows, "test_from_numpy"),
        ("from_host", changes_its_input, "test_from_numpy"),
        ("from_host", forgets_the_shape, "test_from_numpy"),
        ("to_host", np.copy, "test_to_numpy"),
        ("cast", stretches_to_min_and_max, "test_casts"),
        ("cast", wraps_around, "test_casts"),
        ("cast", never_refuses, "test_casts"),
        (
            "cast",
            lambda array, dtype, mode: array.astype(dtype).ravel(),
            "test_casts_keep_the_shape",
        ),
        ("stack", stacks_a_view, "test_stack"),
        ("from_host", takes_any_device, "test_an_absent_device_is_refused"),
        ("place", takes_any_device, "test_an_absent_device_is_refused"),
    ],
)
def test_a_fault_is_found(name, fault, test):
    getattr(Kit(), test)()
    with pytest.raises(AssertionError):
        getattr(with_fault(Kit, name, fault), test)()


@pytest.mark.parametrize("test", ["test_from_numpy", "test_read_only_memory_is_never_written_to"])
def test_sharing_read_only_memory_is_found(test):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'hcsflow[torch]'")
    Kit().test_read_only_memory_is_never_written_to()
    if test == "test_from_numpy":
        TorchKit().test_from_numpy()
    with pytest.raises(AssertionError):
        getattr(with_fault(TorchKit, "from_host", shares_read_only_memory), test)()


class NotThreadSafe:
    """Passes arrays on by a variable that all threads share."""

    last: np.ndarray

    def from_host(self, array, device):
        self.last = array
        time.sleep(0.001)
        return self.last


def test_a_state_that_threads_share_is_found():
    Kit().test_threads()
    with pytest.raises(AssertionError):
        with_fault(Kit, "from_host", NotThreadSafe().from_host).test_threads()
