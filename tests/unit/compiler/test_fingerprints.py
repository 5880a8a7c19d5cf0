"""Fingerprints change with what changes results, and with nothing else."""

import functools
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from hcsflow.compiler.fingerprints import function_fingerprint, input_fingerprint
from hcsflow.materialize import Table
from hcsflow.plan import stable_json
from hcsflow.plate import Manifest, PlaneRow
from hcsflow.testing.plates import key_coded_plate


def scale(stack, *, by=1):
    return stack * by


def with_closure(by):
    def inner(stack):
        return stack * by

    return inner


class Scaler:
    def __init__(self, by):
        self.by = by

    def __call__(self, stack):
        return stack * self.by


def loaded(path, text):
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.step


@pytest.mark.parametrize(
    "make",
    [
        lambda by: functools.partial(scale, by=by),
        with_closure,
        Scaler,
        lambda by: with_closure(with_closure(by)),
    ],
    ids=["partial", "closure", "object", "nested closure"],
)
def test_what_a_function_has_bound_counts(make):
    assert function_fingerprint(make(2)) == function_fingerprint(make(2))
    assert function_fingerprint(make(2)) != function_fingerprint(make(7))


def test_a_loose_file_counts_by_its_contents_whatever_its_name(tmp_path):
    for name in ("mine.py", "statistics.py"):  # the second is also a module of Python's own
        path = tmp_path / name
        first = function_fingerprint(loaded(path, "def step(s):\n    return s + 1\n"))
        second = function_fingerprint(loaded(path, "def step(s):\n    return s + 2\n"))
        assert first != second
        assert first == function_fingerprint(loaded(path, "def step(s):\n    return s + 1\n"))


def test_without_source_byte_code_counts():
    scope = {"np": np}
    exec("def lowest(s): return np.minimum(s, 3)\ndef highest(s): return np.maximum(s, 3)", scope)
    assert function_fingerprint(scope["lowest"]) != function_fingerprint(scope["highest"])


def test_a_materializer_counts_with_its_settings():
    assert function_fingerprint(Table("a")) != function_fingerprint(Table("b"))


def test_arrays_count_by_content_and_sets_by_members():
    large = np.zeros(5000)
    other = large.copy()
    other[2500] = 1
    assert stable_json({"a": large}) != stable_json({"a": other})
    assert stable_json({"a": large}) == stable_json({"a": large.copy()})
    code = "from hcsflow.plan import stable_json; print(stable_json({'a', 'b', 'c', 'd'}))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in range(3)
    }
    assert len(seen) == 1


def manifests(tmp_path, wells, drop=()):
    from hcsflow.microscopes import open_plate

    root = tmp_path / "-".join(wells)
    key_coded_plate(root, wells=tuple(wells), fields=2, channels=2, z=2)
    for path in root.rglob("*.tif"):
        if any(name in path.name for name in drop):
            path.unlink()
    plate, manifest = open_plate(root)
    rows = [
        PlaneRow(*key[1:], "", path.rpartition("/")[2].partition("_")[2], 100, 7)
        for key, path in manifest
    ]
    return plate, Manifest.from_rows(manifest.root, rows, missing=manifest.missing)


def fingerprint(plate, manifest, well, policy="error:0"):
    from dataclasses import replace

    named = replace(plate, name="p")
    return input_fingerprint(named, manifest, plate.wells.index(well), policy)


def test_another_well_on_the_plate_changes_nothing(tmp_path):
    alone, with_other = manifests(tmp_path, ["B02"]), manifests(tmp_path, ["A01", "B02"])
    assert fingerprint(*alone, "B02") == fingerprint(*with_other, "B02")


def test_the_policy_counts_only_where_planes_are_missing(tmp_path):
    whole = manifests(tmp_path, ["A01", "B02"])
    assert fingerprint(*whole, "B02") == fingerprint(*whole, "B02", "skip:0")
    holed = manifests(tmp_path, ["B02", "C03"], drop=["B02_s1_w2"])
    assert fingerprint(*holed, "C03") == fingerprint(*holed, "C03", "skip:0")
    assert fingerprint(*holed, "B02", "fill:1") != fingerprint(*holed, "B02", "fill:2")
