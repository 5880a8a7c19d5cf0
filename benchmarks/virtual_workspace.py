"""From a plate's folder to a workspace that lists all names and loads any plane.

    python benchmarks/virtual_workspace.py [--peer-python PATH]

An ImageXpress export of 96 wells × 9 fields × 2 channels × 6 z, 10,368 files of 16² pixels below
``TimePoint_1/ZStep_<n>``. Each time, imports done: `hcsflow.open_workspace`, all names listed, the
first and the last plane loaded. *Cold*: no index is kept; *again*: one is. *Every file looked at*
is `hcsflow.open_plate` with a kept index, which compares the names in each folder, and size and
time of each plane. *Mapping* reads the same names from a document, as does polystore's virtual
workspace where ``--peer-python`` names a Python that has it. Goals: cold ≤ 0.25 s, again ≤ 0.05 s.
OpenHCS takes 3.6 s and 1.0 s for a plate of this many files: it makes the document first, which
polystore alone does not do.

Prediction, from a profile of what was there (open 0.10 to 0.16 s, list 0.10 s, one name to its row
12 µs): names are made in Python plane by plane; made by column, all are listed in 5 ms, and cold
is the walk, its ``stat`` of each file (4 µs) and the parsing of names: 0.12 s. Again, the folders'
times are compared (8 of them, 108 planes of one well) and 0.6 MB read: 0.01 s; with every file
looked at, 10,368 times 3 µs more: 0.04 s. Outcome on 2 cores that others used as well: cold 0.17 s
(0.13 s of CPU, 0.015 s of them to note how the folders are), again 0.008 s, every file looked at
0.05 s; a name is found in 5 µs. The names in each folder, compared since, add 0.007 s.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from measure import HERE, Sample, interleave, run, samples, save, spread

from hcsflow import open_plate, open_workspace
from hcsflow.microscopes.index_cache import SETTLED_NS

FIELDS, CHANNELS, Z = 9, 2, 6
GOALS_S = {"cold": 0.25, "again": 0.05}
STORE = "hcsflow/index"


def main() -> None:
    """Measure and write results/virtual_workspace.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--peer-python", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        plate = folder / "plate"
        files = write_plate(plate)
        time.sleep(SETTLED_NS / 1e9)
        workspace = open_workspace(plate)
        write_document(folder / "mapping.json", workspace.workspace_mapping())
        candidates = ours(folder, plate)
        taken = interleave(candidates, arguments.repeats)
        results: dict[str, Any] = {"files": files, "goals_s": GOALS_S, **samples(taken)}
        results["row_of_a_name_us"] = spread([row_us(workspace) for _ in range(5)])
        results["index_bytes"] = sum(f.stat().st_size for f in (folder / "cache" / STORE).iterdir())
        if arguments.peer_python:
            results["polystore, mapping"] = peer(folder, plate, arguments)
    save("virtual_workspace", results)


def ours(folder: Path, plate: Path) -> dict[str, Callable[[], Sample]]:
    """Return what is measured of ours, by name."""

    def cold() -> Sample:
        shutil.rmtree(folder / "cache" / STORE, ignore_errors=True)
        return timed(lambda: use(open_workspace(plate)))

    return {
        "cold": cold,
        "again": lambda: timed(lambda: use(open_workspace(plate))),
        "open_plate again, every file looked at": lambda: timed(lambda: open_plate(plate)),
        "mapping": lambda: timed(
            lambda: use(open_workspace(plate, metadata=folder / "mapping.json"))
        ),
    }


def use(workspace: Any) -> None:
    """List all names, load the first and the last plane."""
    names = workspace.list_files("")
    assert len(names) == 96 * FIELDS * CHANNELS * Z
    for name in (names[0], names[-1]):
        assert workspace.load(name).shape == (16, 16)


def timed(call: Callable[[], object]) -> Sample:
    """Run a call in this process."""
    start, processor = time.perf_counter(), time.process_time()
    call()
    return Sample(time.perf_counter() - start, time.process_time() - processor, 0)


def row_us(workspace: Any) -> float:
    """Return the mean time of finding a plane by name, in µs."""
    names: Sequence[str] = workspace.list_files("")
    return timed(lambda: [workspace.row(name) for name in names]).wall_s / len(names) * 1e6


def peer(folder: Path, plate: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Let polystore open the same mapping, in processes of its own."""
    copy = folder / "peer"
    copy.mkdir()
    shutil.copytree(plate / "TimePoint_1", copy / "TimePoint_1")
    shutil.copy(folder / "mapping.json", copy / "openhcs_metadata.json")
    rounds = []
    for _ in range(arguments.repeats):
        seconds = folder / "seconds.json"
        script = HERE / "peers" / "polystore_workspace.py"
        run([arguments.peer_python, script, copy, seconds])
        rounds.append(json.loads(seconds.read_text()))
    return {
        name: spread([one[number]["wall_s"] for one in rounds])
        for number, name in enumerate(("first", "again"))
    }


def write_document(path: Path, mapping: Any) -> None:
    """Write the mapping in the form that polystore reads."""
    references = {
        name: {"backend": "disk", "backend_address": file, "source_axis_indices": []}
        for name, file in mapping.items()
    }
    path.write_text(json.dumps({"subdirectories": {".": {"workspace_mapping": references}}}))


def write_plate(root: Path) -> int:
    """Write the plate's files; return how many."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.arange(256, dtype=np.uint16).reshape(16, 16))
    content = buffer.getvalue()
    count = 0
    for z in range(1, Z + 1):
        folder = root / "TimePoint_1" / f"ZStep_{z}"
        folder.mkdir(parents=True)
        for well in (f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13)):
            for field in range(1, FIELDS + 1):
                for channel in range(1, CHANNELS + 1):
                    (folder / f"{well}_s{field}_w{channel}.tif").write_bytes(content)
                    count += 1
    return count


if __name__ == "__main__":
    main()
