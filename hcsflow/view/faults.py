"""Failures in words: what kind of error, where in whose code, the same reason told once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hcsflow import errors

__all__ = ["grouped_by_reason", "reason_of", "user_frame"]

_FRAME = re.compile(r'^  File "(?P<path>[^"\n]+)", line (?P<line>\d+)', re.MULTILINE)
_NOT_THE_USERS = re.compile(r"^<|/(site|dist)-packages/|/lib/python3\.\d+/|/Lib/\w+\.py$")
_OWN = Path(__file__).parents[1].as_posix() + "/"

Fault = Mapping[str, Any]


def user_frame(trace: str | None) -> str | None:
    r"""Return where a traceback last was in code that is neither ours nor a library's.

    Examples
    --------
    >>> user_frame('Traceback:\n  File "/home/me/k.py", line 4, in f\n')
    'k.py line 4'
    """
    frames = [(m["path"].replace("\\", "/"), m["line"]) for m in _FRAME.finditer(trace or "")]
    own = [
        f"{Path(path).name} line {line}"
        for path, line in frames
        if not path.startswith(_OWN) and not _NOT_THE_USERS.search(path)
    ]
    return own[-1] if own else None


def reason_of(fault: Fault) -> str:
    """Say why a well failed; what a foreign error says is told with its kind and its place.

    Parameters
    ----------
    fault : mapping
        ``error`` and ``message``, and where known ``where`` (see `user_frame`).

    Examples
    --------
    >>> reason_of({"error": "KeyError", "message": "'x'", "where": "k.py line 4"})
    "KeyError: 'x' (k.py line 4)"
    """
    error, message = str(fault.get("error") or ""), str(fault.get("message") or "")
    if not error or hasattr(errors, error):
        return message or error
    told = f"{error}: {message}" if message and message != error else error
    return f"{told} ({fault['where']})" if fault.get("where") else told


def grouped_by_reason(faults: Iterable[Fault]) -> list[list[Fault]]:
    """Put together what failed at the same step for the same reason, most wells first.

    Reasons that differ in the name of the well and of its file alone count as the same.
    """
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((str(fault.get("step")), _pattern(fault)), []).append(fault)
    return sorted(groups.values(), key=len, reverse=True)


def _pattern(fault: Fault) -> str:
    text = reason_of(fault).partition("\n")[0]
    file = str(fault.get("file") or "")
    for name in (file, Path(file).name, str(fault["well"])):
        text = text.replace(name, "…") if name else text
    return text
