"""``plan`` and ``run``."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcsflow.cli import options as o
from hcsflow.cli.console import emit, err
from hcsflow.cli.detached import tell_detached
from hcsflow.cli.early import collect_as_usual
from hcsflow.cli.interrupts import raise_if_interrupted
from hcsflow.cli.outputs import left_out
from hcsflow.errors import HcsflowError, OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    "FILL_VALUE, INPUT_IDENTITY, CLUSTER, DEBUG or NO_GPU."
)
"""Written out, because help must not import the settings; a test holds it against them."""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(plan)
    app.command(epilog=ENVIRONMENT)(run)


@o.with_request
def plan(
    request: o.Request,
    *,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Run a few wells on one local worker, and measure them."),
    ] = False,
    as_json: o.JsonFlag = False,
) -> None:
    """Say what a run would do: steps, tasks, objects, bytes, memory, time. Writes nothing."""
    compiled = compile_request(request)
    known = compiled.probe().forecast if probe else compiled.forecast()
    document = compiled.summary(known)
    emit(document, as_json=as_json, render=lambda _: compiled.explained_with(known))


def compile_request(request: o.Request, *, fresh: bool = False) -> Plan:
    """Compile what the command line asked for; ``fresh`` disregards what the output holds."""
    from hcsflow.session.plan import compile as compile_plan
    from hcsflow.session.plate import open_plate

    config, wells = request.sources(), o.split_wells(request.wells)  # before the plate is read
    parameters = o.parse_settings(request.settings)
    opened = open_plate(
        request.plate, acquisition=request.acquisition, pixel_size_um=request.pixel_size_um
    )
    return compile_plan(
        request.pipeline,
        opened,
        output=request.output,
        resources=request.cluster,
        config=config,
        parameters=parameters,
        wells=wells,
        workers=request.workers,
        fresh=fresh,
        granularity=request.granularity.value,
    )


@o.with_request
def run(  # noqa: PLR0913 - a command's options are its parameters
    context: typer.Context,
    request: o.Request,
    *,
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
    performance_report: Annotated[
        Path | None,
        typer.Option(
            "--performance-report", metavar="FILE", help="Write Dask's own report, as HTML."
        ),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach", help="Go on without this terminal; see `hcsflow status`, `cancel`."
        ),
    ] = False,
    detached: Annotated[bool, typer.Option("--detached", hidden=True)] = False,
    as_json: o.JsonFlag = False,
) -> None:
    """Run a pipeline on a plate. Wells that are whole already are skipped."""
    begun = time.monotonic()
    if detach:
        raise typer.Exit(tell_detached(context.find_root().obj, request, as_json=as_json))
    if request.cluster == "local":
        from hcsflow.execute.forkserver import prestart

        prestart()  # processes start while the plan is compiled
    compiled = compile_request(request, fresh=fresh)
    collect_as_usual()
    for warning in compiled.room_warnings():
        err().print(f"warning: {warning}", soft_wrap=True)
    done = _run_shown(
        compiled,
        _absolute(
            ["hcsflow", *context.find_root().obj],
            request.pipeline,
            *(request.plate, request.config, request.profile),
            output=(request.output, compiled.output),
        ),
        cluster=request.cluster,
        workers=request.workers,
        retries=retries,
        timeout_s=timeout,
        fail_fast=fail_fast,
        fresh=fresh,
        performance_report=performance_report,
        detached=detached,
    )
    if not no_report:
        done.report()
    raise typer.Exit(_tell_end(done, begun, as_json=as_json))


def _absolute(
    arguments: list[str], pipeline: str, *paths: Path | None, output: tuple[Path, Path]
) -> list[str]:
    """Return a command line that means the same from any folder: its paths made absolute.

    ``output`` is the output folder as given, and where it lies.

    Examples
    --------
    >>> words = ["demo", "/a/", "--output=b"]
    >>> _absolute(words, "demo", Path("/a"), output=(Path("b"), Path("/root/b")))
    ['demo', '/a', '--output=/root/b']
    """
    known = {path: path for path in paths if path is not None} | dict([output])
    if Path(pipeline).suffix and Path(pipeline).is_file():
        known[Path(pipeline)] = Path(pipeline)
    elif pipeline in arguments:  # the name of a ready one, whatever folders are called
        place = arguments.index(pipeline) + 1
        return arguments[:place] + _absolute(arguments[place:], "", *paths, output=output)
    return [_absolute_word(word, known) for word in arguments]


def _absolute_word(word: str, known: Mapping[Path, Path]) -> str:
    """Return a path, or an option with ``=`` and a path, in full; other words as they are."""
    option, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
    place = known.get(Path(value))
    return word if place is None else f"{option}{equals}{place.resolve()}"


def _run_shown(compiled: Plan, arguments: list[str], **options: Any) -> Run:
    """Run a plan with progress on stderr; keep the command line for reruns."""
    from hcsflow.view.command import write_command
    from hcsflow.view.progress import RunProgress

    with RunProgress(err()) as progress:

        def on_event(event: Event) -> None:
            raise_if_interrupted()
            if event.kind == "run_started":  # the output folder is ours from here on
                write_command(compiled.output, arguments)
            elif event.kind == "cluster_started" and event.data.get("tunnel"):
                err().print(
                    f"dashboard: {event.data['dashboard']}, seen from elsewhere with\n"
                    f"  {event.data['tunnel']}",
                    soft_wrap=True,
                )
            progress(event)

        try:
            return compiled.run(**options, on_event=on_event)
        except OSError as error:
            raise _output_error(compiled.output, error) from error


def _output_error(output: Path, error: OSError) -> OSError | OutputError:
    """Return what is said where the system refuses to write in the output folder."""
    at = Path(error.filename).resolve() if isinstance(error.filename, str) else None
    if isinstance(error, HcsflowError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"{output}: the disk is full ({error.strerror}{f': {at}' if at else ''})",
            hint="make room, then run the same command again: wells that are whole stay",
        )
    if at is None or not at.is_relative_to(output.resolve()):
        return error
    return OutputError(
        f"{output} cannot be written to: {error.strerror} ({at})",
        hint="choose another folder with -o, or make room and give yourself the right to write",
    )


def _tell_end(done: Run, begun: float, *, as_json: bool) -> int:
    """Print how a run ended, its time counted from the command's start; return its exit status."""
    from hcsflow.journal import ControlFolder, read_failures
    from hcsflow.session.run import summary
    from hcsflow.view.faults import user_frame
    from hcsflow.view.text import render_run

    document = summary(done)
    traces = {fault.well: fault.traceback for fault in read_failures(ControlFolder(done.output))}
    document |= {
        "seconds": round(time.monotonic() - begun, 3),
        "plate": document["plate"] if done.plate.is_dir() else None,
        "failed": [f | {"where": user_frame(traces.get(f["well"]))} for f in document["failed"]],
        "left_out": left_out(done.output),
    }
    emit(document, as_json=as_json, render=render_run, soft_wrap=True)
    return 4 if document["failed"] else 0
