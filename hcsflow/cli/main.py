"""The ``hcsflow`` command: errors, interruptions and exit statuses around the verbs.

Nothing but the standard library is imported before `main`, so that Ctrl-C is caught early too.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from hcsflow.cli.early import import_quickly, starts_local_workers
from hcsflow.cli.interrupts import interruptible

__all__ = ["main"]

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default is the process's. ``--debug`` may stand anywhere.

    Returns
    -------
    int
        As listed in ``hcsflow --help``. An error that is nobody's fault but ours keeps its
        traceback and ends the process with 1.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    ends_process = arguments is None
    if ends_process:
        import_quickly()
    try:
        with interruptible(ends_process=ends_process):
            status = _run(given)
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        goes_on = "; the same command goes on where this one stopped" if "run" in given[:2] else ""
        print(f"interrupted{goes_on}", file=sys.stderr)
    if ends_process:
        gc.freeze()  # the system takes the memory back at once; a last collection takes 0.2 s
    return status


def _run(given: list[str]) -> int:
    """Run a verb; errors that say whose fault it is become a message and a status."""
    if starts_local_workers(given, os.environ):
        from hcsflow.execute.forkserver import prestart

        with suppress(OSError):  # said by the verb, which does this again
            prestart()  # processes start while the verb's own libraries are loaded
    from hcsflow.cli.app import app
    from hcsflow.cli.console import print_error
    from hcsflow.errors import HcsflowError

    debug = "--debug" in given or bool(os.environ.get("HCSFLOW_DEBUG"))
    try:
        app([a for a in given if a != "--debug"], prog_name="hcsflow", obj=given)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (HcsflowError, OSError) as error:
        if debug:
            raise
        print_error(error)
        return error.exit_code if isinstance(error, HcsflowError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
