"""``status``, ``failures``, ``verify`` and ``report``: from the output folder alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from hcsflow.cli import options as o
from hcsflow.cli.console import emit

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(status)
    app.command()(failures)
    app.command()(verify)
    app.command()(report)


def report(output: o.OutputArgument, *, as_json: o.JsonFlag = False) -> None:
    """Write report.html again."""
    from hcsflow.view.report import write_report

    path = write_report(output)
    emit({"schema": "hcsflow.report/1", "report": str(path)}, as_json=as_json, render=_path)


def _path(document):
    return document["report"]
