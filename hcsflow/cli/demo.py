"""``demo``: a synthetic plate with known truth, run and checked against it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcsflow.cli import options as o
from hcsflow.cli.console import emit, err
from hcsflow.errors import OutputError

if TYPE_CHECKING:
    from hcsflow.session.plan import Plan
    from hcsflow.testing.compare import WellCheck
    from hcsflow.testing.truth import Truth

__all__ = ["register"]

PLATE, RESULTS, TRUTH = "demo-plate", "out", "truth.json"
MOST_WELLS = 60


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(demo)


def demo(
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for plate and results.")
    ] = Path("hcsflow-demo"),
    wells: Annotated[int, typer.Option(min=4, max=MOST_WELLS, help="Wells of the plate.")] = 8,
    as_json: o.JsonFlag = False,
) -> None:
    """Make a small plate with known nuclei and two faults, count, and check the result."""
    from hcsflow.execute.forkserver import prestart

    _claim(output)
    prestart()  # processes start while the plate is written
    from hcsflow.testing.compare import check_run
    from hcsflow.view.text import render_demo

    started = time.monotonic()
    truth = _write_plate(output, wells)
    plan = _run(output)
    checks = check_run(output / RESULTS, plan.frozen, truth)
    document = _document(output, checks, time.monotonic() - started)
    emit(document, as_json=as_json, render=render_demo)
    raise typer.Exit(0 if document["ok"] else 1)


def _claim(folder: Path) -> None:
    """Clear an earlier demo; leave anything else alone.

    Raises
    ------
    OutputError
        If the folder holds something that is not a demo.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        if not (folder / TRUTH).is_file():
            raise OutputError(
                f"{folder} is not empty and holds no earlier demo",
                hint="choose a new folder with -o",
            )
        for name in (PLATE, RESULTS):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / TRUTH).unlink()


def _write_plate(folder: Path, count: int) -> Truth:
    from hcsflow.testing.plates import write_imagexpress_plate

    width = 4 if count <= 8 else 10
    names = [f"{'BCDEFG'[i // width]}{i % width + 2:02d}" for i in range(count)]
    err().print(
        f"writing a plate of {count} wells × 4 fields × 2 channels × 3 z to {folder / PLATE}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRUTH).touch()
    truth = write_imagexpress_plate(
        folder / PLATE,
        wells=tuple(names),
        fields=4,
        channels=2,
        z=3,
        size=512,
        metaseries=True,
        faults={names[1]: "missing plane", names[-2]: "truncated TIFF"},
    )
    truth.save(folder / TRUTH)
    return truth


def _run(folder: Path) -> Plan:
    """Run count-nuclei on local processes and write the report."""
    from hcsflow.session.plan import compile as compile_plan
    from hcsflow.session.plate import open_plate
    from hcsflow.view.command import write_command
    from hcsflow.view.progress import RunProgress

    plan = compile_plan(
        "count-nuclei", open_plate(folder / PLATE), output=(folder / RESULTS).resolve()
    )
    with RunProgress(err()) as progress:
        run = plan.run("local", on_event=progress)
    place = [str(folder / PLATE), "-o", str(folder / RESULTS)]
    write_command(folder / RESULTS, ["hcsflow", "run", "count-nuclei", *place])
    run.report()
    return plan


def _document(folder: Path, checks: list[WellCheck], seconds: float) -> dict[str, Any]:
    return {
        "schema": "hcsflow.demo/1",
        "ok": all(check.as_planted for check in checks),
        "wells": [_well(check) for check in checks],
        "seconds": round(seconds, 2),
        "plate": str(folder / PLATE),
        "output": str(folder / RESULTS),
        "report": str(folder / RESULTS / "report.html"),
    }


def _well(check: WellCheck) -> dict[str, Any]:
    outcome = check.outcome
    return {
        "well": check.well,
        "status": check.status,
        "true": check.true,
        "found": check.found,
        "f1": None if check.f1 is None else round(check.f1, 4),
        "worst_field_f1": None if check.worst_field_f1 is None else round(check.worst_field_f1, 4),
        "fault": check.fault.kind if check.fault else None,
        "file": outcome.file if outcome else None,
        "message": outcome.message if outcome else None,
        "as_planted": check.as_planted,
    }
