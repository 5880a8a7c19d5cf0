"""Runs on worker processes, killed, stopped and crowded: in the end the same bytes."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import time
import uuid
from pathlib import Path

import psutil
import pytest

from hcsflow.testing.plates import key_coded_plate, write_imagexpress_plate

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
SEED = 20240229
FAULTS = int(os.environ.get("CHAOS_FAULTS", "30"))
WELLS = ("A01", "A02", "B01", "B02", "C01", "C02", "D01", "D02")


class Scene:
    """One output folder, and the command that fills it."""

    def __init__(self, folder: Path, plate: Path, command: list[str], pipeline: str = "slow"):
        self.output = folder / "OUT"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.log = folder / "log.txt"
        self.mark = f"chaos-{uuid.uuid4().hex}"
        self._command = [*command, "run", str(HERE / f"{pipeline}.py"), str(plate)]

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the command in a process group of its own."""
        changes = {"TMPDIR": str(self.temporary), "CHAOS_MARK": self.mark} | environment
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self._command, "-o", str(self.output), "--workers", "2", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | changes,
            )

    def family(self) -> list[psutil.Process]:
        """List all processes of this scene's runs that are alive, orphans too."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get("CHAOS_MARK") == self.mark
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def workers(self, client: int) -> list[psutil.Process]:
        """List the workers: children of the client's forkserver."""
        try:
            servers = psutil.Process(client).children()
            return [worker for server in servers for worker in server.children()]
        except psutil.NoSuchProcess:
            return []

    def events(self) -> list[str]:
        """Kinds of the events so far, of all runs."""
        try:
            lines = (self.output / ".hcsflow" / "log.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line)["kind"] for line in lines if line.endswith("}")]

    def wait_for(self, kind: str, process: subprocess.Popen[bytes], times: int = 1) -> bool:
        """Wait until events of a kind were told; False if the run ended before."""
        while process.poll() is None:
            if self.events().count(kind) >= times:
                return True
            time.sleep(0.01)
        return False

    def check(self, tally, what: str) -> None:
        """Hold the end against what must hold after any fault: nothing left running or lying."""
        deadline = time.monotonic() + 60
        while self.family() and time.monotonic() < deadline:
            time.sleep(0.1)
        left = [process.pid for process in self.family()]
        tally.expect(not left, f"{what}: still running: {left}")
        self.clear()
        lying = [path.name for path in self.temporary.iterdir()]
        tally.expect(not lying, f"{what}: in TMPDIR: {lying}")

    def clear(self) -> None:
        """Kill what is left."""
        for process in self.family():
            process.kill()


@pytest.fixture(scope="module")
def plate(arena):
    folder = arena / "processes" / "PLATE"
    write_imagexpress_plate(folder, wells=WELLS, fields=2, channels=1, z=2, size=128, nuclei=5)
    return folder


@pytest.fixture(scope="module")
def new_scene(plate, hcsflow_command, tmp_path_factory):
    """Make scenes; whatever is left of their runs is killed at the end."""
    made = []

    def make(where=plate, pipeline="slow"):
        folder = tmp_path_factory.mktemp("scene")
        made.append(Scene(folder, where, hcsflow_command, pipeline))
        return made[-1]

    yield make
    for scene in made:
        scene.clear()


@pytest.fixture(scope="module")
def undisturbed(new_scene, plate, results_of, hash_tree):
    """What a run that nothing disturbs gives, how long it takes, and the input's hashes."""
    inputs = hash_tree(plate)
    for _ in range(2):  # the first one fills the cache of plates
        scene = new_scene()
        start = time.monotonic()
        assert scene.start().wait(timeout=120) == 0, scene.log.read_text()
        seconds = time.monotonic() - start
    return results_of(scene.output), seconds, inputs


@pytest.fixture
def judge(undisturbed, plate, zygote, results_of, litter_of, hash_tree, tally):
    """Compare a scene's output with the undisturbed one."""
    right, _, inputs = undisturbed

    def compare(scene, what):
        scene.check(tally, what)
        found = results_of(scene.output)
        different = sorted(n for n in right.keys() | found.keys() if right.get(n) != found.get(n))
        tally.expect(not different, f"{what}: differs: {different[:5]}")
        litter = litter_of(scene.output)
        tally.expect(not litter, f"{what}: left behind: {litter[:5]}")
        answer = zygote.ask("verify", output=scene.output)
        tally.expect(not answer["findings"], f"{what}: {answer['findings'][:3]} {answer['error']}")
        tally.expect(hash_tree(plate) == inputs, f"{what}: the plate was changed")

    return compare


