"""Cluster profiles: YAML files that say what a cluster is started with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from hcsflow.config import profile_source, read_layer, resolve
from hcsflow.config.shipped import share_folder
from hcsflow.errors import ConfigError, UsageError, nearest
from hcsflow.execute.profilevalues import (
    Count,
    Seconds,
    Share,
    Size,
    Strict,
    Switch,
    TlsFiles,
    Whole,
    found_files,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = [
    "QUEUES",
    "AddressProfile",
    "CudaProfile",
    "LocalProfile",
    "Profile",
    "QueueProfile",
    "TlsFiles",
    "find_profile",
    "profile_names",
    "profile_schema",
    "read_profile",
]

QUEUES = ("slurm", "pbs", "lsf", "sge", "htcondor")
"""Batch systems that worker jobs can be submitted to."""

SCHEMES = ("tcp://", "tls://", "ws://", "wss://")

_OTHER_WORDS = {
    "partition": "queue", "project": "account", "n_workers": "workers",
    "max_jobs": "maximum_jobs", "min_jobs": "minimum_jobs", "jobs": "maximum_jobs",
    "job_extra_directives": "job_directives", "job_script_prologue": "prologue",
    "gpus": "gpus_per_job", "shared_temp_directory": "shared_directory",
    "memory_limit": "memory", "cuda_visible_devices": "devices",
}  # fmt: skip
"""What dask-jobqueue, dask-cuda and others call a field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile(Strict):
    """What all kinds have.

    Parameters
    ----------
    name : str
        Shown in messages and queues; default is the file's name.
    threads_per_worker : int
        Inner threads of a worker; it always runs one task at a time.
    local_directory : str or None
        Fast folder of a worker's own, for spilling.
    config : mapping
        Settings such as ``{"zarr": {"chunk_strategy": "file"}}``, below the environment's.
    """

    name: str = ""
    threads_per_worker: Count = 1
    local_directory: str | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def gives_gpus(self) -> bool:
        """Whether each worker has a GPU."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalProfile(_Profile):
    """Processors of the machine at hand.

    Parameters
    ----------
    kind : "serial", "threads" or "local"
        This very thread, threads of this process, or worker processes.
    workers : int or None
        None is min(cores, wells, memory ÷ a task's projected peak).
    memory : int or None
        Memory of all workers together, in bytes; None is most of the machine's or container's.
    security : bool
        TLS with certificates made for the run: other users of the machine reach 127.0.0.1 too.
    """

    kind: Literal["serial", "threads", "local"]
    workers: Count | None = None
    memory: Size | None = None
    security: Switch = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaProfile(_Profile):
    """NVIDIA GPUs of the machine at hand, a worker process each, by dask-cuda.

    Parameters
    ----------
    workers : int or None
        None is one per GPU.
    devices : tuple of int or str, or None
        Device numbers or UUIDs to use; None is all that are visible.
    memory : int or None
        Host memory of all workers together, in bytes.
    device_memory_limit, rmm_* : see `dask_cuda.LocalCUDACluster`
        When results on a device are spilled to the host; how device memory is allocated.
    worker_resources : mapping
        What tasks may ask of a worker.
    security : bool
        As of `LocalProfile`.
    """

    kind: Literal["cuda"] = "cuda"
    workers: Count | None = None
    devices: tuple[int | str, ...] | None = None
    memory: Size | None = None
    device_memory_limit: Share = "default"
    rmm_pool_size: Share = None
    rmm_maximum_pool_size: Share = None
    rmm_managed_memory: Switch = False
    rmm_async: Switch = False
    rmm_release_threshold: Share = None
    rmm_allocator_external_lib_list: tuple[str, ...] | None = None
    worker_resources: dict[str, float] = field(default_factory=lambda: {"GPU": 1.0})
    security: Switch = False

    def __post_init__(self) -> None:
        """Refuse what dask-cuda would, but later and in other words.

        Raises
        ------
        ValueError
            If a device is named twice, or rmm's settings are against each other.
        """
        names = [str(each) for each in self.devices or ()]
        if len(set(names)) < len(names):
            raise ValueError(f"devices {', '.join(names)}: each worker needs one of its own")
        if self.rmm_async and self.rmm_managed_memory:
            raise ValueError("rmm_async and rmm_managed_memory exclude each other")
        if self.rmm_maximum_pool_size is not None and self.rmm_pool_size is None:
            raise ValueError("rmm_maximum_pool_size needs rmm_pool_size")
        if self.rmm_release_threshold is not None and not self.rmm_async:
            raise ValueError("rmm_release_threshold needs rmm_async: true")

    @property
    def gives_gpus(self) -> bool:
        """Whether each worker has a GPU."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueProfile(_Profile):
    """Jobs of a batch system, each with worker processes, by dask-jobqueue.

    Parameters
    ----------
    minimum_jobs, maximum_jobs : int
        Jobs are submitted and ended as there is work; a lost one is replaced.
    cores, memory : int
        Of one job; memory in bytes.
    processes : int or None
        Workers of one job; None is cores ÷ threads_per_worker.
    gpus_per_job : 0 or 1
        A job with a GPU has one worker.
    walltime : int or None
        Time of one job, in seconds.
    lifetime, lifetime_stagger : int or None
        A worker ends by itself after lifetime ± stagger, in seconds; by default before walltime.
    queue, account, resource_spec, disk
        As the batch system names them; ``disk`` is HTCondor's, in bytes.
    job_directives, prologue : tuple of str
        More directives, without their prefix; shell lines before the worker starts.
    interface : str or None
        Network interface of scheduler and workers; None is the one the host's address has.
    security : bool or TlsFiles
        TLS with certificates made for the run, without, or with these.
    python : str or None
        Interpreter on the nodes; None is the one that submits.
    log_directory, shared_directory : str or None
        Folders that the nodes share; None is a folder in the output.
    worker_resources : mapping
        What tasks may ask of a worker.
    """

    kind: Literal["slurm", "pbs", "lsf", "sge", "htcondor"]
    maximum_jobs: Count
    memory: Size
    minimum_jobs: Whole = 0
    cores: Count = 1
    processes: Count | None = None
    gpus_per_job: Annotated[Whole, Field(le=1)] = 0
    walltime: Seconds | None = None
    lifetime: Seconds | None = None
    lifetime_stagger: Seconds | None = None
    queue: str | None = None
    account: str | None = None
    resource_spec: str | None = None
    disk: Size | None = None
    job_directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    interface: str | None = None
    security: Switch | TlsFiles = True
    python: str | None = None
    log_directory: str | None = None
    shared_directory: str | None = None
    worker_resources: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises
        ------
        ValueError
            If a field is not this batch system's, is needed and absent, or is against another.
        """
        condor = self.kind == "htcondor"
        if self.resource_spec is not None and self.kind not in ("pbs", "sge"):
            raise ValueError(f"{self.kind} has no resource_spec; write job_directives")
        if self.disk is not None and not condor:
            raise ValueError(f"{self.kind} has no disk; write job_directives")
        if condor and (self.disk is None or self.queue is not None):
            raise ValueError("htcondor needs disk, and has no queue")
        if not condor and self.walltime is None:
            raise ValueError(f"{self.kind} needs walltime, such as '02:00:00'")
        if self.minimum_jobs > self.maximum_jobs:
            raise ValueError(f"minimum_jobs {self.minimum_jobs} is over {self.maximum_jobs}")
        latest = (self.lifetime or 0) + (self.lifetime_stagger or 0)
        if self.walltime and latest >= self.walltime:
            raise ValueError(
                f"lifetime and lifetime_stagger together, {latest} s, must be shorter than "
                f"walltime, {self.walltime} s"
            )
        bad = [each for each in self.job_directives if "=" not in each]
        if condor and bad:
            raise ValueError(f"job_directives of htcondor are 'name = value', not {bad[0]!r}")
        if self.gpus_per_job and (self.processes or 1) > 1:
            raise ValueError("a job with a GPU has one worker: write processes: 1, more jobs")

    @property
    def workers_per_job(self) -> int:
        """Worker processes of one job."""
        if self.gpus_per_job:
            return 1
        return self.processes or max(1, self.cores // self.threads_per_worker)

    @property
    def gives_gpus(self) -> bool:
        """Whether each worker has a GPU."""
        return bool(self.gpus_per_job)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressProfile(_Profile):
    """A scheduler that is there already.

    Parameters
    ----------
    address : str
        ``tcp://host:port`` or ``tls://host:port``.
    security : TlsFiles or None
        None takes what Dask's own configuration says.
    """

    kind: Literal["address"] = "address"
    address: str
    security: TlsFiles | None = None


Profile = LocalProfile | CudaProfile | QueueProfile | AddressProfile


_CLASSES: dict[str, type] = dict.fromkeys(("serial", "threads", "local"), LocalProfile) | {
    "cuda": CudaProfile, **dict.fromkeys(QUEUES, QueueProfile), "address": AddressProfile
}  # fmt: skip


@cache
def _adapter(kind: str | None = None) -> TypeAdapter[Profile]:
    """Return what checks profiles of a kind, or of all: those take longer to put together."""
    if kind is None:
        return TypeAdapter(Annotated[Profile, Field(discriminator="kind")])
    return TypeAdapter(_CLASSES[kind])


def profile_schema() -> dict[str, Any]:
    """Return the JSON Schema of a profile file."""
    return _adapter().json_schema()


def profile_names() -> list[str]:
    """List the profiles that come with hcsflow.

    Examples
    --------
    >>> "slurm" in profile_names()
    True
    """
    return sorted(path.stem for path in share_folder("cluster").glob("*.yaml"))


def find_profile(spec: str | Path) -> Profile:
    """Return the profile that ``--cluster`` means.

    Parameters
    ----------
    spec : str or Path
        Name of a shipped profile, a YAML file, or a scheduler's address.

    Raises
    ------
    UsageError
        If there is none of that name.
    ConfigError
        If the file is wrong.

    Examples
    --------
    >>> find_profile("tcp://host:8786").kind
    'address'
    """
    text = str(spec)
    if isinstance(spec, str) and text.startswith(SCHEMES):
        return AddressProfile(name=text, address=text)
    if Path(text).suffix in (".yaml", ".yml"):
        return read_profile(Path(text))
    names = profile_names()
    if text in names:
        return _shipped(share_folder("cluster") / f"{text}.yaml")
    close = nearest(text, names)
    listed = f"there are {', '.join(names)}, a profile's .yaml file, or tcp://host:8786"
    hint = f"did you mean {close!r}?" if close else listed
    raise UsageError(f"no cluster is called {text!r}", hint=hint)


def read_profile(path: Path) -> Profile:
    """Read a profile from its YAML file.

    Raises
    ------
    ConfigError
        If it cannot be read, or a field is unknown, missing or wrong; names all of them.
    """
    found = read_layer(path)
    kind = next((each for each in _CLASSES if each == found.get("kind")), None)
    try:
        profile = _adapter(kind).validate_python(found)
    except ValidationError as error:
        errors = [each for each in error.errors() if each["loc"][-1:] != ("bool",)]
        skipped = 0 if kind else 1  # the place begins with the kind where it was looked for
        messages, hints = zip(*(_told(each, found, skipped) for each in errors), strict=True)
        hint = next((hint for hint in hints if hint), None)
        raise ConfigError(f"{path}: {'; '.join(messages)}", hint=hint) from None
    profile = profile if profile.name else replace(profile, name=path.stem)
    resolve([profile_source(path)])  # what is wrong in its settings is said with its name
    if isinstance(profile, (LocalProfile, CudaProfile)) or not isinstance(
        profile.security, TlsFiles
    ):
        return profile
    return replace(profile, security=found_files(profile.security, path))


_shipped = cache(read_profile)  # takes longer than a small well


def _told(error: ErrorDetails, found: Mapping[str, Any], skipped: int) -> tuple[str, str | None]:
    """Return what is wrong at one place of a profile, and what to do about it."""
    place = [str(part) for part in error["loc"][skipped:] if part != "TlsFiles"]
    if error["type"].startswith("union_tag"):
        close = nearest(str(found.get("kind")), _CLASSES)
        hint = f"did you mean {close}?" if close else f"there are {', '.join(_CLASSES)}"
        return f"kind is {found.get('kind')!r}", hint
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        name = place[-1]
        names = [item.name for item in fields(_CLASSES[found["kind"]])]
        close = _OTHER_WORDS.get(name.lower()) or nearest(name, names)
        known = close in names
        hint = f"write {close}" if known else f"there are {', '.join(names)}"
        return f"a profile of kind {found.get('kind')} has no field {name!r}", hint
    if error["type"] == "missing":
        return f"{'.'.join(place)} is missing", None
    told = error["msg"].removeprefix("Value error, ")
    return (f"{'.'.join(place)}: {told}" if place else told), None
