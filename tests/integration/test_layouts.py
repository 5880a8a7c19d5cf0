"""A mosaic a well, an image a field, files of planes, plain Zarr: the same results, read by all."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from ome_zarr_models import v04, v05  # before any ngio: after it, 1.7 takes 0.4 for 0.5

import hcsflow as hf
from hcsflow.execute.status import read_status, verify_output
from hcsflow.graph.stored import open_stored_planes
from hcsflow.ngff import layout as layouts
from hcsflow.testing.compare import label_tiles
from hcsflow.testing.plates import write_imagexpress_plate

HashTree = Callable[[Path], dict[str, str]]
WELLS = ("A01", "B02")
FIELDS, SIDE, UM = 3, 256, 0.65
SMALL = 300_000
"""Bytes of an object: two planes of 256² uint16 fit, three do not."""

KINDS: dict[str, dict[str, Any]] = {
    "mosaic": {},
    **{
        f"images-{version}-{strategy}": {
            "zarr.field_layout": "images",
            "zarr.ngff_version": version,
            "zarr.chunk_strategy": strategy,
        }
        for version in ("0.5", "0.4")
        for strategy in ("well", "file", "adaptive")
    },
    "files": {"vfs.materialization_backend": "disk"},
    "plain": {"zarr.ome_zarr_metadata": False},
    "plain-0.4": {
        "zarr.ome_zarr_metadata": False,
        "zarr.ngff_version": "0.4",
        "zarr.field_layout": "images",
    },
    "unlisted": {"zarr.write_plate_metadata": False},
}
IMAGES = [kind for kind in KINDS if kind.startswith("images")]
OTHERS = [kind for kind in KINDS if kind != "mosaic"]


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wells of three fields, two channels, two heights."""
    root = tmp_path_factory.mktemp("layouts") / "PLATE"
    write_imagexpress_plate(
        root, wells=WELLS, fields=FIELDS, channels=2, z=2, size=SIDE, pixel_size_um=UM
    )
    return root


@pytest.fixture(scope="module", autouse=True)
def small_objects() -> Iterator[None]:
    """Let ADAPTIVE cut this small plate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "MAX_OBJECT_BYTES", SMALL)
        yield


def planned(plate: Path, output: Path, kind: str, **options: Any) -> Any:
    return hf.compile(
        "count-nuclei", hf.open_plate(plate), output=output, config=KINDS[kind], **options
    )


def run(plate: Path, output: Path, kind: str, **options: Any) -> Any:
    done = planned(plate, output, kind, **options).run(cluster="serial")
    assert done.failures.empty
    return done


@pytest.fixture(scope="module")
def outputs(plate: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same job, stored in every way."""
    root = tmp_path_factory.mktemp("stored")
    for kind in KINDS:
        run(plate, root / kind, kind).report()
    return {kind: root / kind for kind in KINDS}


def cell(field: int) -> tuple[slice, slice]:
    """Return where a field lies in the mosaic of two rows and columns."""
    y, x = (at * SIDE for at in divmod(field, 2))
    return slice(y, y + SIDE), slice(x, x + SIDE)


def pixels_of(output: Path, kind: str, well: str, field: int, level: int = 0) -> Any:
    """Return a field's image (c, z, y, x) and labels (y, x), as another program reads them."""
    row, column = well[0], well[1:]
    if kind == "files":
        folder = output / "images" / well
        stem = f"{well}_s{field + 1:03d}"
        planes = [
            [tifffile.imread(folder / f"{stem}_w{c}_z{z:03d}_t001.tif") for z in (1, 2)]
            for c in (1, 2)
        ]
        labels = tifffile.imread(folder / "labels" / "nuclei" / f"{stem}_w1_z001_t001.tif")
        return np.array(planes), labels
    store = output / "images.zarr" / row / column
    is_mosaic = not (kind.startswith("images") or kind == "plain-0.4")
    image = store / ("0" if is_mosaic else str(field))
    found = zarr.open_array(image / str(level), mode="r")[...]
    labels = zarr.open_array(image / "labels" / "nuclei" / str(level), mode="r")[...]
    if not is_mosaic:
        return found, labels
    y, x = (slice(s.start >> level, s.stop >> level) for s in cell(field))
    return found[..., y, x], labels[y, x]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("level", [0, 1])
