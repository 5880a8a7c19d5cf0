"""Wells saved as batches: every format and strategy, and the plate that they make."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models import v04, v05  # before any ngio: after it, 1.7 takes 0.4 for 0.5

from hcsflow.config import ZarrConfig
from hcsflow.errors import UsageError
from hcsflow.storage.zarr import ZarrStorageBackend

STRATEGIES = ("well", "file", "adaptive")
VERSIONS = ("0.4", "0.5")
RNG = np.random.default_rng(0)


@pytest.fixture
def backend(tmp_path):
    return ZarrStorageBackend(tmp_path)


def names_of(well, store="plate.zarr", fields=2, channels=2, z=2):
    axes = range(1, fields + 1), range(1, channels + 1), range(1, z + 1)
    return [
        f"{store}/{well}_s{f:03d}_w{c}_z{k:03d}_t001.tif" for f, c, k in itertools.product(*axes)
    ]


def planes_for(names, size=32):
    return [RNG.integers(0, 999, (size, size)).astype(np.uint16) for _ in names]


def save(backend, well, value=None, **options):
    names = names_of(well)
    planes = planes_for(names) if value is None else [np.full((8, 8), value, "u2")] * len(names)
    backend.save_batch(planes, names, chunk_name=well, **options)
    return planes, names


def wells_listed(store):
    attributes = zarr.open_group(store, mode="r").attrs
    plate = attributes["ome"]["plate"] if "ome" in attributes else attributes["plate"]
    return [well["path"] for well in plate["wells"]]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("compressor", ["zstd", "lz4", "gzip", "none"])
def test_every_way_to_store_a_well(tmp_path, backend, version, strategy, compressor):
    config = ZarrConfig(ngff_version=version, chunk_strategy=strategy, compressor=compressor)
    planes, names = save(backend, "B03", zarr_config=config)
    for plane, found in zip(planes, backend.load_batch(names), strict=True):
        assert found.dtype == plane.dtype
        assert np.array_equal(found, plane)
    assert np.array_equal(backend.load(names[5]), planes[5])
    assert backend.list_files("plate.zarr") == names
    assert backend.verify("plate.zarr").is_sound
    array = zarr.open_array(tmp_path / "plate.zarr" / "B" / "03" / "0" / "0", mode="r")
    assert array.metadata.zarr_format == (2 if version == "0.4" else 3)
    assert np.array_equal(array[1, 0, :32, 32:], planes[6])  # field 2, channel 2, z 1


@pytest.mark.parametrize("version", VERSIONS)
def test_wells_saved_in_a_loop_make_a_plate(tmp_path, backend, version):
    config = ZarrConfig(ngff_version=version)
    for well in ("C05", "A01", "H12"):
        save(backend, well, zarr_config=config)
    store = tmp_path / "plate.zarr"
    assert wells_listed(store) == ["A/01", "C/05", "H/12"]
    assert {"A", "C", "H"} <= set(zarr.open_group(store, mode="r").group_keys())
    assert backend.list_dir("plate.zarr") == ["A", "C", "H"]
    before = {path: path.stat().st_mtime_ns for path in store.glob("*") if path.is_file()}
    assert backend.finish_plate("plate.zarr") == ("A01", "C05", "H12")
    assert before == {path: path.stat().st_mtime_ns for path in store.glob("*") if path.is_file()}


@pytest.mark.parametrize(("version", "module"), [("0.4", v04), ("0.5", v05)])
def test_the_plate_is_valid_for_another_reader(tmp_path, backend, version, module):
    save(backend, "A01", zarr_config=ZarrConfig(ngff_version=version))
    save(backend, "B02", zarr_config=ZarrConfig(ngff_version=version))
    group = zarr.open_group(tmp_path / "plate.zarr", mode="r")
    assert len(module.HCS.from_zarr(group).ome_attributes.plate.wells) == 2


def test_ngio_opens_the_plate(tmp_path, backend):
    ngio = pytest.importorskip("ngio")
    planes, _ = save(backend, "A01")
    save(backend, "B02")
    plate = ngio.open_ome_zarr_plate(tmp_path / "plate.zarr", mode="r")
    assert sorted(plate.wells_paths()) == ["A/01", "B/02"]
    image = plate.get_image("A", "01", "0").get_image()
    assert np.array_equal(np.asarray(image.get_array())[0, 0, :32, :32], planes[0])


def test_a_well_that_goes_or_moves_is_delisted(tmp_path, backend):
    for well in ("A01", "A02", "B01"):
        save(backend, well)
    store = tmp_path / "plate.zarr"
    backend.delete_all("plate.zarr/A/02")
    assert wells_listed(store) == ["A/01", "B/01"]
    backend.delete_all("plate.zarr/B")
    assert wells_listed(store) == ["A/01"]
    backend.move("plate.zarr/A/01", "plate.zarr/A/07")
    assert wells_listed(store) == ["A/07"]
    backend.copy("plate.zarr/A/07", "plate.zarr/A/08")
    assert wells_listed(store) == ["A/07", "A/08"]
    backend.delete_all("plate.zarr/A")
    assert "ome" not in backend.read_attributes("plate.zarr")


def test_what_a_plate_says_of_itself_stays(tmp_path, backend):
    save(backend, "A01")
    file = tmp_path / "plate.zarr" / "zarr.json"
    document = json.loads(file.read_text())
    document["attributes"]["ome"]["plate"]["name"] = "Assay 7"
    document["attributes"]["mine"] = 1
    file.write_text(json.dumps(document))
    save(backend, "B01")
    attributes = backend.read_attributes("plate.zarr")
    assert attributes["mine"] == 1
    assert attributes["ome"]["plate"]["name"] == "Assay 7"
    assert len(attributes["ome"]["plate"]["wells"]) == 2


def test_without_plate_metadata(tmp_path, backend):
    save(backend, "A01", zarr_config=ZarrConfig(write_plate_metadata=False))
    assert not (tmp_path / "plate.zarr" / "zarr.json").exists()
    assert backend.finish_plate("plate.zarr") == ("A01",)
    assert wells_listed(tmp_path / "plate.zarr") == ["A/01"]


def test_stores_of_another_kind_are_refused(tmp_path, backend):
    save(backend, "A01")
    with pytest.raises(UsageError, match="store of Zarr 3"):
        save(backend, "A02", zarr_config=ZarrConfig(ngff_version="0.4"))
    assert backend.finish_plate("plate.zarr") == ("A01",)
    plate = {"plate": {"wells": [{"path": "Well_1/x", "rowIndex": 0, "columnIndex": 0}]}}
    zarr.create_group(tmp_path / "other.zarr", attributes={"ome": plate})
    names = names_of("A01", store="other.zarr")
    with pytest.raises(UsageError, match="another program"):
        backend.save_batch(planes_for(names), names, chunk_name="x")
    backend.save(np.zeros((2, 2)), "array.zarr")
    names = names_of("A01", store="array.zarr")
    with pytest.raises((UsageError, NotADirectoryError), match="array"):
        backend.save_batch(planes_for(names), names, chunk_name="x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "array.zarr", "other.zarr", "plate.zarr",
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "other.zarr").iterdir()] == ["zarr.json"]


def test_a_name_belongs_to_one_batch(backend):
    planes = [np.full((4, 4), i, "u1") for i in range(2)]
    backend.save_batch(planes, ["s/a", "s/b"], chunk_name="x")
    with pytest.raises(FileExistsError, match="s/b"):
        backend.save_batch(planes, ["s/c", "s/b"], chunk_name="y")
    backend.save_batch(planes[::-1], ["s/a", "s/b"], chunk_name="x", overwrite=True)
    assert backend.load("s/a").max() == 1
    backend.move("s/x", "s/z")
    assert backend.load("s/a").max() == 1
    backend.delete_all("s/z")
    assert not backend.is_file("s/a")


def test_a_plane_is_seen_as_a_file(tmp_path, backend):
    planes, names = save(backend, "A01")
    found = backend.stat(names[0])
    assert not found.is_dir
    assert 0 < found.nbytes < 2 * planes[0].nbytes
    backend.copy(names[0], "one.zarr")
    assert np.array_equal(backend.load("one.zarr"), planes[0])
    twice = backend.load_batch([names[0], names[0], "one.zarr"])
    twice[0][:] = 0
    assert np.array_equal(twice[1], planes[0])
    with pytest.raises(UsageError, match="a plane of a stored image"):
        backend.move(names[0], "two.zarr")


def test_a_mirror_of_a_plate_is_a_plate(tmp_path, backend):
    planes, names = save(backend, "A01")
    save(backend, "B02")
    backend.save_batch(planes[:2], ["plate.zarr/x", "plate.zarr/y"], chunk_name="extra")
    for recursive, target in ((True, "deep/copy.zarr"), (False, "flat.zarr")):
        files = backend.list_files("plate.zarr", recursive=recursive)
        assert backend.mirror_directory("plate.zarr", target, recursive=recursive) == len(files)
        assert wells_listed(tmp_path / target) == ["A/01", "B/02"]
        copied = backend.list_files(target, recursive=recursive)
        assert copied == [file.replace("plate.zarr", target) for file in files]
        assert np.array_equal(backend.load(names[3].replace("plate.zarr", target)), planes[3])


def test_a_listing_from_above_names_planes_not_their_arrays(backend):
    _, names = save(backend, "A01")
    backend.save(np.zeros(3), "plate.zarr/extra/profile")
    wanted = {*names, "plate.zarr/extra/profile"}
    assert set(backend.list_files("plate.zarr", recursive=True)) == wanted
    assert set(backend.list_files(".", recursive=True)) == wanted
    assert "plate.zarr/A/01/0/0" in backend.list_files("plate.zarr/A/01", recursive=True)
    assert backend.list_files("plate.zarr/A") == []


PROLOGUE = """
import itertools, sys
import numpy as np
from hcsflow.storage.zarr import ZarrStorageBackend

