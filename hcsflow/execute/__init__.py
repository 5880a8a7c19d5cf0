"""Running a compiled plan: cluster, lock, resume, faults, finishing. Heavy parts load lazily."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcsflow.execute.lock import cancel_run
    from hcsflow.execute.options import RunOptions, RunResult
    from hcsflow.execute.run import run_plan
    from hcsflow.execute.status import Finding, Status, read_status, verify_output

__all__ = [
    "Finding",
    "RunOptions",
    "RunResult",
    "Status",
    "cancel_run",
    "read_status",
    "run_plan",
    "verify_output",
]

_HOMES = {
    "Finding": "status",
    "RunOptions": "options",
    "RunResult": "options",
    "Status": "status",
    "cancel_run": "lock",
    "read_status": "status",
    "run_plan": "run",
    "verify_output": "status",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
