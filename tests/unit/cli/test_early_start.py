"""When the command line starts worker processes before it has read itself."""

import gc
import subprocess
import sys

import pytest

from hcsflow.cli.early import starts_local_workers
from hcsflow.testing.plates import write_imagexpress_plate

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
    started = "multiprocessing.connection"  # loaded when the forkserver is started
    assert begun.index(started) < begun.index("typer")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell with ulimit")
def test_what_hinders_the_start_is_one_line(tmp_path):
    program = "import sys; from hcsflow.cli.main import main; sys.exit(main())"
    words = f"run convert {tmp_path / 'none'} -o {tmp_path / 'out'}"
    result = subprocess.run(
        ["bash", "-c", f"ulimit -n 6; exec {sys.executable} -c '{program}' {words}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: [Errno 24]")
    assert "Traceback" not in result.stderr


def test_step_functions_run_under_the_usual_collector(tmp_path):
    """Reference cycles around planes would pile up else."""
    write_imagexpress_plate(tmp_path / "plate", wells=("B02",), fields=1, z=1, size=32, nuclei=1)
    (tmp_path / "look.py").write_text(
        "import gc\nimport hcsflow as hf\nfrom hcsflow.arrays import numpy\n"
        "@numpy\ndef look(stack):\n"
        f"    open({str(tmp_path / 'found')!r}, 'w').write(str(gc.get_threshold()))\n"
        "    return stack\n"
        "pipeline = hf.Pipeline([hf.FunctionStep(look)])\n"
    )
    program = "import sys; from hcsflow.cli.main import main; sys.exit(main())"
    words = ["run", tmp_path / "look.py", tmp_path / "plate", "-o", tmp_path / "out"]
    options = ["--cluster", "serial", "--no-report"]
    subprocess.run([sys.executable, "-c", program, *words, *options], check=True, timeout=120)
    assert (tmp_path / "found").read_text() == str(gc.get_threshold())
