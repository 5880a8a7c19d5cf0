"""A worker's measured peak above its idle size, against what the plan projected.

    python benchmarks/memory.py [CASE …]

Each case is a plate and a pipeline whose tasks need over 256 MB, run on one worker process. The
peak is what the worker itself records in each outcome. Goal: measured ≤ projected ≤ 2 × measured.

What functions that split or measure cells take grows with the pixels in cells (4 planes where cells
cover a twentieth of the plane, 20 where they cover half), and a plan does not know the pixels: it
projects confluent cells. Cases that segment therefore have cells on half of each plane.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from measure import save

import hcsflow as hf
from hcsflow.contracts import contract, special_inputs, special_outputs
from hcsflow.session.pipelines import load_pipeline

WELLS = ("A01", "A02")
LARGE_TASK_BYTES = 256_000_000
GOAL_RATIO = 2.0


def side_by_side(shape_yx: tuple[int, int], **_parameters: Any) -> tuple[int, int]:
    """Return the canvas of four fields in a row."""
    return (shape_yx[0], 4 * shape_yx[1])


@contract(z_out="one", output_shape=side_by_side, working_planes=0.0)
def stitch(stack: np.ndarray) -> np.ndarray:
    """Lay four fields side by side."""
    return np.concatenate(list(stack), axis=1)[np.newaxis]


@special_outputs("background")
@contract(working_planes=0.0, fixed_planes=2.0)
def estimate(stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the mean plane on to a later step."""
    return stack, stack.mean(axis=0, dtype=np.float32)


@special_inputs("background")
@contract(working_planes=0.0, fixed_planes=3.0)
def subtract(stack: np.ndarray, *, background: np.ndarray) -> np.ndarray:
    """Subtract the mean plane, plane by plane."""
    result = np.empty_like(stack)
    for index, plane in enumerate(stack):
        result[index] = np.clip(plane - background, 0, 65535)
    return result


@dataclass(frozen=True)
class Case:
    """A plate, a pipeline and settings; ``covered`` is the share of pixels in cells.

    None: nuclei far apart, as the plate is written.
    """

    pipeline: Callable[[], hf.Pipeline | list[hf.FunctionStep]]
    plate: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    covered: float | None = None


def step(func: Any, *over: str, **options: Any) -> hf.FunctionStep:
    """Return a step that stacks over some components, z where none is named."""
    name = func if isinstance(func, str) else func.__name__
    name = options.pop("name", name)
    options = {"variable_components": list(over or ("z",))} | options
    return hf.FunctionStep(func, name=name, **options)


def segmentation(*over: str) -> list[hf.FunctionStep]:
    """Return threshold, split, label and measure."""
    return [
        step("max_projection"),
        step("gaussian_filter", *over, sigma=2.0),
        step("threshold_otsu", *over),
        step("split_touching", *over),
        step("label_objects", *over),
    ]


CASES: dict[str, Case] = {
    "projection of 40 × 2048²": Case(lambda: [step("max_projection")], {"size": 2048, "z": 40}),
    "mean projection of 24 × 2048²": Case(
        lambda: [step("mean_projection")], {"size": 2048, "z": 24}
    ),
    "median projection of 16 × 2048²": Case(
        lambda: [step("median_projection")], {"size": 2048, "z": 16}
    ),
    "smoothing a stack of 24 × 2048²": Case(
        lambda: [step("gaussian_filter")], {"size": 2048, "z": 24}
    ),
    "smoothing, then median, of 16 × 2048²": Case(
        lambda: [step("gaussian_filter"), step("median_filter")], {"size": 2048, "z": 16}
    ),
    "tophat, clip and otsu of 16 × 2048²": Case(
        lambda: [
            step("white_tophat", radius=15),
            step("add_constant", value=10),
            step("threshold_otsu"),
        ],
        {"size": 2048, "z": 16},
    ),
    "segmentation with labels, 2 z of 3072²": Case(
        segmentation, {"size": 3072, "z": 2}, covered=0.5
    ),
    "labels of a stack, 12 × 2048²": Case(
        lambda: [step("threshold_otsu"), step("label_objects")], {"size": 2048, "z": 12}
    ),
    "count-nuclei, 2 fields of 2 × 4 × 2048²": Case(
        lambda: load_pipeline("count-nuclei"),
        {"size": 2048, "z": 4, "channels": 2, "fields": 2},
        covered=0.5,
    ),
    "channel by channel, 4 × 10 × 2048²": Case(
        lambda: [step("gaussian_filter"), step("median_filter")],
        {"size": 2048, "z": 10, "channels": 4},
    ),
    "plane by plane, 3 × 6 × 4096²": Case(
        lambda: [
            step(name, variable_components=[]) for name in ("gaussian_filter", "median_filter")
        ],
        {"size": 4096, "z": 6, "channels": 3},
    ),
    "channel stacks, 12 × 2048²": Case(
        lambda: [step("max_projection"), step("gaussian_filter", "channel")],
        {"size": 2048, "z": 2, "channels": 12},
    ),
    "channels and z in one stack, 3 × 6 × 2048²": Case(
        lambda: [step("gaussian_filter", "channel", "z")], {"size": 2048, "z": 6, "channels": 3}
    ),
    "regrouping z, then channels, 3 × 8 × 2048²": Case(
        lambda: [step("gaussian_filter"), step("median_filter", "channel")],
        {"size": 2048, "z": 8, "channels": 3},
    ),
    "time series, 16 t × 2048²": Case(
        lambda: [step("gaussian_filter", "timepoint"), step("median_filter", "timepoint")],
        {"size": 2048, "z": 1, "timepoints": 16},
    ),
    "stitched canvas of 4 fields × 6 z × 2048²": Case(
        lambda: [step("gaussian_filter"), step(stitch, "field")],
        {"size": 2048, "z": 6, "fields": 4},
    ),
    "stitched canvas, smoothed": Case(
        lambda: [
            step("max_projection"),
            step(stitch, "field"),
            step("gaussian_filter", "z", name="smooth"),
        ],
        {"size": 3072, "z": 2, "fields": 4},
    ),
    "NGFF 0.4, whole wells as chunks": Case(
        lambda: [step("gaussian_filter")],
        {"size": 2048, "z": 8, "fields": 4},
        {"zarr": {"ngff_version": "0.4", "chunk_strategy": "well"}},
    ),
    "NGFF 0.4, planes as chunks": Case(
        lambda: [step("gaussian_filter")],
        {"size": 2048, "z": 16, "fields": 2},
        {"zarr": {"ngff_version": "0.4", "chunk_strategy": "file"}},
    ),
    "one file a plane": Case(
        lambda: [step("gaussian_filter")],
        {"size": 2048, "z": 16, "fields": 2},
        {"zarr": {"chunk_strategy": "file"}},
    ),
    "adaptive chunks": Case(
        lambda: [step("gaussian_filter")],
        {"size": 2048, "z": 16, "fields": 2},
        {"zarr": {"chunk_strategy": "adaptive"}},
    ),
    "a checkpoint between two filters": Case(
        lambda: [step("gaussian_filter", force_disk_output=True), step("median_filter")],
        {"size": 2048, "z": 16, "fields": 2},
    ),
    "a checkpoint read by channel": Case(
        lambda: [
            step("gaussian_filter", force_disk_output=True),
            step("median_filter", "channel", "z"),
        ],
        {"size": 2048, "z": 6, "channels": 3},
    ),
    "planes handed on in files": Case(
        lambda: [step("gaussian_filter"), step("median_filter", "channel", "z")],
        {"size": 2048, "z": 6, "channels": 3},
        {"vfs": {"intermediate_backend": "disk"}},
    ),
    "a special output for a later step": Case(
        lambda: [step(estimate), step(subtract)], {"size": 2048, "z": 16}
    ),
    "a torch function, 12 × 2048²": Case(
        lambda: [step(hf_torch("gaussian_filter"))], {"size": 2048, "z": 12}
    ),
}


