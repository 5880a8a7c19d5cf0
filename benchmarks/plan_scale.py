"""Planning at screen size, on synthetic manifests; no pixel exists.

    python benchmarks/plan_scale.py

Compiles ``count-nuclei`` for 384 wells × 9 fields × 4 channels × 5 z (goal: ≤ 5 s, ≤ 500 MB for
the whole process), for 384 × 9 × 5 × 20 = 345,600 planes (≤ 5 s, ≤ 400 MB; OpenHCS 0.8.6 did not
compile a twelfth of it in 280 s) and for 1,536 × 4 × 4 × 1 (≤ 5 s), and packs a manifest of those
345,600 planes (goal: < 150 MB, seconds). Each measurement is a fresh process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

from measure import save, spread

WELLS_384 = tuple(f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25))
ROWS_1536 = [chr(65 + row) if row < 26 else f"A{chr(39 + row)}" for row in range(32)]
WELLS_1536 = tuple(f"{row}{column:02d}" for row in ROWS_1536 for column in range(1, 49))


def main() -> None:
    """Run both measurements in fresh processes, or one of them here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=MEASUREMENTS, help="measure here, print JSON")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(MEASUREMENTS[arguments.only]()))
        return
    results = {name: repeated(name, arguments.repeats) for name in MEASUREMENTS}
    save("plan_scale", results)


def repeated(name: str, repeats: int) -> dict[str, Any]:
    """Measure several times, each in a process of its own."""
    taken = []
    for _ in range(repeats):
        command = [sys.executable, __file__, "--only", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        taken.append(json.loads(done.stdout.splitlines()[-1]))
    return {key: spread([sample[key] for sample in taken]) for key in taken[0]}


def measure_compile(
    *, fields: int = 9, channels: int = 4, z: int = 5, wells: tuple[str, ...] = WELLS_384
) -> dict[str, float]:
    """Compile count-nuclei, 69,120 planes by default."""
    import hcsflow as hf
    from hcsflow.session.plan import load_pipeline
    from hcsflow.session.plate import Plate

    plate = Plate(*synthetic(fields=fields, channels=channels, z=z, wells=wells))
    pipeline = load_pipeline("count-nuclei")
    before = peak_bytes()
    start = time.perf_counter()
    plan = hf.compile(
        pipeline,
        plate,
        output="never-made",
        resources=hf.Resources(workers=2, memory_bytes=8 << 30),
    )
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    text = plan.to_json()
    return {
        "seconds": seconds,
        "to_json_seconds": time.perf_counter() - start,
        "plan_text_bytes": len(text),
        "process_peak_bytes": peak_bytes(),
        "peak_before_bytes": before,
        "wells": len(plan.frozen.wells),
    }


def measure_manifest() -> dict[str, float]:
    """Pack 345,600 rows as a reader would hand them over."""
    from hcsflow.plate import Manifest

    start = time.perf_counter()
    manifest = Manifest.from_rows("PLATE", rows(WELLS_384, fields=9, channels=5, z=20))
    seconds = time.perf_counter() - start
    columns = (
        manifest.keys,
        manifest.folder_ids,
        manifest.name_offsets,
        manifest.nbytes,
        manifest.mtime_ns,
    )
    held = sum(column.nbytes for column in columns) + len(manifest.name_blob)
    return {
        "planes": len(manifest),
        "seconds": seconds,
        "manifest_bytes": held,
        "process_peak_bytes": peak_bytes(),
    }


def peak_bytes() -> int:
    """Return this process's peak resident size in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def rows(wells: tuple[str, ...], *, fields: int, channels: int, z: int) -> Iterator[Any]:
    """Yield the planes of a full plate in the exported layout."""
    from hcsflow.plate import PlaneRow

    sizes = (len(wells), fields, channels, z)
    for well, field, channel, height in product(*map(range, sizes)):
        yield PlaneRow(
            well,
            field,
            0,
            channel,
            height,
            f"TimePoint_1/ZStep_{height + 1}",
            f"PLATE_{wells[well]}_s{field + 1}_w{channel + 1}.tif",
            2_332_800,
            1_700_000_000_000_000_000 + well,
        )


def synthetic(
    *, fields: int, channels: int, z: int, wells: tuple[str, ...] = WELLS_384
) -> tuple[Any, Any]:
    """Return the model and manifest of a plate of 1080² planes."""
    from hcsflow.plate import Channel, FieldGrid, Manifest, Measured, Plate

    is_1536 = len(wells) > 384
    side = 2 if fields == 4 else 3
    plate = Plate(
        name="PLATE",
        microscope="imagexpress",
        layout="exported",
        uuid=None,
        rows=tuple(ROWS_1536 if is_1536 else "ABCDEFGHIJKLMNOP"),
        columns=tuple(f"{column:02d}" for column in range(1, 49 if is_1536 else 25)),
        acquisition="1",
        acquisitions=("1",),
        wells=wells,
        fields=tuple(str(f + 1) for f in range(fields)),
        timepoints=("1",),
        channels=tuple(Channel(f"w{c + 1}", f"channel {c + 1}", z) for c in range(channels)),
        z=tuple(str(height + 1) for height in range(z)),
        shape_yx=(1080, 1080),
        dtype="uint16",
        pixel_size=Measured(0.65, "synthetic"),
        z_step=Measured(2.0, "synthetic"),
        grid=FieldGrid(side, side, tuple(divmod(f, side) for f in range(fields)), "synthetic"),
    )
    return plate, Manifest.from_rows("PLATE", rows(wells, fields=fields, channels=channels, z=z))


MEASUREMENTS = {
    "compile": measure_compile,
    "compile_345600_planes": partial(measure_compile, channels=5, z=20),
    "compile_1536_wells": partial(measure_compile, fields=4, channels=4, z=1, wells=WELLS_1536),
    "manifest": measure_manifest,
}


if __name__ == "__main__":
    main()
