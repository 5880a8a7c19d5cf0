"""Cluster profiles: YAML files that say what a cluster is started with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from hcsflow.config import Level, Source, read_layer, resolve
from hcsflow.config.shipped import share_folder
from hcsflow.errors import ConfigError, UsageError, nearest

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

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}

_OTHER_WORDS = {
    "partition": "queue", "project": "account", "n_workers": "workers",
    "max_jobs": "maximum_jobs", "min_jobs": "minimum_jobs", "jobs": "maximum_jobs",
    "job_extra_directives": "job_directives", "job_script_prologue": "prologue",
    "gpus": "gpus_per_job", "shared_temp_directory": "shared_directory",
    "memory_limit": "memory", "cuda_visible_devices": "devices",
}  # fmt: skip
"""What dask-jobqueue, dask-cuda and others call a field."""


def _bytes(value: Any) -> Any:
    """Read a size such as ``"16 GiB"``."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?i?)b?\s*", value.lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"expected a size such as '16 GiB', got {value!r}")
    return int(float(match[1]) * _UNITS[match[2]])


def _seconds(value: Any) -> Any:
    """Read a duration such as ``"02:00:00"``, ``"1-12:00:00"`` or ``"90 min"``."""
    if not isinstance(value, str):
        raise ValueError("expected a duration in quotes such as '02:00:00'")  # noqa: TRY004 - pydantic's
    if match := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", value.strip()):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if match := re.fullmatch(r"\s*(\d+)\s*(s|min|h|d)\s*", value):
        return int(match[1]) * _SECONDS[match[2]]
    raise ValueError(f"expected a duration such as '02:00:00' or '90 min', got {value!r}")


Whole = Annotated[int, Field(strict=True, ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]
Switch = Annotated[bool, Field(strict=True)]
Size = Annotated[Count, BeforeValidator(_bytes, json_schema_input_type=int | str)]
Seconds = Annotated[Count, BeforeValidator(_seconds, json_schema_input_type=str)]
Share = float | int | str | None
"""Part of a device's memory, bytes, or text such as ``"20 GB"``; understood by dask-cuda."""


class _Strict:
    """Unknown keys are an error."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class TlsFiles(_Strict):
    """Certificates, for a scheduler that asks for them.

    Parameters
    ----------
    ca_file, cert, key : str
        PEM files: who is trusted, who this is, and the proof of it.
    """

    ca_file: str
    cert: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile(_Strict):
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
    """

    kind: Literal["serial", "threads", "local"]
    workers: Count | None = None
    memory: Size | None = None


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
        if self.walltime and self.lifetime and self.lifetime >= self.walltime:
            raise ValueError("lifetime must be shorter than walltime")
        if self.gpus_per_job and (self.processes or 1) > 1:
            raise ValueError("a job with a GPU has one worker: write processes: 1, more jobs")

    @property
    def workers_per_job(self) -> int:
        """Worker processes of one job."""
        if self.gpus_per_job:
            return 1
        return self.processes or max(1, self.cores // self.threads_per_worker)


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


@cache
def _adapter() -> TypeAdapter[Profile]:
    return TypeAdapter(Annotated[Profile, Field(discriminator="kind")])


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
        return read_profile(share_folder("cluster") / f"{text}.yaml")
    close = nearest(text, names)
    listed = f"there are {', '.join(names)}, a profile's .yaml file, or tcp://host:8786"
    raise UsageError(
        f"no cluster is called {text!r}", hint=f"did you mean {close!r}?" if close else listed
    )


def read_profile(path: Path) -> Profile:
    """Read a profile from its YAML file.

    Raises
    ------
    ConfigError
        If it cannot be read, or a field is unknown, missing or wrong; names all of them.
    """
    found = read_layer(path)
    try:
        profile = _adapter().validate_python(found)
    except ValidationError as error:
        errors = [each for each in error.errors() if each["loc"][-1:] != ("bool",)]
        messages, hints = zip(*(_told(each, found) for each in errors), strict=True)
        hint = next((hint for hint in hints if hint), None)
        raise ConfigError(f"{path}: {'; '.join(messages)}", hint=hint) from None
    profile = profile if profile.name else replace(profile, name=path.stem)
    resolve([profile_layer(profile)])  # what is wrong in its settings is said with its name
    return profile


def profile_layer(profile: Profile) -> Source:
    """Return a profile's settings for `hcsflow.config.resolve`, with their origin.

    They lie below the environment and above what a step or pipeline sets.
    """
    return Source(Level.PROFILE, f"profile {profile.name}", profile.config)


def _told(error: ErrorDetails, found: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return what is wrong at one place of a profile, and what to do about it."""
    place = [str(part) for part in error["loc"][1:] if part != "TlsFiles"]
    if error["type"].startswith("union_tag"):
        kinds = ["serial", "threads", "local", "cuda", *QUEUES, "address"]
        close = nearest(str(found.get("kind")), kinds)
        hint = f"did you mean {close}?" if close else f"there are {', '.join(kinds)}"
        return f"kind is {found.get('kind')!r}", hint
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        name = place[-1]
        names = _fields_of(str(found.get("kind")))
        close = _OTHER_WORDS.get(name.lower()) or nearest(name, names)
        known = close in names
        hint = f"write {close}" if known else f"there are {', '.join(names)}"
        return f"a profile of kind {found.get('kind')} has no field {name!r}", hint
    if error["type"] == "missing":
        return f"{'.'.join(place)} is missing", None
    told = error["msg"].removeprefix("Value error, ")
    return (f"{'.'.join(place)}: {told}" if place else told), None


def _fields_of(kind: str) -> list[str]:
    kinds: dict[str, type] = dict.fromkeys(QUEUES, QueueProfile)
    kinds |= {"cuda": CudaProfile, "address": AddressProfile}
    return [item.name for item in fields(kinds.get(kind, LocalProfile))]
