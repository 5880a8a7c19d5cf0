"""What a resume does again, counted: as much as changed, and no more."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hcsflow as hf
from hcsflow.compiler import dependencies
from hcsflow.testing.plates import key_coded_plate

MODULE = """
import numpy as np
{imports}

def plus(stack, *, by=1, extra=None):
    return stack + np.uint16(by + OFFSET)

OFFSET = {offset}
"""


@pytest.fixture
def root(tmp_path):
    key_coded_plate(tmp_path / "plate", wells=("A01", "A02", "B01"), fields=2, channels=2, z=2)
    return tmp_path / "plate"


def done_by(steps, root, out, **options):
    """Run; return the wells that were done now."""
    plan = hf.compile(steps, hf.open_plate(root), output=out, **options)
    outcomes = plan.run("threads", workers=1).outcomes
    assert {o.status for o in outcomes} <= {"done", "skipped"}
    return sorted({o.well for o in outcomes if o.status == "done"})


def loose(folder, name="loose_steps", **values):
    """Write a file of one's own and import it anew."""
    text = MODULE.format(**{"imports": "", "offset": 0, **values})
    path = folder / f"{name}.py"
    path.write_text(text)
    stamp = time.time_ns() + len(text)
    os.utime(path, ns=(stamp, stamp))
    sys.modules.pop(name, None)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.plus


ALL = ["A01", "A02", "B01"]


def test_nothing_is_done_twice(root, tmp_path):
    steps = [hf.FunctionStep("max_projection")]
    assert done_by(steps, root, tmp_path / "out") == ALL
    assert done_by(steps, root, tmp_path / "out") == []


def test_the_source_of_a_loose_file_counts_and_another_file_does_not(root, tmp_path):
    out = tmp_path / "out"
    assert done_by([hf.FunctionStep(loose(tmp_path))], root, out) == ALL
    assert done_by([hf.FunctionStep(loose(tmp_path))], root, out) == []
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    assert done_by([hf.FunctionStep(loose(tmp_path))], root, out) == []
    assert done_by([hf.FunctionStep(loose(tmp_path, offset=2))], root, out) == ALL


