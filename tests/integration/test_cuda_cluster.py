"""Workers on NVIDIA GPUs: one each, spilling device to host to disk, and a whole plate."""

import os

import pytest

from hcsflow.cli.main import main
from hcsflow.execute.clusters import open_cluster
from hcsflow.execute.probe import probe_machine
from hcsflow.execute.profiles import CudaProfile, find_profile
from hcsflow.execute.select import ClusterRequest, select_cluster
from hcsflow.graph.families import register_families
from hcsflow.testing.plates import key_coded_plate

pytestmark = pytest.mark.gpu

GIB = 1 << 30
SHAPE = (64, 1024, 1024)
"""256 MiB as float32."""
ARRAYS = 24


@pytest.fixture(scope="module", autouse=True)
def devices() -> int:
    """How many GPUs there are; without one, or without dask-cuda, nothing here can run."""
    pytest.importorskip("dask_cuda", reason="dask-cuda is not installed", exc_type=ImportError)
    probe = probe_machine(gpus=True)
    if not probe.gpus:
        pytest.skip(f"no NVIDIA GPU: {probe.gpu_fault}")
    return len(probe.gpus)


def make(family: str, number: int):
    """Return 256 MiB on the device, filled with a number."""
    if family == "cupy":
        import cupy

        return cupy.full(SHAPE, number, dtype="float32")
    import torch

    return torch.full(SHAPE, float(number), device="cuda")


def ends(array) -> tuple[float, float]:
    return float(array.min()), float(array.max())


def tiers(dask_worker) -> tuple[int, int, int]:
    data = dask_worker.data
    return len(data.device), len(data.host), len(data.disk)


@pytest.mark.parametrize("family", ["cupy", "torch"])
def test_what_does_not_fit_a_device_goes_to_the_host_and_then_to_disk(family):
    pytest.importorskip(family, reason=f"{family} is not installed")
    profile = CudaProfile(workers=1, device_memory_limit=GIB, memory=4 * GIB)
    plan = select_cluster(profile, probe_machine(gpus=True), ClusterRequest(wells=1))
    with open_cluster(plan) as (client, cluster):
        register_families()
        client.run(register_families)
        (spec,) = cluster.worker_spec.values()
        assert spec["options"]["resources"] == {"GPU": 1.0}
        arrays = [client.submit(make, family, n, pure=False) for n in range(ARRAYS)]
        found = client.gather(client.map(ends, arrays, pure=False))
        assert found == [(n, n) for n in range(ARRAYS)]
        (held,) = client.run(tiers).values()
        on_device, on_host, on_disk = held
        assert on_device <= 4
        assert on_host * 256 <= 4096 * 0.9
        assert on_disk > 0
        assert on_device + on_host + on_disk >= ARRAYS


def test_each_gpu_has_one_worker(devices):
    plan = select_cluster(find_profile("cuda"), probe_machine(gpus=True), ClusterRequest(wells=384))
    with open_cluster(plan) as (client, _):
        client.wait_for_workers(devices, timeout=120)
        first = client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"].split(",")[0])
        assert len(set(first.values())) == len(first) == devices


def test_a_plate_on_gpu_workers(tmp_path, hash_tree):
    key_coded_plate(tmp_path / "plate", wells=("B02", "B03"), fields=2)
    words = ["run", "max-projection", str(tmp_path / "plate"), "-o"]
    assert main([*words, str(tmp_path / "cuda"), "--cluster", "cuda"]) == 0
    assert main([*words, str(tmp_path / "threads"), "--cluster", "threads"]) == 0
    plates = [hash_tree(tmp_path / name / "images.zarr") for name in ("cuda", "threads")]
    assert plates[0] == plates[1]
