"""What a run's tasks do to the plate, counted: each file is opened once, each plane read once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

import hcsflow as hf
from hcsflow.contracts import contract, special_inputs, special_outputs
from hcsflow.graph import feed
from hcsflow.materialize import Table
from hcsflow.microscopes import read_stage_positions
from hcsflow.pipeline import DROP, PASS, PIPELINE_START
from hcsflow.storage.tiff import PlaneFile
from hcsflow.storage.tiff_header import HeaderMemory
from hcsflow.testing.plates import key_coded_plate

WELLS, FIELDS, CHANNELS, HEIGHTS, SIDE = ("A01", "B02"), 3, 2, 2, 64
HEADER_BYTES = 30_000
"""What may be read of a file besides its pixels."""

IO = Path("/proc/self/io")

_listeners: list[Callable[[str], None]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _listeners and isinstance(arguments[0], str | Path):
        _listeners[-1](str(arguments[0]))


sys.addaudithook(_hear)  # there is no way to remove one: it is deaf between tests


@contextmanager
def opens(root: Path) -> Iterator[Counter[str]]:
    """Count how often each TIFF of a plate is opened in this process, by relative path."""
    found: Counter[str] = Counter()

    def count(path: str) -> None:
        if path.startswith(f"{root}/") and path.endswith(".tif"):
            found[path.removeprefix(f"{root}/")] += 1

    _listeners.append(count)
    try:
        yield found
    finally:
        _listeners.remove(count)


@contract(per_slice=True)
def add(stack: Any, *, by: int = 1) -> Any:
    return stack + np.uint16(by)


@special_inputs("stage_positions_um")
@special_outputs(("places", Table()))
@contract(ragged=True)
def locate(stack: Any, *, stage_positions_um: Any) -> Any:
    y, x = zip(*stage_positions_um, strict=True)
    return stack, pd.DataFrame({"y": y, "x": x})


def step(function: Any, name: str, **options: Any) -> Any:
    return hf.FunctionStep(function, name=name, **{"variable_components": "z", **options})


CHAINS: dict[str, Callable[[], list[Any]]] = {
    "one": lambda: [step(add, "a")],
    "several": lambda: [step(add, "a"), step(add, "b"), step(add, "c")],
    "convert": lambda: [step({"*": PASS}, "a")],
    "checkpoint": lambda: [step(add, "a", force_disk_output=True), step(add, "b")],
    "handover": lambda: [step(add, "a"), step(add, "b")],
    "both read the plate": lambda: [
        step(add, "a"),
        step(add, "b", variable_components="field", input_source=PIPELINE_START),
    ],
    "one channel": lambda: [step({"w2": add, "*": DROP}, "a")],
    "positions": lambda: [step(locate, "a")],
    # Asks for what only files tell that are read in a later step, or never.
    "positions early": lambda: [
        step({"w2": locate, "*": DROP}, "a"),
        step(add, "b", input_source=PIPELINE_START),
    ],
    "positions of unread": lambda: [step({"w2": locate, "*": DROP}, "a")],
    "positions of all": lambda: [step(locate, "a", variable_components=("field", "z"))],
}
"""Pipelines by what they do to the plate."""

UNREAD = {"one channel", "positions of unread"}
"""Those that leave a channel alone: of it the first file of a field is opened, for its position."""


@pytest.fixture(scope="module", params=["whole", "holed"])
def plate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("counted") / request.param
    key_coded_plate(
        root, wells=WELLS, fields=FIELDS, channels=CHANNELS, timepoints=1, z=HEIGHTS, size=SIDE
    )
    if request.param == "holed":
        min(root.rglob("*_A01_s2_w1*.tif")).unlink()
    return root


def counted(chain: str, plate: Path, out: Path, **options: Any) -> tuple[Any, Counter[str]]:
    """Run a pipeline in this process; count what its tasks open, not what the compiler does."""
    granularity = {"granularity": "step"} if chain == "handover" else {}
    plan = hf.compile(
        hf.Pipeline(CHAINS[chain](), name="p"),
        hf.open_plate(plate),
        output=out,
        **options,
        **granularity,
    )
    with opens(plate) as found:
        done = plan.run(cluster="serial")
    assert [outcome.message for outcome in done.outcomes if outcome.status != "done"] == []
    return done, found


def files_of(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*.tif")}


@pytest.mark.parametrize("layout", ["mosaic", "images"])
@pytest.mark.parametrize("missing", ["skip", "fill"])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_run_opens_each_file_once(
    plate: Path, tmp_path: Path, chain: str, missing: str, layout: str
) -> None:
    config = {"missing": missing, "zarr.field_layout": layout}
    done, found = counted(chain, plate, tmp_path / "out", config=config)
    assert {file: n for file, n in found.items() if n > 1} == {}
    assert set(found) <= files_of(plate)
    is_all_read = plate.name == "whole" or missing == "fill"
    loaded = sum(
        n for o in done.outcomes for name, n, *_ in o.traffic if name == "virtual_workspace"
    )
    if is_all_read and chain not in UNREAD:
        assert set(found) == files_of(plate)
        assert loaded == len(found)
    elif chain in UNREAD:
        read = {file for file in files_of(plate) if "_w2" in file}
        told = set(found) - read
        assert len(told) == FIELDS * len(WELLS)
        assert loaded == len(found) - len(told)


def test_more_threads_open_no_more_and_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hash_tree: Callable[[Path], dict[str, str]]
) -> None:
    root = tmp_path / "P"
    key_coded_plate(root, wells=("A01",), fields=4, channels=2, timepoints=1, z=3, size=SIDE)
    for chain in CHAINS:
        stored = []
        for threads in (1, 3):
            monkeypatch.setattr(feed, "reading_threads", lambda *_, n=threads: n)
            out = tmp_path / f"{chain}{threads}"
            _, found = counted(chain, root, out)
            assert set(found.values()) == {1}
            stored.append(hash_tree(out / "images.zarr"))
        assert stored[0] == stored[1], chain


@pytest.mark.parametrize("chain", ["positions", "positions early", "positions of unread"])
def test_a_step_is_told_the_positions_of_its_planes(
    plate: Path, tmp_path: Path, chain: str
) -> None:
    done, _ = counted(chain, plate, tmp_path / "out", config={"missing": "fill"})
    model, manifest = hf.open_plate(plate).model, hf.open_plate(plate).manifest
    wanted = {
        (well, model.fields[field]): at
        for number, well in enumerate(model.wells)
        for field, at in enumerate(read_stage_positions(model, manifest, number))
    }
    table = pd.DataFrame(done.table("places"))
    assert len(table)
    for row in table.itertuples():
        assert (row.y, row.x) == wanted[row.well, str(row.field)]


@pytest.mark.skipif(not IO.is_file(), reason="the system does not count bytes")
@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
def test_little_is_read_besides_the_pixels(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "p.tif"
    plane = np.random.default_rng(0).integers(0, 4096, (256, 256), np.uint16)
    tifffile.imwrite(path, plane, compression=compression, description="<MetaData>" + 3000 * " ")
    out = np.empty_like(plane)
    memory = HeaderMemory()
    for _ in range(2):
        before = bytes_read()
        with PlaneFile(path, file="p.tif", memory=memory) as opened:
            opened.read_into(out)
            opened.description()
        assert bytes_read() - before < path.stat().st_size + HEADER_BYTES
    np.testing.assert_array_equal(out, plane)


def bytes_read() -> int:
    """Return the bytes that this process has had from files so far."""
    lines = IO.read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])
