"""A run that sleeps at its n-th change while another takes over: it wakes and changes nothing."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from hcsflow.testing.plates import key_coded_plate

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

STRIDE = int(os.environ.get("CHAOS_EVERY", "7"))
UNFENCED = """
import hcsflow.execute.lock as lock
import hcsflow.graph.commit as commit
commit.check_epoch = lambda bundle: None
lock.OutputLock.check = lambda self: None
"""
IMPATIENT = "import hcsflow.graph.commit as c; c.GATE_WAIT_S = 0.3"
"""A run waits for half a minute for a commit that does not end."""


@pytest.fixture(scope="module")
def request_for(arena, tiny_pipeline):
    plate = arena / "zombies" / "PLATE"
    key_coded_plate(plate, wells=("A01", "B02"), fields=1, channels=1, z=1, size=16)
    return {"plate": plate, "pipeline": tiny_pipeline}


def seem_dead(output) -> bool:
    """Make a lock look as that of another host that has not been heard of for an hour."""
    lock = output / ".hcsflow" / "lock"
    if not lock.is_file():
        return False
    holder = json.loads(lock.read_text())
    lock.write_text(json.dumps(holder | {"host": "elsewhere"}))
    hour_ago = lock.stat().st_mtime - 3600
    os.utime(lock, (hour_ago, hour_ago))
    return True


class Sleeper:
    """A run that falls asleep, its successor, and what must hold in the end."""

    def __init__(self, request_for, later, right, results_of, litter_of) -> None:
        self.request_for = self.sleeping = request_for
        self.later = later
        self.right = right
        self.results_of = results_of
        self.litter_of = litter_of

    def wake(self, zygote, at: int) -> list[str] | None:
        """Return what was wrong; None if there was no such change to fall asleep at."""
        output = zygote.output
        shutil.rmtree(output, ignore_errors=True)
        if self.request_for.get("fresh"):
            zygote.ask("run", **self.request_for | {"output": output})
        sleeper = zygote.ask("run", **self.sleeping, output=output, at=at, kind="stop")
        if sleeper["end"] != "stopped":
            return None
        is_taken = seem_dead(output)
        successor = zygote.ask("run", **self.later, output=output, prelude=IMPATIENT)
        was_shut_out = successor["end"] == "exit" and "Locked" in (successor["error"] or "")
        before = self.results_of(output)
        woken = zygote.ask("wake", pid=sleeper["pid"])
        found = []
        if was_shut_out or not is_taken:  # it slept where nobody may take over, or before its lock
            successor = zygote.ask("run", **self.later, output=output)
        elif before != self.results_of(output):
            found.append("the sleeper changed the output")
        if woken["end"] != "exit" or "BUG" in (woken.get("error") or ""):
            found.append(f"woken: {woken}")
        return found + self._wrong(zygote, successor)

    def _wrong(self, zygote, successor) -> list[str]:
        right, there = self.right, self.results_of(zygote.output)
        different = sorted(n for n in right.keys() | there.keys() if right.get(n) != there.get(n))
        litter = self.litter_of(zygote.output)
        findings = zygote.ask("verify", output=zygote.output)["findings"]
        named = {
            "successor": successor.get("error"),
            "differs": different[:5],
            "left behind": litter[:5],
            "verify": findings[:3],
        }
        return [f"{name}: {what}" for name, what in named.items() if what]


@pytest.mark.parametrize(("factor", "fresh"), [(2, False), (3, False), (3, True)])
def test_a_run_wakes_after_it_was_succeeded(
    factor, fresh, crew, request_for, results_of, litter_of, hash_tree, tally
):
    """By an equal run, or one with another parameter; also when it was to clear the output."""
    tally.scenario = "8 a zombie wakes after its run was succeeded"
    inputs = hash_tree(request_for["plate"])
    later = request_for | {"parameters": {"spread.factor": factor}}
    for zygote in crew.zygotes:
        zygote.ask("warm", **request_for, output=zygote.output)
        shutil.rmtree(zygote.output, ignore_errors=True)
        zygote.ask("run", **later, output=zygote.output)
    right = results_of(crew.zygotes[0].output)
    request = request_for | {"fresh": fresh}
    changes = crew.zygotes[0].ask("run", **request, output=crew.zygotes[0].output)["changes"]
    numbers = range(1 + factor % 2, len(changes) + 1, STRIDE)
    sleeper = Sleeper(request, later, right, results_of, litter_of)
    for at, found in zip(numbers, crew.each(sleeper.wake, numbers), strict=True):
        if found is not None:
            tally.runs += 2
            tally.faults += 1
            tally.differences += [f"asleep at {at} ({changes[at - 1]}): {one}" for one in found]
    tally.expect(hash_tree(request_for["plate"]) == inputs, "the plate was changed")


def test_a_run_that_heeds_no_epoch_is_noticed(crew, request_for, results_of, litter_of):
    """The harness bites."""
    zygote = crew.zygotes[0]
    later = request_for | {"parameters": {"spread.factor": 3}}
    shutil.rmtree(zygote.output, ignore_errors=True)
    zygote.ask("run", **later, output=zygote.output)
    right = results_of(zygote.output)
    sleeper = Sleeper(request_for, later, right, results_of, litter_of)
    assert sleeper.wake(zygote, 21) == []
    sleeper.sleeping = request_for | {"prelude": UNFENCED}
    assert "the sleeper changed the output" in (sleeper.wake(zygote, 21) or [])
