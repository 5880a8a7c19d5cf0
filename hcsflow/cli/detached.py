"""``run --detach``: start the run apart from this terminal, and say how to watch it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hcsflow.cli.console import emit

if TYPE_CHECKING:
    from pathlib import Path

    from hcsflow.cli.options import Request
    from hcsflow.execute.detach import Detached

__all__ = ["tell_detached"]


def tell_detached(arguments: Sequence[str], request: Request, *, as_json: bool) -> int:
    """Start a run that goes on by itself; print where, and return the exit status.

    Parameters
    ----------
    arguments : sequence of str
        The command line after ``hcsflow``.
    request : Request
        What of it was understood.
    as_json : bool
        Print the document ``hcsflow.detached/1``.
    """
    from hcsflow.execute.detach import start_detached
    from hcsflow.session.declared import settled_output
    from hcsflow.view.text import render_detached

    again = [word for word in arguments if word != "--json"]
    again[again.index("--detach")] = "--detached"
    output = settled_output(
        request.pipeline, request.output, resources=request.cluster, config=request.sources()
    )
    found = start_detached(again, request.plate, output)
    if found.status is not None and (found.status or not as_json):
        sys.stderr.write(found.text)
        return found.status
    document = _document(found, output)
    emit(document, as_json=as_json, render=render_detached, soft_wrap=True)
    return 0


def _document(found: Detached, output: Path) -> dict[str, Any]:
    from hcsflow.execute.detach import dashboard_of

    dashboard, tunnel = dashboard_of(output) if found.status is None else (None, None)
    return {
        "schema": "hcsflow.detached/1",
        "output": str(output),
        "host": found.host,
        "pid": found.pid,
        "running": found.status is None,
        "log": str(found.log),
        "dashboard": dashboard,
        "tunnel": tunnel,
    }
