"""Opening whole ImageXpress plates: real ones, and every synthetic layout, against golden files.

``UPDATE_GOLDEN=1 pytest …`` rewrites the golden files; review them as a diff.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hcsflow.errors import UsageError
from hcsflow.microscopes import open_plate, read_stage_positions
from hcsflow.session.inspection import inspect_values
from hcsflow.testing.plates import key_coded_plate, write_imagexpress_plate

GOLDEN = Path(__file__).parents[2] / "golden" / "imagexpress"
SHARED = Path(__file__).parents[4] / "shared"
IMAGEXPRESS = SHARED / "data" / "faim-ipa"


def real(*parts):
    path = IMAGEXPRESS.joinpath(*parts)
    if not path.is_dir():
        pytest.skip("the real plates are not beside this repository")
    return path


def inspected(path, **options):
    return inspect_values(*open_plate(path, **options))


def check_golden(name, found):
    found = {**found, "path": "PLATE"}
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert json.loads(golden.read_text(encoding="utf-8")) == found


# -- real plates -----------------------------------------------------------------------------------


def test_projection_mix():
    path = real("ImageXpress", "Projection-Mix")
    found = inspected(path)
    assert found["wells"] == ["E07", "E08"]
    assert len(found["fields"]) == 2
    assert [(c["label"], c["z"], c["projection"]) for c in found["channels"]] == [
        ("w1", 5, False),
        ("w2", 5, False),
        ("w3", 1, True),
        ("w4", 1, False),
    ]
    assert found["z_step"]["um"] == 5.0
    assert found["pixel_size"]["um"] == 1.3668
    assert "MetaSeries spatial-calibration-x" in found["pixel_size"]["origin"]
    assert found["projections"] == [
        {"channel": "w1", "method": "Maximum", "files": 4},
        {"channel": "w2", "method": "Best Focus", "files": 4},
    ]
    assert found["ignored"] == {"thumbnail": 56}
    assert (found["planes"], found["absent"], found["missing"]) == (48, 32, [])
    check_golden("projection-mix", found)


def test_projection_mix_stage_positions():
    plate, manifest = open_plate(real("ImageXpress", "Projection-Mix"))
    assert read_stage_positions(plate, manifest, 0) == [(41385.4, 79813.4), (41385.4, 80513.3)]
    assert plate.grid.cells == ((0, 0), (0, 1))
    assert plate.grid.origin == "stage positions of E07"


def test_an_acquisition_folder_alone_is_the_same_plate():
    whole, _ = open_plate(real("ImageXpress", "Projection-Mix"))
    part, manifest = open_plate(real("ImageXpress", "Projection-Mix") / "2023-02-21" / "1334")
    assert (part.name, part.wells, part.channels) == (whole.name, whole.wells, whole.channels)
    assert manifest.path(0).startswith("ZStep_1/")


def test_single_channel():
    check_golden("single-channel", inspected(real("ImageXpress", "SingleChannel")))


def test_exported_plate_of_one_file():
    found = inspected(real("ImageXpress_exported", "9987_Plate_3420"))
    assert (found["wells"], found["planes"], found["layout"]) == (["B02"], 1, "exported")
    assert found["channels"][0]["name"] == "DAPI"
    assert found["pixel_size"]["um"] == 1.3672
    check_golden("9987-plate-3420", found)


def test_an_htd_file_may_stand_for_its_plate():
    folder = real("ImageXpress_exported", "9987_Plate_3420")
    assert open_plate(folder / "9987.HTD") == open_plate(folder)


@pytest.mark.parametrize("layout", ["flat", "nested"])
def test_plates_of_the_shared_generator(tmp_path, layout):
    script = SHARED / "tools" / "make_plate.py"
    if not script.is_file():
        pytest.skip("the plate generator is not beside this repository")
    options = ["--wells", "2", "--size", "64", "--cells", "1", "--jobs", "1", "--layout", layout]
    command = [sys.executable, str(script), "--out", str(tmp_path / "P"), *options]
    subprocess.run(command, check=True, capture_output=True)
    plate, manifest = open_plate(tmp_path / "P")
    assert plate.wells == ("A01", "A02")
    assert [c.name for c in plate.channels] == ["DAPI", "FITC"]
    assert [c.z for c in plate.channels] == [3, 3]
    assert (len(manifest), len(manifest.missing)) == (48, 0)
    assert plate.pixel_size.um == 0.65
    assert plate.pixel_size.origin.startswith("HTD PixelSizeUM")
    assert plate.grid.cells == ((0, 0), (0, 1), (1, 0), (1, 1))


# -- synthetic layouts -----------------------------------------------------------------------------

SMALL = {"wells": ("B02", "P24"), "fields": 3, "size": 32, "nuclei": 1}


@pytest.mark.parametrize("layout", ["exported", "flat", "database"])
def test_every_layout(tmp_path, layout):
    write_imagexpress_plate(tmp_path / "synthetic", layout=layout, **SMALL)
    found = inspected(tmp_path / "synthetic")
    assert found["nbytes"] > 0
    check_golden(f"synthetic-{layout}", {**found, "nbytes": None})


@pytest.mark.parametrize("layout", ["exported", "flat", "database"])
def test_every_plane_is_where_its_pixels_say(tmp_path, layout):
    wells = ("A01", "H12")
    code = key_coded_plate(
        tmp_path / "P", layout=layout, wells=wells, fields=12, channels=2, z=(11, 1), timepoints=2
    )
    plate, manifest = open_plate(tmp_path / "P")
    assert plate.fields == tuple(map(str, range(1, 13)))
    assert [c.z for c in plate.channels] == [11, 1]
    assert len(manifest) == 2 * 12 * 2 * (11 + 1)
    assert manifest.missing.shape == (0, 5)
    for key, path in manifest:
        expected = code.value(wells.index(plate.wells[key.well]), *key[2:])
        assert int(tifffile.imread(tmp_path / "P" / path)[0, 0]) == expected


def test_opening_does_not_touch_the_plate(tmp_path, hash_tree):
    root = tmp_path / "P"
    write_imagexpress_plate(root, layout="database", **SMALL)
    before = hash_tree(root), sorted(p.stat().st_mtime_ns for p in root.rglob("*"))
    plate, manifest = open_plate(root)
    read_stage_positions(plate, manifest, 0)
    assert (hash_tree(root), sorted(p.stat().st_mtime_ns for p in root.rglob("*"))) == before


def test_only_a_handful_of_files_is_opened(tmp_path):
    root = tmp_path / "P"
    wells = tuple(f"A{n:02d}" for n in range(1, 13))
    key_coded_plate(root, wells=wells, fields=2, channels=2, z=3)
    opened: list[str] = []
    is_watching = True

    def note(event, arguments):
        if is_watching and event == "open" and str(arguments[0]).endswith(".tif"):
            opened.append(str(arguments[0]))

    sys.addaudithook(note)  # cannot be taken away, only be silenced
    open_plate(root)
    is_watching = False
    assert len(opened) == len(set(opened))
    assert 1 <= len(opened) <= 2 + 2 + 3  # a file per channel, a well's fields, a stack


# -- what a plate may lack -------------------------------------------------------------------------


def test_copies_of_a_single_plane_are_one_plane(tmp_path):
    key_coded_plate(tmp_path / "P", wells=("A01",), channels=3, z=(4, 1, 1), fields=2)
    plate, manifest = open_plate(tmp_path / "P")
    assert len(list((tmp_path / "P").rglob("*_w2.tif"))) == 2 * 4
    assert [(c.z, c.is_projection) for c in plate.channels] == [(4, False), (1, False), (1, False)]
    assert all("ZStep_1/" in path for key, path in manifest if key.channel)
    assert dict(manifest.ignored) == {"copy of a single plane": 2 * 2 * 3}
    assert (len(manifest), manifest.absent) == (2 * 6, 2 * 2 * 3)


def test_a_projection_copied_into_every_step_is_one_plane(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, wells=("A01",), fields=1, channels=2, z=3, projections=(1,))
    projection = next(root.glob("TimePoint_1/ZStep_0/*_w2.tif"))
    for step in (1, 2, 3):
        target = root / "TimePoint_1" / f"ZStep_{step}" / projection.name
        target.write_bytes(projection.read_bytes())
    plate, manifest = open_plate(root)
    channel = plate.channels[1]
    assert (channel.z, channel.is_projection, channel.projection) == (1, True, "Maximum")
    assert [path for key, path in manifest if key.channel == 1] == [
        f"TimePoint_1/ZStep_0/{projection.name}"
    ]
    assert manifest.projections == ()


def test_projections_in_step_0_are_listed_beside_the_stack(tmp_path):
    key_coded_plate(tmp_path / "P", wells=("A01",), fields=2, channels=2, z=3, projections=(0,))
    plate, manifest = open_plate(tmp_path / "P")
    assert [c.z for c in plate.channels] == [3, 3]
    assert plate.channels[0].projection == "Maximum"
    assert [(p.field, p.channel, p.path.split("/")[1]) for p in manifest.projections] == [
        (0, 0, "ZStep_0"),
        (1, 0, "ZStep_0"),
    ]
    assert plate.z_step.um == 3.0


def test_steps_sort_as_numbers(tmp_path):
    key_coded_plate(tmp_path / "P", wells=("A01",), fields=1, channels=1, z=12)
    plate, manifest = open_plate(tmp_path / "P")
    assert plate.z == tuple(map(str, range(1, 13)))
    assert [path.split("/")[1] for _, path in manifest] == [f"ZStep_{n}" for n in range(1, 13)]


def test_pixel_size_goes_by_the_best_origin(tmp_path):
    small = {"wells": ("A01",), "fields": 1, "channels": 1, "z": 1}
    key_coded_plate(tmp_path / "meta", **small, pixel_size_um=0.5)
    key_coded_plate(tmp_path / "htd", **small, metaseries=False)
    key_coded_plate(tmp_path / "tags", **small, metaseries=False, htd=False)
    sizes = [open_plate(tmp_path / name)[0].pixel_size for name in ("meta", "htd", "tags")]
    assert [size.um for size in sizes] == [0.5, 0.65, pytest.approx(0.65)]
    assert [size.origin.split(" of ")[0] for size in sizes] == [
        "MetaSeries spatial-calibration-x",
        "HTD PixelSizeUM",
        "TIFF resolution",
    ]
    given = open_plate(tmp_path / "tags", pixel_size_um=0.2)[0].pixel_size
    assert (given.um, given.origin) == (0.2, "given by the user")


def test_nothing_known_is_said_so(tmp_path):
    for z in (1, 2):
        tifffile.imwrite(tmp_path / f"A01_s1_w1_z{z}.tif", np.zeros((8, 8), np.uint8))
    plate, _ = open_plate(tmp_path)
    assert (plate.pixel_size.um, plate.pixel_size.origin) == (None, "unknown")
    assert (plate.z_step.um, plate.z_step.origin) == (None, "unknown")
    assert (plate.dtype, plate.grid.origin) == ("uint8", "field number")
    assert plate.channels[0].name == "w1"


@pytest.mark.parametrize("size", [0, -1.0, float("nan"), float("inf")])
def test_a_pixel_size_must_be_positive(tmp_path, size):
    with pytest.raises(UsageError, match="pixel size"):
        open_plate(tmp_path, pixel_size_um=size)


def test_z_numbers_of_a_channel_may_be_uneven(tmp_path):
    for wave, steps in ((1, (0, 1, 2, 3)), (2, (1, 3))):
        for z in steps:
            tifffile.imwrite(tmp_path / f"A01_s1_w{wave}_z{z}.tif", np.zeros((8, 8), np.uint16))
    plate, manifest = open_plate(tmp_path)
    assert plate.z == ("0", "1", "2", "3")
    assert [c.heights for c in plate.channels] == [(0, 1, 2, 3), (1, 3)]
    assert (len(manifest.missing), manifest.absent) == (0, 2)


def test_hidden_files_and_zarr_stores_do_not_count(tmp_path):
    write_imagexpress_plate(tmp_path / "P", **SMALL)
    bare = inspected(tmp_path / "P")
    first = next((tmp_path / "P").rglob("*.tif"))
    first.with_name(f"._{first.name}").write_bytes(b"\0")
    (tmp_path / "P" / "@eaDir").mkdir()
    store = tmp_path / "P" / "OUT.zarr"
    store.mkdir()
    (store / first.name).write_bytes(first.read_bytes())
    (tmp_path / "P" / "notes.txt").write_text("x")
    found = inspected(tmp_path / "P")
    assert found.pop("ignored") == {
        "file of another kind": 1,
        "hidden file": 2,
        "zarr store": 1,
    }
    bare.pop("ignored")
    assert found == bare
