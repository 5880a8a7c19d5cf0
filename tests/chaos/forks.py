"""Asking a `zygote.py` for runs; several of them at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

HERE = Path(__file__).parent
Item = TypeVar("Item")
Result = TypeVar("Result")


class Zygote:
    """Runs in forks of one prepared process; see ``zygote.py``."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "OUT"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        places = {"TMPDIR": str(self.temporary), "XDG_CACHE_HOME": str(folder / "cache")}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | limits | places,
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        ``CHAOS_PRELUDE`` is Python text that each run's process begins with: break something there
        and see that the suite finds it.
        """
        if "CHAOS_PRELUDE" in os.environ:
            request = {"prelude": os.environ["CHAOS_PRELUDE"]} | request
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"do": do, **request}, default=str) + "\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def close(self) -> None:
        """End the process; nothing may be left in its temporary folder."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0
        assert not list(self.temporary.iterdir())


class Crew:
    """Zygotes that work at the same time, each with an output folder of its own."""

    def __init__(self, folder: Path, size: int) -> None:
        self.zygotes = [Zygote(folder / f"zygote{number}") for number in range(size)]

    def each(self, work: Callable[[Zygote, Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return what ``work`` gives for each item and the next zygote that is free."""
        free: SimpleQueue[Zygote] = SimpleQueue()
        for zygote in self.zygotes:
            free.put(zygote)

        def one(item: Item) -> Result:
            zygote = free.get()
            try:
                return work(zygote, item)
            finally:
                free.put(zygote)

        with ThreadPoolExecutor(len(self.zygotes)) as pool:
            return list(pool.map(one, items))

    def close(self) -> None:
        """End all of them."""
        for zygote in self.zygotes:
            zygote.close()