def hf_torch(name: str) -> Callable[..., Any]:
    """Return the torch variant of a catalogue function."""
    from hcsflow.functions.catalogue import find

    return find(name, "torch")


def main() -> None:
    """Run the cases and write results/memory.json; named ones are printed only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="parts of names; default all")
    asked = parser.parse_args().cases
    chosen = {n: c for n, c in CASES.items() if not asked or any(part in n for part in asked)}
    results = [measure(name, case) for name, case in chosen.items()]
    bad = [each["case"] for each in results if not each["is_kept"]]
    print(f"{len(results) - len(bad)} of {len(results)} kept", *bad, sep="\n  ")
    if not asked:
        save("memory", {"cases": results, "goal_ratio": GOAL_RATIO})


def cover(plate: Path, share: float) -> None:
    """Draw cells of about 20 pixels radius, touching, on a share of each plane of a plate."""
    rng = np.random.default_rng(0)
    cells: np.ndarray | None = None
    for path in sorted(plate.rglob("*.tif")):
        pixels = tifffile.memmap(path, mode="r+")
        if cells is None:
            cells = np.zeros(pixels.shape, np.uint8)
            while cells.mean() < share:
                middle = tuple(rng.integers(size) for size in reversed(cells.shape))
                cv2.circle(cells, middle, int(rng.integers(14, 26)), 1, cv2.FILLED)
        pixels[...] = 200 + np.uint16(4000) * cells + rng.integers(50, size=pixels.shape)
        pixels.flush()


def measure(name: str, case: Case) -> dict[str, Any]:
    """Run one case on a single worker process."""
    from hcsflow.testing.plates import write_imagexpress_plate

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        options = {"fields": 1, "channels": 1, "nuclei": 300} | dict(case.plate)
        write_imagexpress_plate(folder / "PLATE", wells=WELLS, **options)
        if case.covered is not None:
            cover(folder / "PLATE", case.covered)
        plate = hf.open_plate(folder / "PLATE")
        plan = hf.compile(
            case.pipeline(), plate, output=folder / "OUT", workers=1, config=dict(case.config)
        )
        run = plan.run(cluster="local")
        assert run.failures.empty, run.failures.to_string()
        projected = plan.frozen.projected_bytes
        peaks = [outcome.peak_bytes for outcome in run.outcomes]
    ratio = projected / max(peaks)
    found = {
        "case": name,
        "projected_bytes": projected,
        "measured_bytes": peaks,
        "projected_over_measured": round(ratio, 3),
        "is_large": max(peaks) > LARGE_TASK_BYTES,
        "is_kept": 1 <= ratio <= GOAL_RATIO or max(peaks) <= LARGE_TASK_BYTES,
    }
    print(f"{ratio:6.2f}  {projected / 1e6:5.0f} / {max(peaks) / 1e6:5.0f} MB  {name}", flush=True)
    return found


if __name__ == "__main__":
    main()
