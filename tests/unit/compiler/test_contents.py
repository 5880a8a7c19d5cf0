"""Digests of values: equal for equal values, others for others, none for what has no state."""

import dataclasses
import enum
import functools
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hcsflow as hf
from hcsflow.compiler.contents import contents_of
from hcsflow.compiler.fingerprints import call_fingerprint, function_fingerprint
from hcsflow.errors import PipelineError
from hcsflow.testing.plates import key_coded_plate


def apply(stack, *, op=None):
    return op(stack)


class Plain:
    def __init__(self, number):
        self.number = number

    def times(self, stack):
        return stack * self.number


class Slotted:
    __slots__ = ("number",)

    def __init__(self, number):
        self.number = number


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    number: int


def frame(number):
    values = np.zeros(1000, int)
    values[500] = number
    return pd.DataFrame({"v": values, "s": ["x"] * 1000})


def masked(number):
    return np.ma.masked_equal(np.array([1, 2, 3]), number)


def with_default(number):
    def step(stack, by=number, *, more=number):
        return stack + by + more

    return step


def with_attribute(number):
    def step(stack):
        return stack + step.number

    step.number = number
    return step


def decorated(number):
    def outer(func):
        @functools.wraps(func)
        def inner(stack):
            return func(stack) * number

        return inner

    return outer(apply)


def looped(number):
    values = [number]
    values.append(values)
    return values


MAKERS = {
    "table": frame,
    "series": lambda n: frame(n)["v"],
    "category": lambda n: pd.Series(["a"], dtype=pd.CategoricalDtype(["a", str(n)])),
    "object": Plain,
    "slots": Slotted,
    "dataclass": Record,
    "bound method": lambda n: Plain(n).times,
    "defaults": with_default,
    "attribute": with_attribute,
    "decorator": decorated,
    "closure over an object": lambda n: functools.partial(lambda p, s: s * p.number, Plain(n)),
    "cache": lambda n: functools.lru_cache(with_default(n)),
    "numpy number": np.int64,
    "set": lambda n: {"a", "b", n},
    "array of objects": lambda n: np.array([n, "x"], dtype=object),
    "masked array": masked,
    "keys": lambda n: {(n, 2): 3},
    "pattern": lambda n: re.compile(f"{n}"),
    "path": lambda n: Path(f"{n}"),
    "generator of numbers": np.random.default_rng,
    "bytes": lambda n: bytes([n]),
    "loop": looped,
    "lambdas on a line": lambda n: [lambda s: s + 1, lambda s: s + 2][n - 1],
    "text that is no UTF-8": lambda n: f"\ud800{n}",
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_equal_values_are_alike_and_others_are_not(make):
    kept = [make(1), make(1), make(2)]  # all alive: no address is used twice
    prints = [call_fingerprint(apply, {"op": value}) for value in kept]
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_kinds_are_told_apart():
    values = [1, 1.0, True, "1", np.int32(1), np.int64(1), [1], (1,), {1}, {1: 2}, {"1": 2}, None]
    assert len({contents_of(value, "it").digest for value in values}) == len(values)


def test_tables_are_alike_however_pandas_holds_them():
    whole = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    pieces = pd.DataFrame({"a": [1, 2]})
    pieces["b"] = [3, 4]
    assert contents_of(whole, "it") == contents_of(pieces, "it")


def test_a_library_is_named_by_its_version():
    found = contents_of(frame(1), "it")
    assert "pandas" in found.libraries
    assert contents_of([1], "it").libraries == frozenset()


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def test_members_count_by_value():
    assert contents_of(Colour.RED, "it") != contents_of(Colour.BLUE, "it")


@pytest.mark.parametrize(
    "make",
    [threading.Lock, lambda: (i for i in "ab"), lambda: [{"deep": threading.Lock()}]],
    ids=["lock", "generator", "inside"],
)
def test_what_has_no_state_is_refused_when_the_plan_is_made(tmp_path, make):
    key_coded_plate(tmp_path / "plate", wells=("A01",), fields=1, channels=1, z=1)
    step = hf.FunctionStep((apply, {"op": make()}), name="lookup")
    with pytest.raises(PipelineError) as caught:
        hf.compile([step], hf.open_plate(tmp_path / "plate"), output=tmp_path / "out")
    assert "'lookup'" in caught.value.message
    assert "parameter 'op'" in caught.value.message
    assert "lock" in caught.value.message or "generator" in caught.value.message
    assert "give numbers" in caught.value.hint


def test_a_global_that_has_no_state_is_named():
    scope = {"__name__": "__main__", "GUARD": threading.Lock()}
    exec("def step(s):\n    with GUARD:\n        return s", scope)
    with pytest.raises(PipelineError, match="lock, at GUARD"):
        function_fingerprint(scope["step"])


def one_at_a_time(func):
    lock = threading.Lock()

    @functools.wraps(func)
    def guarded(stack):
        with lock:
            return func(stack)

    return guarded


@one_at_a_time
def guarded_step(stack):
    return stack


def test_what_an_import_makes_anew_may_hold_a_lock():
    assert function_fingerprint(guarded_step) == function_fingerprint(guarded_step)
    with pytest.raises(PipelineError, match="lock, at lock"):
        function_fingerprint(one_at_a_time(apply))


def test_the_plans_text_holds_no_address(tmp_path):
    key_coded_plate(tmp_path / "plate", wells=("A01",), fields=1, channels=1, z=1)
    plate = hf.open_plate(tmp_path / "plate")
    kept = [Plain(1), Plain(1)]
    texts = {
        hf.compile(
            [hf.FunctionStep((apply, {"op": value}), name="s")], plate, output=tmp_path / "out"
        ).to_json()
        for value in kept
    }
    assert len(texts) == 1
    assert "0x" not in texts.pop()


NOTEBOOK = """
import dataclasses, enum, functools, json, sys
import numpy as np
from hcsflow.compiler.fingerprints import function_fingerprint

T = {number}
NUMBER = np.int64(T)
MEMBERS = {{"a", "b", "c", T}}

class Settings:
    k = T
    @functools.cached_property
    def more(self):
        return self.k

@dataclasses.dataclass
class Record:
    k: int = T

class Kind(enum.Enum):
    ONE = T

class Bare:
    def __init__(self, k):
        self.k = k

BARE = Bare(T)

def by_number(s): return s + NUMBER
def by_set(s): return s + sum(map(len, MEMBERS))
def by_class(s): return s + Settings().more
def by_record(s): return s + Record().k
def by_member(s): return s + Kind.ONE.value
def by_object(s): return s + BARE.k
def by_helper(s): return by_object(s)
def by_nothing(s): return np.asarray(s).T

steps = [by_number, by_set, by_class, by_record, by_member, by_object, by_helper, by_nothing]
print(json.dumps([function_fingerprint(f) for f in steps]))
"""


def printed(command, **options):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, **options)
    return json.loads(done.stdout)


def test_whatever_a_notebooks_function_refers_to_counts():
    def of(number):
        return printed([sys.executable, "-"], input=NOTEBOOK.format(number=number))

    first, again, other = of(1), of(1), of(2)
    assert first == again
    assert [a != b for a, b in zip(first, other, strict=True)] == [True] * 7 + [False]


def test_globals_that_a_script_sets_when_it_runs_count(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(NOTEBOOK.format(number="int(sys.argv[1])"))

    def of(number):
        return printed([sys.executable, str(script), str(number)])

    first, again, other = of(1), of(1), of(2)
    assert first == again
    assert [a != b for a, b in zip(first, other, strict=True)] == [True] * 7 + [False]
