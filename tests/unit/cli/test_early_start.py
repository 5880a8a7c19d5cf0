"""When the command line starts worker processes before it has read itself."""

import subprocess
import sys

import pytest

from hcsflow.cli.early import starts_local_workers

RUN = ["run", "convert", "PLATE", "-o", "OUT"]


@pytest.mark.parametrize(
    "words",
    [
        RUN,
        ["--debug", *RUN],
        [*RUN, "--workers", "2", "--no-report"],
        ["run", "p.yaml", "PLATE", "--output=OUT"],
        ["run", "p.yaml", "PLATE", "-oOUT"],
    ],
)
def test_a_run_on_this_machine_starts_them_at_once(words):
    assert starts_local_workers(words, {})


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["plan", "convert", "PLATE", "-o", "OUT"],
        ["run", "convert", "PLATE"],
        [*RUN, "--help"],
        [*RUN, "-h"],
        [*RUN, "--detach"],
        [*RUN, "--cluster", "slurm"],
        [*RUN, "--cluster=threads"],
        [*RUN, "--cluster", "local"],
        ["status", "run"],
    ],
)
def test_anything_else_leaves_it_to_the_verb(words):
    assert not starts_local_workers(words, {})


def test_a_cluster_in_the_environment_counts_as_the_option():
    assert not starts_local_workers(RUN, {"HCSFLOW_CLUSTER": "slurm"})


def test_workers_start_before_the_command_line_is_read(tmp_path):
    words = ["run", "convert", str(tmp_path / "none"), "-o", str(tmp_path / "out")]
    program = "import sys; from hcsflow.cli.main import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 2
    begun = [line.rpartition("|")[2].strip() for line in result.stderr.splitlines()]
    assert begun.index("hcsflow.execute.forkserver") < begun.index("typer")
