"""B9: from one process to two, twice the wells in the same time?

    python benchmarks/b9_scaling.py

Weak scaling: the time of one worker process with 16 wells over that of two with 32, of
``hcsflow run`` with the pipeline of B1 (4 fields × 2 channels × 3 z × 1024² a well), no report,
start-up included, files in the page cache. Beside it the same from the first well's start to the
last well's end, without start-up and end; and what the machine itself gives: a loop of what a
worker does (read, smooth, encode, write) without any of hcsflow's engine, alone and twice at once.
Two cores that share a cache, memory's bandwidth or a physical core scale by less than 1; and the
client, which has a core to itself beside one worker, has none beside two.

Goal: ≥ 0.92.

That one process has the whole machine: on the core that is idle beside it, client, reading and
encoding go on. So the same is measured once more with resources that grow with the work ("one core
each"): one process held to one core (`os.sched_setaffinity`) with 16 wells, all that belongs to
the run included, over two on two cores with 32. hcsflow starts no encoders and no second reader
for cores that it is not given. The first figure says what a second process gains on an otherwise
idle machine; the second what a second core gains, which is what a larger machine has more of.
Since start-up gains from a second core too, the second figure's goal is held against the time from
the first well's start to the last well's end; that with start-up stands beside it.

**Prediction.** The engine costs 10 ms a well of the client's CPU, which two workers' 0.3 s a well
leave little room for: 0.96 of what the machine gives. Start-up is the same for both and lifts the
figure: 0.95 in all.

**Outcome.** 0.69 to 0.91: missed, where the machine gives 0.93 to 1.1. The one process encodes
and reads on the core that is idle beside it, so that it is faster than half of two. Held to one
core, 0.90 to 0.98 without start-up (median 0.91 in the last run, missed by a hundredth) and 0.96 to
1.10 with it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from measure import HERE, Sample, goal, interleave, made_folder, run, samples, save, spread
from peer_plates import CLI, emptied, size_of, write_plate

LIMIT = 0.92
ONE, TWO = "1 process", "2 processes"
HELD_ONE, HELD_TWO = "1 process on 1 core", "2 processes on 2 cores"

Seconds = dict[str, list[float]]
"""By candidate, round by round."""


def main() -> None:
    """Make both plates, run all in turn, write results/b9_scaling.json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wells", type=int, default=32, help="of the larger plate")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--pipeline", default=str(HERE / "peer_pipeline.py"))
    parser.add_argument("--rounds", type=int, default=40, help="of 24 planes in the plain loop")
    parser.add_argument("--folder", type=made_folder, help="for plates and outputs")
    parser.add_argument("--loop", type=Path, metavar="PLATE", help="run the plain loop here")
    arguments = parser.parse_args()
    if arguments.loop:
        plain_loop(arguments.loop, arguments.rounds)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        results = measure(Path(name), arguments)
    save("b9_scaling", {"goals": list(goals(results)), **results})