def test_killed_workers(new_scene, undisturbed, judge, tally):
    tally.scenario = "1 SIGKILL a worker"
    rng = random.Random(SEED)
    while tally.faults < FAULTS and tally.runs < FAULTS:
        scene = new_scene()
        process = scene.start()
        tally.runs += 1
        scene.wait_for("well_started", process)
        for _ in range(3):
            time.sleep(rng.uniform(0, 0.5))
            workers = scene.workers(process.pid)
            if workers and process.poll() is None and scene.events().count("well_done") < 8:
                rng.choice(workers).kill()
                tally.faults += 1
        status = process.wait(timeout=180)
        what = f"run {tally.runs}"
        tally.expect(status == 0, f"{what}: exit {status}: {scene.log.read_text()[-2000:]}")
        judge(scene, what)


def test_killed_runs(new_scene, undisturbed, judge, tally):
    tally.scenario = "2 SIGKILL client and scheduler"
    rng = random.Random(SEED)
    seconds = undisturbed[1]
    while tally.faults < FAULTS and tally.runs < 3 * FAULTS:
        scene = new_scene()
        kills = []
        for _ in range(5):
            told = scene.events().count("well_started")
            process = scene.start()
            tally.runs += 1
            if rng.random() < 0.7:  # while wells are worked on; else at any time, start-up too
                scene.wait_for("well_started", process, told + 1)
                time.sleep(rng.uniform(0, 0.8))
            else:
                time.sleep(rng.uniform(0, seconds))
            if process.poll() is not None:
                break
            is_group = rng.random() < 0.5
            if is_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            tally.faults += 1
            kills.append("group" if is_group else "client")
        process = scene.start()
        tally.runs += 1
        status = process.wait(timeout=180)
        what = f"after {kills}"
        tally.expect(status == 0, f"{what}: exit {status}: {scene.log.read_text()[-2000:]}")
        judge(scene, what)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_worker_that_is_stopped_for_too_long(seed, new_scene, undisturbed, judge, tally):
    tally.scenario = "3 SIGSTOP a worker beyond its heartbeat"
    rng = random.Random(SEED + seed)
    scene = new_scene()
    process = scene.start(DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="2s")
    tally.runs += 1
    assert scene.wait_for("well_started", process), scene.log.read_text()
    time.sleep(rng.uniform(0, 0.3))
    worker = rng.choice(scene.workers(process.pid))
    worker.suspend()
    tally.faults += 1
    time.sleep(8)  # Dask gives a worker up after ten heartbeats of half a second
    worker.resume()
    status = process.wait(timeout=180)
    tally.expect(status == 0, f"exit {status}: {scene.log.read_text()[-2000:]}")
    judge(scene, "stopped worker")


def test_two_runs_on_one_output(new_scene, undisturbed, judge, tally):
    tally.scenario = "5 two runs on one output"
    scene = new_scene()
    first, second = scene.start(), scene.start()
    tally.runs += 2
    ends = sorted([first.wait(timeout=180), second.wait(timeout=180)])
    tally.faults += 1
    tally.expect(ends == [0, 2], f"both at once: exits {ends}: {scene.log.read_text()[-2000:]}")
    tally.expect("another run is alive" in scene.log.read_text(), "the second one was not told why")
    judge(scene, "both at once")


def test_a_second_run_while_the_first_is_stopped(new_scene, undisturbed, judge, tally):
    tally.scenario = "5 two runs on one output"
    scene = new_scene()
    first = scene.start()
    scene.wait_for("well_started", first)
    os.kill(first.pid, signal.SIGSTOP)
    second = scene.start()
    tally.runs += 2
    tally.faults += 1
    status = second.wait(timeout=60)
    tally.expect(status == 2, f"beside a stopped one: exit {status}")
    os.kill(first.pid, signal.SIGCONT)
    status = first.wait(timeout=180)
    tally.expect(status == 0, f"woken again: exit {status}: {scene.log.read_text()[-2000:]}")
    judge(scene, "first one stopped")


