"""Bad plates, bad pipelines, bad places: what a user is told, and the exit status."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile

import hcsflow as hf
from hcsflow.cli.main import main

GOOD, BAD = "A01", "A02"


class Said(NamedTuple):
    """What the command line answered."""

    returncode: int
    stdout: str
    stderr: str


CommandLine = Callable[..., Said]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Run ``hcsflow`` in this process: nothing here dies or is killed, and imports cost once."""

    def run(*arguments: str | Path) -> Said:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Said(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def sound_plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wells × 2 fields × 2 channels × 3 z of 64²."""
    from hcsflow.testing.plates import write_imagexpress_plate

    folder = tmp_path_factory.mktemp("sound") / "PLATE"
    write_imagexpress_plate(folder, wells=[GOOD, BAD], fields=2, channels=2, z=3, size=64)
    return folder


@pytest.fixture
def plate(sound_plate: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(sound_plate, tmp_path / "PLATE"))


def files_of(plate: Path, well: str) -> list[Path]:
    return sorted(
        p for p in plate.rglob("*") if p.suffix.lower() == ".tif" and f"{well}_" in p.name
    )


def run_max(plate: Path, output: Path, pipeline: Any = "max-projection", **changes: Any) -> hf.Run:
    return hf.compile(pipeline, hf.open_plate(plate), output=output, **changes).run("threads")


def only_failure(run: hf.Run) -> dict[str, Any]:
    """Return the one failure, after checking that the other well is done."""
    status = {outcome.well: outcome.status for outcome in run.outcomes}
    assert status[GOOD] == "done"
    assert list(run.failures["well"]) == [BAD]
    return dict(run.failures.iloc[0])


# -- the folder ------------------------------------------------------------------------------------


def test_an_empty_folder(cli: CommandLine, tmp_path: Path) -> None:
    result = cli("inspect", tmp_path)
    assert result.returncode == 2
    assert "holds no files" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_layout_says_what_was_looked_for(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "holiday.tif").write_bytes(b"II*\0")
    result = cli("inspect", tmp_path)
    assert result.returncode == 2
    assert "Looked for" in result.stderr
    assert "HTD" in result.stderr
    assert "holiday.tif" in result.stderr


def test_no_such_folder(cli: CommandLine, tmp_path: Path) -> None:
    result = cli("inspect", tmp_path / "nowhere")
    assert result.returncode == 2
    assert "nowhere" in result.stderr


# -- planes ----------------------------------------------------------------------------------------


def test_a_truncated_file_fails_its_well_by_name(
    cli: CommandLine, plate: Path, tmp_path: Path
) -> None:
    victim = files_of(plate, BAD)[0]
    os.truncate(victim, victim.stat().st_size // 2)
    result = cli("run", "max-projection", plate, "-o", tmp_path / "OUT", "--cluster", "threads")
    assert result.returncode == 4, result.stderr
    told = cli("failures", tmp_path / "OUT")
    assert BAD in told.stdout
    assert victim.name in told.stdout
    assert "cut short" in told.stdout


def test_a_plane_of_another_shape(plate: Path, tmp_path: Path) -> None:
    victim = files_of(plate, BAD)[-1]
    tifffile.imwrite(victim, np.zeros((32, 64), np.uint16))
    failure = only_failure(run_max(plate, tmp_path / "OUT"))
    assert failure["file"].endswith(victim.name)
    assert "32" in failure["message"]


def test_a_plane_of_another_dtype(plate: Path, tmp_path: Path) -> None:
    victim = files_of(plate, BAD)[-1]
    tifffile.imwrite(victim, np.zeros((64, 64), np.uint8))
    failure = only_failure(run_max(plate, tmp_path / "OUT"))
    assert "uint8" in failure["message"]


def test_a_file_that_is_no_image(plate: Path, tmp_path: Path) -> None:
    victim = files_of(plate, BAD)[-1]
    victim.write_text("this is not a TIFF")
    failure = only_failure(run_max(plate, tmp_path / "OUT"))
    assert failure["file"].endswith(victim.name)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file"
)
def test_an_unreadable_file(plate: Path, tmp_path: Path) -> None:
    victim = files_of(plate, BAD)[-1]
    victim.chmod(0)
    failure = only_failure(run_max(plate, tmp_path / "OUT"))
    assert failure["file"].endswith(victim.name)


@pytest.mark.parametrize("part", ["plane", "field", "channel"])
def test_something_missing_fails_its_well(part: str, plate: Path, tmp_path: Path) -> None:
    files = files_of(plate, BAD)
    chosen = {
        "plane": files[:1],
        "field": [f for f in files if "_s2" in f.name],
        "channel": [f for f in files if "_w2" in f.name],
    }[part]
    for path in chosen:
        path.unlink()
    failure = only_failure(run_max(plate, tmp_path / "OUT"))
    assert failure["error"] == "MissingPlaneError"
    assert BAD in failure["message"]
    assert "there is no file" in failure["message"]


@pytest.mark.parametrize("policy", ["fill", "skip"])
def test_missing_planes_may_be_filled_or_skipped(policy: str, plate: Path, tmp_path: Path) -> None:
    from hcsflow.config import MissingPolicy

    files_of(plate, BAD)[0].unlink()
    config = hf.GlobalPipelineConfig(missing=MissingPolicy(policy))
    run = run_max(plate, tmp_path / "OUT", config=config)
    assert run.failures.empty
    notes = {outcome.well: outcome.notes for outcome in run.outcomes}
    assert notes[BAD]
    assert not notes[GOOD]


def test_two_files_for_one_plane(plate: Path, tmp_path: Path) -> None:
    original = files_of(plate, BAD)[0]
    shutil.copy(original, original.with_name(original.name.replace(".tif", ".tiff")))
    failure = only_failure(run_max(plate, tmp_path / "OUT"))
    assert original.stem in f"{failure['message']} {failure['file']}"


# -- what the HTD says -----------------------------------------------------------------------------


def test_an_htd_that_is_not_utf_8(plate: Path, tmp_path: Path) -> None:
    htd = next(p for p in plate.rglob("*") if p.suffix.lower() == ".htd")
    content = htd.read_bytes().replace(
        b'"EndFile"', b'"Description", "\x82\x81 caf\xe9"\n"EndFile"'
    )
    htd.write_bytes(content)
    assert run_max(plate, tmp_path / "OUT").failures.empty


def test_a_promised_well_without_files(cli: CommandLine, plate: Path, tmp_path: Path) -> None:
    for path in files_of(plate, BAD):
        path.unlink()
    result = cli("run", "max-projection", plate, "-o", tmp_path / "OUT", "--cluster", "threads")
    assert result.returncode == 4, result.stderr
    assert BAD in cli("failures", tmp_path / "OUT").stdout


# -- where results go ------------------------------------------------------------------------------


def test_output_inside_the_plate(cli: CommandLine, plate: Path) -> None:
    result = cli("run", "max-projection", plate, "-o", plate / "OUT", "--cluster", "threads")
    assert result.returncode == 2
    assert "inside the plate" in result.stderr
    assert not (plate / "OUT").exists()


def test_output_of_another_pipeline(cli: CommandLine, plate: Path, tmp_path: Path) -> None:
    run_max(plate, tmp_path / "OUT")
    result = cli("run", "count-nuclei", plate, "-o", tmp_path / "OUT", "--cluster", "threads")
    assert result.returncode == 2
    assert "max-projection" in result.stderr
    assert "--fresh" in result.stderr


def test_output_of_another_plate(plate: Path, tmp_path: Path) -> None:
    from hcsflow.testing.plates import write_imagexpress_plate

    run_max(plate, tmp_path / "OUT")
    other = tmp_path / "OTHER"
    write_imagexpress_plate(other, wells=[GOOD], fields=1, channels=1, z=1, size=64)
    with pytest.raises(hf.HcsflowError, match="PLATE"):
        run_max(other, tmp_path / "OUT")


# -- functions that break their promise ------------------------------------------------------------


def well_dependent(found: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[..., Any]:
    """Make a step function that misbehaves on well A02 alone."""

    @hf.special_inputs("plane_keys")
    def step(stack: np.ndarray[Any, Any], *, plane_keys: list[Any]) -> Any:
        return found(stack) if plane_keys[0].well == 1 else stack

    return step


def explode(stack: np.ndarray[Any, Any]) -> Any:
    raise ZeroDivisionError("the cells were gone")


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (explode, "the cells were gone"),
        (lambda stack: stack[0], "(64, 64)"),
        (lambda stack: stack.astype(np.float32), "float32"),
        (lambda stack: None, "None"),
        (lambda stack: stack[:, :10], "10"),
    ],
    ids=["raises", "returns 2-D", "another dtype", "returns None", "another shape"],
)
def test_a_function_that_breaks_its_promise_fails_its_well(
    behaviour: Callable[..., Any], told: str, plate: Path, tmp_path: Path
) -> None:
    pipeline = hf.Pipeline([hf.FunctionStep(well_dependent(behaviour), name="odd")])
    failure = only_failure(run_max(plate, tmp_path / "OUT", pipeline))
    assert failure["step"] == "odd"
    assert told in failure["message"]


# -- pipelines that cannot be meant ----------------------------------------------------------------

REFUSED = {
    "unknown function": ("steps:\n- function: gausian_filter\n", "gaussian_filter"),
    "unknown parameter": (
        "steps:\n- function: gaussian_filter\n  parameters: {sigmma: 2}\n",
        "sigma",
    ),
    "unknown channel": (
        "steps:\n- functions: {GFP: max_projection, '*': DROP}\n",
        "w1",
    ),
    "no producer": (
        "steps:\n- function: measure_objects\n  variable_components: [channel, z]\n",
        "labels",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_pipeline_that_cannot_be_meant(
    case: str, cli: CommandLine, sound_plate: Path, tmp_path: Path
) -> None:
    text, told = REFUSED[case]
    file = tmp_path / "pipeline.yaml"
    file.write_text(f"name: odd\n{text}")
    result = cli("plan", file, sound_plate, "-o", tmp_path / "OUT")
    assert result.returncode == 2, result.stdout + result.stderr
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "OUT").exists()


def test_a_mistyped_pipeline_name(cli: CommandLine, sound_plate: Path, tmp_path: Path) -> None:
    result = cli("run", "count-nucleus", sound_plate, "-o", tmp_path / "OUT")
    assert result.returncode == 2
    assert "count-nuclei" in result.stderr


def test_a_mistyped_parameter(cli: CommandLine, sound_plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "OUT"
    result = cli("plan", "count-nuclei", sound_plate, "-o", out, "--set", "sgima=2")
    assert result.returncode == 2
    assert "sigma" in result.stderr


def test_a_plan_that_does_not_fit(sound_plate: Path, tmp_path: Path) -> None:
    plate = hf.open_plate(sound_plate)
    resources = hf.Resources(workers=1, memory_bytes=10_000)
    with pytest.raises(hf.HcsflowError) as refused:
        hf.compile("max-projection", plate, output=tmp_path / "OUT", resources=resources)
    assert getattr(refused.value, "exit_code", None) == 3
