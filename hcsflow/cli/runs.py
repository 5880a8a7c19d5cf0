"""``plan`` and ``run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcsflow.cli import options as o
from hcsflow.cli.console import emit, err
from hcsflow.cli.interrupts import raise_if_interrupted
from hcsflow.cli.outputs import left_out
from hcsflow.errors import HcsflowError, OutputError

if TYPE_CHECKING:
    from hcsflow.journal import Event
    from hcsflow.session.plan import Plan
    from hcsflow.session.run import Run

__all__ = ["compile_request", "register"]

ENVIRONMENT = (
    "Settings are taken from the environment too, for example HCSFLOW_ZARR_CHUNK_STRATEGY=file: "
    "HCSFLOW_ and VFS_INTERMEDIATE_BACKEND, VFS_MATERIALIZATION_BACKEND, VFS_MEMORY_LIMIT_GB, "
    "VFS_PERSISTENT_STORAGE_ROOT_PATH, ZARR_STORE_NAME, ZARR_COMPRESSOR, ZARR_COMPRESSION_LEVEL, "
    "ZARR_SHUFFLE, ZARR_CHUNK_STRATEGY, ZARR_FIELD_LAYOUT, ZARR_NGFF_VERSION, "
    "ZARR_OME_ZARR_METADATA, ZARR_WRITE_PLATE_METADATA, ZARR_PYRAMID, NUM_WORKERS, MISSING, "
    "FILL_VALUE, CLUSTER, DEBUG or NO_GPU."
)
"""Written out, because help must not import the settings; a test holds it against them."""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(plan)
    app.command(epilog=ENVIRONMENT)(run)


def plan(  # noqa: PLR0913 - a command's options are its parameters
    pipeline: o.PipelineArgument,
    plate: o.PlateArgument,
    output: o.OutputOption,
    *,
    workers: o.WorkersOption = None,
    wells: o.Wells = None,
    settings: o.Set = None,
    config: o.ConfigFile = None,
    chunks: o.ChunksOption = None,
    layout: o.LayoutOption = None,
    ngff: o.NgffOption = None,
    missing: o.MissingOption = None,
    fill_value: o.FillValue = None,
    acquisition: o.Acquisition = None,
    pixel_size_um: o.PixelSize = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure on a worker; not there yet, refused.")
    ] = False,
    as_json: o.JsonFlag = False,
) -> None:
    """Say what a run would do: steps, tasks, objects, bytes, memory. Reads no pixel."""
    if probe:
        from hcsflow.errors import PlanRefusedError

        raise PlanRefusedError(
            "--probe cannot measure yet: a plan's figures are projected from contracts",
            hint="run two wells with --wells and look at the report's times",
        )
    compiled = compile_request(
        o.Request(
            pipeline=pipeline,
            plate=plate,
            output=output,
            workers=workers,
            wells=o.split_wells(wells),
            parameters=o.parse_settings(settings),
            config=o.layered_config(
                config, chunks=chunks, layout=layout, ngff=ngff, missing=missing, fill=fill_value
            ),
            acquisition=acquisition,
            pixel_size_um=pixel_size_um,
        )
    )
    emit(compiled.summary(), as_json=as_json, render=lambda _: compiled.explain())


def compile_request(request: o.Request) -> Plan:
    """Compile what the command line asked for."""
    from hcsflow.session.plan import compile as compile_plan
    from hcsflow.session.plate import open_plate

    opened = open_plate(
        request.plate, acquisition=request.acquisition, pixel_size_um=request.pixel_size_um
    )
    return compile_plan(
        request.pipeline,
        opened,
        output=request.output,
        config=request.config,
        parameters=request.parameters,
        wells=request.wells,
        workers=request.workers,
    )


def run(  # noqa: PLR0913 - a command's options are its parameters
    context: typer.Context,
    pipeline: o.PipelineArgument,
    plate: o.PlateArgument,
    output: o.OutputOption,
    *,
    cluster: Annotated[
        str,
        typer.Option(
            envvar="HCSFLOW_CLUSTER", help="'local' (processes), 'threads' or 'tcp://host:port'."
        ),
    ] = "local",
    workers: o.WorkersOption = None,
    wells: o.Wells = None,
    settings: o.Set = None,
    config: o.ConfigFile = None,
    chunks: o.ChunksOption = None,
    layout: o.LayoutOption = None,
    ngff: o.NgffOption = None,
    missing: o.MissingOption = None,
    fill_value: o.FillValue = None,
    acquisition: o.Acquisition = None,
    pixel_size_um: o.PixelSize = None,
    retries: Annotated[int, typer.Option(min=0, help="Times a failed well is tried again.")] = 0,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, help="Longest that one well may take, in seconds.")
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first failed well.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard what OUT holds; without it a run resumes.")
    ] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Do not write report.html.")
    ] = False,
    as_json: o.JsonFlag = False,
) -> None:
    """Run a pipeline on a plate. Wells that are whole already are skipped."""
    if cluster == "local":
        from hcsflow.execute.clusters import prestart

        prestart()  # processes start while the plan is compiled
    compiled = compile_request(
        o.Request(
            pipeline=pipeline,
            plate=plate,
            output=output,
            workers=workers,
            wells=o.split_wells(wells),
            parameters=o.parse_settings(settings),
            config=o.layered_config(
                config, chunks=chunks, layout=layout, ngff=ngff, missing=missing, fill=fill_value
            ),
            acquisition=acquisition,
            pixel_size_um=pixel_size_um,
        )
    )
    done = _run_shown(
        compiled,
        _absolute(["hcsflow", *context.find_root().obj], pipeline, plate, output, config),
        cluster=cluster,
        workers=workers,
        retries=retries,
        timeout_s=timeout,
        fail_fast=fail_fast,
        fresh=fresh,
    )
    if not no_report:
        done.report()
    raise typer.Exit(_tell_end(done, as_json=as_json))


def _absolute(arguments: list[str], pipeline: str, *paths: Path | None) -> list[str]:
    """Return a command line that means the same from any folder: its paths made absolute.

    Examples
    --------
    >>> _absolute(["demo", "/a/", "--output=/b"], "demo", Path("/a"), Path("/b"))
    ['demo', '/a', '--output=/b']
    """
    known = {path for path in paths if path is not None}
    if Path(pipeline).suffix and Path(pipeline).is_file():
        known.add(Path(pipeline))
    elif pipeline in arguments:  # the name of a ready one, whatever folders are called
        place = arguments.index(pipeline) + 1
        return arguments[:place] + _absolute(arguments[place:], "", *paths)
    return [_absolute_word(word, known) for word in arguments]


def _absolute_word(word: str, known: set[Path]) -> str:
    """Return a path, or an option with ``=`` and a path, in full; other words as they are."""
    option, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{Path(value).resolve()}" if Path(value) in known else word


def _run_shown(compiled: Plan, arguments: list[str], **options: Any) -> Run:
    """Run a plan with progress on stderr; keep the command line for reruns."""
    from hcsflow.view.progress import RunProgress
    from hcsflow.view.record import write_command

    with RunProgress(err()) as progress:

        def on_event(event: Event) -> None:
            raise_if_interrupted()
            if event.kind == "run_started":  # the output folder is ours from here on
                write_command(compiled.output, arguments)
            progress(event)

        try:
            return compiled.run(**options, on_event=on_event)
        except OSError as error:
            raise _output_error(compiled.output, error) from error


def _output_error(output: Path, error: OSError) -> OSError | OutputError:
    """Return what is said where the system refuses to write in the output folder."""
    at = Path(error.filename).resolve() if isinstance(error.filename, str) else None
    if isinstance(error, HcsflowError) or at is None or not at.is_relative_to(output.resolve()):
        return error
    return OutputError(
        f"{output} cannot be written to: {error.strerror} ({at})",
        hint="choose another folder with -o, or make room and give yourself the right to write",
    )


def _tell_end(done: Run, *, as_json: bool) -> int:
    """Print how a run ended and return its exit status."""
    from hcsflow.journal import ControlFolder, read_failures
    from hcsflow.session.run import summary
    from hcsflow.view.faults import user_frame
    from hcsflow.view.text import render_run

    document = summary(done)
    traces = {fault.well: fault.traceback for fault in read_failures(ControlFolder(done.output))}
    document |= {
        "plate": document["plate"] if done.plate.is_dir() else None,
        "failed": [f | {"where": user_frame(traces.get(f["well"]))} for f in document["failed"]],
        "left_out": left_out(done.output),
    }
    emit(document, as_json=as_json, render=render_run, soft_wrap=True)
    return 4 if document["failed"] else 0
