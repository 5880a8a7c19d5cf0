"""Dask counts, spills, reads back and moves arrays of every library, on workers of their own."""

import importlib.util
import math
import os
import time
from dataclasses import dataclass

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster, wait

from hcsflow.arrays import convert, find_memory_type, to_numpy
from hcsflow.arrays.families import freeze, thaw
from hcsflow.graph.families import register_families

MIB = 1 << 20
LIBRARIES = [
    "torch",
    "jax",
    "pyclesperanto",
    pytest.param("tensorflow", marks=pytest.mark.tensorflow),
]
NUMBER, SHAPE = 24, (13, 1000, 1000)
NBYTES = math.prod(SHAPE) * 4
MEMORY = {"torch": 700, "jax": 700, "pyclesperanto": 700, "tensorflow": 1600}
"""Memory of the worker in MiB: tensorflow alone takes 715 before its first array."""
TARGET = 0.3
"""Share of it that data may take; the rest is for the library and for what is on its way."""


@dataclass
class Measured:
    """A result as users write them."""

    stack: object
    name: str


def values(number):
    return np.arange(number, number + np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)


def make(library, number):
    return convert(values(number), library)


def is_as_made(library, number, array):
    same = np.array_equal(to_numpy(array), values(number))
    return find_memory_type(array) == library and same


def small(library):
    stack = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return {"bare": convert(stack, library), "held": Measured(convert(stack, library), "A01")}


def small_is_as_made(library, made):
    stack = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = [made["bare"], made["held"].stack]
    return [find_memory_type(array) for array in arrays] == [library] * 2 and all(
        np.array_equal(to_numpy(array), stack) for array in arrays
    )


def brains(library):
    """Return an array of bfloat16, which numpy does not have."""
    bits = np.arange(0x3F80, 0x3F90, dtype=np.int16)
    header = {"memory_type": library, "dtype": "bfloat16", "device": "cpu"}
    return thaw(header, bits)


def bits_of(array):
    header, host = freeze(array)
    return header["dtype"], host.tolist()


@pytest.fixture(autouse=True)
def workers_find_this_file(monkeypatch, request):
    """The functions above go to the workers by name; workers have this process's sys.path."""
    monkeypatch.syspath_prepend(request.config.rootpath)


def need(library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def cluster_of(workers, memory, folder):
    # this process imports no library: each worker its own
    register_families()
    return dask.config.set(
        {"temporary-directory": str(folder), "distributed.worker.memory.target": TARGET}
    ), LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=memory,
        dashboard_address=None,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_worker_of_700_mib_holds_more_than_a_gigabyte(library, tmp_path):
    need(library)
    memory = MEMORY[library] * MIB
    settings, cluster = cluster_of(1, memory, tmp_path)
    with settings, cluster, Client(cluster) as client:
        client.run(register_families)
        (before,) = client.run(os.getpid).values()
        held = [client.submit(make, library, n, key=("plane", n)) for n in range(NUMBER)]
        wait(held)
        managed, spilled = metrics(client, at_least=NUMBER * NBYTES)
        assert managed == NUMBER * NBYTES
        assert spilled >= managed - TARGET * memory
        checks = [client.submit(is_as_made, library, n, item) for n, item in enumerate(held)]
        assert all(client.gather(checks))
        (after,) = client.run(os.getpid).values()
        assert after == before  # never killed


def metrics(client, at_least):
    """Return the bytes that the worker counts, and those of them on disk, once it has told."""
    for _ in range(100):
        (worker,) = client.scheduler_info()["workers"].values()
        told = worker["metrics"]
        if told["managed_bytes"] >= at_least:
            break
        time.sleep(0.1)
    return told["managed_bytes"], told["spilled_bytes"]["memory"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("library", LIBRARIES)
def test_arrays_move_between_workers_alone_and_in_containers(library, tmp_path):
    need(library)
    settings, cluster = cluster_of(2, 4096 * MIB, tmp_path)
    with settings, cluster, Client(cluster) as client:
        client.run(register_families)
        one, other = client.scheduler_info()["workers"]
        made = client.submit(small, library, workers=[one])
        assert client.submit(small_is_as_made, library, made, workers=[other]).result()
        if library != "pyclesperanto":
            made = client.submit(brains, library, workers=[one])
            moved = client.submit(bits_of, made, workers=[other]).result()
            assert moved == ("bfloat16", list(range(0x3F80, 0x3F90)))
