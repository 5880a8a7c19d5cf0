"""An output folder made by hand, as architecture section 8 lays it out."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from hcsflow.journal import (
    ControlFolder,
    JournalEntry,
    ObjectRecord,
    Outcome,
    write_entry,
    write_failure,
)
from hcsflow.recipes import hash_of_unit, recipe_text


def _write_image(root: Path, pixels: np.ndarray, axes: str, omero: dict | None = None) -> None:
    """Write a multiscale image with three levels, by zarr-python."""
    levels = []
    group = zarr.open_group(root, mode="w")
    for level in range(3):
        array = pixels[..., :: 2**level, :: 2**level]
        group.create_array(str(level), data=np.ascontiguousarray(array))
        levels.append({"path": str(level)})
    ome = {
        "version": "0.5",
        "multiscales": [{"axes": [{"name": a} for a in axes], "datasets": levels}],
    }
    group.attrs["ome"] = ome | ({"omero": omero} if omero else {})


def make_output(
    root: Path,
    *,
    name: str = "Plate 7",
    rows: str = "ABCDEFGH",
    columns: int = 12,
    done: tuple[str, ...] = ("A01", "A02", "B01"),
    failed: tuple[str, ...] = ("B02",),
    side: int = 128,
) -> Path:
    """Write a small finished run: two channels, nuclei with labels, one table."""
    hidden = root / ".hcsflow"
    hidden.mkdir(parents=True)
    control = ControlFolder(root)
    (root / "results").mkdir()
    plan = make_plan(name, rows, columns, done, failed, side)
    rng = np.random.default_rng(5)
    table = []
    for number, well in enumerate(done):
        labels = np.zeros((side, 2 * side), np.uint32)
        for i in range(number % 5 + 2):
            y, x = rng.integers(10, side - 10), rng.integers(10, side - 10)
            labels[y - 6 : y + 6, x - 6 : x + 6] = i + 1
            table.append(
                {
                    "plate": name,
                    "well": well,
                    "field": 1,
                    "label": i + 1,
                    "area_um2": float(rng.uniform(60, 90)),
                    "mean_w1": 900.0,
                }
            )
        pixels = rng.poisson(300, (2, side, 2 * side)).astype(np.uint16)
        pixels[0][labels > 0] += 1500
        image = root / "images.zarr" / well[0] / well[1:] / "0"
        if number >= 10:  # pictures of many wells: the first ones again
            image.parent.mkdir(parents=True)
            first = done[number % 5]
            image.symlink_to(root / "images.zarr" / first[0] / first[1:] / "0")
        else:
            omero = {"channels": [{"color": "00FFFF"}, {"color": "FF00FF"}]}
            _write_image(image, pixels, "cyx", omero)
            zarr.open_group(image / "labels", mode="w")
            _write_image(image / "labels" / "nuclei", labels, "yx")
        outcome = {
            "seconds": 2.0 + number,
            "peak_bytes": 10_000_000,
            "notes": (),
            "step_seconds": (("read", 0.5), ("smooth", 1.0), ("write", 0.5 + number)),
        }
        stored = ObjectRecord("images.zarr/x", 1000, "crc32c:00000000")
        done_outcome = Outcome(well, "all", "done", **outcome)
        fingerprint = unit_fingerprint(plan, well)
        write_entry(control, JournalEntry(well, "", fingerprint, 0, 1, (stored,), done_outcome, ""))
    for well in failed:
        outcome = {
            "well": well,
            "status": "failed",
            "step": "read",
            "error": "PlaneError",
            "message": "B02_s1_w1_z1.tif is cut short: 120 of 524,288 bytes",
            "hint": "copy the file again",
            "file": "TimePoint_1/B02_s1_w1_z1.tif",
            "traceback": "Traceback ...\n<frame>",
            "seconds": 0.1,
        }
        write_failure(control, Outcome(segment="all", **outcome))
    pd.DataFrame(table).to_parquet(root / "results" / "nuclei.parquet")
    (hidden / "plan.json").write_text(json.dumps(plan))
    metadata = {"provenance": {"versions": {"hcsflow": "0.1.0", "numpy": "2.3"}}}
    (root / "hcsflow_metadata.json").write_text(json.dumps(metadata))
    return root


def unit_fingerprint(plan: dict, well: str) -> str:
    """What `hcsflow.plan.Plan.unit_fingerprint` gives the well's final output."""
    return hash_of_unit(plan["fingerprints"][well], recipe_text(["smooth-2"], plan["writes"][0]))


def make_plan(name, rows, columns, done, failed, side) -> dict:
    wells = [*done, *failed]
    call = {
        "function": "hcsflow.functions.filters:gaussian_filter",
        "input_type": "numpy",
        "parameters": [["sigma", 2.0]],
    }
    return {
        "pipeline": "count-nuclei",
        "wells": wells,
        "failed_wells": [],
        "fingerprints": {well: f"input of {well}" for well in wells},
        "plate": {
            "name": name,
            "microscope": "imagexpress",
            "layout": "exported",
            "uuid": None,
            "rows": list(rows),
            "columns": [f"{c:02d}" for c in range(1, columns + 1)],
            "acquisition": "1",
            "wells": sorted(wells),
            "fields": ["1", "2"],
            "timepoints": ["1"],
            "z": ["1", "2", "3"],
            "channels": [{"label": "w1", "name": "DAPI"}, {"label": "w2", "name": "FITC"}],
            "pixel_size": {"um": 0.65, "origin": "HTD PixelSizeUM"},
            "z_step": {"um": None, "origin": ""},
        },
        "steps": [
            {
                "name": "smooth",
                "fingerprint": "smooth-2",
                "variable_components": ["z"],
                "input": {"channels": [0]},
                "branches": [{"calls": [call]}],
            }
        ],
        "writes": [
            {
                "output": "",
                "step": 0,
                "store": "images.zarr",
                "labels": [{"name": "nuclei", "step": 0}],
                "tables": [{"name": "nuclei", "labels": "nuclei"}],
                "image": {
                    "cells": [[0, 0], [0, 1]],
                    "pitch_yx": [side, side],
                    "field_yx": [side, side],
                    "channels": [0, 1],
                },
            }
        ],
        "parameters": [["nuclei_channel", "w1"]],
        "resources": {"workers": 2},
        "warnings": [],
    }


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return make_output(tmp_path / "out")


@pytest.fixture
def output_maker():
    return make_output