def test_every_layout_holds_the_same_pixels_and_labels(
    outputs: dict[str, Path], kind: str, level: int
) -> None:
    if kind == "files" and level:
        pytest.skip("files are planes at full size alone")
    for well in WELLS:
        for field in range(FIELDS):
            image, labels = pixels_of(outputs[kind], kind, well, field, level)
            expected = pixels_of(outputs["mosaic"], "mosaic", well, field, level)
            np.testing.assert_array_equal(image, expected[0])
            np.testing.assert_array_equal(labels, expected[1])
            assert (image.dtype, labels.dtype) == (np.uint16, np.uint32)
            assert set(np.unique(labels[labels > 0] >> 16)) == {field}


@pytest.mark.parametrize("kind", OTHERS)
def test_the_tables_of_the_plate_are_the_same(outputs: dict[str, Path], kind: str) -> None:
    for name in ("nuclei.parquet", "nuclei.csv"):
        ours, theirs = (outputs[each] / "results" / name for each in (kind, "mosaic"))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_step_reads_back_what_was_stored(
    outputs: dict[str, Path], plate: Path, tmp_path: Path, kind: str
) -> None:
    plan = planned(plate, tmp_path, kind).frozen
    write = plan.writes[-1]
    with open_stored_planes(outputs[kind], plan, write, "B02") as stored:
        assert not stored.missing
        for key in plan.steps[write.step].output.iter_keys():
            image, _ = pixels_of(outputs[kind], kind, "B02", key.field)
            np.testing.assert_array_equal(stored.read(key), image[key.channel, key.z])
        assert stored.bytes_read == FIELDS * 2 * 2 * SIDE * SIDE * 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_is_on_record_and_planned(
    outputs: dict[str, Path], plate: Path, tmp_path: Path, kind: str
) -> None:
    assert verify_output(outputs[kind]) == []
    assert read_status(outputs[kind]).done == WELLS
    plan = planned(plate, tmp_path, kind).frozen
    store = outputs[kind] / plan.writes[-1].store
    documents = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}
    files = [p for p in store.rglob("*") if p.is_file() and p.name not in documents]
    assert len([p for p in files if p.suffix != ".parquet"]) == plan.num_objects


@pytest.mark.parametrize("kind", KINDS)
def test_the_metadata_say_what_lies_where(outputs: dict[str, Path], kind: str) -> None:
    document = json.loads((outputs[kind] / "hcsflow_metadata.json").read_text())
    ((store, facts),) = document["subdirectories"].items()
    assert store == ("images" if kind == "files" else "images.zarr")
    assert facts["available_backends"] == {"disk" if kind == "files" else "zarr": True}
    assert facts["wells"] == list(WELLS)
    folders = [outputs[kind] / store / file for file in facts["image_files"]]
    assert all(folder.is_dir() for folder in folders)
    per_well = FIELDS if kind.startswith("images") or kind == "plain-0.4" else 1
    assert len(folders) == len(WELLS) * per_well


@pytest.mark.parametrize("kind", IMAGES)
def test_each_field_lies_where_the_stage_was(
    outputs: dict[str, Path], plate: Path, kind: str
) -> None:
    store = outputs[kind] / "images.zarr" / "B" / "02"
    attributes = dict(zarr.open_group(store, mode="r").attrs)
    well = attributes.get("ome", attributes)["well"]
    assert [image["path"] for image in well["images"]] == ["0", "1", "2"]
    for field in range(FIELDS):
        table = pd.read_parquet(store / str(field) / "tables" / "FOV_ROI_table" / "table.parquet")
        row = table.iloc[0]
        assert (len(table), row["x_micrometer"], row["FieldIndex"]) == (1, 0, f"FOV_{field + 1}")
        corner = [row[f"{axis}_micrometer_original"] - SIDE * UM / 2 for axis in "yx"]
        for group in (store / str(field), store / str(field) / "labels" / "nuclei"):
            for scale, translation in transformations(group):
                assert scale["type"] == "scale"
                assert translation["translation"][-2:] == pytest.approx(corner)
    first, second = (next(transformations(store / name))[1]["translation"] for name in ("0", "1"))
    assert second[-1] - first[-1] == pytest.approx(SIDE * UM, rel=0.2)


