"""What clusters of this machine are given besides workers: a folder, and encryption."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from hcsflow.errors import UsageError
from hcsflow.execute.probe import Probe
from hcsflow.execute.profiles import CudaProfile, LocalProfile

__all__ = ["local_folder", "security_arguments"]


def local_folder(name: str | None) -> str | None:
    """Return a profile's folder for spilling, with ``~`` and variables filled in.

    Raises
    ------
    UsageError
        If nothing can be written to it.

    Examples
    --------
    >>> local_folder("~") == str(Path.home())
    True
    """
    if name is None:
        return None
    folder = os.path.expandvars(Path(name).expanduser())
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise UsageError(
            f"local_directory {folder}: workers cannot write there: {error.strerror}",
            hint="name a folder that is there and yours in the profile, or leave the line out",
        ) from error


def security_arguments(profile: LocalProfile | CudaProfile, probe: Probe) -> dict[str, Any]:
    """Return the arguments of a cluster that encrypts what goes over 127.0.0.1.

    Raises
    ------
    UsageError
        If what makes the certificates is not installed.
    """
    if not profile.security:
        return {}
    if "cryptography" not in probe.packages:
        raise UsageError(
            f"--cluster {profile.name}: security needs cryptography, which is not installed",
            hint="pip install 'hcsflow[hpc]'",
        )
    return {"protocol": "tls://", "security": True}
