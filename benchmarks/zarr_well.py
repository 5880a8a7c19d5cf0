"""Saving a well to zarr, against zarr-python, tensorstore and polystore, in the same run.

    python benchmarks/zarr_well.py [--peer-python PATH]

A well of 9 fields × 2 channels × 5 z of 1080² (synthetic nuclei, uint16, 210 MB), blosc-zstd-1 with
byte shuffle, as one shard with a plane an inner chunk. In turn, several rounds: our zarr backend
(one array; a batch by file names without and with its pyramid), zarr-python's one-call write at its
defaults, tensorstore at its defaults, and, where ``--peer-python`` names a Python that has it,
polystore's zarr backend (one chunk a field: it has no shards; plain zstd-1, the nearest of its
compressors). Goal: at least 1.5 × as fast as zarr-python. All arrays are read back and compared.

Ours asks blosc for blocks of 256 KiB, which any reader takes; zarr-python and tensorstore are
measured at blosc's own choice (32 KiB) and at 256 KiB as well, so that the share of the blocks can
be told from that of the writer.

Prediction: the codec takes over 90 % of one thread's time (checksums at 20 GB/s and writes into the
page cache at 3 GB/s are the rest), so n cores give nearly n ×, and the larger blocks 1.4 to 1.9 ×;
zarr-python encodes the chunks of a shard one after another. Outcome on 2 cores: codec 87 %, writes
11 %, checksums 2 %; the second core gives 1.5 to 1.6 ×, the array 2.9 × zarr-python's speed.
``profile`` holds seconds of one thread by what they go to.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs.blosc
import numpy as np
import tensorstore
import zarr
from measure import HERE, Sample, interleave, ratios, run, samples, save, spread, version_of
from zarr.codecs import BloscCodec

from hcsflow.config import ZarrConfig
from hcsflow.ngff.model import Codec
from hcsflow.storage.encoding import available_cores
from hcsflow.storage.zarr import ZarrStorageBackend
from hcsflow.storage.zarr_arrays import create_array
from hcsflow.testing.optics import expose, illumination, place_nuclei, render

FIELDS, CHANNELS, Z = 9, 2, 5
GOAL = 1.5
BLOCK_BYTES = Codec().block_bytes


def main() -> None:
    """Measure and write results/zarr_well.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--size", type=int, default=1080)
    parser.add_argument("--peer-python", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planes = make_planes(arguments.size)
        writers = candidates(folder, planes, arguments.peer_python)
        for write in writers.values():  # imports, page cache, thread pools
            write()
        taken = interleave(writers, arguments.repeats)
        results = {
            "raw_bytes": planes.nbytes,
            "encoders": available_cores(),
            "block_bytes_of_ours": BLOCK_BYTES,
            "same_pixels": same_pixels(folder, planes),
            "stored_bytes": {out.name: size_of(out) for out in sorted(folder.glob("*.zarr"))},
            **samples(taken),
            "speedup": {
                f"{ours} over {theirs}": ratios(taken[theirs], taken[ours])
                for ours in taken
                if ours.startswith("hcsflow")
                for theirs in taken
                if not theirs.startswith("hcsflow")
            },
            "goal_speedup_over_zarr_python": GOAL,
            "profile": profile(folder, planes),
            "versions": versions(arguments.peer_python),
        }
    save("zarr_well", results)


def make_planes(size: int) -> np.ndarray:
    """Photograph the well: (field, channel, z, y, x)."""
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
    folder: Path, planes: np.ndarray, peer: Path | None
) -> dict[str, Callable[[], Sample]]:
    """Return what is timed; each starts from an empty output folder."""
    stack = planes.reshape(-1, *planes.shape[-2:])
    found = {
        "hcsflow array": lambda out: ours(out, stack),
        "hcsflow array, 1 encoder": lambda out: create_array(
            out, stack, ZarrConfig(), {}, encoders=1
        ),
        "hcsflow batch": lambda out: our_batch(out, planes, pyramid=False),
        "hcsflow batch with pyramid": lambda out: our_batch(out, planes, pyramid=True),
        "zarr-python": lambda out: by_zarr_python(out, stack, 0),
        "zarr-python, 256 KiB blocks": lambda out: by_zarr_python(out, stack, BLOCK_BYTES),
        "tensorstore": lambda out: by_tensorstore(out, stack, 0),
        "tensorstore, 256 KiB blocks": lambda out: by_tensorstore(out, stack, BLOCK_BYTES),
    }
    timed = {
        name: clocked(folder / f"{name.replace(', ', ' ').replace(' ', '_')}.zarr", write)
        for name, write in found.items()
    }
    if peer is not None:
        np.save(folder / "planes.npy", planes)
        timed["polystore"] = lambda: by_polystore(peer, folder)
    return timed


