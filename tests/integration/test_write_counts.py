"""What writing costs, counted: objects as planned, bytes once, planes without needless copies."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import pytest

import hcsflow as hf
import hcsflow.execute.run as execute_run
from hcsflow.contracts import contract
from hcsflow.execute.resume import Ledger
from hcsflow.journal import ControlFolder, read_entry
from hcsflow.ngff import layout as layouts
from hcsflow.testing.plates import write_imagexpress_plate

HashTree = Callable[[Path], dict[str, str]]
WELLS = ("A01", "B02")
SIDE = 256
SMALL = 300_000
"""Bytes of an object under ADAPTIVE: two planes of 256² uint16 fit, three do not."""

ONE_SIDE = 1024
ONE_PLANE = ONE_SIDE * ONE_SIDE * 2
IO = Path("/proc/self/io")

WAYS = {
    f"{version}-{fields}-{strategy}": {
        "zarr.ngff_version": version,
        "zarr.field_layout": fields,
        "zarr.chunk_strategy": strategy,
    }
    for version in ("0.4", "0.5")
    for fields in ("mosaic", "images")
    for strategy in ("well", "file", "adaptive")
} | {"files": {"vfs.materialization_backend": "disk"}}


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wells of three fields, two channels, two heights."""
    root = tmp_path_factory.mktemp("counts") / "PLATE"
    write_imagexpress_plate(root, wells=WELLS, fields=3, channels=2, z=2, size=SIDE)
    return root


@pytest.fixture(autouse=True)
def encoders_as_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a serial run, whose functions can be looked into, have the encoders of a parallel one."""
    monkeypatch.setattr(execute_run, "with_fitting_encoders", lambda plan, _options: plan)


@pytest.fixture
def small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ADAPTIVE cut this small plate."""
    monkeypatch.setattr(layouts, "MAX_OBJECT_BYTES", SMALL)


def one_plane_plate(root: Path, **changes: Any) -> Path:
    """Write wells of one field and channel, of large planes."""
    options = {"wells": ("A01",), "fields": 1, "channels": 1, "z": 1, "nuclei": 20} | changes
    write_imagexpress_plate(root / "PLATE", size=ONE_SIDE, **options)
    return root / "PLATE"


def run(plan: Any) -> Any:
    done = plan.run(cluster="serial")
    assert done.failures.empty, done.failures.to_string()
    return done


def is_pixels(path: str) -> bool:
    """Tell a stored object from the documents and tables beside it."""
    return path.endswith(".tif") or path.rpartition("/")[2].isdigit()


def address(pixels: Any) -> int:
    where: int = np.asarray(pixels).__array_interface__["data"][0]
    return where


@contract(working_planes=0.0)
def unchanged(stack: Any) -> Any:
    return stack


@contract(working_planes=0.0)
def brighter(stack: Any) -> Any:
    return stack + 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("small_objects")
def test_as_many_objects_are_written_as_planned(plate: Path, tmp_path: Path, way: str) -> None:
    plan = hf.compile(
        "count-nuclei", hf.open_plate(plate), output=tmp_path / "OUT", config=WAYS[way]
    )
    done = run(plan)
    promised = sum(write.objects_per_well for write in plan.frozen.writes)
    store = tmp_path / "OUT" / ("images" if way == "files" else "images.zarr")
    on_disk = [p.relative_to(tmp_path / "OUT").as_posix() for p in store.rglob("*") if p.is_file()]
    recorded = []
    for well in WELLS:
        entry = read_entry(ControlFolder(tmp_path / "OUT"), "", well)
        assert entry is not None
        mine = [item.path for item in entry.objects if is_pixels(item.path)]
        assert len(mine) == promised
        recorded += mine
    assert sorted(filter(is_pixels, on_disk)) == sorted(recorded)
    assert plan.frozen.num_objects == len(recorded)
    if way != "files":
        assert [outcome.objects for outcome in done.outcomes] == [promised] * len(WELLS)


@pytest.mark.skipif(not IO.exists(), reason="only Linux counts what a process writes")
@pytest.mark.parametrize("way", ["0.5-mosaic-well", "0.5-images-file", "0.4-mosaic-file", "files"])
def test_each_byte_is_written_once(tmp_path: Path, way: str) -> None:
    plate = one_plane_plate(tmp_path, fields=2, z=2)
    config = {"zarr.compressor": "none", **WAYS[way]}
    plan = hf.compile([hf.FunctionStep(unchanged)], hf.open_plate(plate),
                      output=tmp_path / "OUT", config=config)  # fmt: skip
    before = written()
    run(plan)
    taken = written() - before
    assert Ledger(plan.frozen, tmp_path / "OUT").segments_to_run("A01") == ()
    stored = sum(p.stat().st_size for p in (tmp_path / "OUT").rglob("*") if p.is_file())
    assert stored > 4 * ONE_PLANE
    assert stored <= taken < stored + ONE_PLANE / 2


