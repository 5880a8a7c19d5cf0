"""G1: a chain of five functions on one GPU, against all cores and against the device's own floor.

    python benchmarks/g1_gpu.py [--stand-in]

Work: 16 wells of 9 fields × 4 channels × 5 z × 2048² (hard links to few files, 24 GB to read),
`gpu_pipeline.py`: Gaussian, white top-hat by a disk of radius 15, Otsu, labels, projection.
Candidates, in turn: ``--cluster cuda`` on cupy with one GPU, ``--cluster local`` on numpy with a
process per core (16). Goals: at least 10 × as fast; device busy at least 70 % of the time.

Compared is the time from the first well's start to the last one's end (``log.jsonl``), since what
comes before is Python, Dask and CUDA starting up, whatever there is to do; whole processes stand
beside it. Busy is what NVML says, sampled from the first well to the last. The floor is what the
chain must read and write on the device (each function's planes once in and once out) over the
bandwidth of a large copy there, and what must go up and come down over that of pinned memory.

Without a CUDA device nothing is run and the goals stay open. ``--stand-in`` runs the same script
with numpy on threads in place of the GPU: no result of a GPU, and marked so.

Prediction: 0.2 s a plane and core, so 36 s on 16 cores; on an H200 about 2 ms a plane, of which
the top-hat by a disk is the half (about a hundred extremes of shifted stacks), so 6 s, and the
upload of 24 GB another 3 s that nothing hides, since it waits for its group: 4 ×, busy 60 %. Both
goals would then need uploads ahead of their group. Outcome: not run so far.
What was changed: a disk's minimum is made of minima of shifted stacks instead of one read per
pixel of the footprint; results come down beside the next group.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from g2_conversions import device_name, open_goals
from linked_plate import write_linked_plate
from measure import HERE, Sample, goal, interleave, run, samples, save, spread
from peer_plates import CLI, arrays_of, emptied, size_of

from hcsflow.testing.plates import PlateSpec

FIELDS, CHANNELS, HEIGHTS = 9, 4, 5
GOALS = (
    ("G1", "at least 10 × as fast as all cores"),
    ("G1", "device busy at least 70 %"),
)
BYTES_PER_PIXEL = (2 + 2) + (2 + 2) + (2 + 1) + (1 + 4) + 4
"""Read and written by each function of the chain, the projection's result left out."""


def main() -> None:
    """Run both in turn and write results/g1_gpu.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wells", type=int, default=16)
    parser.add_argument("--size", type=int, default=2048, help="Side of a plane.")
    parser.add_argument("--fields", type=int, default=FIELDS)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="Of the CPUs' run.")
    parser.add_argument("--stand-in", action="store_true", help="On CPUs: no result of a GPU.")
    arguments = parser.parse_args()
    device = device_name()
    if device is None and not arguments.stand_in:
        save("g1_gpu", {"ran_on": None, "goals": open_goals(GOALS)})
        return
    with tempfile.TemporaryDirectory() as name:
        results = measured(Path(name), arguments)
    results["ran_on"] = "CPU stand-in: not a GPU result" if arguments.stand_in else device
    save("g1_gpu", results)


def measured(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the plate, run the candidates in turn, compare."""
    spec = plate_of(arguments)
    distinct = write_linked_plate(folder / "PLATE", spec, distinct=40)
    size_of(folder / "PLATE_planes", read=True)  # a warm page cache
    device = Candidate(folder, "threads" if arguments.stand_in else "cuda", arguments)
    cores = Candidate(folder, "local", arguments)
    taken = interleave({"device": device, "cores": cores}, arguments.repeats)
    faster = [a / b for a, b in zip(cores.wells_s, device.wells_s, strict=True)]
    busy = [share for share in device.busy if share is not None]
    goals = open_goals(GOALS)
    if not arguments.stand_in:
        goals[0] = goal(*GOALS[0], statistics.median(faster), at_least=10)
        if busy:
            goals[1] = goal(*GOALS[1], statistics.median(busy), at_least=0.7)
    floor = floor_of(spec, bandwidths(stand_in=arguments.stand_in))
    return {
        "plate": {"wells": len(spec.wells), "planes": planes_of(spec), "distinct": distinct},
        "workers_on_cores": arguments.workers,
        **samples(taken),
        "wells_s": {"device": spread(device.wells_s), "cores": spread(cores.wells_s)},
        "cores_over_device": spread(faster),
        "busy": spread(busy) if busy else None,
        "floor": floor,
        "device_over_floor": statistics.median(device.wells_s) / floor["seconds"],
        "pixels_that_differ": differing(device.output, cores.output),
        "goals": goals,
    }


def plate_of(arguments: argparse.Namespace) -> PlateSpec:
    """Return what the plate holds."""
    wells = tuple(f"{'ABCDEFGH'[n // 12]}{n % 12 + 1:02d}" for n in range(arguments.wells))
    return PlateSpec(
        wells=wells, fields=arguments.fields, channels=CHANNELS, z=HEIGHTS, size=arguments.size,
        nuclei=max(5, round(150 * (arguments.size / 1024) ** 2)),
    )  # fmt: skip


