"""B8: how many objects a plate of 384 wells × 9 fields × 4 channels × 20 z becomes on disk.

    python benchmarks/b8_objects.py

Work: ``hcsflow plan count-nuclei --json`` for 276,480 planes of 2048² (2.3 TB uncompressed; the raw
plate is hard links to few files): all planes stored with their pyramid, nuclei as labels with
theirs, mosaic layout, a well an object. Goal: at most 15,000 objects. Objects are what holds
pixels: shards and chunks, the files that make a store slow to copy, list and back up when they are
many. Documents (``zarr.json``) and tables of the plate are counted beside them.

Checked on small plates of the same structure (all combinations of layout and chunk strategy, or one
with ``--quick``): after a run exactly as many objects lie in the output as the plan says and its
journal lists; the stored bytes that the plan expects stand beside those found.

Prediction: 6 levels of the image and 6 of the labels are 12 objects a well, 4,608 in all, and about
25 documents and tables a well; one object a plane would be 276,480 and more. Outcome: 4,608 objects
and 6,530 documents and tables (17 a well): 11,138 files; nothing had to be changed. Figures:
results/b8_objects.json and results/table.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from measure import goal, run, save

CLI = [sys.executable, "-c", "import sys; from hcsflow.cli.main import main; sys.exit(main())"]
GOAL = 15_000
ROWS, COLUMNS = "ABCDEFGHIJKLMNOP", 24
FIELDS, CHANNELS, Z = 9, 4, 20
LAYOUTS, CHUNKS = ("mosaic", "images"), ("well", "file", "adaptive")
USUAL = ("mosaic", "well")


def main() -> None:
    """Plan the large plate, run small ones, write results/b8_objects.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="Counts do not vary: ignored.")
    parser.add_argument("--wells", type=int, default=384)
    parser.add_argument("--size", type=int, default=2048, help="Side of a plane of the large one.")
    parser.add_argument("--small-size", type=int, default=256, help="The same of the small ones.")
    parser.add_argument("--small-wells", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="One layout and chunk strategy.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        save("b8_objects", measured(Path(name), arguments))


def measured(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the goals and all that was counted."""
    large = planned(linked(folder / "LARGE", arguments.wells, arguments.size), folder / "never", [])
    shutil.rmtree(folder / "LARGE")
    plate = linked(folder / "SMALL", arguments.small_wells, arguments.small_size)
    ways = [USUAL] if arguments.quick else list(product(LAYOUTS, CHUNKS))
    small = {" + ".join(way): checked(folder, plate, way) for way in ways}
    usual = small[" + ".join(USUAL)]
    of_wells = usual["documents_and_tables_of_wells"] * arguments.wells // arguments.small_wells
    large["documents_and_tables_expected"] = of_wells + usual["documents_above_wells"]
    large["files_expected"] = large["objects"] + large["documents_and_tables_expected"]
    return {"goals": list(goals(large, small)), "large": large, "small": small}


def goals(large: dict[str, Any], small: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the goals with what was found."""
    yield goal("B8", f"≤ {GOAL:,} objects", large["objects"], at_most=GOAL)
    wrong = sum(not one["is_as_planned"] for one in small.values())
    yield goal("B8", "0 small plates with other objects than planned", wrong, at_most=0)


def linked(root: Path, wells: int, size: int) -> Path:
    """Write a plate of hard links and return its folder."""
    from linked_plate import write_linked_plate

    from hcsflow.testing.plates import PlateSpec

    names = [f"{row}{column:02d}" for row in ROWS for column in range(1, COLUMNS + 1)][:wells]
    spec = PlateSpec(
        wells=tuple(names), fields=FIELDS, channels=CHANNELS, z=Z, size=size, nuclei=size // 8
    )
    write_linked_plate(root, spec, distinct=20)
    return root


def planned(plate: Path, output: Path, options: list[str]) -> dict[str, Any]:
    """Return what ``hcsflow plan --json`` says of objects and bytes, and how long it took."""
    command = [*CLI, "plan", "count-nuclei", plate, "-o", output, "--json", *options]
    environment = os.environ | {"XDG_CACHE_HOME": str(plate.with_name("cache"))}
    start = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True,
        env=environment,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    plan = json.loads(done.stdout)
    kept = ("objects", "objects_per_well", "raw_bytes", "stored_bytes", "tasks")
    found = {name: plan[name] for name in kept}
    planes = len(plan["wells"]) * FIELDS * CHANNELS * Z
    return {"wells": len(plan["wells"]), "planes": planes, **found, "plan_s": round(seconds, 2)}


def checked(folder: Path, plate: Path, way: tuple[str, str]) -> dict[str, Any]:
    """Plan and run a small plate, and count what lies there."""
    options = ["--layout", way[0], "--chunks", way[1]]
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    plan = planned(plate, output, options)
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    command = [*CLI, "run", "count-nuclei", plate, "-o", output, "--no-report", *options]
    run(command, env=environment)
    found = counted(output)
    is_as_planned = plan["objects"] == found["objects"] == found["objects_in_journal"]
    print(f"  {' + '.join(way)}: {plan['objects']} planned, {found['objects']} found")
    return {
        "objects_planned": plan["objects"],
        **found,
        "is_as_planned": is_as_planned,
        "raw_bytes": plan["raw_bytes"],
        "stored_bytes_planned": plan["stored_bytes"],
    }


def counted(output: Path) -> dict[str, int]:
    """Count files below the stored plate by what they are, and what the journal lists.

    Objects bear the number of their place in the chunk grid as name.
    """
    store = output / "images.zarr"
    files = [path for path in store.rglob("*") if path.is_file()]
    kinds = Counter(kind_of(path, store) for path in files)
    journals = list((output / ".hcsflow" / "journal" / "final").glob("*.json"))
    listed = [record for path in journals for record in json.loads(path.read_text())["objects"]]
    pixels = [path for path in files if is_object(path.name)]
    return {
        "objects": kinds["object"],
        "objects_in_journal": sum(is_object(record["path"]) for record in listed),
        "documents_and_tables_of_wells": kinds["of a well"],
        "documents_above_wells": kinds["above"],
        "object_bytes": sum(path.stat().st_size for path in pixels),
        "all_bytes": sum(path.stat().st_size for path in files),
    }


def kind_of(path: Path, store: Path) -> str:
    if is_object(path.name):
        return "object"
    return "of a well" if len(path.relative_to(store).parts) > 2 else "above"


def is_object(path: str) -> bool:
    return path.rpartition("/")[2].isdigit()


if __name__ == "__main__":
    main()
