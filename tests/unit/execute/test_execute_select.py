"""Which cluster a run gets, on machines that are not here: a pure function of fake probes."""

import inspect
import os
import subprocess
import sys
from dataclasses import replace

import pytest

import hcsflow as hf
from hcsflow.config import Level, Source, profile_source, resolve
from hcsflow.errors import ConfigError, PlanRefusedError, UsageError
from hcsflow.execute.clusterplan import ClusterRequest
from hcsflow.execute.options import RunOptions
from hcsflow.execute.probe import Gpu, Probe, probe_machine
from hcsflow.execute.profiles import (
    CudaProfile,
    LocalProfile,
    find_profile,
    profile_names,
    read_profile,
)
from hcsflow.execute.select import (
    default_workers,
    fitted_resources,
    largest_resources,
    select_cluster,
    with_fitting_encoders,
)
from hcsflow.testing.plates import write_imagexpress_plate

GIB = 1 << 30
A100 = Gpu("NVIDIA A100-SXM4-40GB", 40 * GIB)
HPC_PACKAGES = {"dask-jobqueue": "0.9.0", "cryptography": "50.0"}

LAPTOP = Probe(cores=8, memory_bytes=16 * GIB, gpu_fault="the NVIDIA driver says: not found")
CONTAINER = replace(LAPTOP, cores=2, memory_bytes=2 * GIB)
DGX = Probe(
    cores=128,
    memory_bytes=800 * GIB,
    gpus=(A100,) * 8,
    gpu_fault="",
    cuda_version=(12, 4),
    packages={"dask-cuda": "26.10.0", "cupy-cuda12x": "14.2.0", "rmm-cu12": "26.10.0"},
    hostname="dgx",
)
LOGIN_NODE = Probe(
    cores=4,
    memory_bytes=4 * GIB,
    commands=frozenset({"sbatch", "qsub", "bsub", "condor_submit"}),
    packages=HPC_PACKAGES,
    interfaces=("lo", "eth0", "ib0"),
    hostname="login1",
)
QUEUES = ["slurm", "pbs", "lsf", "sge", "htcondor"]


def request(wells: int = 384, *, gib: float = 0.5, workers: int | None = None) -> ClusterRequest:
    return ClusterRequest(wells, int(gib * GIB), workers)


def test_local_fits_cores_wells_memory_and_the_container():
    local = LocalProfile(kind="local")
    assert select_cluster(local, LAPTOP, request()).workers == 8
    assert select_cluster(local, LAPTOP, request(3)).workers == 3
    assert select_cluster(local, LAPTOP, request(gib=3.75)).workers == 4
    assert select_cluster(local, LAPTOP, request(workers=2)).kwargs["memory_limit"] == 8 * GIB
    inside = select_cluster(local, CONTAINER, request())
    assert (inside.workers, inside.memory_bytes) == (2, GIB)
    greedy = LocalProfile(kind="local", memory=64 * GIB)
    assert select_cluster(greedy, CONTAINER, request()).memory_bytes == GIB
    with pytest.raises(PlanRefusedError, match=r"needs 4.2 GiB, each of 1 workers has 2.0 GiB"):
        select_cluster(local, CONTAINER, request(gib=4))
    with pytest.raises(PlanRefusedError, match=r"each of 64 workers has 0.2 GiB"):
        select_cluster(local, LAPTOP, request(gib=1, workers=64))


def test_workers_of_a_profile_give_way_to_those_asked_for():
    profile = LocalProfile(kind="local", workers=3, threads_per_worker=2)
    assert select_cluster(profile, LAPTOP, request()).workers == 3
    assert select_cluster(profile, LAPTOP, request(workers=5)).workers == 5
    assert select_cluster(replace(profile, workers=None), LAPTOP, request()).workers == 4


def test_default_workers_fit_cores_wells_and_memory():
    sizes = {"memory_bytes": 16 << 30, "projected_bytes": 3 << 30}
    assert default_workers(cores=8, wells=384, **sizes) == 4
    assert default_workers(cores=2, wells=384, **sizes) == 2
    assert default_workers(cores=8, wells=1, **sizes) == 1
    assert default_workers(cores=8, wells=0, memory_bytes=1, projected_bytes=1) == 1


