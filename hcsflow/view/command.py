"""The command line of a run, kept in its output, so that failures can say how to run wells again.

Light: every run writes it before its workers are there.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from hcsflow.journal import ControlFolder, read_json, write_text_atomic

__all__ = ["COMMAND", "rerun_command", "write_command"]

COMMAND = "command.json"
NOT_AGAIN = ("--fresh", "--detach", "--detached")
"""Options that running some wells again is not meant to repeat."""


def write_command(output: Path, arguments: Sequence[str]) -> None:
    """Keep the command line of a run, so that failures can say how to run a well again."""
    path = ControlFolder(output).root / COMMAND
    write_text_atomic(path, json.dumps({"arguments": list(arguments)}, indent=1))


def rerun_command(output: Path, wells: Sequence[str]) -> str | None:
    """Return the command that runs some wells again.

    It is the one last used on this output with other ``--wells``; None where no run on it was
    started from the command line: there `Plan.run` does again what failed.
    """
    found = read_json(ControlFolder(output).root / COMMAND)
    arguments = found.get("arguments") if isinstance(found, dict) else None
    if not arguments:
        return None
    kept: list[str] = []
    for argument in map(str, arguments):
        if kept and kept[-1] == "--wells":
            kept.pop()
        elif not argument.startswith("--wells=") and argument not in NOT_AGAIN:
            kept.append(argument)
    return shlex.join([*kept, "--wells", ",".join(wells)])
