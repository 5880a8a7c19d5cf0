"""The ``hcsflow`` command. Verbs import what they need when they run, so that help is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from hcsflow.cli import demo, machine, outputs, plates, runs
from hcsflow.cli.console import print_error
from hcsflow.errors import HcsflowError

__all__ = ["app", "main"]

EPILOG = (
    "Exit status: 0 done · 1 failed check or internal error · 2 usage, configuration or wrong "
    "output folder · 3 plan refused · 4 finished with failed wells · 130 interrupted."
)

app = typer.Typer(
    name="hcsflow",
    help="High-content-screening plates to OME-Zarr, tables and a report.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (demo, plates, runs, outputs, machine):
    module.register(app)


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)
    ] = False,
    debug: Annotated[  # noqa: ARG001 - read by `main`, declared here for --help
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """High-content-screening plates to OME-Zarr, tables and a report."""
    if version:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as version_of

        try:
            print(f"hcsflow {version_of('hcsflow')}")
        except PackageNotFoundError:
            print("hcsflow, run from its source folder")
        raise typer.Exit


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
    debug = "--debug" in given or bool(os.environ.get("HCSFLOW_DEBUG"))
    try:
        app([a for a in given if a != "--debug"], prog_name="hcsflow", obj=given)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:  # older releases of typer let it through
        return 130
    except (HcsflowError, OSError) as error:
        if debug:
            raise
        print_error(error)
        return error.exit_code if isinstance(error, HcsflowError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