def test_serial_and_threads_have_no_processes():
    serial = select_cluster(find_profile("serial"), LAPTOP, request())
    assert (serial.kind, serial.workers, serial.has_processes) == ("serial", 1, False)
    threads = select_cluster(find_profile("threads"), LAPTOP, request())
    assert (threads.workers, threads.has_processes) == (8, False)


def test_each_of_8_gpus_gets_a_worker_with_its_share_of_the_memory():
    plan = select_cluster(find_profile("cuda"), DGX, request())
    assert (plan.workers, plan.gpus, plan.memory_bytes) == (8, 8, 100 * GIB)
    assert plan.kwargs["n_workers"] == 8
    assert plan.kwargs["host"] == "127.0.0.1"
    assert plan.kwargs["device_memory_limit"] == 0.8
    assert plan.kwargs["resources"] == {"GPU": 1.0}
    assert select_cluster(find_profile("cuda"), DGX, request(3)).workers == 3
    two = CudaProfile(devices=(6, 7))
    assert select_cluster(two, DGX, request()).kwargs["CUDA_VISIBLE_DEVICES"] == [6, 7]
    assert largest_resources(two, DGX, None).gpus == 2
    assert fitted_resources(two, DGX, request()).memory_bytes == 400 * GIB


@pytest.mark.parametrize(
    ("probe", "profile", "message"),
    [
        (LAPTOP, {}, r"no NVIDIA GPU found on localhost: the NVIDIA driver says"),
        (replace(DGX, packages={}), {}, r"dask-cuda is not installed\n.*hcsflow\[cuda12\]"),
        (
            replace(DGX, packages=DGX.packages | {"cupy-cuda13x": "14"}),
            {},
            r"cupy-cuda13x is for CUDA 13, the driver does CUDA 12.4",
        ),
        (
            replace(DGX, packages={"dask-cuda": "26.10.0"}),
            {"rmm_pool_size": 0.5},
            "asks for rmm, which is not installed",
        ),
        (DGX, {"devices": (0, 8)}, "there is no device 8; dgx has 8"),
        (DGX, {"workers": 9}, "9 workers are asked for, there are 8 GPUs"),
    ],
)
def test_what_cuda_lacks_is_said(probe, profile, message):
    with pytest.raises(UsageError, match=message):
        select_cluster(CudaProfile(**profile), probe, request())


@pytest.mark.parametrize("kind", QUEUES)
def test_a_batch_system_is_told_of_whole_jobs_and_dask_of_its_workers(kind):
    plan = select_cluster(find_profile(kind), LOGIN_NODE, request())
    profile = find_profile(kind)
    assert plan.jobs == (0, profile.maximum_jobs)
    assert plan.workers == profile.maximum_jobs * profile.cores
    assert plan.kwargs["cores"] == plan.kwargs["processes"] == profile.cores
    assert plan.memory_bytes < profile.memory / profile.cores
    assert plan.security is True
    assert plan.has_processes
    assert kind in str(plan)
    few = select_cluster(profile, LOGIN_NODE, request(1))
    assert few.jobs == (0, 1)


@pytest.mark.parametrize(
    ("probe", "changes", "message"),
    [
        (LAPTOP, {}, "sbatch is not on PATH on localhost"),
        (replace(LOGIN_NODE, packages={}), {}, r"dask-jobqueue is not installed\n.*hcsflow\[hpc\]"),
        (
            replace(LOGIN_NODE, packages={"dask-jobqueue": "0.9"}),
            {},
            r"cryptography is not installed",
        ),
        (LOGIN_NODE, {"interface": "ib1"}, r"login1 has no network interface 'ib1'.*\n.*'ib0'"),
    ],
)
def test_what_a_batch_system_lacks_is_said(probe, changes, message):
    with pytest.raises(UsageError, match=message):
        select_cluster(replace(find_profile("slurm"), **changes), probe, request())


