"""B4: write one well of 90 planes of 1080², against zarr-python, tensorstore and polystore.

    python benchmarks/b4_well.py [--peers FOLDER] [--polystore PYTHON]

Work: 9 fields × 2 channels × 5 z of 1080² (blobs, camera offset, shot noise; uint16, 210 MB),
blosc-zstd-1 with byte shuffle, as one shard with a plane an inner chunk. Goal: at least 1.9 × as
fast as zarr-python and 1.05 × as tensorstore, both at their defaults; and as tensorstore when it
does not wait for the disk.

In turn, several rounds, each write in a process of its own that has written the well once before:
hcsflow's zarr backend (the array; the array by one thread; the well by its planes' names as
OME-Zarr without and with pyramid, its documents and display ranges included), zarr-python,
tensorstore, and where ``--polystore`` names a Python that has it, polystore's zarr backend (one
chunk a field: it has no shards; plain zstd-1, the nearest of its compressors). Every writer may use
all cores. All outputs are read back and compared with what was written.

Ours asks blosc for blocks of 256 KiB, which any reader takes; the peers leave the choice to blosc
(32 KiB) and are measured at 256 KiB as well, so that the share of the blocks can be told from that
of the writer. tensorstore waits for the disk by default, which none of the others does: it is
measured without as well. ``profile`` holds seconds of one thread by what they go to.

Prediction: the codec takes over 90 % of one thread's time (checksums at 20 GB/s and writes into the
page cache at 3 GB/s are the rest), so n cores give nearly n ×, and the larger blocks 1.4 to 1.9 ×;
zarr-python encodes the chunks of a shard one after another. Outcome: on 2 cores the codec is 87 %
of a thread's time, writes 11 %, checksums 2 %; in CPU time the array takes 0.36 s, tensorstore
0.66 s (0.62 s with our blocks), zarr-python 0.96 s (0.83 s). Figures: results/b4_well.json and
results/table.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import HERE, Sample, goal, interleave, ratios, run, samples, save, spread

FIELDS, CHANNELS, Z = 9, 2, 5
GOALS = {"zarr-python": 1.9, "tensorstore": 1.05, "tensorstore-no-sync": 1.05}
OURS = ("hcsflow", "hcsflow, 1 thread", "hcsflow, by names", "hcsflow, by names with pyramid")
PEERS = Path("~/.cache/hcsflow-peers").expanduser()


def main() -> None:
    """Measure and write results/b4_well.json; or write once, in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=1080, help="Side of a plane in pixels.")
    parser.add_argument("--peers", type=Path, default=PEERS, help="From peers/install.sh.")
    parser.add_argument("--polystore", type=Path, help="A Python that has it.")
    parser.add_argument("--write", nargs=4, metavar=("WRITER", "PLANES", "OUTPUT", "SECONDS"))
    arguments = parser.parse_args()
    if arguments.write:
        write_once(*arguments.write)
        return
    with tempfile.TemporaryDirectory() as name:
        save("b4_well", measured(Path(name), arguments))


