"""What dask-cuda is asked for, and whether this machine can give it; nothing is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from hcsflow.errors import UsageError
from hcsflow.execute.probe import Probe
from hcsflow.execute.profiles import CudaProfile

__all__ = ["INSTALL", "cuda_arguments", "cuda_devices"]

INSTALL = "pip install 'hcsflow[cuda12]' or 'hcsflow[cuda13]', whichever the driver does"


def cuda_devices(profile: CudaProfile, probe: Probe) -> list[int | str]:
    """Return the devices that a profile gets on a machine, as ``CUDA_VISIBLE_DEVICES`` names them.

    A profile's numbers count the devices that are visible to this process.

    Raises
    ------
    UsageError
        If there is none, not the one that the profile names, or dask-cuda cannot drive them.
    """
    if not probe.gpus:
        elsewhere = "use --cluster local, or run it on the machine that has the GPUs"
        raise UsageError(
            f"--cluster cuda: no NVIDIA GPU found on {probe.hostname}: {probe.gpu_fault}",
            hint=elsewhere if "nvidia-ml-py" in probe.packages else f"{elsewhere}; {INSTALL}",
        )
    if "dask-cuda" not in probe.packages:
        raise UsageError("--cluster cuda: dask-cuda is not installed", hint=INSTALL)
    _check_cuda_version(probe)
    _check_rmm(profile, probe)
    wanted = profile.devices or range(len(probe.gpus))
    found = [_device(each, probe) for each in wanted]
    if len(set(found)) < len(found):
        raise UsageError(
            f"--cluster cuda: devices {', '.join(map(str, wanted))} name one device twice",
            hint="each worker needs a device of its own",
        )
    return found


def _device(name: int | str, probe: Probe) -> int | str:
    """Return what ``CUDA_VISIBLE_DEVICES`` calls a device of a profile."""
    text = str(name)
    for number, gpu in enumerate(probe.gpus):
        if text == str(number) or (not text.isdigit() and gpu.uuid.startswith(text)):
            return number if gpu.place is None else gpu.place
    if text.startswith("MIG-") and "CUDA_VISIBLE_DEVICES" not in os.environ:
        return text  # a part of a device; only the list above names those
    uuids = ", ".join(gpu.uuid for gpu in probe.gpus if gpu.uuid)
    raise UsageError(
        f"--cluster cuda: there is no device {name}; {probe.hostname} has {len(probe.gpus)}",
        hint=f"visible ones are counted from 0{f', or are called {uuids}' if uuids else ''}",
    )


def _check_cuda_version(probe: Probe) -> None:
    """Refuse libraries built for a CUDA that the driver is too old for."""
    for name in probe.packages:
        built = re.fullmatch(r"(?:cupy-cuda|rmm-cu)(\d+)x?", name)
        if built and int(built[1]) > probe.cuda_version[0]:
            major, minor = probe.cuda_version
            raise UsageError(
                f"--cluster cuda: {name} is for CUDA {built[1]}, the driver does CUDA "
                f"{major}.{minor}",
                hint=f"pip install 'hcsflow[cuda{major}]', or update the driver",
            )


def _check_rmm(profile: CudaProfile, probe: Probe) -> None:
    wants = profile.rmm_pool_size is not None or profile.rmm_async or profile.rmm_managed_memory
    if wants and not any(name.startswith("rmm") for name in probe.packages):
        raise UsageError(
            "--cluster cuda: the profile asks for rmm, which is not installed",
            hint=f"{INSTALL}, or take the rmm_ lines out of the profile",
        )


def cuda_arguments(profile: CudaProfile, devices: Sequence[int | str]) -> dict[str, Any]:
    """Return the arguments of `dask_cuda.LocalCUDACluster` that a profile decides.

    Parameters
    ----------
    profile : CudaProfile
        What the user wants.
    devices : sequence of int or str
        From `cuda_devices`.
    """
    libraries = profile.rmm_allocator_external_lib_list
    return {
        "CUDA_VISIBLE_DEVICES": list(devices),
        "device_memory_limit": profile.device_memory_limit,
        "rmm_pool_size": profile.rmm_pool_size,
        "rmm_maximum_pool_size": profile.rmm_maximum_pool_size,
        "rmm_managed_memory": profile.rmm_managed_memory,
        "rmm_async": profile.rmm_async,
        "rmm_release_threshold": profile.rmm_release_threshold,
        "rmm_allocator_external_lib_list": list(libraries) if libraries else None,
        "resources": profile.worker_resources,
    }