def test_jobs_too_small_for_the_worst_task_are_refused():
    with pytest.raises(PlanRefusedError, match=r"needs 8.2 GiB, each of 4 workers has 3.8 GiB"):
        select_cluster(find_profile("slurm"), LOGIN_NODE, request(gib=8))
    with pytest.raises(PlanRefusedError, match="cannot hold 4 workers"):
        select_cluster(replace(find_profile("slurm"), memory=GIB // 2), LOGIN_NODE, request())


def test_a_plan_for_a_batch_system_can_be_made_anywhere():
    slurm = find_profile("slurm")
    assert fitted_resources(slurm, LAPTOP, request()).workers == 40
    gpu = replace(slurm, gpus_per_job=1)
    assert largest_resources(gpu, LAPTOP, None).gpus == 10
    assert fitted_resources(gpu, LAPTOP, request(2)).gpus == 2


@pytest.mark.parametrize(
    ("profile", "probe", "wells", "workers", "encoders"),
    [
        (LocalProfile(kind="local"), LAPTOP, 384, None, 1),  # no core is idle
        (LocalProfile(kind="local"), LAPTOP, 384, 1, 8),
        (LocalProfile(kind="local"), LAPTOP, 384, 3, 2),
        (LocalProfile(kind="threads"), LAPTOP, 384, 4, 2),
        (LocalProfile(kind="local"), LAPTOP, 2, 8, 4),  # six workers have no well
        (LocalProfile(kind="local"), CONTAINER, 384, 2, 1),
        (LocalProfile(kind="serial"), LAPTOP, 384, None, 1),
        (CudaProfile(), DGX, 384, None, 8),
        (find_profile("slurm"), DGX, 384, None, 1),  # its cores are another machine's
        (find_profile("tcp://a:1"), LAPTOP, 384, 1, 1),
    ],
)
def test_cores_that_no_worker_uses_encode(profile, probe, wells, workers, encoders):
    found = fitted_resources(profile, probe, request(wells, workers=workers, gib=0.25))
    assert found.encoders == encoders
    assert largest_resources(profile, probe, workers).encoders == 1


CONFINED = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from hcsflow.execute.clusterplan import ClusterRequest
from hcsflow.execute.probe import probe_machine
from hcsflow.execute.profiles import find_profile
from hcsflow.execute.select import fitted_resources
from hcsflow.graph.feed import reading_threads
from hcsflow.storage.encoding import available_cores
found = fitted_resources(find_profile("local"), probe_machine(), ClusterRequest(384, 1 << 20))
print(found.workers, found.encoders, reading_threads(found, 1 << 20), available_cores())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process")
def test_a_process_that_is_held_to_one_core_starts_one_worker_without_threads_beside_it():
    done = subprocess.run([sys.executable, "-c", CONFINED], capture_output=True, check=True)
    assert done.stdout.split() == [b"1"] * 4


def test_a_plan_is_run_with_no_more_encoders_than_cores_are_left(tmp_path):
    write_imagexpress_plate(tmp_path / "PLATE", wells=("A01",), fields=2, z=2, size=64)
    four = hf.Resources(workers=2, memory_bytes=8 * GIB, encoders=4)
    plate = hf.open_plate(tmp_path / "PLATE")
    plan = hf.compile("convert", plate, output=tmp_path / "OUT", resources=four).frozen
    assert with_fitting_encoders(plan, RunOptions(cluster="local")) is plan
    assert with_fitting_encoders(plan, RunOptions(cluster="local", workers=1)) is plan
    serial = with_fitting_encoders(plan, RunOptions(cluster="serial"))
    crowded = with_fitting_encoders(plan, RunOptions(cluster="local", workers=4))
    assert serial.resources == replace(four, encoders=1)
    assert crowded.resources == replace(four, encoders=2)
    assert serial.projected_bytes < crowded.projected_bytes < plan.projected_bytes


def test_more_local_workers_than_fit_are_refused_when_a_plan_is_made():
    with pytest.raises(UsageError, match="64 workers"):
        fitted_resources(LocalProfile(kind="local"), LAPTOP, request(workers=64, gib=1))
    assert fitted_resources(LocalProfile(kind="local"), LAPTOP, request(2)).workers == 2


def test_an_address_is_taken_as_it_is():
    plan = select_cluster(find_profile("tcp://a:1"), LAPTOP, request())
    assert (plan.kind, plan.target, plan.kwargs) == ("address", "tcp://a:1", {})
    assert select_cluster(find_profile("tls://a:1"), LAPTOP, request()).security is True


def test_every_shipped_profile_is_found_by_its_name():
    assert profile_names() == sorted(["serial", "threads", "local", "cuda", *QUEUES])
    for name in profile_names():
        profile = find_profile(name)
        assert (profile.kind, profile.name) == (name, name)


def test_the_shipped_local_profile_says_what_local_does_anyway():
    assert find_profile("local") == LocalProfile(kind="local", name="local")
    assert find_profile("threads") == LocalProfile(kind="threads", name="threads")


def test_memory_that_no_idle_worker_fits_into_is_refused_with_the_profile_to_change():
    profile = LocalProfile(kind="local", name="small", workers=1, memory=50_000_000)
    with pytest.raises(PlanRefusedError, match=r"a worker has 50 MB.*\n.*profile 'small'"):
        largest_resources(profile, probe_machine(), None)


def test_an_unknown_cluster_is_named_with_the_nearest():
    with pytest.raises(UsageError, match=r"no cluster is called 'slrum'\n.*'slurm'"):
        find_profile("slrum")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: slrum", "kind is 'slrum'\n.*slurm"),
        ("workers: 3", "kind is None"),
        ("kind: local\nwrkers: 3", "no field 'wrkers'\n.*write workers"),
        ("kind: local\nworkers: three", "workers: .*integer"),
        ("kind: local\nworkers: yes", "workers: .*integer"),
        ("kind: local\nmemory: lots", "memory: expected a size such as '16 GiB', got 'lots'"),
        ("kind: local\nmemory: 5", "memory: 5 bytes are too few.*unit"),
        ("kind: slurm", "maximum_jobs is missing; memory is missing"),
        ("{slurm}\npartition: x", "no field 'partition'\n.*write queue"),
        ("{slurm}\nproject: x", "no field 'project'\n.*write account"),
        ("{slurm}\ndisk: 1 GB", "slurm has no disk"),
        ("{slurm}\nlifetime: 5 h", "18000 s, must be shorter than walltime, 7200 s"),
        ("{slurm}\nlifetime: 90 min\nlifetime_stagger: 30 min", "7200 s, must be shorter"),
        ("{slurm}\nsecurity: {{ca_file: a, cert: b, key: c}}", "security.ca_file: there is no"),
        ("kind: cuda\ndevices: [0, 0]", "devices 0, 0: each worker needs one of its own"),
        ("kind: cuda\nrmm_async: true\nrmm_managed_memory: true", "exclude each other"),
        ("kind: cuda\nrmm_maximum_pool_size: 0.5", "needs rmm_pool_size"),
        ("kind: cuda\nrmm_release_threshold: 0.5", "needs rmm_async"),
        (
            "kind: htcondor\nmaximum_jobs: 1\nmemory: 1 GB\ndisk: 1 GB\njob_directives: [x]",
            "'name = value', not 'x'",
        ),
        ("{slurm}\nminimum_jobs: 5", "minimum_jobs 5 is over 4"),
        ("{slurm}\ngpus_per_job: 1\nprocesses: 2", "a job with a GPU has one worker"),
        ("{slurm}\nsecurity: {{ca_file: a}}", "security.cert is missing; security.key is missing"),
        ("{slurm}\nconfig: {{zarr: {{pyramd: false}}}}", "zarr.pyramd.*\n.*zarr.pyramid"),
        ("kind: slurm\nmaximum_jobs: 1\nmemory: 1 GB\nwalltime: 14:00:00", "in quotes"),
        ("kind: slurm\nmaximum_jobs: 1\nmemory: 1 GB", "slurm needs walltime"),
        ("kind: htcondor\nmaximum_jobs: 1\nmemory: 1 GB", "htcondor needs disk"),
        ("- a", "expected names and values"),
    ],
)
def test_what_is_wrong_in_a_profile_is_said(tmp_path, text, message):
    slurm = "kind: slurm\nmaximum_jobs: 4\nmemory: 8 GB\nwalltime: '02:00:00'"
    file = tmp_path / "mine.yaml"
    file.write_text(text.format(slurm=slurm) if "{slurm}" in text else text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_profile(file)
    assert "mine" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("02:00:00", 7200), ("1-12:00:00", 129600), ("90 min", 5400), ("3d", 259200)],
)
def test_durations_are_written_as_batch_systems_do_or_with_a_unit(tmp_path, text, seconds):
    file = tmp_path / "p.yaml"
    file.write_text(f"kind: slurm\nmaximum_jobs: 1\nmemory: 1.5 GiB\nwalltime: '{text}'\n")
    profile = read_profile(file)
    assert (profile.walltime, profile.memory, profile.name) == (seconds, 3 << 29, "p")