def goals(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the goal with what was found, then the same with one core for each process."""
    text = f"1 → 2 processes, twice the wells: time ratio ≥ {LIMIT}"
    rows = {
        "B9": (text, "weak_scaling"),
        "B9, one core each": (
            f"{text}, without start-up",
            "weak_scaling_one_core_each_without_start_up",
        ),
    }
    for name, (said, figure) in rows.items():
        found = results[figure]
        entry = goal(name, said, found["median"], at_least=LIMIT)
        yield entry | {"low": found["min"], "high": found["max"]}


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one process on half of the wells, two on all, and the plain loop in as many."""
    half, whole = folder / "HALF", folder / "WHOLE"
    maker = write_plate(half, arguments.wells // 2, arguments.size)
    write_plate(whole, arguments.wells, arguments.size)
    plates = {ONE: half, TWO: whole, HELD_ONE: half, HELD_TWO: whole}
    inside: Seconds = {name: [] for name in plates}
    loops: Seconds = {ONE: [], TWO: []}

    def hcsflow(name: str) -> Sample:
        if name in loops:
            loops[name].append(looped(half, arguments.rounds, processes=workers_of(name)))
        sample, working = ran(folder, plates[name], arguments.pipeline, name)
        inside[name].append(working)
        return sample

    for plate in (half, whole):
        size_of(plate, read=True)
    taken = interleave({name: lambda n=name: hcsflow(n) for name in plates}, arguments.repeats)
    walls = {name: [sample.wall_s for sample in runs] for name, runs in taken.items()}
    return {
        "plate": maker,
        "wells": {ONE: arguments.wells // 2, TWO: arguments.wells},
        "pipeline": Path(arguments.pipeline).name,
        **samples(taken),
        **scalings(walls, inside, loops),
        "seconds_without_start_up": {name: spread(values) for name, values in inside.items()},
        "seconds_of_the_plain_loop": {name: spread(values) for name, values in loops.items()},
    }


def scalings(walls: Seconds, inside: Seconds, loops: Seconds) -> dict[str, Any]:
    """Return one process's time over that of two, in each of the ways that it is measured."""
    ratios = {
        "weak_scaling": ratios_of(walls, ONE, TWO),
        "weak_scaling_without_start_up": ratios_of(inside, ONE, TWO),
        "weak_scaling_one_core_each": ratios_of(walls, HELD_ONE, HELD_TWO),
        "weak_scaling_one_core_each_without_start_up": ratios_of(inside, HELD_ONE, HELD_TWO),
        "weak_scaling_of_the_machine": ratios_of(loops, ONE, TWO),
    }
    pairs = zip(
        ratios["weak_scaling_without_start_up"], ratios["weak_scaling_of_the_machine"], strict=True
    )
    ratios["of_what_the_machine_gives"] = [ours / machines for ours, machines in pairs]
    return {name: spread(values) for name, values in ratios.items()}


def workers_of(name: str) -> int:
    """Return how many processes a candidate has."""
    return int(name[0])


def ratios_of(seconds: Seconds, one: str, two: str) -> list[float]:
    """Return the time of one candidate over that of another, round by round."""
    return [a / b for a, b in zip(seconds[one], seconds[two], strict=True)]


def ran(folder: Path, plate: Path, pipeline: str, name: str) -> tuple[Sample, float]:
    """Run hcsflow on a plate it sees for the first time; return also the seconds at work."""
    output, cache = emptied(folder / "OUT"), emptied(folder / "cache")
    workers = workers_of(name)
    options = ["-o", output, "--workers", str(workers), "--no-report"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    held = partial(hold_to, workers) if name in (HELD_ONE, HELD_TWO) else None
    sample = run([*CLI, "run", pipeline, plate, *options], env=environment, preexec_fn=held)
    return sample, at_work(output / ".hcsflow" / "log.jsonl")


def hold_to(cores: int) -> None:
    """Hold this process, and all that it starts, to some of its cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def at_work(log: Path) -> float:
    """Return the seconds between the first well's start and the last one's end."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    times = [
        datetime.fromisoformat(event["time"])
        for event in events
        if event["kind"] in {"well_started", "well_done"}
    ]
    return (max(times) - min(times)).total_seconds()


def looped(plate: Path, rounds: int, *, processes: int) -> float:
    """Return the seconds that the plain loop takes in each of some processes at once."""
    command = [sys.executable, __file__, "--loop", plate, "--rounds", str(rounds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(processes)]
    for process in started:
        process.stdout.readline()  # it has loaded all it needs
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    return max(float(process.communicate()[0]) for process in started)


def plain_loop(plate: Path, rounds: int) -> None:
    """Read, smooth, encode and write planes as a worker does, without the engine."""
    import tifffile

    from hcsflow.functions.filters import gaussian_filter
    from hcsflow.graph.process import limit_threads, load_libraries, tune_allocator
    from hcsflow.ngff.model import ArrayLayout, Codec
    from hcsflow.storage.encoding import encoder_of

    tune_allocator()
    load_libraries()
    limit_threads(1)
    files = sorted(plate.rglob("*.tif"))
    shape = tifffile.imread(files[0]).shape
    layout = ArrayLayout("0", ("y", "x"), shape, shape, None, "uint16", Codec(), (1.0, 1.0))
    encode = encoder_of(layout, shape)
    with tempfile.TemporaryFile() as target:
        encode(gaussian_filter(tifffile.imread(files[0])[None], sigma=1.5)[0])
        print("ready", flush=True)
        sys.stdin.readline()
        start = time.perf_counter()
        for number in range(rounds * 24):
            plane = tifffile.imread(files[number % len(files)])
            target.seek(0)
            target.write(encode(gaussian_filter(plane[None], sigma=1.5)[0]))
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
