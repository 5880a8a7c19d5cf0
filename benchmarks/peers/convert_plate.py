"""What the conversion scripts share: a plate's files by well, one well's planes side by side.

numpy and tifffile alone. A well is (channel, z, y, x), its fields beside each other by number, as
hcsflow's field atlas has them.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

NAME = re.compile(r"(?:^|_)(?P<well>[A-Z]\d\d)_s(?P<field>\d+)_w(?P<channel>\d+)\.tif$")
STEP = re.compile(r"ZStep_(\d+)$")
PIXEL_SIZE_UM, Z_STEP_UM = 0.65, 2.0

Files = dict[tuple[int, int, int], Path]


class Codec(NamedTuple):
    """Blosc's settings, in the words of Zarr."""

    cname: str
    clevel: int
    shuffle: str
    blocksize: int


@dataclass(frozen=True)
class Job:
    """What a script is asked for."""

    plate: Path
    output: Path
    processes: int
    threads: int
    codec: Codec
    levels: int
    options: argparse.Namespace


def job_of(summary: str, **own: Any) -> Job:
    """Read the command line; ``own`` are further options with their defaults."""
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("plate", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--codec", default='["zstd", 1, "shuffle", 0]', help="JSON, see Codec")
    parser.add_argument("--levels", type=int, default=5)
    for name, default in own.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default)
    given = parser.parse_args()
    codec = Codec(*json.loads(given.codec))
    return Job(
        given.plate, given.output, given.processes, given.threads, codec, given.levels, given
    )


def files_by_well(plate: Path) -> list[tuple[str, Files]]:
    """Return the path of each (field, channel, z) of each well."""
    found: dict[str, Files] = defaultdict(dict)
    for path in plate.rglob("*.tif"):
        name, step = NAME.search(path.name), STEP.search(path.parent.name)
        if name and step:
            key = (int(name["field"]) - 1, int(name["channel"]) - 1, int(step[1]) - 1)
            found[name["well"]][key] = path
    if not found:
        raise SystemExit(f"{plate}: no planes")
    return sorted(found.items())


def read_well(files: Files) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a well's planes, (channel, z, y, x), and a field's size."""
    fields, channels, heights = (1 + max(key[axis] for key in files) for axis in range(3))
    columns = math.ceil(math.sqrt(fields))
    rows = math.ceil(fields / columns)
    first = tifffile.imread(files[0, 0, 0])
    side_y, side_x = first.shape
    shape = (channels, heights, rows * side_y, columns * side_x)
    make = np.empty if rows * columns == fields else np.zeros
    mosaic = make(shape, first.dtype)
    for (field, channel, z), path in files.items():
        row, column = divmod(field, columns)
        tile = np.s_[row * side_y : (row + 1) * side_y, column * side_x : (column + 1) * side_x]
        mosaic[(channel, z, *tile)] = tifffile.imread(path)
    return mosaic, (side_y, side_x)


def write_group(folder: Path, ome: dict[str, Any]) -> None:
    """Write a group's document."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (folder / "zarr.json").write_text(json.dumps(document))


def plate_metadata(wells: Sequence[str]) -> dict[str, Any]:
    """Return what OME-Zarr says of a plate."""
    rows, columns = sorted({w[0] for w in wells}), sorted({w[1:] for w in wells})
    places = [
        {
            "path": f"{w[0]}/{w[1:]}",
            "rowIndex": rows.index(w[0]),
            "columnIndex": columns.index(w[1:]),
        }
        for w in wells
    ]
    named = {"rows": [{"name": r} for r in rows], "columns": [{"name": c} for c in columns]}
    return {"version": "0.5", "plate": {"version": "0.5", **named, "wells": places}}
