"""Where process ids mean something. Light: the forkserver needs it before all else."""

from __future__ import annotations

from pathlib import Path

__all__ = ["process_namespace"]


def process_namespace() -> str:
    """Return the name of the process name space (containers may share a host name)."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
