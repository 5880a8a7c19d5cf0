"""What the engine itself costs: identity steps on tiny planes, and sleeping tasks.

    python benchmarks/engine_scale.py

Goals: ≤ 5 ms of wall per well with 2 processes; 96 wells end to end, start-up included, ≤ 6 s
(OpenHCS 0.8.6: 51–117 ms and 26 s); cost per well flat from 24 to 1,536 wells (ratio ≤ 1.2);
client with scheduler ≤ 600 MB at 1,536 wells; 200 simulated workers ≥ 95 % busy. CPU is that of
all processes together; ``serial`` runs of two wells are what the state machine of the tests does
thousands of times. A measurement is a fresh process. Outputs stay until all is measured: ext4 makes
files several times slower for half a minute after many have been removed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from measure import save, spread

import hcsflow as hf
from hcsflow.journal import Outcome

PIPELINE = """
import hcsflow as hf


def identity(stack):
    return stack


pipeline = hf.Pipeline(
    [hf.FunctionStep(identity, name=name) for name in ("one", "two", "three")], name="identity"
)
"""
HCSFLOW = [sys.executable, "-c", "import sys; from hcsflow.cli.main import main; sys.exit(main())"]
SIZES = (24, 96, 384, 1536)
END_TO_END_WELLS = 96
SIMULATED_WORKERS = 200
SLEEP_S = 20.0
"""What a well of 9 fields × 5 channels × 20 z of 1080² takes."""

ROUNDS = 5
FLAT_FROM, FLAT_TO = 24, 1536
SERIAL_RUNS = 20


def main() -> None:
    """Measure everything, or one thing in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs=2, metavar=("WHAT", "FOLDER"), help="measure here")
    arguments = parser.parse_args()
    if arguments.only:
        what, folder = arguments.only
        special = {"simulated": simulated, "serial": serial_runs}
        measured = special.get(what, lambda place: run_wells(int(what), place))
        print(json.dumps(measured(Path(folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        save("engine_scale", measure_all(Path(folder), arguments.repeats))


def measure_all(folder: Path, repeats: int) -> dict[str, Any]:
    """Take every measurement ``repeats`` times, in turn."""
    (folder / "identity.py").write_text(PIPELINE)
    for wells in SIZES:
        write_plate(folder / f"PLATE{wells}", wells)
    taken: dict[int, list[dict[str, float]]] = {wells: [] for wells in SIZES}
    whole: list[float] = []
    busy = fresh("simulated", folder)["efficiency"]  # once: it takes minutes
    serial: list[float] = []
    for _ in range(repeats):
        for wells in SIZES:
            taken[wells].append(fresh(str(wells), folder))
        whole.append(end_to_end(folder))
        serial.append(fresh("serial", folder)["ms_per_run"])
    per_well = {n: [sample["ms_per_well"] for sample in taken[n]] for n in SIZES}
    cpu = {n: [sample["cpu_ms_per_well"] for sample in taken[n]] for n in SIZES}
    pairs = zip(per_well[FLAT_TO], per_well[FLAT_FROM], strict=True)
    return {
        "ms_per_well": {str(n): spread(per_well[n]) for n in SIZES},
        "cpu_ms_per_well": {str(n): spread(cpu[n]) for n in SIZES},
        "flat_ratio_1536_to_24": spread([many / few for many, few in pairs]),
        "client_and_scheduler_peak_bytes_1536": spread(
            [sample["peak_bytes"] for sample in taken[FLAT_TO]]
        ),
        "end_to_end_96_wells_s": spread(whole),
        "efficiency_of_200_workers": busy,
        "serial_run_of_two_wells_ms": spread(serial),
        "goals": {
            "ms_per_well_384": 5,
            "flat_ratio": 1.2,
            "peak_bytes": 600_000_000,
            "end_to_end_s": 6,
            "efficiency": 0.95,
        },
    }


def fresh(what: str, folder: Path) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--only", what, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {what}: {found}")
    return found


def write_plate(folder: Path, wells: int) -> None:
    """Write one 64² plane a well; 1,536 wells lie in 32 rows and 48 columns."""
    from hcsflow.testing.plates import write_imagexpress_plate

    rows = [chr(65 + r) if r < 26 else f"A{chr(65 + r - 26)}" for r in range(32)]
    columns = 24 if wells <= 384 else 48
    names = [f"{row}{column:02d}" for row in rows for column in range(1, columns + 1)][:wells]
    write_imagexpress_plate(folder, wells=names, fields=1, channels=1, z=1, size=64)


def run_wells(wells: int, folder: Path) -> dict[str, float]:
    """Run three identity steps on every well with 2 processes.

    The cost of a well is that between the first one done and the last: start and end are the same
    for any number of wells.
    """
    done: list[float] = []
    cpu: list[float] = []

    def hear(event: Any) -> None:
        if event.kind == "well_done":
            done.append(time.perf_counter())
            if len(done) in (1, wells):
                cpu.append(cpu_seconds())

    plate = hf.open_plate(folder / f"PLATE{wells}")
    plan = hf.compile(folder / "identity.py", plate, output=new_output(folder), workers=2)
    start = time.perf_counter()
    run = plan.run(on_event=hear)
    seconds = time.perf_counter() - start
    assert len(done) == wells, run.failures
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "ms_per_well": 1000 * (done[-1] - done[0]) / (wells - 1),
        "cpu_ms_per_well": 1000 * (cpu[-1] - cpu[0]) / (wells - 1),
        "run_s": seconds,
        "peak_bytes": peak,
    }


def new_output(folder: Path) -> Path:
    """Return a folder that is not there yet, on the disk of ``folder``."""
    return Path(tempfile.mkdtemp(dir=folder), "OUT")


def cpu_seconds() -> float:
    """Return what this process and those below it have used so far."""
    me = psutil.Process()
    times = (process.cpu_times() for process in (me, *me.children(recursive=True)))
    return sum(found.user + found.system for found in times)


def serial_runs(folder: Path) -> dict[str, float]:
    """Run two wells in this process, again and again, each time from nothing."""
    plate = hf.open_plate(folder / f"PLATE{SIZES[0]}")
    wells = plate.wells[:2]
    spent: list[float] = []
    for _ in range(SERIAL_RUNS):
        output = new_output(folder)
        plan = hf.compile(folder / "identity.py", plate, output=output, wells=wells)
        start = time.process_time()
        run = plan.run(cluster="serial")
        spent.append(time.process_time() - start)
        assert not len(run.failures), run.failures
    return {"ms_per_run": 1000 * median(spent)}


def end_to_end(folder: Path) -> float:
    """Time the command line on 96 wells."""
    plate = folder / f"PLATE{END_TO_END_WELLS}"
    command = [*HCSFLOW, "run", folder / "identity.py", plate, "-o", new_output(folder)]
    start = time.perf_counter()
    subprocess.run([*map(str, command), "--workers", "2"], capture_output=True, check=True)
    seconds = time.perf_counter() - start
    print(f"  end to end: {seconds:.2f} s")
    return seconds


def simulated(folder: Path) -> dict[str, float]:
    """Run sleeping tasks on 200 workers of this process; return the share of time they sleep."""
    import dask
    from distributed import Client, LocalCluster

    from hcsflow.execute.dasksettings import cluster_settings

    plate = hf.open_plate(folder / f"PLATE{SIZES[-1]}")
    wells = plate.wells[: SIMULATED_WORKERS * ROUNDS]
    plan = hf.compile(folder / "identity.py", plate, output=new_output(folder), wells=wells)
    with (
        dask.config.set(cluster_settings()),
        LocalCluster(
            n_workers=SIMULATED_WORKERS,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
        ) as cluster,
        Client(cluster) as client,
    ):
        return {"efficiency": sleep_all(plan, client, len(wells))}


def sleep_all(plan: Any, client: Any, wells: int) -> float:
    """Run every well as a task that sleeps; time from the first submission to the last answer."""
    from hcsflow.execute.loop import WellLoop

    loop = WellLoop(client, plan.frozen, plan_id="simulated", label="PLATE", task=sleeping)
    start = time.perf_counter()
    outcomes = [
        item
        for item in loop.run(todo_of(plan.frozen), retries=0, timeout_s=None)
        if isinstance(item, Outcome)
    ]
    seconds = time.perf_counter() - start
    assert len(outcomes) == wells
    return wells * SLEEP_S / (SIMULATED_WORKERS * seconds)


def todo_of(plan: Any) -> dict[str, list[str]]:
    """Ask for every segment of every well."""
    return {well: [segment.name for segment in plan.segments] for well in plan.wells}


def sleeping(_plan: str, segment: str, well: str, _attempt: int, *_upstream: Any) -> Outcome:
    """Sleep as long as a well takes."""
    time.sleep(SLEEP_S)
    return Outcome(well, segment, "done")


if __name__ == "__main__":
    main()
