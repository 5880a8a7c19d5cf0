"""A disk that fails at the n-th change, for every n: an error is told, and the next run mends."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcsflow.testing.plates import key_coded_plate

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

SEED = 20240229
EVERY = int(os.environ.get("CHAOS_EVERY", "5"))
"""At most so far apart are the changes at fault; 1 for every one, with every kind of fault."""

CARELESS = """
import contextlib
import hcsflow.execute.resume as resume
import hcsflow.graph.commit as commit
put = commit.put_in_place
def put_if_possible(*args, **kwargs):
    with contextlib.suppress(OSError):
        put(*args, **kwargs)
commit.put_in_place = put_if_possible
resume.Ledger._has_objects = lambda self, entry: True
"""

STORES = ("images.zarr", "00_lift/images.zarr")


@pytest.fixture(scope="module")
def plate(arena: Path) -> Path:
    folder = arena / "failing-disk" / "PLATE"
    key_coded_plate(folder, wells=("A01", "B02"), fields=1, channels=1, z=1, size=16)
    return folder


@pytest.fixture(scope="module")
def request_for(plate, tiny_pipeline):
    return {"plate": plate, "pipeline": tiny_pipeline}


@pytest.fixture(scope="module")
def undisturbed(crew, zygote, request_for, results_of):
    """What an undisturbed run changes, and what it gives."""
    for one in crew.zygotes:
        one.ask("warm", **request_for, output=one.output)
    answer = zygote.ask("run", **request_for, output=zygote.output)
    assert answer["error"] is None, answer
    found = results_of(zygote.output)
    assert {status for status, *_ in answer["counts"].values()} == {"done"}
    return answer["changes"], found


def listed_unsound(output: Path, right: dict[str, str], found: dict[str, str]) -> list[str]:
    """List what a reader finds wrong in the wells that the plates list."""
    wrong = []
    for store in STORES:
        document = output / store / "zarr.json"
        if not document.is_file():
            continue
        plate = json.loads(document.read_text())["attributes"]["ome"]["plate"]
        for well in plate["wells"]:
            start = f"{store}/{well['path']}/"
            wrong += [n for n in right if n.startswith(start) and found.get(n) != right[n]]
    return wrong


class Judge:
    """Holds outputs against the undisturbed one."""

    def __init__(self, right, results_of, litter_of) -> None:
        self.right = right
        self.results_of = results_of
        self.litter_of = litter_of

    def faulty(self, answer, output) -> Iterator[str]:
        """After a fault: an error that a user understands, and nothing listed that is not whole."""
        if answer["end"] != "exit":
            yield answer["end"]
        if "BUG" in (answer.get("error") or ""):
            yield answer["trace"]
        if unsound := listed_unsound(output, self.right, self.results_of(output)):
            yield f"listed, yet {unsound[:3]}"

    def mended(self, answer, output) -> Iterator[str]:
        """After the next run: all as if nothing had happened."""
        right, found = self.right, self.results_of(output)
        statuses = {status for status, *_ in answer.get("counts", {}).values()}
        if not statuses or not statuses <= {"done", "skipped"}:
            yield f"then: {answer}"
        different = sorted(n for n in right.keys() | found.keys() if right.get(n) != found.get(n))
        if different:
            yield f"differs after the next run: {different[:5]}"
        if litter := self.litter_of(output):
            yield f"left behind: {litter[:5]}"
        if answer.get("findings"):
            yield f"verify: {answer['findings'][:3]}"


@pytest.fixture
def judge(undisturbed, results_of, litter_of):
    return Judge(undisturbed[1], results_of, litter_of)


def drawn(count: int, every: int) -> list[int]:
    """Return one number in so many, drawn by a fixed seed; all of 1 to ``count`` for every 1."""
    rng = random.Random(SEED)
    starts = range(1, count + 1, every)
    return [rng.randint(start, min(start + every - 1, count)) for start in starts]


@pytest.mark.parametrize(("kind", "every"), [("full", 1), ("error", 2), ("broken", 5)])
def test_the_next_run_mends(kind, every, crew, request_for, undisturbed, judge, hash_tree, tally):
    """``error`` comes once, and the next run is in the same process, whatever that kept."""
    tally.scenario = "4 the n-th change of the disk fails"
    changes = undisturbed[0]
    inputs = hash_tree(request_for["plate"])

    def work(zygote, at):
        output = zygote.output
        shutil.rmtree(output, ignore_errors=True)
        fault = request_for | {"output": output, "at": at, "kind": kind}
        if kind == "error":
            answer = again = zygote.ask("run", **fault, twice=True, verify=True)
        else:
            answer = zygote.ask("run", **fault)
        found = list(judge.faulty(answer, output))
        if kind != "error":
            again = zygote.ask("run", **request_for | {"output": output}, verify=True)
        found += judge.mended(again, output)
        return [f"{kind} at {at} ({changes[at - 1]}): {one}" for one in found]

    for found in crew.each(work, drawn(len(changes), min(every, EVERY))):
        tally.runs += 2
        tally.faults += 1
        tally.differences += found
    tally.expect(hash_tree(request_for["plate"]) == inputs, "the plate was changed")


def test_a_run_that_trusts_the_disk_is_noticed(zygote, request_for, undisturbed, judge):
    """The harness bites."""
    output = zygote.output
    at = undisturbed[0].index("rename images.zarr/A/01") + 1
    for prelude, is_noticed in (("", False), (CARELESS, True)):
        request = request_for | {"output": output, "prelude": prelude}
        shutil.rmtree(output, ignore_errors=True)
        answer = zygote.ask("run", **request, at=at, kind="error")
        found = list(judge.faulty(answer, output))
        found += judge.mended(zygote.ask("run", **request, verify=True), output)
        assert bool(found) == is_noticed, found