def test_a_file_that_the_function_imports_counts(root, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    out, helper = tmp_path / "out", tmp_path / "lab_constants.py"
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def step():
        sys.modules.pop("lab_constants", None)
        return [hf.FunctionStep(loose(tmp_path, imports="import lab_constants"))]

    helper.write_text("SCALE = 1\n")
    assert done_by(step(), root, out) == ALL
    assert done_by(step(), root, out) == []
    helper.write_text("SCALE = 1.5\n")
    assert done_by(step(), root, out) == ALL


def test_parameters_count_and_arrays_by_their_contents(root, tmp_path):
    out, plus = tmp_path / "out", loose(tmp_path)
    numbers = np.arange(5000.0)
    assert done_by([hf.FunctionStep(plus, extra=numbers)], root, out) == ALL
    assert done_by([hf.FunctionStep(plus, extra=numbers.copy())], root, out) == []
    numbers[2500] = -1
    assert done_by([hf.FunctionStep(plus, extra=numbers)], root, out) == ALL
    assert done_by([hf.FunctionStep(plus, extra=numbers, by=2)], root, out) == ALL


def test_an_array_in_a_file_counts_by_its_contents(root, tmp_path):
    flat, out = tmp_path / "flat.npy", tmp_path / "out"
    file = tmp_path / "p.yaml"
    file.write_text("steps: [{function: flat_field, parameters: {profile: {npy: flat.npy}}}]")
    np.save(flat, np.ones((32, 32)))
    assert done_by(file, root, out) == ALL
    np.save(flat, np.ones((32, 32)))
    assert done_by(file, root, out) == []
    np.save(flat, np.linspace(1, 2, 32 * 32).reshape(32, 32))
    assert done_by(file, root, out) == ALL


def test_a_function_or_table_given_as_a_parameter_counts_by_its_contents(root, tmp_path):
    out, plus = tmp_path / "out", loose(tmp_path)

    def given(extra):
        return done_by([hf.FunctionStep((plus, {"extra": extra}), name="plus")], root, out)

    def table(number):
        values = np.zeros(1000, int)
        values[500] = number
        return pd.DataFrame({"v": values})

    def function(text):
        return eval(compile(text, "elsewhere.py", "eval"), {"__name__": "elsewhere"})

    for first, again, other in (
        [table(1), table(1), table(2)],
        [function("lambda s: s + 1"), function("lambda s: s + 1"), function("lambda s: s + 2")],
    ):
        assert [given(first), given(again), given(other)] == [ALL, [], ALL]


def test_whether_a_plate_lists_its_wells_redoes_none(root, tmp_path):
    steps, out = [hf.FunctionStep("max_projection")], tmp_path / "out"
    assert done_by(steps, root, out) == ALL
    unlisted = {"zarr": {"write_plate_metadata": False}}
    assert done_by(steps, root, out, config=unlisted) == []
    assert done_by(steps, root, out) == []
    listed = json.loads((out / "images.zarr" / "zarr.json").read_text())
    assert len(listed["attributes"]["ome"]["plate"]["wells"]) == len(ALL)


def test_only_libraries_that_a_step_needs_count(root, tmp_path, monkeypatch):
    out, steps = tmp_path / "out", [hf.FunctionStep("max_projection")]
    with monkeypatch.context() as patch:
        assert done_by(steps, root, out) == ALL
        patch.setattr(dependencies, "_versions", dependencies._versions.__wrapped__)
        real = dependencies.importlib.metadata.version
        newer = {"torch": "99", "scikit-image": "99", "pandas": "99"}
        patch.setattr(
            dependencies.importlib.metadata, "version", lambda name: newer.get(name) or real(name)
        )
        assert done_by(steps, root, out) == []
        newer["numpy"] = "99"
        assert done_by(steps, root, out) == ALL


def first_tiff(root, well="A02"):
    return min(path for path in root.rglob("*.[tT][iI][fF]") if f"{well}_" in path.name)


def touch(path: Path) -> None:
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 3_000_000_000))


def test_a_touched_file_redoes_its_well_alone(root, tmp_path):
    steps, out = [hf.FunctionStep("max_projection")], tmp_path / "out"
    assert done_by(steps, root, out) == ALL
    touch(first_tiff(root))
    assert done_by(steps, root, out) == ["A02"]


def test_known_by_contents_a_touched_file_redoes_nothing_and_a_changed_one_its_well(root, tmp_path):
    steps, out = [hf.FunctionStep("max_projection")], tmp_path / "out"
    config = {"input_identity": "content"}
    assert done_by(steps, root, out, config=config) == ALL
    touch(first_tiff(root))
    assert done_by(steps, root, out, config=config) == []
    path = first_tiff(root)
    data, facts = bytearray(path.read_bytes()), path.stat()
    place = data.index((np.frombuffer(bytes(data[-2:]), "<u2")[0]).tobytes(), len(data) // 2)
    data[place] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # size and date as before
    assert done_by(steps, root, out, config=config) == ["A02"]


def test_another_way_to_know_files_is_another_fingerprint(root, tmp_path):
    steps, out = [hf.FunctionStep("max_projection")], tmp_path / "out"
    assert done_by(steps, root, out) == ALL
    assert done_by(steps, root, out, config={"input_identity": "content"}) == ALL


def test_a_file_that_is_gone_before_it_is_read_fails_its_well_alone(root, tmp_path):
    plate = hf.open_plate(root)
    first_tiff(root).unlink()
    steps, config = [hf.FunctionStep("max_projection")], {"input_identity": "content"}
    plan = hf.compile(steps, plate, output=tmp_path / "out", config=config)
    outcomes = plan.run("threads", workers=1).outcomes
    assert {o.well: o.status for o in outcomes} == {"A01": "done", "A02": "failed", "B01": "done"}
