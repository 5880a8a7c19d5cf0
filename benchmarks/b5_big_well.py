"""B5 and B6: a well of 7.5 GB in bounded memory, and one plane read from it.

    python benchmarks/b5_big_well.py

Work of B5: ``hcsflow run`` on one worker process smooths each of the 9 fields × 5 channels × 20 z
planes of 2048² (uint16, 7.5 GB) of one well and stores all with their pyramid, in one shard a
level. The raw plate is hard links to some tens of distinct TIFF files, so that it takes little
room. Measured is the worker's peak resident size (VmHWM of ``/proc/PID/status``, looked at every
10 ms, since hcsflow itself sets the mark back between steps), the interpreter and all libraries
included; beside it stand what the run recorded for its report (the peak above an idle worker) and
what the plan projected. The same with a quarter and half of the z planes says whether it grows.
Goals: at most 600 MB; at most 5 % more than with a quarter of the planes.

Work of B6: one plane of that well is read by zarr-python and by the reader of hcsflow's own tasks,
each time in a fresh process and another plane. Goal: at most 15 ms for the first read of an array
that was opened, imports not counted, the file in the page cache. Beside it stand opening, the read
of a second plane, CPU time, and the same with the file's pages dropped from the cache
(``posix_fadvise``), where the disk counts.

Prediction: some planes at a time are held, 8.4 MB each and twice that while smoothing, so that the
peak is the libraries (150 MB) and about ten planes, whatever the well's size; a shard's index and
the journal grow by 16 bytes a plane and by nothing. A plane is 5 MB to read at memory speed and 3
to 6 ms to decode.

Outcome: at first 497, 786 and 1,378 MB with 225, 450 and 900 planes, since a task went field by
field and held all channels and z of a field. Now a task goes over every component that none of its
steps stacks (`hcsflow.compiler.segments`), here plane by plane: 299, 312 and 321 MB. What still
grew was no object, and no page of a library: gaps between blocks of many sizes (encoded planes
are never twice the same), which glibc's allocator kept, 110 MB of 216 in the end. Once a task has
read four times what it may hold they go back to the system (`hcsflow.graph.worker.MemoryReturn`,
at eight times in no time that could be measured): 280 to 300, 300 to 320 and 277 to 320 MB in four
runs, a growth of 0.97 to 1.12, so flat within what runs differ by but not always within 1.05.
Reading costs 10 ms by hcsflow and 18 ms by zarr-python, which holds a plane three times (the chunk
decoded, its shard's part, the result): 10 of its 17 ms of CPU time it takes with no codec at all,
15 with no shards. Neither smaller inner chunks (18 to 21 ms), nor larger or smaller blocks of
blosc, nor where the shard's index lies bring it below 15. Figures: results/b5_big_well.json and
results/table.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from operator import add
from pathlib import Path
from typing import Any, Self

import psutil
from measure import goal, run, save, spread

CLI = [sys.executable, "-c", "import sys; from hcsflow.cli.main import main; sys.exit(main())"]
PIPELINE = """
name: smooth
steps:
  - {name: smooth, function: gaussian_filter, parameters: {sigma: 1.5}, variable_components: []}
"""
PEAK_GOAL_MB, GROWTH_GOAL, READ_GOAL_MS = 600, 1.05, 15
LOOK_S, COUNT_S = 0.01, 0.25
WELL = "B03"
READERS = ("zarr-python", "hcsflow")

Opened = tuple[Callable[[tuple[int, ...]], Any], tuple[int, ...]]
"""What reads the chunk that begins somewhere, and the chunks' shape."""