def test_this_machine_can_be_probed():
    probe = probe_machine(gpus=True)
    assert probe.cores >= 1
    assert probe.memory_bytes > 0
    assert probe.hostname
    assert bool(probe.gpus) != bool(probe.gpu_fault)


def test_the_arguments_are_those_that_dask_cuda_takes():
    pytest.importorskip("pynvml", reason="dask-cuda asks the driver through nvidia-ml-py")
    dask_cuda = pytest.importorskip(
        "dask_cuda", reason="dask-cuda is not installed", exc_type=ImportError
    )
    known = set(inspect.signature(dask_cuda.LocalCUDACluster).parameters)
    known |= set(inspect.signature(dask_cuda.LocalCUDACluster.__mro__[1]).parameters)
    plan = select_cluster(find_profile("cuda"), DGX, request())
    assert set(plan.kwargs) - {"resources"} <= known


def test_devices_are_numbered_among_those_that_are_visible():
    seen = tuple(Gpu("A100", GIB, f"GPU-{number}a", number) for number in (2, 3))
    some = replace(DGX, gpus=seen)

    def chosen(*devices):
        plan = select_cluster(CudaProfile(devices=devices), some, request(gib=0.1))
        return plan.kwargs["CUDA_VISIBLE_DEVICES"]

    assert chosen(0, 1) == [2, 3]
    assert chosen(1) == [3]
    assert chosen("GPU-3a", "GPU-2a") == [3, 2]
    assert select_cluster(find_profile("cuda"), some, request()).gpus == 2
    with pytest.raises(UsageError, match="name one device twice"):
        chosen(0, "GPU-2a")
    with pytest.raises(UsageError, match=r"there is no device 2; dgx has 2\n.*GPU-2a, GPU-3a"):
        chosen(2)