def clocked(output: Path, write: Callable[[Path], None]) -> Callable[[], Sample]:
    """Time a write in this process."""

    def sample() -> Sample:
        shutil.rmtree(output, ignore_errors=True)
        start, processor = time.perf_counter(), time.process_time()
        write(output)
        return Sample(time.perf_counter() - start, time.process_time() - processor, 0)

    return sample


def ours(output: Path, stack: np.ndarray) -> None:
    """Save one array by the zarr backend."""
    ZarrStorageBackend().save(stack, output)


def our_batch(output: Path, planes: np.ndarray, *, pyramid: bool) -> None:
    """Save a well by the names of its planes."""
    places = list(np.ndindex(*planes.shape[:3]))
    names = [output / f"B03_s{f + 1:03d}_w{c + 1}_z{z + 1:03d}_t001.tif" for f, c, z in places]
    config = ZarrConfig(pyramid=pyramid)
    backend = ZarrStorageBackend()
    backend.save_batch([planes[p] for p in places], names, chunk_name="B03", zarr_config=config)


def by_zarr_python(output: Path, stack: np.ndarray, block_bytes: int) -> None:
    """Write one shard in one call."""
    numcodecs.blosc.use_threads = None  # its default, which our encoders change
    zarr.create_array(
        output,
        data=stack,
        chunks=(1, *stack.shape[1:]),
        shards=stack.shape,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", blocksize=block_bytes),
    )


def by_tensorstore(output: Path, stack: np.ndarray, block_bytes: int) -> None:
    """Write the same shard."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    blosc = {"cname": "zstd", "clevel": 1, "shuffle": "shuffle", "typesize": 2}
    sharding = {
        "chunk_shape": [1, *stack.shape[1:]],
        "codecs": [little, {"name": "blosc", "configuration": blosc | {"blocksize": block_bytes}}],
        "index_codecs": [little, {"name": "crc32c"}],
    }
    metadata = {
        "shape": list(stack.shape),
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(stack.shape)}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
    }
    store = {"driver": "file", "path": str(output)}
    spec = {"driver": "zarr3", "kvstore": store, "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(stack).result()


def by_polystore(python: Path, folder: Path) -> Sample:
    """Let polystore save the well in a process of its own, which times the call."""
    output, clock = folder / "polystore.zarr", folder / "polystore.json"
    for old in (output, folder / "polystore_warm.zarr"):
        shutil.rmtree(old, ignore_errors=True)
    run([python, HERE / "peers" / "polystore_zarr.py", folder / "planes.npy", output, clock])
    return Sample(**json.loads(clock.read_text()), status=0)


def same_pixels(folder: Path, planes: np.ndarray) -> dict[str, bool]:
    """Whether each output holds the planes saved; order and mosaic are each one's own."""
    size = planes.shape[-1]
    want = sorted(checksums(planes, size))
    outputs = (path for path in sorted(folder.glob("*.zarr")) if "warm" not in path.name)
    return {
        output.name: sorted(c for a in arrays_of(output, size) for c in checksums(a, size)) == want
        for output in outputs
    }


def checksums(array: np.ndarray, size: int) -> Iterator[int]:
    """Yield the checksum of each field's plane of (…, y, x) mosaics."""
    for plane in array.reshape(-1, *array.shape[-2:]):
        for y, x in np.ndindex(plane.shape[0] // size, plane.shape[1] // size):
            tile = plane[y * size : (y + 1) * size, x * size : (x + 1) * size]
            yield google_crc32c.value(tile.tobytes())


def arrays_of(output: Path, size: int) -> Iterator[np.ndarray]:
    """Yield the arrays at full resolution below a folder."""
    for document in (*output.rglob("zarr.json"), *output.rglob(".zarray")):
        node = json.loads(document.read_text())
        if "shape" in node and node["shape"][-1] % size == 0:
            yield zarr.open_array(document.parent, mode="r")[...]


def profile(folder: Path, planes: np.ndarray) -> dict[str, Any]:
    """Return one thread's seconds for all planes at full resolution, by what they go to."""
    numcodecs.blosc.use_threads = False
    stack = planes.reshape(-1, *planes.shape[-2:])
    found: dict[str, Any] = {}
    for label, block_bytes in (("32 KiB blocks", 0), ("256 KiB blocks", BLOCK_BYTES)):
        blosc = numcodecs.blosc.Blosc("zstd", 1, numcodecs.blosc.SHUFFLE, block_bytes)
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


def versions(peer: Path | None) -> dict[str, str | None]:
    """Return the versions of what is measured beside us."""
    found = {"zarr": version_of("zarr"), "tensorstore": version_of("tensorstore")}
    if peer is None:
        return found | {"polystore": "not measured: no --peer-python given"}
    script = "from importlib.metadata import version as v; print(v('polystore'), v('zarr'))"
    done = subprocess.run([peer, "-c", script], capture_output=True, text=True, check=True)
    return found | dict(zip(("polystore", "zarr of polystore"), done.stdout.split(), strict=True))


if __name__ == "__main__":
    main()