def main() -> None:
    """Measure and write results/b5_big_well.json; or read one plane, in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="Runs of each size.")
    parser.add_argument("--reads", type=int, default=15, help="Planes read by each reader.")
    parser.add_argument("--fields", type=int, default=9)
    parser.add_argument("--channels", type=int, default=5)
    parser.add_argument("--z", type=int, default=20, help="A multiple of 4.")
    parser.add_argument("--size", type=int, default=2048, help="Side of a plane in pixels.")
    parser.add_argument("--distinct", type=int, default=30, help="TIFF files behind the plate.")
    parser.add_argument("--read", nargs=4, metavar=("READER", "ARRAY", "PLANE", "NEXT"))
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read_planes(*arguments.read)))
        return
    with tempfile.TemporaryDirectory() as name:
        runs = big_wells(Path(name), arguments)
        reads = plane_reads(array_of(Path(name) / "out"), arguments.reads)
    found = {"memory": summed_up(runs), "reads": reads}
    save("b5_big_well", {"goals": [*memory_goals(found["memory"]), *read_goals(reads)], **found})


def big_wells(folder: Path, arguments: argparse.Namespace) -> dict[int, list[dict[str, Any]]]:
    """Run all sizes in turn; return what each run measured, by planes of the well."""
    from linked_plate import write_linked_plate

    from hcsflow.testing.plates import PlateSpec

    (folder / "smooth.yaml").write_text(PIPELINE)
    heights = [arguments.z // 4, arguments.z // 2, arguments.z]
    for z in heights:
        spec = PlateSpec(
            wells=(WELL,), fields=arguments.fields, channels=arguments.channels, z=z,
            size=arguments.size, nuclei=300,
        )  # fmt: skip
        write_linked_plate(folder / f"PLATE{z}", spec, distinct=arguments.distinct)
    runs: dict[int, list[dict[str, Any]]] = {}
    for number in range(arguments.repeats):
        for z in heights:  # the largest comes last: its output is read from afterwards
            planes = arguments.fields * arguments.channels * z
            measured = run_well(folder, folder / f"PLATE{z}", folder / "out")
            runs.setdefault(planes, []).append(measured)
            peak = measured["worker_peak_bytes"] / 1e6
            print(f"  {number + 1}/{arguments.repeats} {planes} planes: {peak:.0f} MB")
    return runs


def run_well(folder: Path, plate: Path, output: Path) -> dict[str, Any]:
    """Run the pipeline on one worker; return what was seen of it and what it recorded."""
    shutil.rmtree(output, ignore_errors=True)
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    options = ["-o", output, "--workers", "1", "--no-report"]
    with PeakWatch() as watch:
        took = run([*CLI, "run", folder / "smooth.yaml", plate, *options], env=environment)
    estimates = json.loads((output / ".hcsflow" / "estimates.json").read_text())
    (unit,) = estimates["units"]
    return {
        "wall_s": took.wall_s,
        "cpu_s": took.cpu_s,
        "worker_peak_bytes": watch.worker_bytes,
        "client_peak_bytes": watch.client_bytes,
        "recorded_peak_above_idle_bytes": unit["peak_bytes"],
        "projected_peak_above_idle_bytes": unit["projected_bytes"],
        "read_bytes": unit["bytes_read"],
        "stored_bytes": unit["bytes_written"],
    }


class PeakWatch:
    """Watch the peak resident size of all descendants of this process; a context manager.

    ``client_bytes`` is the largest of its children, ``worker_bytes`` of their descendants.
    """

    def __init__(self) -> None:
        self._peaks: dict[int, int] = {}
        self._children: set[int] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def client_bytes(self) -> int:
        """Peak of the process that was started."""
        return max((b for pid, b in self._peaks.items() if pid in self._children), default=0)

    @property
    def worker_bytes(self) -> int:
        """Peak of the largest process that it started, however indirectly."""
        return max((b for pid, b in self._peaks.items() if pid not in self._children), default=0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        counted = 0.0
        while not self._is_over.wait(LOOK_S):
            if time.monotonic() - counted > COUNT_S:
                counted = time.monotonic()
                self._find()
            for pid in self._peaks:
                self._peaks[pid] = max(self._peaks[pid], high_water(pid))

    def _find(self) -> None:
        me = psutil.Process()
        self._children |= {child.pid for child in me.children()}
        with suppress(psutil.Error):
            for process in me.children(recursive=True):
                self._peaks.setdefault(process.pid, 0)


def high_water(pid: int) -> int:
    """Return a process's peak resident size in bytes, 0 once it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(text.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024 if "VmHWM" in text else 0


