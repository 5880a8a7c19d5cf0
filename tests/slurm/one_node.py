"""A whole Slurm of one node, on loopback, in a folder of its own; needs root, slurm-wlm and munge.

    python tests/slurm/one_node.py FOLDER

prints ``SLURM_CONF=…`` once the node takes jobs, and ends all jobs and daemons when its standard
input is closed (Ctrl-D) or it is interrupted. Every port and socket is its own: it does not meet
another Slurm on the machine. It needs neither systemd nor cgroups.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

CPUS, MEMORY_MB, GPUS = 4, 64_000, 2
"""Offered to jobs, whatever the machine has: most of what the tests do is waiting."""

WITHIN_S = 60.0

SLURM_CONF = """\
ClusterName=hcsflow
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
KillWait=5
MinJobAge=3600
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
# CPUs and memory are taken as promised, not compared with the machine's.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

GRES_CONF = """\
AutoDetect=off
Name=gpu File={folder}/gpu[0-{last}]
"""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _write_settings(folder: Path) -> None:
    """Write Slurm's settings, a key for munge, and the files that pass for GPUs."""
    for name in ("spool", "state"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(64))
    for number in range(GPUS):  # a GPU has to be a device
        (folder / f"gpu{number}").symlink_to(os.devnull)
    values = {
        "host": socket.gethostname().partition(".")[0],
        "folder": folder,
        "controller_port": _free_port(),
        "node_port": _free_port(),
        "cpus": CPUS,
        "memory": MEMORY_MB,
        "gpus": GPUS,
        "last": GPUS - 1,
    }
    (folder / "slurm.conf").write_text(SLURM_CONF.format(**values))
    (folder / "gres.conf").write_text(GRES_CONF.format(**values))


class OneNode:
    """Munge, Slurm's controller and the node's daemon, as children of this process.

    Parameters
    ----------
    folder : Path
        Empty, with a short name: a socket's path has at most 107 characters.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start all three and wait until the node takes jobs."""
        self.folder.chmod(0o755)  # munged serves everybody, or refuses to start
        _write_settings(self.folder)
        place = self.folder
        self._daemon(
            *("munged", "--foreground", "--force", f"--socket={place}/munge.socket"),
            *(f"--key-file={place}/munge.key", f"--seed-file={place}/munge.seed"),
            *(f"--pid-file={place}/munged.pid", f"--log-file={place}/munged.log"),
        )
        self._wait_until((place / "munge.socket").exists, "munged")
        self._daemon("slurmctld", "-D", "-c")
        self._daemon("slurmd", "-D", "-N", socket.gethostname().partition(".")[0])
        self._wait_until(lambda: self._ask("sinfo", "-h", "-o", "%T") == "idle", "the node")

    def stop(self) -> None:
        """End all jobs, then the daemons, in the order in which they need each other."""
        if len(self._daemons) > 1:
            self._ask("scancel", "--user=root")
            with contextlib.suppress(RuntimeError):
                self._wait_until(lambda: not self._ask("squeue", "-h"), "the queue's end")
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _daemon(self, name: str, *words: str) -> None:
        command = [f"/usr/sbin/{name}", *words]
        with (self.folder / f"{name}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,  # a Ctrl-C in the terminal is not theirs
                )
            )

    def _ask(self, *words: str) -> str:
        told = subprocess.run(
            words, capture_output=True, text=True, timeout=30, check=False, env=self._environment
        )
        return told.stdout.strip()

    def _wait_until(self, condition, what: str) -> None:
        end = time.monotonic() + WITHIN_S
        while not condition():
            if time.monotonic() > end or any(d.poll() is not None for d in self._daemons):
                raise RuntimeError(f"{what} is not there:\n{self._logs()}")
            time.sleep(0.1)

    def _logs(self) -> str:
        files = sorted([*self.folder.glob("*.out"), *self.folder.glob("*.log")])
        return "\n".join(f"{f.name}: {f.read_text(errors='replace')[-1500:]}" for f in files)


def main(folder: Path) -> None:
    """Run until standard input ends."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.getsignal(signal.SIGINT))
    node = OneNode(folder)
    try:
        node.start()
        print(f"SLURM_CONF={folder}/slurm.conf", flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        pass
    finally:
        node.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
