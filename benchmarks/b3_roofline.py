"""B3: how close a whole plate comes to what disk and mathematics need.

    python benchmarks/b3_roofline.py

The plate and the pipeline of B2. The floor: for every well, in one thread and nothing else running,
the seconds of

- reading each plane at memory-map speed, its place in the file known: one copy to memory,
- the functions alone, on planes that are in memory,
- encoding: each level from the one before, each chunk by the codec that hcsflow stores with,
- writing the encoded bytes to as many files as there are shards,

summed over the plate and divided by the cores used. hcsflow's time is that of the whole process,
start-up included, from an empty cache, in the same run. Goal: ≤ 1.15 × the floor.

Beside it: the same floor measured in as many processes at a time as there are cores
(``floor_together_s``), which says what sharing memory and caches costs any program on this machine;
and the phases of hcsflow's run, from its own log.

**Prediction.** The floor of 64 wells is 8 to 11 s on two cores, three quarters of it the functions.
hcsflow adds 1 to 1.5 s of start-up and a few tenths at the end, and 10 % of the work for metadata,
tables, checksums and the journal: 1.25 to 1.3, so the goal needs more wells, or less start-up.

**Outcome.** 1.26 to 1.44 (before: 1.42 to 1.56), missed. The wells alone take 1.17 × the floor;
start and end are the rest, 1.4 of 17 s. Of what a well costs over the floor, functions, encoding
and writing are nothing (they cost the same in a task); it is the writers' bookkeeping (10 ms),
documents and tables (6), label values and numbers (9), the engine (8), the grey values (2), and
the client's and the worker's event loops (about 20). Two processes at a time share memory: CPU a
well is a tenth more than in one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numcodecs
import numpy as np
import tifffile
import zarr
from measure import HERE, Sample, goal, interleave, made_folder, run, samples, save, spread
from peer_pipeline import count_cells, smooth
from peer_plates import CLI, arrays_of, emptied, size_of, write_plate

from hcsflow.functions.projection import max_projection
from hcsflow.graph.process import THREAD_VARIABLES, tune_allocator

sys.path.insert(0, str(HERE / "peers"))
from plain_script import Files, files_by_well

LIMIT = 1.15
PARTS = ("read", "functions", "encode", "write")
CPU = "cpu"


def main() -> None:
    """Time hcsflow and the floor in turn; write results/b3_roofline.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wells", type=int, default=64)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=made_folder, help="for plates and outputs")
    parser.add_argument("--measure", nargs=3, metavar=("PLATE", "OUTPUT", "PART/PARTS"))
    arguments = parser.parse_args()
    if arguments.measure:
        plate, output, part = arguments.measure
        print(json.dumps(floor(Path(plate), Path(output), part)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        results = compare(Path(name), arguments)
    entry = goal("B3", "≤ 1.15 × the floor", results["over_floor"]["median"], at_most=LIMIT)
    save("b3_roofline", {"goals": [entry], **results})


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return hcsflow's seconds, the floor's, and their ratio, round by round."""
    maker = write_plate(folder / "PLATE", arguments.wells, arguments.size)
    size_of(folder / "PLATE", read=True)
    cores = arguments.processes
    found: dict[str, list[Any]] = {"alone": [], "together": [], "phases": []}

    def ours() -> Sample:
        start = time.time()
        sample = hcsflow(folder, cores)
        found["phases"].append(phases(folder / "hcsflow", start, start + sample.wall_s))
        for name, count in (("alone", 1), ("together", cores)):
            parts = measured(folder, count)
            found[name].append({k: sum(p[k] for p in parts) for k in (*PARTS, CPU)})
        return sample

    taken = interleave({"hcsflow": ours}, arguments.repeats)
    floors = {
        n: [sum(f[p] for p in PARTS) / cores for f in found[n]] for n in ("alone", "together")
    }
    cpus = [(s.cpu_s, f[CPU]) for s, f in zip(taken["hcsflow"], found["alone"], strict=True)]
    walls = [sample.wall_s for sample in taken["hcsflow"]]
    return {
        "plate": maker,
        "plate_bytes": size_of(folder / "PLATE"),
        "processes": cores,
        **samples(taken),
        "floor_s": spread(floors["alone"]),
        "floor_together_s": spread(floors["together"]),
        "floor_parts_s": {p: spread([f[p] / cores for f in found["alone"]]) for p in PARTS},
        "phases_s": {p: spread([f[p] for f in found["phases"]]) for p in found["phases"][0]},
        "over_floor": spread([a / b for a, b in zip(walls, floors["alone"], strict=True)]),
        "cpu_over_floor": spread([ours / floor for ours, floor in cpus]),
        "over_floor_together": spread(
            [a / b for a, b in zip(walls, floors["together"], strict=True)]
        ),
    }


def hcsflow(folder: Path, processes: int) -> Sample:
    """Run the pipeline into an empty folder, with an empty cache, without a report, as B2 does."""
    output = emptied(folder / "hcsflow")
    environment = os.environ | {"XDG_CACHE_HOME": str(emptied(folder / "cache"))}
    command = [*CLI, "run", HERE / "peer_pipeline.py", folder / "PLATE", "-o", output]
    return run([*command, "--workers", str(processes), "--no-report"], env=environment)


def phases(output: Path, start: float, end: float) -> dict[str, float]:
    """Return seconds to the run's start, to its first well, of wells, and to the process's end."""
    lines = (output / ".hcsflow" / "log.jsonl").read_text().splitlines()
    times: dict[str, list[float]] = {}
    for event in map(json.loads, lines):
        moment = datetime.fromisoformat(event["time"]).timestamp()
        times.setdefault(event["kind"], []).append(moment)
    marks = [
        start, times["run_started"][0], times["well_started"][0], times["well_done"][-1], end,
    ]  # fmt: skip
    names = ("compile", "start_workers", "wells", "finish")
    return {n: b - a for n, a, b in zip(names, marks, marks[1:], strict=False)}


def measured(folder: Path, processes: int) -> list[dict[str, float]]:
    """Measure the floor in processes at a time, each its share of the wells."""
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
    command = [sys.executable, __file__, "--measure", folder / "PLATE", folder / "hcsflow"]
    started = [
        subprocess.Popen(
            [*map(str, command), f"{part}/{processes}"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in range(processes)
    ]
    answers = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("the floor could not be measured")
    return [json.loads(answer) for answer in answers]


def floor(plate: Path, output: Path, part: str) -> dict[str, float]:
    """Return the seconds of each part over this process's share of the wells."""
    from skimage.segmentation import watershed  # noqa: F401 - loaded here, not while it counts

    tune_allocator()
    cv2.setNumThreads(1)
    numcodecs.blosc.use_threads = False
    number, of = map(int, part.split("/"))
    clock = Clock()
    with tempfile.TemporaryDirectory(dir=output.parent) as name:
        for index, (well, files) in enumerate(sorted(files_by_well(plate).items())):
            if index % of == number:
                image = output / "images.zarr" / well[0] / well[1:] / "0"
                process(files, image, Path(name) / well, clock)
    walls = {part: clock.seconds[part] for part in PARTS}
    return walls | {CPU: sum(clock.cpu.values())}


class Clock:
    """Adds up seconds by name: of the wall, and of this thread's CPU."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.cpu: Counter[str] = Counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start, cpu = time.perf_counter(), time.thread_time()
        yield
        self.seconds[name] += time.perf_counter() - start
        self.cpu[name] += time.thread_time() - cpu


def process(files: Files, image: Path, scratch: Path, clock: Clock) -> None:
    """Do what a well needs, each part by itself."""
    scratch.mkdir()
    stored = {path: codec_of(array) for path, array in arrays_of(image).items()}
    chunks: dict[str, list[bytes]] = {path: [] for path in stored}
    for field in range(1 + max(field for field, _, _ in files)):
        stack = read(files, field, clock)
        with clock("functions"):
            projected = np.concatenate([max_projection(smooth(channel)) for channel in stack])
            _, first, second, _ = count_cells(projected, channel_names=["w1", "w2"])
        planes = {"": list(projected), "labels/w1/": [first], "labels/w2/": [second]}
        with clock("encode"):
            for prefix, of_image in planes.items():
                for plane in of_image:
                    encode(plane, prefix, stored, chunks)
    with clock("write"):
        for path, encoded in chunks.items():
            with (scratch / path.replace("/", "_")).open("wb") as shard:
                shard.writelines(encoded)


def read(files: Files, field: int, clock: Clock) -> np.ndarray:
    """Return all planes of a field, (channel, z, y, x), copied from memory maps."""
    channels, heights = (1 + max(key[axis] for key in files) for axis in (1, 2))
    first = tifffile.imread(files[field, 0, 0])
    stack = np.empty((channels, heights, *first.shape), first.dtype)
    for channel, z in np.ndindex(channels, heights):
        path = files[field, channel, z]
        with tifffile.TiffFile(path) as file:
            place = file.pages[0].dataoffsets[0]
        with clock("read"):
            stack[channel, z] = np.memmap(path, first.dtype, "r", place, first.shape)
    return stack


def codec_of(array: zarr.Array) -> Any:
    """Return the codec of a stored array as a function from pixels to bytes."""
    (codec,) = array.compressors
    set_to = codec.to_dict()["configuration"]
    if codec.to_dict()["name"] == "zstd":
        return numcodecs.Zstd(set_to["level"]).encode
    shuffle = ("noshuffle", "shuffle", "bitshuffle").index(set_to["shuffle"])
    blosc = numcodecs.Blosc(set_to["cname"], set_to["clevel"], shuffle, set_to["blocksize"])
    return blosc.encode


def encode(
    plane: np.ndarray, prefix: str, stored: dict[str, Any], chunks: dict[str, list[bytes]]
) -> None:
    """Encode a field's plane at each level there is, each halved from the one before."""
    level = 0
    while f"{prefix}{level}" in stored:
        if level:
            plane = halved(plane)
        path = f"{prefix}{level}"
        chunks[path].append(stored[path](plane))
        level += 1


def halved(plane: np.ndarray) -> np.ndarray:
    """Return the mean of 2 × 2 pixels, or every second label."""
    if plane.dtype == np.uint32:
        return np.ascontiguousarray(plane[::2, ::2])
    size = (plane.shape[1] // 2, plane.shape[0] // 2)
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
