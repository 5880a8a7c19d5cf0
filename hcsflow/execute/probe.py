"""What this machine has: cores, memory, GPUs, batch systems, packages."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import psutil

__all__ = ["PACKAGES", "SUBMIT", "USABLE_SHARE", "Gpu", "Probe", "machine_limits", "probe_machine"]

SUBMIT = {
    "slurm": "sbatch",
    "pbs": "qsub",
    "lsf": "bsub",
    "sge": "qsub",
    "htcondor": "condor_submit",
}
"""Command that submits a job, by batch system."""

PACKAGES = ("dask-jobqueue", "cryptography", "dask-cuda", "nvidia-ml-py", "rmm", "cupy")
"""What clusters may need. For rmm and cupy the distribution's name ends in its CUDA version."""

USABLE_SHARE = 0.8
"""Share of the memory that a run plans with; the rest is the client's and the system's."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA device.

    Parameters
    ----------
    name : str
        Such as ``"NVIDIA A100-SXM4-40GB"``.
    memory_bytes : int
        All of its memory.
    uuid : str
        Such as ``"GPU-…"``, or ``"MIG-…"`` for a part of one; empty where it is not known.
    place : int or str or None
        What ``CUDA_VISIBLE_DEVICES`` calls it; None is its number among all that are visible.
    """

    name: str
    memory_bytes: int
    uuid: str = ""
    place: int | str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What a choice of cluster depends on.

    Parameters
    ----------
    cores, memory_bytes : int
        What this process may use (affinity, container), and of the memory the usable share.
    gpus : tuple of Gpu
        Devices that this process may use.
    gpu_fault : str
        Why there are none, or none were looked for.
    cuda_version : tuple of int
        Highest CUDA version of the driver; (0, 0) without one.
    commands : frozenset of str
        Submit commands on PATH.
    packages : mapping of str to str
        Versions of `PACKAGES` that are installed, by distribution.
    interfaces : tuple of str
        Network interfaces.
    hostname : str
        This machine's name.
    """

    cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    gpu_fault: str = "none was looked for"
    cuda_version: tuple[int, int] = (0, 0)
    commands: frozenset[str] = frozenset()
    packages: Mapping[str, str] = field(default_factory=dict)
    interfaces: tuple[str, ...] = ("lo",)
    hostname: str = "localhost"


def machine_limits() -> tuple[int, int]:
    """Return the cores and the bytes of memory that a run may use here.

    Dask knows a container's limits (cgroups), the affinity and resource limits.
    """
    # Late: it loads all of Dask, and starting the forkserver must not wait for that.
    limits = import_module("distributed.system")
    return import_module("dask.system").CPU_COUNT, int(limits.MEMORY_LIMIT * USABLE_SHARE)


def probe_machine(*, gpus: bool = False) -> Probe:
    """Look at this machine; starts nothing.

    Parameters
    ----------
    gpus : bool
        Ask the NVIDIA driver too.

    Examples
    --------
    >>> probe_machine().cores >= 1
    True
    """
    cores, memory_bytes = machine_limits()
    found, fault, version = _gpus() if gpus else ((), "none was looked for", (0, 0))
    return Probe(
        cores=cores,
        memory_bytes=memory_bytes,
        gpus=found,
        gpu_fault=fault,
        cuda_version=version,
        commands=frozenset(name for name in SUBMIT.values() if shutil.which(name)),
        packages=_Installed(),
        interfaces=tuple(psutil.net_if_addrs()),
        hostname=socket.gethostname(),
    )


class _Installed(Mapping[str, str]):
    """Versions of `PACKAGES` by distribution, looked up when asked for: local runs need none."""

    def __getitem__(self, name: str) -> str:
        return self._found()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())

    def __repr__(self) -> str:
        return repr(self._found())

    @staticmethod
    @cache
    def _found() -> dict[str, str]:
        cuda = [f"{name}{n}" for name in ("rmm-cu", "cupy-cuda") for n in (12, 13)]
        found = {}
        for name in [*PACKAGES, *cuda, "cupy-cuda12x", "cupy-cuda13x"]:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found


def _gpus() -> tuple[tuple[Gpu, ...], str, tuple[int, int]]:
    """Ask the driver for its devices; say why where there are none."""
    if os.environ.get("HCSFLOW_NO_GPU"):
        return (), "HCSFLOW_NO_GPU is set", (0, 0)
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return (), "nvidia-ml-py is not installed, so the driver cannot be asked", (0, 0)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), f"the NVIDIA driver says: {error}", (0, 0)
    try:
        version = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
        return *_visible(nvml), (version // 1000, version % 1000 // 10)
    except nvml.NVMLError as error:
        return (), f"the NVIDIA driver says: {error}", (0, 0)
    finally:
        nvml.nvmlShutdown()


def _visible(nvml: Any) -> tuple[tuple[Gpu, ...], str]:
    """Return the devices that ``CUDA_VISIBLE_DEVICES`` leaves, in its order."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    whole = [
        Gpu(
            _text(nvml.nvmlDeviceGetName(each)),
            int(nvml.nvmlDeviceGetMemoryInfo(each).total),
            _text(nvml.nvmlDeviceGetUUID(each)),
            number,
        )
        for number, each in enumerate(handles)
    ]
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return tuple(whole), "" if whole else "none"
    parts = [name.strip() for name in names.split(",")]
    found = _chosen(parts, whole, lambda name: _part(nvml, name))
    return tuple(found), "" if found else "CUDA_VISIBLE_DEVICES hides all devices"


def _part(nvml: Any, name: str) -> Gpu | None:
    """Return the part of a device (MIG) with a UUID."""
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(name)
        total = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:
        return None
    return Gpu("part of a device (MIG)", total, name, name)


def _chosen(
    wanted: Sequence[str], whole: Sequence[Gpu], part: Callable[[str], Gpu | None]
) -> list[Gpu]:
    """Return devices by name; as CUDA does, the first name that is none ends the list."""
    found: list[Gpu] = []
    for name in wanted:
        matches = [gpu for gpu in whole if name and gpu.uuid.startswith(name)]
        if name.isdigit() and int(name) < len(whole):
            matches = [whole[int(name)]]
        elif name.startswith("MIG-"):
            matches = [gpu for gpu in [part(name)] if gpu is not None]
        if not matches:
            break
        found.append(matches[0])
    return found


def _text(value: Any) -> str:
    """Return text that older versions of the library give as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