def test_a_part_of_a_device_may_be_named(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    plan = select_cluster(CudaProfile(devices=("MIG-1", "MIG-2")), DGX, request())
    assert (plan.kwargs["CUDA_VISIBLE_DEVICES"], plan.gpus) == (["MIG-1", "MIG-2"], 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UsageError, match="there is no device MIG-1"):
        select_cluster(CudaProfile(devices=("MIG-1",)), DGX, request())


def test_the_folder_for_spilling_is_filled_in_and_tried(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    local = LocalProfile(kind="local", local_directory="$SCRATCH")
    assert select_cluster(local, LAPTOP, request()).place == str(tmp_path)
    absent = replace(local, local_directory="$SCRATCH/absent")
    with pytest.raises(UsageError, match=r"absent: workers cannot write there"):
        select_cluster(absent, LAPTOP, request())


@pytest.mark.parametrize("kind", ["local", "threads"])
def test_connections_on_this_machine_can_be_encrypted(kind):
    profile = LocalProfile(kind=kind, security=True, name="mine")
    plan = select_cluster(profile, replace(LAPTOP, packages=HPC_PACKAGES), request())
    assert plan.kwargs["security"] is True
    assert plan.kwargs["protocol"] == "tls://"
    assert "TLS" in str(plan)
    with pytest.raises(UsageError, match=r"security needs cryptography"):
        select_cluster(profile, LAPTOP, request())


def test_certificates_lie_beside_their_profile(tmp_path):
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    file = tmp_path / "mine.yaml"
    file.write_text(
        "kind: address\naddress: tls://host:1\n"
        f"security: {{ca_file: ca.pem, cert: cert.pem, key: {tmp_path}/key.pem}}"
    )
    assert read_profile(file).security.ca_file == str(tmp_path / "ca.pem")


def test_workers_of_a_profile_go_before_those_of_the_users_own_file(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("kind: local\nworkers: 3")
    everywhere = Source(Level.GLOBAL, "config.yaml", {"num_workers": 8})
    asked = Source(Level.ENVIRONMENT, "HCSFLOW_NUM_WORKERS", {"num_workers": 5})
    assert resolve([everywhere, profile_source(mine)])[0].num_workers == 3
    assert resolve([everywhere, profile_source(mine), asked])[0].num_workers == 5