def summed_up(runs: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the spread of all that was measured, by planes, and how the peak grows."""
    by_planes = {
        planes: {name: spread([one[name] for one in taken]) for name in taken[0]}
        for planes, taken in runs.items()
    }
    peaks = {n: figures["worker_peak_bytes"]["median"] for n, figures in by_planes.items()}
    fewest, most = min(peaks), max(peaks)
    return {
        "by_planes": by_planes,
        "peak_over_a_quarter": peaks[most] / peaks[fewest],
        "bytes_per_plane": (peaks[most] - peaks[fewest]) / (most - fewest),
    }


def memory_goals(memory: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the goals of B5 with what was found."""
    largest = memory["by_planes"][max(memory["by_planes"])]["worker_peak_bytes"]
    text = f"≤ {PEAK_GOAL_MB} MB at the worker's peak"
    entry = goal("B5", text, largest["median"] / 1e6, at_most=PEAK_GOAL_MB)
    yield entry | {"low": largest["min"] / 1e6, "high": largest["max"] / 1e6}
    text = f"≤ {GROWTH_GOAL} × the peak with a quarter of the planes"
    yield goal("B5", text, memory["peak_over_a_quarter"], at_most=GROWTH_GOAL)


def read_goals(reads: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the goals of B6 with what was found; unequal pixels meet none."""
    for reader in READERS:
        taken = reads[reader]["in page cache"]["read_ms"]
        text = f"≤ {READ_GOAL_MS} ms for a plane by {reader}"
        entry = goal("B6", text, taken["median"], at_most=READ_GOAL_MS)
        entry["met"] &= reads["same_pixels"]
        yield entry | {"low": taken["min"], "high": taken["max"]}


def array_of(output: Path) -> Path:
    """Return the well's array at full resolution."""
    return output / "images.zarr" / WELL[0] / WELL[1:] / "0" / "0"


def plane_reads(array: Path, reads: int) -> dict[str, Any]:
    """Read planes by both readers in turn, warm and dropped from the page cache."""
    document = json.loads((array / "zarr.json").read_text())
    chunk = document["codecs"][0]["configuration"]["chunk_shape"]
    counts = [size // one for size, one in zip(document["shape"], chunk, strict=True)]
    choose = random.Random(0)
    taken: dict[str, dict[str, list[dict[str, Any]]]] = {
        reader: {"in page cache": [], "dropped": []} for reader in READERS
    }
    is_same = True
    for _ in range(reads):
        planes = [",".join(str(choose.randrange(n)) for n in counts) for _ in range(2)]
        seen = []
        for cache in ("dropped", "in page cache"):  # what was dropped is then there again
            for reader in READERS:
                if cache == "dropped":
                    drop(array)
                found = fresh_read(reader, array, planes)
                seen.append(found.pop("checksums"))
                taken[reader][cache].append(found)
        is_same &= all(checksums == seen[0] for checksums in seen)
    return {
        "same_pixels": is_same,
        "plane_shape": chunk,
        **{
            reader: {cache: spreads(samples) for cache, samples in by_cache.items()}
            for reader, by_cache in taken.items()
        },
    }


def spreads(samples: list[dict[str, float]]) -> dict[str, Any]:
    return {name: spread([sample[name] for sample in samples]) for name in samples[0]}


def drop(array: Path) -> None:
    """Drop an array's files from the page cache, as far as the system heeds it."""
    for path in array.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)  # what is not on disk yet cannot be dropped
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def fresh_read(reader: str, array: Path, planes: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--read", reader, str(array), *planes]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def read_planes(reader: str, array: str, *planes: str) -> dict[str, Any]:
    """Open an array and read one chunk after another; milliseconds, imports not counted."""
    import google_crc32c
    import numpy as np

    opener = OPENERS[reader]()
    (read, shape), *spent = clocked(lambda: opener(array))
    found = dict(zip(("open_ms", "open_cpu_ms"), spent, strict=True))
    checksums = []
    for name, plane in zip(("read", "next_read"), planes, strict=True):
        at = tuple(int(i) * size for i, size in zip(plane.split(","), shape, strict=True))
        pixels, found[f"{name}_ms"], found[f"{name}_cpu_ms"] = clocked(partial(read, at))
        checksums.append(google_crc32c.value(np.ascontiguousarray(pixels).tobytes()))
    return {**found, "checksums": checksums}


def clocked(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what a call returns, and milliseconds of wall and CPU time."""
    start, processor = time.perf_counter(), time.process_time()
    result = call()
    wall, cpu = time.perf_counter() - start, time.process_time() - processor
    return result, 1e3 * wall, 1e3 * cpu


def by_zarr_python() -> Callable[[str], Opened]:
    """Import zarr-python; return what opens an array with it."""
    import zarr

    def opener(array: str) -> Opened:
        found = zarr.open_array(array, mode="r")
        shape = found.chunks
        return lambda at: found[tuple(map(slice, at, map(add, at, shape)))], shape

    return opener


def by_hcsflow() -> Callable[[str], Opened]:
    """Import hcsflow's reader; return what opens an array with it."""
    from hcsflow.storage.zarr_chunks import open_chunks
    from hcsflow.storage.zarr_nodes import node_of

    def opener(array: str) -> Opened:
        chunks = open_chunks(node_of(Path(array)))
        return lambda at: chunks.read(at, chunks.chunks), chunks.chunks

    return opener


OPENERS = {"zarr-python": by_zarr_python, "hcsflow": by_hcsflow}


if __name__ == "__main__":
    main()