backend = ZarrStorageBackend(sys.argv[1])


def save(well, value, **options):
    numbers = itertools.product((1, 2), (1, 2), (1, 2))
    names = [f"plate.zarr/{well}_s{f:03d}_w{c}_z{k:03d}_t001.tif" for f, c, k in numbers]
    planes = [np.full((8, 8), value, "u2")] * 8
    backend.save_batch(planes, names, chunk_name=well, **options)


sys.stdin.readline()  # all begin at once
"""


def start(folder, code):
    command = [sys.executable, "-c", PROLOGUE + code, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def outputs(workers):
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    found = [worker.communicate(timeout=100)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers)
    return found


def test_processes_write_wells_of_one_store(tmp_path, backend):
    code = "for n in range(1, 9): save(f'{row}{n:02d}', n)"
    outputs([start(tmp_path, f"row = {row!r}\n{code}") for row in "AB"])
    assert len(wells_listed(tmp_path / "plate.zarr")) == 16
    assert backend.load(names_of("B06")[-1]).max() == 6
    assert not list(tmp_path.rglob(".*"))


def test_of_processes_with_one_well_one_wins(tmp_path, backend):
    code = "try: save('A01', {0})\nexcept FileExistsError: pass\nelse: print({0})"
    found = outputs([start(tmp_path, code.format(value)) for value in (1, 2, 3)])
    winners = [int(text) for text in found if text]
    assert len(winners) == 1
    assert {int(p.max()) for p in backend.load_batch(names_of("A01"))} == set(winners)
    assert not list(tmp_path.rglob(".*"))


def test_a_reader_meets_the_old_well_or_the_new_one(tmp_path, backend):
    save(backend, "A01", value=0)
    backend.save(np.full((16, 16), 0), "array.zarr")
    writer = start(
        tmp_path,
        "for n in range(1, 16):\n"
        "    save('A01', n, overwrite=True)\n"
        "    backend.save(np.full((16, 16), n), 'array.zarr', overwrite=True)\n",
    )
    writer.stdin.write("\n")
    writer.stdin.flush()
    last = 0
    while writer.poll() is None:
        values = [int(v) for p in backend.load_batch(names_of("A01")) for v in np.unique(p)]
        assert len(set(values)) == 1, "planes of two versions"
        assert values[0] >= last
        last = values[0]
        assert len(np.unique(backend.load("array.zarr"))) == 1
    writer.communicate(timeout=100)
    assert writer.returncode == 0
    assert backend.load(names_of("A01")[0]).max() == 15


WATCHED = {"is_on": False, "files": []}


def _watch(event, arguments):
    if event == "open" and WATCHED["is_on"] and isinstance(arguments[0], (str, os.PathLike)):
        WATCHED["files"].append(Path(arguments[0]))


sys.addaudithook(_watch)


def files_opened(folder, call):
    """Return the files below a folder that a call opens."""
    WATCHED.update(is_on=True, files=[])
    try:
        call()
    finally:
        WATCHED["is_on"] = False
    opened = (path for path in WATCHED["files"] if path.is_relative_to(folder))
    return [path.relative_to(folder).as_posix() for path in opened]


def settle():
    time.sleep(0.15)  # documents this young are read anew each time


def test_a_plane_costs_the_same_in_a_store_of_many_wells(tmp_path):
    costs = {}
    for count in (1, 30):
        folder = tmp_path / str(count)
        backend = ZarrStorageBackend(folder)
        for well in range(count):
            save(backend, f"{'ABCDEFGH'[well % 8]}{well // 8 + 1:02d}", value=well)
        settle()
        load = partial(backend.load_batch, names_of("A01"))
        costs[count] = files_opened(folder, load), files_opened(folder, load)
    assert costs[1] == costs[30]
    first, again = costs[1]
    assert len(first) == 3  # the well's document, the array's, the shard
    assert again == ["plate.zarr/A/01/0/0/c/0/0/0/0"]


def test_any_name_is_found_without_reading_all_batches_again(tmp_path, backend):
    for batch in range(20):
        planes = [np.full((4, 4), batch, "u1")] * 3
        backend.save_batch(planes, [f"s/b{batch}_{i}" for i in range(3)], chunk_name=f"x{batch}")
    settle()
    for name in ("s/b7_1", "s/b11_2"):
        backend.load(name)
    assert files_opened(tmp_path, partial(backend.load, "s/b11_2")) == ["s/x11/c/0/0/0"]
    assert files_opened(tmp_path, partial(backend.is_file, "s/nowhere")) == []
    backend.save_batch([np.zeros((4, 4))], ["s/new"], chunk_name="more")
    assert backend.is_file("s/new")
    assert backend.is_file("s/b19_0")
