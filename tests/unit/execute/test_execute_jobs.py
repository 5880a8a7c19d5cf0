"""What is submitted to batch systems, as text; and jobs that are refused."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hcsflow.errors import HcsflowError, UsageError
from hcsflow.execute.clusterplan import ClusterRequest
from hcsflow.execute.clusters import open_cluster
from hcsflow.execute.dasksettings import worker_exports, worker_settings
from hcsflow.execute.jobqueue import job_script
from hcsflow.execute.probe import Probe
from hcsflow.execute.profiles import QueueProfile, TlsFiles, find_profile
from hcsflow.execute.queueplan import queue_arguments
from hcsflow.execute.select import select_cluster
from hcsflow.journal import Event
from hcsflow.view.tally import Tally

GOLDEN = Path(__file__).parents[2] / "golden" / "jobs"
GIB = 1 << 30
LOGIN_NODE = Probe(
    cores=4,
    memory_bytes=4 * GIB,
    commands=frozenset({"sbatch", "qsub", "bsub", "condor_submit"}),
    packages={"dask-jobqueue": "0.9.0", "cryptography": "50.0"},
    interfaces=("lo", "ib0"),
)
ALL_FIELDS = {
    "cores": 8,
    "memory": 64 * GIB,
    "threads_per_worker": 2,
    "gpus_per_job": 1,
    "queue": "gpu",
    "account": "lab",
    "job_directives": ("--mail-type=FAIL",),
    "prologue": ("module load python",),
    "interface": "ib0",
    "security": False,
    "local_directory": "/scratch",
    "lifetime": 3600,
    "lifetime_stagger": 60,
    "worker_resources": {"LICENCE": 2.0},
}
KINDS = ["slurm", "pbs", "lsf", "sge", "htcondor"]

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")


def script_of(profile: QueueProfile, logs: Path) -> str:
    fixed = replace(profile, python="python", log_directory=str(logs))
    plan = select_cluster(fixed, LOGIN_NODE, ClusterRequest(384))
    return job_script(plan).replace(str(logs), "LOGS")


def assert_golden(name: str, text: str) -> None:
    """Compare with a stored text; one that is not there is stored, to be looked at."""
    file = GOLDEN / name
    if not file.exists():
        file.write_text(text)
        pytest.fail(f"{file} was not there and is now: look at it")
    assert text == file.read_text()


@pytest.fixture(autouse=True)
def _no_site_settings(monkeypatch):
    """What the machine's own batch system says must not show."""
    for name in ("PBS_ACCOUNT", "LSF_ENVDIR", "LSF_CONFDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_job_script_of_every_shipped_profile(kind, tmp_path):
    assert_golden(f"{kind}.txt", script_of(find_profile(kind), tmp_path / "logs"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_job_script_with_every_field_set(kind, tmp_path):
    changes = dict(ALL_FIELDS)
    if kind == "htcondor":
        changes |= {"queue": None, "job_directives": ("Requirements = OpSysMajorVer == 9",)}
    profile = replace(find_profile(kind), **changes)
    assert_golden(f"{kind}-all.txt", script_of(profile, tmp_path / "logs"))


def test_a_job_s_shell_gives_dask_what_a_local_worker_gets(tmp_path):
    asked = "import dask, json; print(json.dumps([dask.config.get(k) for k in %r]))"
    names = list(worker_settings(3))
    script = tmp_path / "job.sh"
    script.write_text("\n".join([*worker_exports(3), f'{sys.executable} -c "{asked % names}"']))
    told = subprocess.run(["bash", script], capture_output=True, text=True, check=True).stdout
    import json

    found = dict(zip(names, json.loads(told), strict=True))
    environment = found.pop("distributed.nanny.pre-spawn-environ")
    expected = worker_settings(3)
    for name, value in expected.pop("distributed.nanny.pre-spawn-environ").items():
        assert environment[name] == value
    assert environment["OMP_NUM_THREADS"] == 3
    assert found == expected


def test_ctrl_c_stays_what_it_was(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import signal, sys
from dataclasses import replace
sys.path[:] = {sys.path}
from hcsflow.execute.jobqueue import job_script
from hcsflow.execute.probe import Probe
from hcsflow.execute.clusterplan import ClusterRequest
from hcsflow.execute.profiles import find_profile
from hcsflow.execute.select import select_cluster
before = signal.getsignal(signal.SIGINT)
packages = {{"dask-jobqueue": "0.9.0"}}
found = Probe(4, {4 * GIB}, commands=frozenset({{"qsub"}}), packages=packages)
profile = replace(find_profile("sge"), interface="lo", security=False)
job_script(select_cluster(profile, found, ClusterRequest(8)))
assert "dask_jobqueue.runner" in sys.modules
assert signal.getsignal(signal.SIGINT) is before
"""
    )
    subprocess.run([sys.executable, script], check=True)


def test_a_worker_ends_before_its_job_does():
    for walltime in (600, 3600, 24 * 3600):
        profile = replace(find_profile("slurm"), walltime=walltime)
        words = select_cluster(profile, LOGIN_NODE, ClusterRequest(8)).kwargs["worker_extra_args"]
        lifetime = int(words[words.index("--lifetime") + 1].rstrip("s"))
        stagger = int(words[words.index("--lifetime-stagger") + 1].rstrip("s"))
        assert walltime * 0.7 < lifetime + stagger < walltime


@pytest.fixture
def refusing(tmp_path, monkeypatch):
    """A batch system that takes no job."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("qsub", "qdel"):
        (tools / name).write_text(
            "#!/bin/sh\necho 'Unable to run job: no such queue' >&2\nexit 1\n"
        )
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    profile = replace(find_profile("sge"), interface="lo", security=False)
    return select_cluster(profile, LOGIN_NODE, ClusterRequest(2))


def test_what_the_batch_system_says_is_passed_on(refusing, tmp_path):
    with (
        pytest.raises(HcsflowError, match="took no job: Unable to run job: no such queue"),
        open_cluster(refusing, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    "name", ["My Plate", "it's", "plate(1)", "R&D", "$HOME", "a`id`", "Plätze"]
)
def test_a_folder_that_a_job_script_cannot_name_is_refused(refusing, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    with (
        pytest.raises(UsageError, match="a job script cannot name a path"),
        open_cluster(refusing, folder),
    ):
        pass


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("python", "/home/me/my env/bin/python"),
        ("local_directory", "/scratch/$(id)"),
        ("log_directory", "/logs/R&D"),
        ("shared_directory", "/shared/it's"),
        ("security", TlsFiles("/a b/ca.pem", "/cert.pem", "/key.pem")),
    ],
)
def test_a_path_of_a_profile_that_a_job_script_cannot_name_is_refused(field, value):
    profile = replace(find_profile("slurm"), **{field: value})
    with pytest.raises(UsageError, match=f"{field}.*: a job script cannot name a path"):
        select_cluster(profile, LOGIN_NODE, ClusterRequest(4))


@pytest.mark.parametrize("value", ["$TMPDIR", "${SCRATCH}/me", "~/scratch"])
def test_a_nodes_shell_fills_in_variables(value):
    profile = replace(find_profile("slurm"), local_directory=value)
    plan = select_cluster(profile, LOGIN_NODE, ClusterRequest(4))
    assert f"--local-directory {value}" in job_script(plan)


def test_jobs_are_called_as_their_profile_in_letters_that_all_queues_take():
    profile = replace(find_profile("pbs"), name="my plate; id")
    assert queue_arguments(profile)["job_name"] == "hcsflow-my-plat"
    assert queue_arguments(replace(profile, kind="sge"))["job_name"] == "hcsflow-my-plate-id"


def test_lsf_counts_minutes_and_never_none():
    lsf = replace(find_profile("lsf"), walltime=40)
    assert queue_arguments(lsf)["walltime"] == "00:01"


def test_one_job_of_several_may_be_refused(monkeypatch, tmp_path):
    command = tmp_path / "bin" / "sbatch"
    command.parent.mkdir()
    command.write_text(
        f"#!/bin/sh\nmkdir {tmp_path}/first 2>/dev/null && echo 'Submitted batch job 7' && exit 0\n"
        "echo 'too many jobs' >&2; exit 1\n"
    )
    command.chmod(0o755)
    (command.parent / "scancel").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    plan = select_cluster(find_profile("slurm"), LOGIN_NODE, ClusterRequest(64))
    with open_cluster(replace(plan, jobs=(2, 2)), tmp_path) as (_, cluster):
        assert cluster.job_cls.refusals == ["too many jobs"]
        assert [job.job_id for job in cluster.workers.values() if job.job_id] == ["7"]


def test_a_batch_system_that_does_not_answer_is_given_up(monkeypatch, tmp_path):
    command = tmp_path / "bin" / "sbatch"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nexec sleep 20\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    plan = replace(
        select_cluster(find_profile("slurm"), LOGIN_NODE, ClusterRequest(1)), jobs=(1, 1)
    )
    with (
        pytest.raises(HcsflowError, match="took no job: sbatch has not ended within 1 s"),
        open_cluster(plan, tmp_path, timeout_s=1),
    ):
        pass


def test_progress_shows_a_refusal_until_a_worker_is_there():
    tally = Tally()
    tally.add(Event("run_started", None, {"wells": 4}), 0.0)
    tally.add(Event("workers", None, {"count": 0}), 1.0)
    tally.add(Event("job_refused", None, {"message": "too many jobs"}), 2.0)
    assert "a job was refused: too many jobs · waiting for workers" in tally.line(3.0)
    tally.add(Event("workers", None, {"count": 1}), 4.0)
    assert "refused" not in tally.line(5.0)
