"""B7: a raw plate as OME-Zarr without any step, against ngff-zarr and tensorstore.

    benchmarks/peers/install.sh && python benchmarks/b7_convert.py

An ImageXpress plate of 4 fields × 2 channels × 3 z × 1024² a well is stored by ``hcsflow run
convert`` (2 worker processes, no report) and by two scripts of the kind that one writes oneself,
each in the fastest of the ways that were tried and with 2 processes:

- `peers/convert_ngff_zarr.py`: ngff-zarr, levels by its fastest mean, an object per plane; with
  shards, as ours, it is slower, and measured too;
- `peers/convert_tensorstore.py`: tensorstore, one call a level from the array that is there, not
  waiting for the disk, levels halved by OpenCV.

All store the same pixels at the same number of levels with a field's plane as chunk, by
blosc-zstd-1 with byte shuffle. Ours asks blosc for blocks of 256 KiB; the scripts leave the choice
to blosc (32 KiB), as one does, and tensorstore's is measured at 256 KiB as well, so that the share
of the blocks can be told from that of all else. hcsflow counts grey values for each channel's
display range, checksums what it stores, and writes ROI tables and a journal besides.

Wall time of whole processes, start-up included, files in the page cache, all in turn; CPU time of
all their processes beside it, which says more on a busy machine. Outputs are removed as soon as
they were compared, so that the disk's speed matters little. At the smaller plate start-up is a good
part of the time; the goals are held against the larger one.

Goals: ≥ 3 × as fast as ngff-zarr, ≥ 1.2 × as the tensorstore script.

**Prediction.** Of what a well of 24 planes takes a worker, blosc has 70 %, halving and the page
cache 13 %, reading 8 %; a script spends all that as well. Besides it reads by tifffile, lays planes
side by side (a copy), and puts encoded shards together in memory: 1.1 × as long at equal blocks,
1.3 to 1.4 × at blosc's own. Our start-up takes 1.3 s against 0.4 s, so that with 16 wells the
tensorstore script is as fast, and with 64 wells 1.0 and 1.2 × are left. ngff-zarr makes each level
by dask from the stored one before it, at 0.6 s of CPU a well against 0.19 s: 2.6 × with 64 wells.

**Outcome.** See `results/b7_convert.json`. Changed: each plane is a group of its own (``convert``
stacks none), so that what is read is encoded while it is in the cache, and nothing is copied in
between; a worker's first task looks through no installed packages and imports no microscope
(0.05 s); the client loads no codecs (0.03 s); a step's peak is noted when it ends, not plane by
plane (0.1 ms each); a plane's levels and grey values are made while it is in the cache (5 ms a
well); on one core no second thread reads (5 ms); a plane that one step alone reads goes past the
memory store. Still missed, at 64 wells: 2.5 and 1.15 ×, since blosc takes 123 of the 170 ms that a
well costs one process alone, and 220 beside a second one, which the scripts pay as well; start and
end are 1.2 s of 8.5. At equal blocks the tensorstore script is as fast as this, 0.8 to 1.02 ×. What
is left besides reading, halving, encoding and writing: 10 % of a well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from measure import HERE, Sample, goal, interleave, made_folder, ratios, run, samples, save, spread
from peer_plates import CLI, emptied, size_of, write_plate

PEERS = Path.home() / ".cache" / "hcsflow-peers"
OURS = "hcsflow"
GOALS = {"ngff-zarr": 3.0, "tensorstore": 1.2}
OUR_BLOCKS = "tensorstore, our blocks"
SCRIPTS = {
    "ngff-zarr": ["convert_ngff_zarr.py"],
    "ngff-zarr, shards": ["convert_ngff_zarr.py", "--shards", "yes", "--method", "DASK_BIN_SHRINK"],
    "tensorstore": ["convert_tensorstore.py"],
    OUR_BLOCKS: ["convert_tensorstore.py"],
}
"""File below ``peers/`` and options."""


class Stored(NamedTuple):
    """What a run stored: bytes, and the pixels of the first and the last well by level."""

    nbytes: int
    pixels: tuple[str, ...]


def main() -> None:
    """Measure each size of plate, write results/b7_convert.json."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wells", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--peers", type=Path, default=PEERS, help="made by peers/install.sh")
    parser.add_argument("--folder", type=made_folder, help="for plates and outputs")
    arguments = parser.parse_args()
    measured = {f"{wells} wells": measure(arguments, wells) for wells in arguments.wells}
    largest = max(arguments.wells)
    found = measured[f"{largest} wells"]["times_as_fast"]
    goals = [
        goal(
            "B7",
            f"≥ {limit:g} × as fast as a script with {peer}, {largest} wells",
            found[peer]["median"],
            at_least=limit,
        )
        for peer, limit in GOALS.items()
    ]
    save("b7_convert", {"goals": goals, "processes": arguments.processes, **measured})