def transformations(group: Path) -> Iterator[list[dict[str, Any]]]:
    attributes = dict(zarr.open_group(group, mode="r").attrs)
    found: Any = attributes.get("ome", attributes)
    for dataset in found["multiscales"][0]["datasets"]:
        yield dataset["coordinateTransformations"]


@pytest.mark.parametrize("kind", IMAGES)
def test_other_programs_read_images_of_fields(outputs: dict[str, Path], kind: str) -> None:
    ngio = pytest.importorskip("ngio")
    store = outputs[kind] / "images.zarr"
    models: Any = v04 if "0.4" in kind else v05
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(store, mode="r")
        found = models.HCS.from_zarr(group)
        assert found.n_wells == 2
        plate_facts = dict(group.attrs)
        assert plate_facts.get("ome", plate_facts)["plate"]["field_count"] == FIELDS
        for field in range(FIELDS):
            models.Image.from_zarr(group[f"B/02/{field}"])
            models.ImageLabel.from_zarr(group[f"B/02/{field}/labels/nuclei"])
    opened = ngio.open_ome_zarr_plate(store, mode="r")
    assert opened.wells_paths() == ["A/01", "B/02"]
    assert opened.get_well("B", "02").paths() == ["0", "1", "2"]
    container = ngio.open_ome_zarr_container(store / "B" / "02" / "1", mode="r")
    table = container.get_table("nuclei").dataframe
    values = set(np.unique(container.get_label("nuclei").get_as_numpy())) - {0}
    assert values == set(table.index)
    assert min(values) >> 16 == 1
    (roi,) = container.get_table("FOV_ROI_table").rois()
    assert container.get_image().get_roi(roi).shape[-2:] == (SIDE, SIDE)


def test_files_say_their_pixel_size_and_nothing_of_when(outputs: dict[str, Path]) -> None:
    for file in sorted((outputs["files"] / "images").rglob("*.tif")):
        with tifffile.TiffFile(file) as opened:
            page = opened.pages.first
            assert page.compression == tifffile.COMPRESSION.NONE
            assert page.get_resolution(tifffile.RESUNIT.MICROMETER) == pytest.approx((1 / UM,) * 2)
            assert not {"DateTime", "Software"} & {tag.name for tag in page.tags}


@pytest.mark.parametrize("kind", ["mosaic", "images-0.4-file", "files"])
def test_labels_come_field_by_field_from_any_layout(
    outputs: dict[str, Path], plate: Path, tmp_path: Path, kind: str
) -> None:
    plan = planned(plate, tmp_path, kind).frozen
    tiles = dict(label_tiles(outputs[kind], plan, "B02"))
    assert list(tiles) == [0, 1, 2]
    for field, labels in tiles.items():
        expected = pixels_of(outputs["mosaic"], "mosaic", "B02", field)[1]
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("mosaic", "images.zarr: 2×2×512×512 (c z y x) uint16, 3 levels, 6 objects"),
        ("images-0.5-well", "images.zarr: 3 images of 2×2×256×256 (c z y x) uint16, 2 levels"),
        ("files", "images: TIFF files of 256×256 uint16, 15 files"),
    ],
)
def test_the_plan_says_how_it_is_stored(plate: Path, tmp_path: Path, kind: str, text: str) -> None:
    assert text in planned(plate, tmp_path, kind).explain()


def test_plain_zarr_has_no_words_of_ngff(outputs: dict[str, Path]) -> None:
    words = {"ome", "multiscales", "plate", "well", "omero", "labels", "image-label"}
    for kind in ("plain", "plain-0.4"):
        store = outputs[kind] / "images.zarr"
        for file in (*store.rglob("zarr.json"), *store.rglob(".zattrs")):
            document = json.loads(file.read_text())
            assert not words & set(document.get("attributes", document))