def planes_of(spec: PlateSpec) -> int:
    return len(spec.wells) * spec.fields * sum(spec.planes)


class Candidate:
    """One way to run the chain; called, it runs once and remembers what it saw."""

    def __init__(self, folder: Path, cluster: str, arguments: argparse.Namespace) -> None:
        self.output = folder / cluster
        self.wells_s: list[float] = []
        self.busy: list[float | None] = []
        self._plate = folder / "PLATE"
        self._cluster = cluster
        workers = "1" if cluster != "local" else str(arguments.workers)
        self._options = ["--cluster", cluster, "--workers", workers, "--no-report"]
        kind = "cupy" if cluster == "cuda" else "numpy"
        cache = str(folder / "cache")
        self._environment = os.environ | {"G1_MEMORY_TYPE": kind, "XDG_CACHE_HOME": cache}

    def __call__(self) -> Sample:
        """Run from an empty output folder."""
        output = emptied(self.output)
        command = [*CLI, "run", HERE / "gpu_pipeline.py", self._plate, "-o", output, *self._options]
        with Busy(is_on=self._cluster == "cuda") as busy:
            sample = run(command, env=self._environment)
        began, ended = wells_began_and_ended(output)
        self.wells_s.append(ended - began)
        self.busy.append(busy.between(began, ended))
        return sample


def wells_began_and_ended(output: Path) -> tuple[float, float]:
    """Return when the first well began and the last one was done, as seconds since 1970."""
    began, ended = [], []
    for line in (output / ".hcsflow" / "log.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "well_done":
            ended.append(datetime.fromisoformat(event["time"]).timestamp())
            began.append(ended[-1] - event["seconds"])
    return min(began), max(ended)


class Busy:
    """Samples how busy the first GPU is, while its block runs."""

    PAUSE_S = 0.1

    def __init__(self, *, is_on: bool) -> None:
        self._samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample) if is_on else None

    def __enter__(self) -> Busy:
        """Begin to sample."""
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """End it."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self) -> None:
        import pynvml

        from hcsflow.execute.probe import probe_machine

        pynvml.nvmlInit()
        try:
            uuid = probe_machine(gpus=True).gpus[0].uuid
            device = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            while not self._done.wait(self.PAUSE_S):
                share = pynvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
                self._samples.append((time.time(), share))
        finally:
            pynvml.nvmlShutdown()

    def between(self, began: float, ended: float) -> float | None:
        """Return the mean share of the time in which kernels ran; None without samples."""
        found = [share for at, share in self._samples if began <= at <= ended]
        return statistics.fmean(found) if found else None


def bandwidths(*, stand_in: bool) -> dict[str, float]:
    """Measure bytes per second of a large copy on the device, up to it and down from it.

    A copy on the device counts twice: read and written.
    """
    if stand_in:
        source = np.ones(1 << 26, np.uint8)
        rate = source.nbytes / best_of(source.copy)
        return {"on_device": 2 * rate, "up": rate, "down": rate}
    import cupy
    import cupyx

    nbytes = 1 << 32
    on_device, target = cupy.ones(nbytes, np.uint8), cupy.empty(nbytes, np.uint8)
    host = cupyx.empty_pinned(nbytes >> 2, np.uint8)
    host[...] = 1
    part = on_device[: host.nbytes]
    wait = cupy.cuda.Device().synchronize

    def timed(work: Callable[[], object]) -> float:
        def waited() -> None:
            work()
            wait()

        return best_of(waited)

    return {
        "on_device": 2 * nbytes / timed(lambda: cupy.copyto(target, on_device)),
        "up": host.nbytes / timed(lambda: part.set(host)),
        "down": host.nbytes / timed(lambda: part.get(out=host)),
    }


def best_of(work: Callable[[], object], times: int = 5) -> float:
    """Return the seconds of the fastest of some calls; a first one is not counted."""
    work()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def floor_of(spec: PlateSpec, rates: dict[str, float]) -> dict[str, Any]:
    """Return the seconds that no code could go below: bytes over bandwidth, all overlapped."""
    pixels = planes_of(spec) * spec.size**2
    nbytes = {
        "on_device": pixels * BYTES_PER_PIXEL + pixels // HEIGHTS * 4,
        "up": pixels * 2,
        "down": pixels // HEIGHTS * 4,
    }
    seconds = {name: nbytes[name] / rates[name] for name in rates}
    return {"bytes_per_s": rates, "bytes": nbytes, "parts_s": seconds,
            "seconds": max(seconds.values())}  # fmt: skip


def differing(ours: Path, theirs: Path) -> float:
    """Return the largest share of pixels of a stored image that are object in one output alone.

    Not 0: a Gaussian is rounded to whole grey levels, and ties fall either way.
    """
    mine, others = (arrays_of(root / "images.zarr") for root in (ours, theirs))
    images = [path for path in mine if path.endswith("/0")]
    if mine.keys() != others.keys():
        raise SystemExit("the two outputs hold different arrays")
    return max(float(np.mean((mine[path][...] > 0) != (others[path][...] > 0))) for path in images)


if __name__ == "__main__":
    main()
