"""Outputs of steps: kept in any way, stopped midway, in other folders, with planes missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hcsflow as hf
from hcsflow.execute.status import read_status, verify_output
from hcsflow.graph.stored import open_stored_planes
from hcsflow.testing.plates import write_imagexpress_plate

HashTree = Callable[[Path], dict[str, str]]
WELLS = ("A01", "B02")

KINDS: dict[str, dict[str, Any]] = {
    "mosaic": {},
    "images-0.5": {"zarr.field_layout": "images"},
    "images-0.4": {"zarr.field_layout": "images", "zarr.ngff_version": "0.4"},
    "files": {"vfs.materialization_backend": "disk"},
    "plain": {"zarr.ome_zarr_metadata": False},
}


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wells of three fields, two channels, two heights."""
    root = tmp_path_factory.mktemp("kept") / "PLATE"
    write_imagexpress_plate(root, wells=WELLS, fields=3, channels=2, z=2, size=128)
    return root


def brighter(stack: Any, *, by: int = 10) -> Any:
    """Add a number to every pixel."""
    return stack + np.uint16(by)


def interrupted(stack: Any, *, flag: str = "") -> Any:
    """Return the stack; at the tenth call that ``flag`` counts, stop as Ctrl-C does."""
    if flag and Path(flag).exists():
        with Path(flag).open("a") as file:
            file.write("x")
        if Path(flag).stat().st_size == 10:
            raise KeyboardInterrupt
    return stack


@pytest.mark.parametrize("kind", ["images-0.5", "images-0.4", "files", "plain"])
def test_a_run_that_was_stopped_within_a_well_ends_with_the_same_bytes(
    plate: Path, tmp_path: Path, hash_tree: HashTree, kind: str
) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    steps = [
        hf.FunctionStep(interrupted, name="one", flag=str(flag), force_disk_output=True),
        hf.FunctionStep(interrupted, name="two", flag=str(flag)),
    ]
    opened = hf.open_plate(plate)
    pipeline = hf.Pipeline(steps, name="stopped")
    plans = {
        name: hf.compile(pipeline, opened, output=tmp_path / name, config=KINDS[kind])
        for name in ("stopped", "straight")
    }
    with pytest.raises(KeyboardInterrupt):
        plans["stopped"].run(cluster="serial")
    flag.unlink()
    assert len(read_status(tmp_path / "stopped").done) < len(WELLS)
    for name, plan in plans.items():
        assert plan.run(cluster="serial").failures.empty
        assert verify_output(tmp_path / name) == []
    for write in plans["straight"].frozen.writes:
        one, two = (hash_tree(tmp_path / name / write.store) for name in plans)
        assert one == two
        assert one


def chain(output: Path, plate: Path, config: Mapping[str, Any], **first: Any) -> Any:
    steps = [
        hf.FunctionStep(brighter, name="one", **first),
        hf.FunctionStep(brighter, name="two", by=5),
    ]
    plan = hf.compile(
        hf.Pipeline(steps, name="chain"), hf.open_plate(plate), output=output, config=config
    )
    assert plan.run(cluster="serial").failures.empty
    assert verify_output(output) == []
    return plan


@pytest.mark.parametrize(
    "first",
    [
        {"force_disk_output": True},
        {"backend": "disk"},
        {"materialization": hf.StepMaterializationConfig(zarr={"field_layout": "images"})},
        {"materialization": hf.StepMaterializationConfig(sub_dir="kept", backend="disk")},
    ],
    ids=["mosaic", "disk", "images", "sub_dir"],
)
def test_a_step_kept_in_any_way_leads_to_the_same_result(
    plate: Path, tmp_path: Path, hash_tree: HashTree, first: dict[str, Any]
) -> None:
    chain(tmp_path / "plainly", plate, {})
    plan = chain(tmp_path / "kept", plate, {}, **first).frozen
    kept, final = plan.writes
    assert hash_tree(tmp_path / "kept" / final.store) == hash_tree(
        tmp_path / "plainly" / "images.zarr"
    )
    with (
        open_stored_planes(tmp_path / "kept", plan, kept, "A01") as one,
        open_stored_planes(tmp_path / "kept", plan, final, "A01") as two,
    ):
        for key in plan.steps[-1].output.iter_keys():
            np.testing.assert_array_equal(one.read(key) + np.uint16(5), two.read(key))
    shutil.rmtree(tmp_path / "kept" / final.store / "A")
    chain(tmp_path / "kept", plate, {}, **first)
    assert hash_tree(tmp_path / "kept" / final.store) == hash_tree(
        tmp_path / "plainly" / "images.zarr"
    )


def test_a_step_that_wants_files_gets_them(plate: Path, tmp_path: Path) -> None:
    steps = [
        hf.FunctionStep(brighter, name="one"),
        hf.FunctionStep(brighter, name="two", requires_disk_input=True),
    ]
    plan = hf.compile(hf.Pipeline(steps), hf.open_plate(plate), output=tmp_path / "OUT")
    assert plan.run(cluster="serial").failures.empty
    assert (tmp_path / "OUT" / "00_one" / "images.zarr" / "A" / "01" / "0").is_dir()


def test_the_last_step_may_have_a_folder(plate: Path, tmp_path: Path) -> None:
    step = hf.FunctionStep(
        brighter, materialization=hf.StepMaterializationConfig(sub_dir="final-images")
    )
    plan = hf.compile(hf.Pipeline([step]), hf.open_plate(plate), output=tmp_path / "OUT")
    assert plan.run(cluster="serial").failures.empty
    assert (tmp_path / "OUT" / "final-images" / "images.zarr" / "A" / "01" / "0").is_dir()
    assert verify_output(tmp_path / "OUT") == []


def test_relative_outputs_lie_below_the_root(
    plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"vfs.persistent_storage_root_path": str(tmp_path / "root")}
    steps = hf.Pipeline([hf.FunctionStep(brighter)])
    below = hf.compile(steps, hf.open_plate(plate), output="a/OUT", config=config)
    assert below.output == tmp_path / "root" / "a" / "OUT"
    assert below.run(cluster="serial").failures.empty
    assert (tmp_path / "root" / "a" / "OUT" / "images.zarr").is_dir()
    given = hf.compile(steps, hf.open_plate(plate), output=tmp_path / "OUT", config=config)
    assert given.output == tmp_path / "OUT"


@pytest.mark.parametrize("kind", ["mosaic", "images-0.5", "images-0.4", "files"])
def test_planes_that_were_skipped_are_known_as_absent(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "PLATE"
    write_imagexpress_plate(
        root, wells=("A01",), fields=2, channels=1, z=2, size=64, faults={"A01": "missing plane"}
    )
    config = {**KINDS[kind], "missing": "skip"}
    steps = hf.Pipeline([hf.FunctionStep(brighter)])
    plan = hf.compile(steps, hf.open_plate(root), output=tmp_path / "OUT", config=config)
    assert plan.run(cluster="serial").failures.empty
    write = plan.frozen.writes[-1]
    keys = list(plan.frozen.steps[0].output.iter_keys())
    with open_stored_planes(tmp_path / "OUT", plan.frozen, write, "A01") as stored:
        assert 0 < len(stored.missing) < len(keys)
        for key in keys:
            assert (stored.find(key) is None) == (key in stored.missing)
        with pytest.raises(hf.HcsflowError, match="holds no plane"):
            stored.read(min(stored.missing))
