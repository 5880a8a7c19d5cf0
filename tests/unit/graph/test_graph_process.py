"""What a worker's allocator keeps, and gives back."""

from __future__ import annotations

import subprocess
import sys

import pytest

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs glibc's allocator")

GAPS = """
import psutil
from hcsflow.graph.process import trim_allocator, tune_allocator
from hcsflow.graph.worker import MemoryReturn
tune_allocator()
blocks = [bytearray(1 << 20) for _ in range(200)]
kept = blocks[1::2]  # every other one: none of the gaps lies at the end
del blocks
size = lambda: psutil.Process().memory_info().rss >> 20
full = size()
memory = MemoryReturn(80 << 20)
memory.after(4 * 80 << 20)
same = size()
memory.after((4 * 80 << 20) + 1)
print(full - same, full - size(), len(kept) * all(len(block) == 1 << 20 for block in kept))
"""


def python(*command: str) -> list[str]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return done.stdout.split()


@LINUX
def test_gaps_between_blocks_go_back_to_the_system_when_a_task_has_read_enough():
    before, after, kept = map(int, python("-c", GAPS))
    assert before <= 1
    assert after > 90
    assert kept == 100
