"""What a plan says of files and bytes on disk, held against what a run leaves there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hcsflow as hf
from hcsflow.cli.main import main
from hcsflow.cli.schemas import json_schema
from hcsflow.ngff import layout as layouts
from hcsflow.session.sizes import room_warnings
from hcsflow.testing.plates import write_imagexpress_plate

jsonschema = pytest.importorskip("jsonschema")

WELLS = ("A01", "B02", "B03")
REAL = Path(__file__).parents[3] / "shared/data/faim-ipa/ImageXpress/Projection-Mix"
SMALL = 300_000
"""Bytes of an object: two planes of 256² uint16 fit, three do not."""

KINDS = {
    f"{version} {field_layout} {strategy}": {
        "zarr.ngff_version": version,
        "zarr.field_layout": field_layout,
        "zarr.chunk_strategy": strategy,
    }
    for version in ("0.5", "0.4")
    for field_layout in ("mosaic", "images")
    for strategy in ("well", "file", "adaptive")
} | {
    "files": {"vfs.materialization_backend": "disk"},
    "plain": {"zarr.ome_zarr_metadata": False},
    "plain 0.4": {"zarr.ome_zarr_metadata": False, "zarr.ngff_version": "0.4"},
    "unlisted": {"zarr.write_plate_metadata": False},
    "one level": {"zarr.pyramid": False},
    "lz4": {"zarr.compressor": "lz4"},
    "gzip": {"zarr.compressor": "gzip"},
    "zlib 0.4": {"zarr.compressor": "zlib", "zarr.ngff_version": "0.4"},
    "none": {"zarr.compressor": "none"},
    "unshuffled": {"zarr.shuffle": False},
}


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    root = tmp_path_factory.mktemp("sizes") / "PLATE"
    write_imagexpress_plate(root, wells=WELLS, fields=3, channels=2, z=2, size=256)
    return root


@pytest.fixture
def small_objects(monkeypatch):
    """Let ADAPTIVE cut this small plate."""
    monkeypatch.setattr(layouts, "MAX_OBJECT_BYTES", SMALL)


def plan_of(plate, output, pipeline="count-nuclei", **options):
    return hf.compile(pipeline, hf.open_plate(plate), output=output, workers=1, **options)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def bytes_in(folder):
    return sum(path.stat().st_size for path in files_in(folder))


@pytest.mark.usefixtures("small_objects")
@pytest.mark.parametrize("kind", KINDS)
def test_files_are_exactly_those_expected_and_bytes_within_the_range(plate, tmp_path, kind):
    output = tmp_path / "OUT"
    plan = plan_of(plate, output, config=KINDS[kind])
    (size,) = plan.sizes()
    assert size.basis == "typical"
    assert plan.run(cluster="serial").failures.empty
    stored = files_in(output / size.store)
    assert len(stored) == size.objects + size.documents
    assert size.low_bytes <= bytes_in(output / size.store) <= size.high_bytes
    (known,) = plan_of(plate, output, config=KINDS[kind]).sizes()
    assert (known.basis, known.wells_measured) == ("run", len(WELLS))
    assert known.stored_bytes == pytest.approx(bytes_in(output / size.store), rel=0.1)


def test_each_output_of_a_plan_has_its_own_size(plate, tmp_path):
    steps = [
        hf.FunctionStep("gaussian_filter", sigma=1.0, name="smooth", force_disk_output=True),
        hf.FunctionStep("max_projection", name="project"),
        hf.FunctionStep("threshold_otsu", name="threshold"),
    ]
    output = tmp_path / "OUT"
    plan = plan_of(plate, output, steps, wells=["A01"])
    assert plan.run(cluster="serial").failures.empty
    whole = plan_of(plate, output, steps)
    smooth, final = whole.sizes()
    assert (smooth.output, final.output) == ("00_smooth", "")
    for size in (smooth, final):
        assert (size.basis, size.wells_measured) == ("run", 1)
        assert whole.run(cluster="serial").failures.empty
        assert size.low_bytes <= bytes_in(output / size.store) <= size.high_bytes
    assert final.share < 0.1 < smooth.share, "masks take little"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real plate is not here")
@pytest.mark.parametrize("pipeline", ["convert", "max-projection"])
def test_a_real_plate_ends_within_the_range_before_and_after_its_first_well(tmp_path, pipeline):
    output = tmp_path / "OUT"
    (typical,) = plan_of(REAL, output, pipeline).sizes()
    first = plan_of(REAL, output, pipeline, wells=["E07"])
    assert first.run(cluster="serial").failures.empty
    (known,) = plan_of(REAL, output, pipeline).sizes()
    assert plan_of(REAL, output, pipeline).run(cluster="serial").failures.empty
    found = bytes_in(output / "images.zarr")
    assert known.basis == "run"
    for size in (typical, known):
        assert size.low_bytes <= found <= size.high_bytes
    assert abs(known.stored_bytes - found) < abs(typical.stored_bytes - found)


def test_a_probe_measures_what_is_expected_on_disk(plate, tmp_path):
    plan = plan_of(plate, tmp_path / "OUT", "max-projection")
    probe = plan.probe()
    document = json.loads(json.dumps(plan.summary(probe.forecast)))
    jsonschema.validate(document, json_schema("plan"))
    (part,) = document["outputs"]
    assert (part["basis"], part["wells_measured"]) == ("probe", 3)
    assert document["stored_bytes"] == part["stored_bytes"] > 0
    assert "as measured on 3 wells of a probe" in plan.explained_with(probe.forecast)


def test_text_notebook_and_json_tell_pixels_and_disk(plate, tmp_path):
    plan = plan_of(plate, tmp_path / "OUT")
    said = f"blosc-zstd-1 (labels zstd-1) at {plan.sizes()[0].share:.2g} of the pixels"
    for text in (str(plan), plan._repr_html_()):
        assert "3 tasks, 18 objects, 54 documents and tables, 9.29 MB of pixels" in text
        assert "images.zarr: ≈ 3." in text
        assert said in text
        assert "as is typical of microscope planes" in text
    words = [sys.executable, "-c", "from hcsflow.cli.main import main; main()", "plan"]
    ran = subprocess.run(
        [*words, "count-nuclei", str(plate), "-o", str(tmp_path / "OUT"), "--json"],
        capture_output=True,
        check=True,
        timeout=120,
    )
    document = json.loads(ran.stdout)
    jsonschema.validate(document, json_schema("plan"))
    assert (document["objects"], document["documents"]) == (18, 54)
    (part,) = document["outputs"]
    assert part["raw_bytes"] == document["raw_bytes"] == plan.sizes()[0].raw_bytes
    assert part["low_bytes"] < part["stored_bytes"] < part["high_bytes"]
    assert document["free_bytes"] > 0
    assert document["warnings"] == []


def test_a_disk_without_room_is_warned_of(plate, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    plan = plan_of(plate, tmp_path / "NOT" / "YET" / "OUT")
    text = "the output's disk has 1 MB free, what is to do takes about 3."
    assert f"warning: {text}" in str(plan)
    (warning,) = plan.summary()["warnings"]
    assert warning.startswith(text)


def test_a_run_warns_of_too_little_room_and_goes_on(plate, tmp_path, monkeypatch, capsys):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    words = ["run", "max-projection", str(plate), "-o", str(tmp_path / "OUT")]
    assert main([*words, "--cluster", "serial", "--no-report"]) == 0
    assert "warning: the output's disk has 1 MB free" in capsys.readouterr().err
    assert main([*words, "--cluster", "serial", "--no-report"]) == 0
    assert "warning" not in capsys.readouterr().err, "nothing is to do"


def test_wells_that_are_whole_need_no_room(plate, tmp_path):
    plan = plan_of(plate, tmp_path / "OUT").frozen
    sizes = plan_of(plate, tmp_path / "OUT").sizes()
    segments = tuple(segment.name for segment in plan.segments)
    two = dict.fromkeys(WELLS[:2], segments)
    needed, most = sizes[0].stored_bytes * 2 // 3, sizes[0].high_bytes * 2 // 3
    assert room_warnings(plan, sizes, two, free=most) == ()
    (perhaps,) = room_warnings(plan, sizes, two, free=needed)
    assert "takes up to" in perhaps
    (surely,) = room_warnings(plan, sizes, two, free=needed - 1)
    assert "takes about" in surely
    assert room_warnings(plan, sizes, dict.fromkeys(WELLS, ()), free=0) == ()
    assert room_warnings(plan, sizes, two, free=None) == ()


def test_noise_stores_more_than_typical_and_a_run_finds_out(tmp_path):
    root = tmp_path / "PLATE"
    write_imagexpress_plate(root, wells=("A01",), fields=1, channels=1, z=1, size=256)

    def noise(stack):
        return np.random.default_rng(0).integers(0, 1 << 16, stack.shape, stack.dtype)

    steps = [hf.FunctionStep(noise, name="noise")]
    before = plan_of(root, tmp_path / "OUT", steps)
    assert before.sizes()[0].share < 0.8
    assert before.run(cluster="serial").failures.empty
    assert plan_of(root, tmp_path / "OUT", steps).sizes()[0].share > 0.95