def test_a_worker_over_its_memory_limit(
    new_scene, arena, zygote, results_of, litter_of, tally, hash_tree
):
    tally.scenario = "6 a worker over its memory limit"
    plate = arena / "memory" / "PLATE"
    key_coded_plate(plate, wells=("A01", "A02", "B01"), fields=1, channels=1, z=1, size=16)
    inputs = hash_tree(plate)
    scene = new_scene(plate, "hungry")

    process = scene.start()
    # What Dask will take for the machine's memory; the kernel does not enforce it.
    resource.prlimit(process.pid, resource.RLIMIT_RSS, (2 << 30, 2 << 30))
    tally.runs += 1
    tally.faults += 1
    status = process.wait(timeout=180)
    tally.expect(status == 4, f"exit {status}: {scene.log.read_text()[-2000:]}")
    failures = list((scene.output / ".hcsflow" / "failures").iterdir())
    tally.expect([path.name for path in failures] == ["A02.json"], f"failed: {failures}")
    failure = json.loads(failures[0].read_text())
    tally.expect(failure["status"] == "crashed", str(failure))
    tally.expect("memory" in (failure["hint"] or ""), str(failure))
    listed = json.loads((scene.output / "images.zarr" / "zarr.json").read_text())
    wells = [well["path"] for well in listed["attributes"]["ome"]["plate"]["wells"]]
    tally.expect(wells == ["A/01", "B/01"], f"listed: {wells}")
    scene.check(tally, "memory")
    tally.expect(not litter_of(scene.output), f"left behind: {litter_of(scene.output)}")
    answer = zygote.ask("verify", output=scene.output)
    tally.expect(not answer["findings"], str(answer))
    tally.expect(hash_tree(plate) == inputs, "the plate was changed")


@pytest.mark.parametrize("seed", range(2))
def test_a_worker_that_outlives_its_run(seed, new_scene, undisturbed, judge, results_of, tally):
    tally.scenario = "8 a zombie wakes after its run was succeeded"
    rng = random.Random(SEED + seed)
    scene = new_scene()
    process = scene.start()
    assert scene.wait_for("well_started", process), scene.log.read_text()
    time.sleep(rng.uniform(0, 0.3))
    zombie = rng.choice(scene.workers(process.pid))
    zombie.suspend()
    for other in scene.family():
        if other.pid != zombie.pid:
            other.kill()
    process.wait()
    tally.faults += 1
    again = scene.start()
    tally.runs += 2
    status = again.wait(timeout=180)
    tally.expect(status == 0, f"exit {status}: {scene.log.read_text()[-2000:]}")
    before = results_of(scene.output)
    assert zombie.is_running()
    zombie.resume()
    psutil.wait_procs([zombie], timeout=60)
    tally.expect(results_of(scene.output) == before, "the zombie changed the output")
    # Cut off from its run, a worker ends itself, even at work: what it wrote goes at the next run.
    tally.expect(scene.start().wait(timeout=180) == 0, scene.log.read_text()[-2000:])
    tally.runs += 1
    judge(scene, "zombie")


def test_workers_that_wake_in_the_middle_of_a_commit(
    new_scene, arena, zygote, results_of, litter_of, hash_tree, tally
):
    tally.scenario = "8 a zombie wakes after its run was succeeded"
    plate = arena / "sleepy" / "PLATE"
    key_coded_plate(plate, wells=("A01", "B01"), fields=1, channels=1, z=1, size=16)
    scene = new_scene(plate, "sleepy")
    process = scene.start(CHAOS_SLEEP="1")
    deadline = time.monotonic() + 120
    zombies: list[psutil.Process] = []
    while len(zombies) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
        workers = scene.workers(process.pid)
        zombies = [worker for worker in workers if worker.status() == psutil.STATUS_STOPPED]
    assert len(zombies) == 2, scene.log.read_text()
    awake = [one for one in scene.family() if one not in zombies]
    for other in awake:
        other.kill()
    process.wait()
    tally.faults += 2
    ended = scene.start("--set", "lift.level=2").wait(timeout=120)
    tally.runs += 2
    if ended == 2 and "gate is held" in scene.log.read_text():
        for zombie in zombies:  # one stopped inside the gate, where no other run may begin
            zombie.resume()
        psutil.wait_procs(zombies, timeout=60)
        ended = scene.start("--set", "lift.level=2").wait(timeout=120)
        assert ended == 0, scene.log.read_text()
        return
    assert ended == 0, scene.log.read_text()
    journal = scene.output / ".hcsflow" / "journal"
    before = results_of(scene.output), hash_tree(journal)
    for zombie in zombies:
        zombie.resume()
    _, alive = psutil.wait_procs(zombies, timeout=60)
    tally.expect(not alive, f"still running: {alive}")
    after = results_of(scene.output), hash_tree(journal)
    tally.expect(after == before, "a zombie changed the output or its journal")
    answer = zygote.ask("verify", output=scene.output)
    tally.expect(not answer["findings"], str(answer))
    again = scene.start("--set", "lift.level=2")  # removes what a worker cut off could not
    tally.expect(again.wait(timeout=120) == 0, scene.log.read_text()[-2000:])
    tally.runs += 1
    after = results_of(scene.output), hash_tree(journal)
    tally.expect(after == before, "the next run changed the output")
    tally.expect(not litter_of(scene.output), f"left behind: {litter_of(scene.output)}")
    scene.check(tally, "zombies")