def written() -> int:
    """Return the bytes that this process has given to write calls."""
    return int(IO.read_text().partition("wchar: ")[2].split()[0])


class Probe:
    """What is seen of each full plane on its way: addresses, and buffers alive at the codec."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.results: list[int] = []
        self.alive: list[Any] = []  # so that no address comes twice
        self.encoded: list[int] = []
        probe = self

        class SeenBlosc(numcodecs.blosc.Blosc):  # type: ignore[misc]
            def encode(self, buffer: Any) -> bytes:
                if np.asarray(buffer).nbytes == ONE_PLANE:
                    probe.encoded.append(address(buffer))
                    probe.alive.append(buffer)
                encoded: bytes = super().encode(buffer)
                return encoded

        monkeypatch.setattr(numcodecs.blosc, "Blosc", SeenBlosc)

    def step(self, func: Callable[[Any], Any]) -> hf.FunctionStep:
        """Return a step that notes where its result lies."""

        @contract(working_planes=0.0)
        def noted(stack: Any) -> Any:
            result = func(stack)
            self.results += [address(plane) for plane in result]
            self.alive.append(result)
            return result

        return hf.FunctionStep(noted, name="noted")


@pytest.mark.parametrize("make", [unchanged, brighter])
@pytest.mark.parametrize("encoders", [1, 3])
def test_the_codec_reads_a_result_where_the_step_left_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, encoders: int
) -> None:
    probe = Probe(monkeypatch)
    plate = one_plane_plate(tmp_path, fields=2)
    plan = hf.compile(
        [probe.step(make)],
        hf.open_plate(plate),
        output=tmp_path / "OUT",
        resources=hf.Resources(workers=1, memory_bytes=8 << 30, encoders=encoders),
    )
    run(plan)
    assert len(probe.encoded) == len(probe.results) == 2, "each plane is encoded once"
    if encoders == 1 or make is unchanged:
        assert sorted(probe.encoded) == sorted(probe.results)
    else:  # what a step may still write to is copied, once, before a thread reads it
        assert not set(probe.encoded) & set(probe.results)


@pytest.fixture
def traced() -> Iterator[None]:
    """Count allocations."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("encoders", "planes"), [(1, 2), (4, 2)])
def test_at_most_two_copies_of_a_plane_are_alive_from_file_to_file(
    tmp_path: Path, encoders: int, planes: int
) -> None:
    plate = one_plane_plate(tmp_path)
    plan = hf.compile(
        [hf.FunctionStep(unchanged)],
        hf.open_plate(plate),
        output=tmp_path / "OUT",
        config={"zarr.compressor": "none", "zarr.pyramid": False},
        resources=hf.Resources(workers=1, memory_bytes=8 << 30, encoders=encoders),
    )
    run_warm(plan, tmp_path)
    tracemalloc.clear_traces()
    start, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    run(plan)
    peak = tracemalloc.get_traced_memory()[1] - start
    # the histogram of the grey values takes half a megabyte, twice
    assert peak < (planes + 0.75) * ONE_PLANE


def run_warm(plan: Any, folder: Path) -> None:
    """Load what a first run loads, so that it does not count."""
    warm = replace(plan, output=folder / "WARM")
    run(warm)


@pytest.mark.parametrize("way", ["0.4-mosaic-well", "0.4-images-file", "0.5-mosaic-well",
                                 "0.5-mosaic-adaptive", "0.5-images-well"])  # fmt: skip
@pytest.mark.usefixtures("small_objects")
def test_encoders_change_no_byte_of_a_run(
    plate: Path, tmp_path: Path, hash_tree: HashTree, way: str
) -> None:
    found = []
    for encoders in (1, 2, 5):
        plan = hf.compile(
            "count-nuclei",
            hf.open_plate(plate),
            output=tmp_path / str(encoders),
            config=WAYS[way],
            resources=hf.Resources(workers=1, memory_bytes=8 << 30, encoders=encoders),
        )
        run(plan)
        found.append(hash_tree(tmp_path / str(encoders) / "images.zarr"))
    assert found[0] == found[1] == found[2]
