"""Plates on jobs of a real Slurm: the same bytes whatever becomes of the jobs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
from urllib.parse import urlsplit

import pandas as pd
import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(240)]


def scheduler_of(jobs):
    """Return the address that the workers were told, from their command lines."""
    words = {word for job in jobs for word in job.cmdline()}
    (address,) = {word for word in words if re.fullmatch(r"(tcp|tls)://.+:[0-9]+", word)}
    return urlsplit(address)


def greeting_of_a_stranger(host, port):
    """Connect encrypted, but without a certificate, and ask for an answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((host, port), timeout=20)
    with plain, context.wrap_socket(plain) as encrypted:
        return encrypted.recv(1)


def test_a_plate_on_jobs_is_the_plate_of_one_thread(site, right, results_of):
    run = site.start(nap_s=1)
    site.wait_for("well_started")
    processes = site.queue.processes()
    address = scheduler_of(processes)
    assert address.scheme == "tls"
    listening = {c.laddr for p in processes for c in p.net_connections() if c.status == "LISTEN"}
    assert {place.ip for place in listening} == {"127.0.0.1"}
    assert address.port in {place.port for place in listening}
    with pytest.raises(ssl.SSLError, match="certificate required"):
        greeting_of_a_stranger(address.hostname, address.port)
    site.end_well(run)
    assert results_of(site.output) == right
    assert 1 <= len(site.submitted()) <= 2
    site.expect_nothing_left()


def test_a_cancelled_job_is_replaced(site, right, results_of):
    run = site.start(nap_s=2)
    site.wait_for("well_done", 2)
    victim = site.queue.running()[0]
    site.queue.tell("scancel", victim)
    site.end_well(run)
    assert results_of(site.output) == right
    assert site.submitted()[victim] == "CANCELLED"
    assert len(site.events("well_done")) == 8
    site.expect_nothing_left()


def test_the_only_job_is_cancelled_and_another_takes_its_place(site, right, results_of):
    site.configure(maximum_jobs=1)
    run = site.start(nap_s=1)
    site.wait_for("well_done", 2)
    site.queue.tell("scancel", *site.queue.running())
    site.end_well(run)
    assert results_of(site.output) == right
    assert len(site.submitted()) == 2
    site.expect_nothing_left()


def test_jobs_that_end_before_the_run_are_renewed(site, right, results_of):
    site.configure(maximum_jobs=1, lifetime="8 s", lifetime_stagger="1 s")
    site.run(nap_s=1.2)
    assert results_of(site.output) == right
    ended = list(site.submitted().values())
    assert len(ended) > 1
    assert ended[:-1] == ["COMPLETED"] * (len(ended) - 1)  # by themselves, before the walltime
    assert not site.events("well_failed")
    site.expect_nothing_left()


def test_each_job_has_a_gpu_of_its_own(site):
    site.configure(gpus_per_job=1)
    site.run("devices")
    files = sorted(site.output.rglob("places*/*.parquet"))
    found = pd.concat([pd.read_parquet(file) for file in files])
    assert len(found) == 8
    assert set(found["device"]) == {"0", "1"}
    assert len(found.drop_duplicates(["job", "pid", "device"])) == 2
    site.expect_nothing_left()


def test_ctrl_c_cancels_the_jobs_and_the_same_command_goes_on(site, right, results_of):
    run = site.start(nap_s=2)
    site.wait_for("well_done")
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=60) == 130
    site.expect_nothing_left()
    assert "Traceback" not in site.log.read_text()
    assert 0 < len(site.events("well_done")) < 8
    site.run()
    assert results_of(site.output) == right
    assert len(site.events("well_done")) == 8


def test_a_killed_client_harms_no_later_run(site, right, results_of):
    run = site.start(nap_s=2)
    site.wait_for("well_done")
    orphans = site.queue.running()
    run.kill()
    run.wait()
    site.run()
    assert results_of(site.output) == right
    site.expect_nothing_left()
    # Nobody cancelled them: they missed their scheduler.
    assert {site.submitted()[job] for job in orphans} <= {"COMPLETED", "FAILED"}


def test_a_detached_run_is_seen_and_cancelled(site, cli):
    assert site.start("steady", "--detach", nap_s=2).wait(timeout=60) == 0
    site.wait_for("well_done")
    seen = json.loads(cli("status", site.output, "--json").stdout)["running"]
    assert seen["cluster"] == "slurm"
    assert seen["detached"] is True
    assert seen["host"] == socket.gethostname()
    assert seen["workers"] in (1, 2)
    assert cli("cancel", site.output).returncode == 0
    site.expect_nothing_left()
    assert json.loads(cli("status", site.output, "--json").stdout)["running"] is None


def test_a_run_whose_jobs_wait_says_so_and_can_be_stopped(site, cli, closed_queue):
    run = site.start()
    site.wait_for("workers")
    assert site.events("workers")[0]["count"] == 0
    site.wait_for_text("waiting for workers")
    assert set(site.queue.jobs().values()) == {"PENDING"}
    seen = json.loads(cli("status", site.output, "--json").stdout)["running"]
    assert seen["waiting"] is True
    assert "waiting for the first one" in cli("status", site.output).stdout
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=60) == 130
    site.expect_nothing_left()


def test_a_run_begins_when_its_queue_opens(site, closed_queue, right, results_of):
    run = site.start()
    site.wait_for("workers")
    closed_queue()
    site.end_well(run)
    assert results_of(site.output) == right
    site.expect_nothing_left()


def doctor(cli, site, *options):
    words = ("doctor", "--cluster", site.profile, "--folder", site.folder, "--json", *options)
    done = cli(*words)
    checks = json.loads(done.stdout)["checks"]
    return done.returncode, {check["name"]: check for check in checks}


def test_the_doctor_tries_one_job(site, cli):
    status, found = doctor(cli, site)
    assert status == 0
    for name in ("scheduler", "worker", "versions", "hcsflow on the worker", "shared folder"):
        assert found[name]["ok"] is True, found[name]
    assert len(site.submitted()) == 1
    site.expect_nothing_left()


def test_the_profile_that_comes_with_hcsflow_is_fit(site, cli):
    words = ("doctor", "--cluster", "slurm", "--folder", site.folder, "--json")
    done = cli(*words)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, [check for check in checks.values() if check["ok"] is False]
    assert "TLS" in checks["cluster"]["detail"]
    site.expect_nothing_left()  # a job that was just cancelled is still completing
    assert list(site.submitted().values()) == ["CANCELLED"]


def test_the_doctor_says_what_slurm_refuses(site, cli):
    site.configure(queue="nowhere")
    status, found = doctor(cli, site)
    assert status == 1
    (bad,) = [check for check in found.values() if check["ok"] is False]
    assert "invalid partition" in bad["detail"].lower()
    assert "queue" in bad["hint"]
    assert not site.submitted()
    assert not list(site.folder.glob("hcsflow-doctor-*"))


def test_the_doctor_does_not_wait_for_ever(site, cli, closed_queue):
    status, found = doctor(cli, site, "--timeout", "5")
    assert status == 1
    assert "none came within 5 s" in found["worker"]["detail"]
    assert "squeue" in found["worker"]["hint"]
    site.expect_nothing_left()


def test_a_partition_that_is_not_there_ends_the_run(site):
    site.configure(queue="nowhere")
    assert site.start().wait(timeout=60) == 1
    told = site.log.read_text()
    assert "invalid partition" in told.lower()
    assert "Traceback" not in told
    assert not site.submitted()
