"""A run leaves no temporary folder behind, nor does a killed one for long."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hcsflow.execute.tempfolder import run_folder


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_live_one_stays(tmp_path):
    code = (
        "import sys, time\n"
        "from hcsflow.execute.tempfolder import run_folder\n"
        "with run_folder(sys.argv[1]) as folder:\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    others = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        killed, alive = (other.stdout.readline().strip() for other in others)
        others[0].send_signal(signal.SIGKILL)
        others[0].wait()
        (tmp_path / "hcsflow-of-somebody-else").mkdir()
        with run_folder(str(tmp_path)) as mine:
            assert Path(mine).is_dir()
            assert Path(alive).is_dir()
            assert not Path(killed).exists()
            assert (tmp_path / "hcsflow-of-somebody-else").is_dir()
        assert not Path(mine).exists()
    finally:
        for other in others:
            other.kill()
            other.wait()
            other.stdout.close()


def test_a_folder_of_another_container_of_this_name_stays(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with run_folder(str(tmp_path)) as mine:
        whose = Path(mine).name.partition(f"-{os.getpid()}-")[0]
    own, foreign = (tmp_path / f"{name}-{ended.pid}-x" for name in (whose, f"{whose}.7"))
    own.mkdir()
    foreign.mkdir()
    with run_folder(str(tmp_path)):
        assert not own.exists()
        assert foreign.is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Unix sockets")
def test_a_long_temporary_folder_leaves_room_for_a_socket(tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    code = (
        "from hcsflow.execute.tempfolder import process_tempdir\n"
        "from multiprocessing.util import get_temp_dir\n"
        "import socket\n"
        "with process_tempdir():\n"
        "    folder = get_temp_dir()\n"
        "socket.socket(socket.AF_UNIX).bind(f'{folder}/listener-12345678')\n"
        "print(folder)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(long)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not Path(ran.stdout.strip()).exists()
    assert not any(long.iterdir())
