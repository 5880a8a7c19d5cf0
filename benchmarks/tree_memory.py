"""The peak memory of a command and of everything that it starts, sampled from outside.

Processes are known by a mark in their environment, which is passed on to children, to what a
forkserver forks, and to what outlives its parent. Linux only.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections import Counter
from pathlib import Path

MARK = "BENCHMARK_RUN_MARK"
PERIOD_S = 0.1
PROC = Path("/proc")
ASKED = 5
"""How often a process is asked for the mark: between fork and exec it does not have it yet."""


class TreeMemory:
    """Samples, while it is entered, the memory of all processes that bear the mark.

    Counted is each process's proportional share (PSS: pages that several map are split among
    them); where the system does not tell it, its resident set (RSS), and ``kind`` says so.
    """

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.peak_bytes = 0
        self.kind = "PSS"
        self.processes = 0
        self._found: set[str] = set()
        self._asked: Counter[str] = Counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """What the command's environment must hold."""
        return {MARK: self.mark}

    def __enter__(self) -> TreeMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(PERIOD_S):
            sizes = [self._size(entry) for entry in self._ours()]
            self.peak_bytes = max(self.peak_bytes, sum(sizes))
            self.processes = max(self.processes, len(sizes))

    def _ours(self) -> list[str]:
        wanted = f"{MARK}={self.mark}".encode()
        entries = [entry.name for entry in PROC.iterdir() if entry.name.isdigit()]
        for name in entries:
            if name not in self._found and self._asked[name] < ASKED:
                self._asked[name] += 1
                if wanted in _read(name, "environ"):
                    self._found.add(name)
        self._found.intersection_update(entries)
        return list(self._found)

    def _size(self, name: str) -> int:
        for line in _read(name, "smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
        resident = _read(name, "statm").split()
        if resident and _read(name, "environ"):
            self.kind = "RSS"
        return int(resident[1]) * os.sysconf("SC_PAGE_SIZE") if resident else 0


def _read(process: str, name: str) -> bytes:
    try:
        return (PROC / process / name).read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""