def measured(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all writers in turn and compare what they stored."""
    planes = make_planes(arguments.size)
    np.save(folder / "planes.npy", planes)
    found: dict[str, str] = {}
    taken = interleave(candidates(folder, arguments, found), arguments.repeats)
    speedups = {
        f"{ours} over {theirs}": ratios(taken[theirs], taken[ours])
        for ours in OURS
        for theirs in taken
        if theirs not in OURS
    }
    same = same_pixels(folder, planes)
    return {
        "goals": list(goals(speedups, same)),
        "raw_bytes": planes.nbytes,
        "block_bytes_of_ours": block_bytes(),
        "same_pixels": same,
        "stored_bytes": {out.stem: size_of(out) for out in sorted(folder.glob("*.zarr"))},
        **samples(taken),
        "speedup": speedups,
        "profile": profile(folder, planes),
        "versions": found,
    }


def goals(speedups: dict[str, Any], same: dict[str, bool]) -> Iterator[dict[str, Any]]:
    """Yield the goals with what was found; unequal pixels meet none."""
    for peer, limit in GOALS.items():
        ratio = speedups[f"hcsflow over {peer}"]
        text = f"≥ {limit} × the speed of {peer}"
        entry = goal("B4", text, ratio["median"], at_least=limit)
        entry["met"] &= all(same.values())
        yield entry | {"low": ratio["min"], "high": ratio["max"]}


def make_planes(size: int) -> np.ndarray:
    """Photograph the well: (field, channel, z, y, x)."""
    from hcsflow.testing.optics import expose, illumination, place_nuclei, render

    planes = np.empty((FIELDS, CHANNELS, Z, size, size), np.uint16)
    gain = illumination(size)
    for field in range(FIELDS):
        rng = np.random.default_rng(field)
        nuclei = place_nuclei(rng, size, size * size // 10_000)
        light = rng.uniform(1100, 2200, len(nuclei))
        for channel, z in np.ndindex(CHANNELS, Z):
            defocus = abs(z - (Z - 1) / 2)
            bright = light * (0.4 if channel else 1.0)
            signal = render(nuclei, bright, size=size, defocus=defocus, wide=channel > 0)
            planes[field, channel, z] = expose(signal, gain, rng)
    return planes


def candidates(
    folder: Path, arguments: argparse.Namespace, versions: dict[str, str]
) -> dict[str, Callable[[], Sample]]:
    """Return what is timed; ``versions`` is filled in as they run."""
    python = arguments.peers / "writers" / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{python} is not there: run benchmarks/peers/install.sh first")
    script, large = HERE / "peers" / "shard_writers.py", str(block_bytes())
    commands: dict[str, list[str | Path]] = {
        name: [sys.executable, __file__, "--write", name] for name in OURS
    }
    ends = {name: [] for name in commands}
    for writer in ("zarr-python", "tensorstore", "tensorstore-no-sync"):
        for name, block in ((writer, "0"), (f"{writer}, 256 KiB blocks", large)):
            commands[name], ends[name] = [python, script, writer], [block]
    if arguments.polystore:
        commands["polystore"] = [arguments.polystore, HERE / "peers" / "polystore_zarr.py"]

    def clocked(name: str) -> Callable[[], Sample]:
        output = folder / f"{name.replace(', ', ' ').replace(' ', '_')}.zarr"
        clock = output.with_suffix(".json")
        middle = [folder / "planes.npy", output, clock]

        def sample() -> Sample:
            run([*commands[name], *middle, *ends.get(name, [])])
            told = json.loads(clock.read_text())
            versions[name] = told.get("version", "")
            return Sample(told["wall_s"], told["cpu_s"], status=0)

        return sample

    return {name: clocked(name) for name in commands}


def write_once(name: str, planes: str, output: str, clock: str) -> None:
    """Write the well by one of hcsflow's ways twice, and tell seconds of the second time."""
    import shutil

    from hcsflow.storage.encoding import available_cores

    pixels, folder = np.load(planes), Path(output)
    write = our_writer(name)
    for path in (folder.with_suffix(".warm"), folder):
        shutil.rmtree(path, ignore_errors=True)
        start, processor = time.perf_counter(), time.process_time()
        write(pixels, path)
        wall, cpu = time.perf_counter() - start, time.process_time() - processor
    shutil.rmtree(folder.with_suffix(".warm"))
    told = {"wall_s": wall, "cpu_s": cpu, "version": f"{available_cores()} cores"}
    Path(clock).write_text(json.dumps(told))


def our_writer(name: str) -> Callable[[np.ndarray, Path], None]:
    """Return a way in which hcsflow writes a well: (field, channel, z, y, x), folder."""
    from hcsflow.config import ZarrConfig
    from hcsflow.storage.zarr import ZarrStorageBackend
    from hcsflow.storage.zarr_arrays import create_array

    backend = ZarrStorageBackend()

    def by_names(planes: np.ndarray, output: Path) -> None:
        places = list(np.ndindex(*planes.shape[:3]))
        names = [output / f"B03_s{f + 1:03d}_w{c + 1}_z{z + 1:03d}_t001.tif" for f, c, z in places]
        config = ZarrConfig(pyramid=name.endswith("pyramid"))
        pixels = [planes[place] for place in places]
        backend.save_batch(pixels, names, chunk_name="B03", zarr_config=config)

    def by_one(planes: np.ndarray, output: Path) -> None:
        create_array(output, stack_of(planes), ZarrConfig(), {}, encoders=1)

    if "by names" in name:
        return by_names
    if name == "hcsflow, 1 thread":
        return by_one
    return lambda planes, output: backend.save(stack_of(planes), output)


def stack_of(planes: np.ndarray) -> np.ndarray:
    """Return the planes along one axis."""
    return planes.reshape(-1, *planes.shape[-2:])


def block_bytes() -> int:
    """Return the size of blosc's blocks in what hcsflow writes."""
    from hcsflow.ngff.model import Codec

    return Codec().block_bytes


def same_pixels(folder: Path, planes: np.ndarray) -> dict[str, bool]:
    """Whether each output holds the planes written; order and mosaic are each one's own."""
    size = planes.shape[-1]
    want = sorted(checksums(planes, size))
    return {
        output.stem: sorted(c for a in arrays_of(output, size) for c in checksums(a, size)) == want
        for output in sorted(folder.glob("*.zarr"))
        if "warm" not in output.name
    }


def checksums(array: np.ndarray, size: int) -> Iterator[int]:
    """Yield the checksum of each field's plane of (…, y, x) mosaics."""
    import google_crc32c

    for plane in array.reshape(-1, *array.shape[-2:]):
        for y, x in np.ndindex(plane.shape[0] // size, plane.shape[1] // size):
            tile = plane[y * size : (y + 1) * size, x * size : (x + 1) * size]
            yield google_crc32c.value(tile.tobytes())


def arrays_of(output: Path, size: int) -> Iterator[np.ndarray]:
    """Yield the arrays at full resolution below a folder, as zarr-python reads them."""
    import zarr

    for document in (*output.rglob("zarr.json"), *output.rglob(".zarray")):
        node = json.loads(document.read_text())
        if "shape" in node and node["shape"][-1] % size == 0:
            yield zarr.open_array(document.parent, mode="r")[...]


def profile(folder: Path, planes: np.ndarray) -> dict[str, Any]:
    """Return one thread's seconds for all planes at full resolution, by what they go to."""
    import google_crc32c
    import numcodecs.blosc

    numcodecs.blosc.use_threads = False
    stack = stack_of(planes)
    found: dict[str, Any] = {}
    for label, block in (("blosc's own blocks", 0), ("256 KiB blocks", block_bytes())):
        blosc = numcodecs.blosc.Blosc("zstd", 1, numcodecs.blosc.SHUFFLE, block)
        found[f"blosc, {label}"], encoded = seconds(lambda b=blosc: [b.encode(p) for p in stack])
    with (folder / "profile").open("wb", buffering=0) as file:
        found["write to the page cache"], _ = seconds(lambda: [file.write(e) for e in encoded])
    found["crc32c"], _ = seconds(lambda: [google_crc32c.value(e) for e in encoded])
    found["copies of the planes"], _ = seconds(lambda: [plane.copy() for plane in stack])
    return found


def seconds(call: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Return the spread of three calls' seconds, and what the last returned."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        result = call()
        taken.append(time.perf_counter() - start)
    return spread(taken), result


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
