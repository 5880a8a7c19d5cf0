"""The verbs put together. They import what they need when they run, so that help is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from hcsflow.cli import demo, machine, outputs, plates, runs, settings

__all__ = ["app"]

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
for module in (demo, plates, runs, outputs, settings, machine):
    module.register(app)


def _print_version(value: bool) -> None:
    if not value:
        return
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        print(f"hcsflow {version_of('hcsflow')}")
    except PackageNotFoundError:
        print("hcsflow, run from its source folder")
    raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,  # its callback acts before a verb is asked for
        typer.Option(
            "--version", help="Print the version and stop.", is_eager=True, callback=_print_version
        ),
    ] = False,
    debug: Annotated[  # read by `main`, declared here for --help
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """High-content-screening plates to OME-Zarr, tables and a report."""
