"""Who may write to an output: lock, epoch, fencing, and the commit of a folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_task import tiny_manifest, tiny_plan

from hcsflow.errors import FencedError, OutputLockedError
from hcsflow.execute.lock import cancel_run, live_holder, locked
from hcsflow.graph.commit import commit_unit, unit_scratch, well_folder
from hcsflow.graph.plugin import Bundle
from hcsflow.journal import ControlFolder, JournalEntry, ObjectRecord, Outcome, read_epoch

HOLD = """
import sys, time
from pathlib import Path
from hcsflow.execute.lock import cancel_run, locked
with locked(Path(sys.argv[1])) as lock:
    print(lock.epoch, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of ``tmp_path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    yield process
    process.kill()
    process.communicate()


def test_a_live_run_keeps_others_out_and_a_killed_one_does_not(tmp_path, holder):
    with pytest.raises(OutputLockedError, match=f"process {holder.pid} on"), locked(tmp_path):
        pass
    found = live_holder(tmp_path)
    assert found is not None
    assert found.pid == holder.pid
    holder.kill()
    holder.wait()
    assert live_holder(tmp_path) is None
    with locked(tmp_path) as lock:
        assert lock.epoch == 2


def test_the_same_process_cannot_take_it_twice(tmp_path):
    with locked(tmp_path), pytest.raises(OutputLockedError), locked(tmp_path):
        pass
    assert not ControlFolder(tmp_path).lock.exists()


def test_epochs_only_grow(tmp_path):
    epochs = []
    for _ in range(3):
        with locked(tmp_path) as lock:
            epochs.append(lock.epoch)
    assert epochs == sorted(set(epochs))


def test_another_hosts_lock_is_taken_over_once_its_heart_stops(tmp_path):
    control = ControlFolder(tmp_path)
    control.root.mkdir()
    there = {"host": "elsewhere", "namespace": "", "pid": 1, "started": 0.0, "epoch": 7}
    control.lock.write_text(json.dumps(there))
    with pytest.raises(OutputLockedError, match="elsewhere"), locked(tmp_path):
        pass
    past = time.time() - 120
    os.utime(control.lock, (past, past))
    with locked(tmp_path) as lock:
        assert lock.epoch == 8


def bundle_in(output: Path, epoch: int) -> Bundle:
    plan = tiny_plan(("A01",))
    return Bundle(plan, tiny_manifest(output, plan), str(output), str(output), epoch, 1 << 30)


def write_unit(bundle: Bundle, scratch: Path, text: str) -> JournalEntry:
    path = f"images.zarr/{well_folder(bundle.plan, 'A01')}/0/object"
    file = unit_scratch(scratch, "") / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    record = ObjectRecord(path, len(text), "crc32c:00000000")
    outcome = Outcome("A01", "scale", "done")
    fingerprint = bundle.plan.unit_fingerprint("A01", "")
    return JournalEntry("A01", "", fingerprint, 0, bundle.epoch, (record,), outcome, "")


def test_a_task_of_an_earlier_run_cannot_commit(tmp_path):
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    with locked(out) as first:
        orphan = bundle_in(out, first.epoch)
    with locked(out):
        entry = write_unit(orphan, scratch, "old")
        with pytest.raises(FencedError, match="belongs to run"):
            commit_unit(orphan, "A01", "", unit_scratch(scratch, ""), entry)
    assert not (out / "images.zarr").exists()
    assert not ControlFolder(out).entry("", "A01").exists()


def test_a_run_that_was_taken_over_notices(tmp_path):
    control = ControlFolder(tmp_path)
    with locked(tmp_path) as lock:
        lock.check()
        control.epoch.write_text(str(lock.epoch + 1))
        with pytest.raises(FencedError, match="taken over"):
            lock.check()
    assert read_epoch(control) == lock.epoch + 1


def test_a_commit_replaces_the_old_well_whole(tmp_path):
    out = tmp_path / "out"
    for text in ("one", "second"):
        with locked(out) as lock:
            bundle = bundle_in(out, lock.epoch)
            scratch = tmp_path / text
            entry = write_unit(bundle, scratch, text)
            commit_unit(bundle, "A01", "", unit_scratch(scratch, ""), entry)
            assert (out / "images.zarr/A/01/0/object").read_text() == text
            assert not unit_scratch(scratch, "").exists()


def test_a_unit_that_lacks_an_object_is_not_committed(tmp_path):
    out = tmp_path / "out"
    with locked(out) as lock:
        bundle = bundle_in(out, lock.epoch)
        entry = write_unit(bundle, tmp_path / "scratch", "text")
        unit = unit_scratch(tmp_path / "scratch", "")
        (unit / entry.objects[0].path).write_text("te")
        with pytest.raises(Exception, match="expected 4 bytes before the commit, found 2"):
            commit_unit(bundle, "A01", "", unit, entry)
    assert not (out / "images.zarr").exists()


@pytest.fixture
def ctrl_c():
    """Python's own way with Ctrl-C, which libraries that other tests load may have changed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_run_is_cancelled_from_another_host_by_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("hcsflow.execute.lock.HEARTBEAT_S", 0.05)
    with pytest.raises(KeyboardInterrupt), locked(tmp_path) as lock:  # noqa: PT012
        holder = json.loads(ControlFolder(tmp_path).lock.read_text())
        monkeypatch.setattr("hcsflow.execute.lock.socket.gethostname", lambda: "elsewhere")
        assert holder["host"] != "elsewhere"
        assert cancel_run(tmp_path) is True
        time.sleep(20)
    monkeypatch.undo()
    assert lock.epoch < read_epoch(ControlFolder(tmp_path))
    assert cancel_run(tmp_path) is False


def test_a_commit_that_was_stopped_midway_is_told_of_and_not_waited_for_for_ever(
    tmp_path, monkeypatch
):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr("hcsflow.graph.commit.GATE_WAIT_S", 0.2)
    control = ControlFolder(tmp_path)
    control.root.mkdir()
    with control.gate.open("w") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_SH)
        with pytest.raises(OutputLockedError, match="in the middle of a commit"), locked(tmp_path):
            pass
    with locked(tmp_path) as lock:
        assert lock.epoch == 1


def test_the_client_of_a_run_that_was_taken_over_writes_nothing(tiny):
    control = ControlFolder(tiny.output)

    def take_over(event):
        if event.kind == "well_done" and event.well == "A02":
            control.epoch.write_text("77")

    tiny.listen = take_over
    with pytest.raises(FencedError):
        tiny("A01 A02", cluster="serial")
    assert not (tiny.output / "hcsflow_metadata.json").exists()
    assert not (tiny.output / "results").exists()


def test_a_lock_that_could_not_be_removed_keeps_the_same_process_out_no_longer(
    tmp_path, monkeypatch
):
    control = ControlFolder(tmp_path)
    real = Path.unlink

    def refuse(path, *args, **kwargs):
        if path == control.lock and read_epoch(control) == 2:
            raise OSError(5, "Input/output error", str(path))
        real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path):
        pass
    monkeypatch.undo()
    assert control.lock.exists()
    assert live_holder(tmp_path) is None
    with locked(tmp_path) as lock:
        assert live_holder(tmp_path) is not None
        assert lock.epoch == 3
    assert not control.lock.exists()
