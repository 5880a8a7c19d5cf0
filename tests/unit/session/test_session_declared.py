"""What compile's arguments stand for, wherever they are asked for again."""

from pathlib import Path

import pytest

import hcsflow as hf
from hcsflow.errors import UsageError
from hcsflow.session.declared import settled_output
from hcsflow.testing.plates import write_imagexpress_plate


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("declared") / "PLATE"
    write_imagexpress_plate(folder, wells=["A01"], fields=1, channels=1, z=2, size=64)
    return hf.open_plate(folder)


def test_the_output_is_the_same_before_and_after_compiling(plate, tmp_path):
    root = {"vfs": {"persistent_storage_root_path": str(tmp_path)}}
    plan = hf.compile("max-projection", plate, output="OUT", config=root)
    assert plan.output == tmp_path / "OUT"
    assert settled_output("max-projection", Path("OUT"), config=root) == plan.output
    assert settled_output("max-projection", "OUT") == Path("OUT")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("config: {zarr: {pyramid: false}}", "zarr.pyramid"),
        ("threads_per_worker: 2", "threads_per_worker"),
    ],
)
def test_a_profile_that_a_plan_does_not_know_is_refused(plate, tmp_path, text, named):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"kind: serial\n{text}\n")
    plan = hf.compile("max-projection", plate, output=tmp_path / "OUT")
    with pytest.raises(UsageError, match=rf"without the {named} .*\n.*resources='.*mine.yaml'"):
        plan.run(cluster=str(mine))
    assert not (tmp_path / "OUT").exists()
    plan = hf.compile("max-projection", plate, output=tmp_path / "OUT", resources=mine)
    assert plan.run(cluster=mine).failures.empty


def test_gpus_are_compiled_for(plate, tmp_path):
    plan = hf.compile("max-projection", plate, output=tmp_path / "OUT")
    with pytest.raises(UsageError, match=r"without the GPUs .*\n.*resources='cuda'"):
        plan.run(cluster="cuda")
