"""Where the command line prints: documents and tables on stdout, all else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from hcsflow.errors import HcsflowError

__all__ = ["emit", "err", "out", "print_error"]

PIPED_WIDTH = 160
"""Columns where there is no terminal to ask: paths and reasons stay on one line."""


def out() -> Console:
    """Return standard output; colours only on a terminal, never with NO_COLOR."""
    return _console(stderr=False)


def err() -> Console:
    """Return standard error; for progress, warnings and errors."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
    # Names and paths come from outside: what looks like markup in them is text.
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def emit(
    document: Mapping[str, Any],
    *,
    as_json: bool,
    render: Callable[[Mapping[str, Any]], RenderableType],
    soft_wrap: bool = False,
) -> None:
    """Print a document: as JSON, or as the text made from it.

    With ``soft_wrap`` the terminal breaks long lines, so that commands in them can be copied.
    """
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    else:
        out().print(render(document), soft_wrap=soft_wrap)


def print_error(error: HcsflowError | OSError) -> None:
    """Print what is wrong and, set apart, what to do about it."""
    from rich.text import Text

    message, hint = getattr(error, "message", str(error)), getattr(error, "hint", None)
    console = err()
    console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if hint:
        console.print(Text.assemble(("  → ", "bold"), hint), soft_wrap=True)