def measure(arguments: argparse.Namespace, wells: int) -> dict[str, Any]:
    """Convert a plate by all, in turn; compare what they stored."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        maker = write_plate(folder / "PLATE", wells, arguments.size)
        plate_bytes = size_of(folder / "PLATE", read=True)
        convert(folder, arguments.processes)  # the scripts are told its levels and codec
        told = storage_of(folder / OURS)
        stored: dict[str, Stored] = {}

        def noted(name: str, command: Callable[[], Sample]) -> Callable[[], Sample]:
            def runs() -> Sample:
                sample = command()
                stored[name] = stored_in(folder / name)
                emptied(folder / name)
                return sample

            return runs

        commands = {OURS: lambda: convert(folder, arguments.processes)}
        commands |= {peer: script(folder, arguments, peer, told) for peer in SCRIPTS}
        taken = interleave({n: noted(n, c) for n, c in commands.items()}, arguments.repeats)
        return {
            "plate": maker,
            "plate_bytes": plate_bytes,
            "stored_bytes": {name: one.nbytes for name, one in stored.items()},
            "storage": told,
            "levels_of_equal_pixels": equal_levels(stored),
            **samples(taken),
            "times_as_fast": {n: ratios(taken[n], taken[OURS]) for n in SCRIPTS},
            "times_less_cpu": {n: ratios(taken[n], taken[OURS], of="cpu_s") for n in SCRIPTS},
            "mb_per_s": {
                name: spread([plate_bytes / 1e6 / sample.wall_s for sample in runs])
                for name, runs in taken.items()
            },
        }


def convert(folder: Path, processes: int) -> Sample:
    """Run hcsflow on a plate that it sees for the first time."""
    output, cache = emptied(folder / OURS), emptied(folder / "cache")
    options = ["-o", output, "--workers", str(processes), "--no-report"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    return run([*CLI, "run", "convert", folder / "PLATE", *options], env=environment)


def storage_of(output: Path) -> dict[str, Any]:
    """Return levels and codec of what we stored."""
    image = output / "images.zarr" / "A" / "01" / "0"
    ome = json.loads((image / "zarr.json").read_text())["attributes"]["ome"]
    array = json.loads((image / "0" / "zarr.json").read_text())
    inner = array["codecs"][0]["configuration"]["codecs"]
    blosc = next(codec["configuration"] for codec in inner if codec["name"] == "blosc")
    return {"levels": len(ome["multiscales"][0]["datasets"]), "blosc": blosc}


def script(
    folder: Path, arguments: argparse.Namespace, peer: str, told: dict[str, Any]
) -> Callable[[], Sample]:
    """Return the run of a peer's script."""
    blosc = told["blosc"] | ({} if peer == OUR_BLOCKS else {"blocksize": 0})
    codec = [blosc[key] for key in ("cname", "clevel", "shuffle", "blocksize")]
    options = ["--codec", json.dumps(codec), "--levels", str(told["levels"])]
    options += ["--processes", str(arguments.processes)]
    python = arguments.peers / "writers" / "bin" / "python"
    file, *own = SCRIPTS[peer]
    command = [python, HERE / "peers" / file, folder / "PLATE", folder / peer, *options, *own]
    return lambda: run(command)


def stored_in(output: Path) -> Stored:
    """Return what a run stored, of which only this is kept."""
    store = output / "images.zarr"
    wells = sorted(store.glob("[A-Z]/[0-9]*"))
    levels = sorted(path.parent for path in wells[0].rglob("zarr.json") if is_array(path))
    digests = []
    for level in levels:
        arrays = [well / level.relative_to(wells[0]) for well in (wells[0], wells[-1])]
        pixels = [np.asarray(zarr.open_array(str(path), mode="r")[...]) for path in arrays]
        digests.append(hashlib.sha256(b"".join(array.tobytes() for array in pixels)).hexdigest())
    return Stored(size_of(output), tuple(digests))


def is_array(document: Path) -> bool:
    """Whether a Zarr document is that of an array."""
    return bool(json.loads(document.read_text())["node_type"] == "array")


def equal_levels(stored: dict[str, Stored]) -> dict[str, list[int]]:
    """Return, by peer, the levels at which its pixels are ours; full resolution must be."""
    found = {}
    for name in SCRIPTS:
        pairs = zip(stored[OURS].pixels, stored[name].pixels, strict=True)
        found[name] = [level for level, (one, other) in enumerate(pairs) if one == other]
        if 0 not in found[name]:
            raise SystemExit(f"{name} stored other pixels than hcsflow")
    return found


if __name__ == "__main__":
    main()
