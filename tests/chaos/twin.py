"""What undisturbed runs give, and plain numpy: the oracle of ``weekend.py``."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import tifffile
import zarr
from forks import Zygote

from hcsflow.testing.plates import key_coded_plate

WELLS = ("A01", "A02", "B01")
PATHS = {"A01": "A/01", "A02": "A/02", "B01": "B/01"}
STORES = {"lift": "00_lift/images.zarr", "final": "images.zarr"}
SIZE = 16


class Version(NamedTuple):
    """What a unit is made of; the first output does not depend on the factor.

    The value is that of the pixels, the stamp the date of their file.
    """

    level: int
    factor: int
    value: int
    stamp: int = 0


class Twin:
    """Runs that nothing disturbs: what they give, by parameters, wells and their pixels."""

    def __init__(self, zygote: Zygote, pipeline: Path, folder: Path) -> None:
        self.zygote = zygote
        self.pipeline = pipeline
        self.folder = folder
        self.template = folder / "template"
        key_coded_plate(self.template, wells=WELLS, fields=1, channels=1, z=1, size=SIZE)
        self._known: dict[tuple[object, ...], dict[str, str]] = {}
        zygote.ask("warm", plate=self.template, pipeline=pipeline, output=folder / "warm")

    def files(self, level: int, factor: int, values: dict[str, int]) -> dict[str, str]:
        """Return hashes of what a run of these wells gives in an empty folder."""
        key = (level, factor, *sorted(values.items()))
        if key not in self._known:
            self._known[key] = self._made(level, factor, values)
        return self._known[key]

    def _made(self, level: int, factor: int, values: dict[str, int]) -> dict[str, str]:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        plate, output = folder / "PLATE", folder / "OUT"
        shutil.copytree(self.template, plate)
        for well, value in values.items():
            paint(plate, well, value)
        answer = self.zygote.ask(
            "run", plate=plate, output=output, pipeline=self.pipeline, wells=list(values),
            parameters={"lift.level": level, "spread.factor": factor},
        )  # fmt: skip
        assert answer["error"] is None, answer
        for well, value in values.items():
            check_pixels(output, well, Version(level, factor, value))
        found = hashes(output)
        shutil.rmtree(folder)
        return found


def picture(value: int) -> np.ndarray:
    """The pixels of a well's only plane."""
    return (np.arange(SIZE * SIZE, dtype=np.uint16) % 50 + value).reshape(SIZE, SIZE)


def paint(plate: Path, well: str, value: int) -> None:
    """Write other pixels into a well's file, in place."""
    (path,) = plate.rglob(f"*_{well}_*.tif")
    tifffile.memmap(path)[:] = picture(value)


def check_pixels(output: Path, well: str, version: Version) -> None:
    """Compare images, labels and rows of a well with what plain numpy makes of its pixels."""
    lifted = picture(version.value) + np.uint16(version.level)
    expected = {"lift": lifted, "final": lifted * np.uint16(version.factor)}
    for name, store in STORES.items():
        array = zarr.open_array(output / store / PATHS[well] / "0" / "0", mode="r")
        assert (np.squeeze(array[...]) == expected[name]).all(), f"{well} of {store}"
    labels = zarr.open_array(output / "images.zarr" / PATHS[well] / "0/labels/bright/0", mode="r")
    assert (np.squeeze(labels[...]) == (lifted > lifted.mean())).all(), f"labels of {well}"
    rows = pd.read_parquet(output / "results" / "sums.parquet").set_index("well")
    total = int(expected["final"].astype(np.int64).sum())
    assert rows.loc[[well], "sum"].tolist() == [total], f"rows of {well}"


def hashes(output: Path) -> dict[str, str]:
    """Return the sha256 of plates and tables."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in output.rglob("*")
        if path.is_file()
        if (name := path.relative_to(output).as_posix()).startswith((*STORES.values(), "results/"))
    }


def listed(output: Path, store: str) -> tuple[str, ...]:
    """Return the wells that a plate lists."""
    document = output / store / "zarr.json"
    if not document.is_file():
        return ()
    plate = json.loads(document.read_text())["attributes"]["ome"]["plate"]
    paths = {well["path"] for well in plate["wells"]}
    return tuple(well for well in WELLS if PATHS[well] in paths)