@pytest.mark.parametrize("kind", ["plain", "plain-0.4", "unlisted"])
def test_wells_alone_have_no_plate_above_them(outputs: dict[str, Path], kind: str) -> None:
    store = outputs[kind] / "images.zarr"
    for folder in (store, store / "A"):
        assert [entry.name for entry in folder.iterdir() if entry.is_file()] == []
    is_well = (store / "A" / "01" / ".zgroup").exists() or (store / "A/01/zarr.json").exists()
    assert is_well


def test_the_report_shows_pictures_wherever_there_are_images(outputs: dict[str, Path]) -> None:
    shown = {
        kind: re.findall(r"data:image/webp[^\"')]+", (output / "report.html").read_text("utf-8"))
        for kind, output in outputs.items()
    }
    assert shown["unlisted"] == shown["mosaic"]
    assert len(shown["plain"]) == len(shown["mosaic"])  # in other colours: nothing names them
    assert shown["images-0.4-file"] == shown["images-0.5-well"]
    assert len(shown["images-0.5-well"]) == len(shown["mosaic"]) > 2
    assert shown["files"] == []


RESUMED = ["images-0.5-well", "images-0.4-adaptive", "files", "plain", "unlisted"]


@pytest.mark.parametrize("kind", RESUMED)
def test_a_run_in_two_parts_gives_the_same_bytes(
    outputs: dict[str, Path], plate: Path, tmp_path: Path, hash_tree: HashTree, kind: str
) -> None:
    output = tmp_path / "OUT"
    run(plate, output, kind, wells=["B02"])
    assert verify_output(output) == []
    run(plate, output, kind)
    store = "images" if kind == "files" else "images.zarr"
    assert hash_tree(output / store) == hash_tree(outputs[kind] / store)
    assert hash_tree(output / "results") == hash_tree(outputs[kind] / "results")
    metadata = "hcsflow_metadata.json"
    assert (output / metadata).read_bytes() == (outputs[kind] / metadata).read_bytes()


@pytest.mark.parametrize("kind", RESUMED)
def test_a_well_that_the_journal_does_not_know_is_found_and_made_again(
    outputs: dict[str, Path], plate: Path, tmp_path: Path, hash_tree: HashTree, kind: str
) -> None:
    output = tmp_path / "OUT"
    shutil.copytree(outputs[kind], output)
    store = "images" if kind == "files" else "images.zarr"
    before = hash_tree(output / store)
    (entry,) = (output / ".hcsflow" / "journal").rglob("A01.json")
    entry.unlink()
    assert {finding.well for finding in verify_output(output)} == {"A01"}
    victim = max((output / store).rglob("*B02*.tif"), default=None) or next(
        file for file in (output / store / "B" / "02" / "0" / "0").rglob("0") if file.is_file()
    )
    victim.write_bytes(victim.read_bytes()[:-1])
    assert "size" in {finding.kind for finding in verify_output(output)}
    run(plate, output, kind)
    assert verify_output(output) == []
    assert hash_tree(output / store) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mosaic", "images-0.5-well"),
        ("images-0.5-well", "mosaic"),
        ("mosaic", "files"),
        ("files", "images-0.4-well"),
        ("mosaic", "plain"),
        ("plain", "mosaic"),
    ],
)
def test_another_layout_replaces_the_one_before(
    outputs: dict[str, Path],
    plate: Path,
    tmp_path: Path,
    hash_tree: HashTree,
    before: str,
    after: str,
) -> None:
    output = tmp_path / "OUT"
    shutil.copytree(outputs[before], output)
    run(plate, output, after)
    left = {p.name for p in output.iterdir() if p.name.startswith("images")}
    (store,) = left
    assert hash_tree(output / store) == hash_tree(outputs[after] / store)
    assert verify_output(output) == []


def test_in_ngff_0_4_an_image_a_field_is_held_at_a_time(plate: Path, tmp_path: Path) -> None:
    held = [
        planned(plate, tmp_path, kind).frozen.projected_bytes
        for kind in ("images-0.4-well", "images-0.5-well")
    ]
    images = planned(plate, tmp_path, "images-0.4-well").frozen.writes[-1].raw_bytes_per_well
    assert 0 < held[0] - held[1] < images
