"""The main job on a real plate and on plates whose pixels tell where they belong."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import hcsflow as hf

HashTree = Callable[[Path], dict[str, str]]
NAME = re.compile(r"_(?P<well>[A-Z]\d{2})_s(?P<field>\d)_w(?P<channel>\d)$")
WELLS = ("E07", "E08")


def planes_by_name(plate: Path) -> dict[tuple[str, int, int], list[np.ndarray[Any, Any]]]:
    """Read Projection-Mix without hcsflow: planes of each (well, field, channel), z ascending.

    Channel 3 was stored as a projection only, channel 4 has one plane.
    """
    stacks: dict[tuple[str, int, int], list[Path]] = defaultdict(list)
    projections: dict[tuple[str, int, int], Path] = {}
    for path in sorted(plate.rglob("*.tif")):
        stem = path.stem[:-36]  # a UUID follows without a separator
        match = NAME.search(stem)
        if match is None:
            continue  # a thumbnail
        key = (match["well"], int(match["field"]), int(match["channel"]))
        if path.parent.name.startswith("ZStep_"):
            stacks[key].append(path)
        else:
            projections[key] = path
    for key, path in projections.items():
        stacks.setdefault(key, [path])
    return {key: [tifffile.imread(p) for p in paths] for key, paths in stacks.items()}


def well_array(output: Path, well: str, array: str = "0") -> np.ndarray[Any, Any]:
    """Read one array of a well's image by zarr-python alone."""
    folder = output / "images.zarr" / well[0] / well[1:] / "0" / array
    opened = zarr.open_array(str(folder), mode="r", zarr_format=3)
    return np.asarray(opened[...])


def tile(image: np.ndarray[Any, Any], output: Path, well: str, field: int) -> Any:
    """Cut one field out of a mosaic by the ROI table that is stored with it."""
    y, x, height, width = fields_of(output, well)[field]
    return image[..., y : y + height, x : x + width]


def fields_of(output: Path, well: str) -> list[tuple[int, int, int, int]]:
    """Return y, x, height, width in pixels of every field, from the well's FOV table."""
    ngio = pytest.importorskip("ngio")
    image = output / "images.zarr" / well[0] / well[1:] / "0"
    container = ngio.open_ome_zarr_container(image, mode="r")
    pixel = container.get_image(path="0").pixel_size
    frame = container.get_table("FOV_ROI_table").dataframe
    columns = ["y_micrometer", "x_micrometer", "len_y_micrometer", "len_x_micrometer"]
    scale = np.array([pixel.y, pixel.x, pixel.y, pixel.x])
    return [tuple(row) for row in np.rint(frame[columns].to_numpy() / scale).astype(int)]


def objects_in(folder: Path) -> int:
    """Count stored objects (chunks or shards) of an array."""
    return sum(1 for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json")


def stored_as(strategy: hf.ZarrChunkStrategy) -> hf.GlobalPipelineConfig:
    return hf.GlobalPipelineConfig(zarr=hf.ZarrConfig(chunk_strategy=strategy))


@pytest.fixture(scope="module")
def projected(
    projection_mix: Path, tmp_path_factory: pytest.TempPathFactory, hash_tree: HashTree
) -> Path:
    """Projection-Mix after max-projection; the input is hashed before and after."""
    output = tmp_path_factory.mktemp("projected") / "OUT"
    before = hash_tree(projection_mix)
    plan = hf.compile("max-projection", hf.open_plate(projection_mix), output=output)
    run = plan.run(cluster="threads")
    assert run.failures.empty
    assert hash_tree(projection_mix) == before
    return output


def test_projections_are_the_files_maximum(projected: Path, projection_mix: Path) -> None:
    planes = planes_by_name(projection_mix)
    assert len(planes) == 16
    for well in WELLS:
        image = well_array(projected, well)
        for field in (1, 2):
            for channel in (1, 2, 3, 4):
                expected = np.max(planes[well, field, channel], axis=0)
                found = tile(image[channel - 1], projected, well, field - 1)
                np.testing.assert_array_equal(found, expected)


def test_projections_are_laid_out_as_promised(projected: Path) -> None:
    for well in WELLS:
        image = projected / "images.zarr" / well[0] / well[1:] / "0"
        level_0 = zarr.open_array(str(image / "0"), mode="r")
        assert level_0.shape == (4, 512, 1024)
        assert level_0.chunks == (1, 512, 512)
        sizes = [zarr.open_array(str(image / str(n)), mode="r").shape[-2:] for n in range(4)]
        assert sizes == [(512, 1024), (256, 512), (128, 256), (64, 128)]
        assert not (image / "4").exists()
        assert sum(objects_in(image / str(n)) for n in range(4)) == 4


def test_one_object_a_plane_holds_the_same_pixels(
    projected: Path, projection_mix: Path, tmp_path: Path
) -> None:
    plate = hf.open_plate(projection_mix)
    config = stored_as(hf.ZarrChunkStrategy.FILE)
    plan = hf.compile("max-projection", plate, output=tmp_path / "OUT", config=config)
    plan.run(cluster="threads")
    for well in WELLS:
        image = tmp_path / "OUT" / "images.zarr" / well[0] / well[1:] / "0"
        assert objects_in(image / "0") == 8
        assert sum(objects_in(image / str(n)) for n in (1, 2, 3)) == 3
        for level in "0123":
            np.testing.assert_array_equal(
                well_array(tmp_path / "OUT", well, level), well_array(projected, well, level)
            )


@pytest.fixture(scope="module")
def counted(projection_mix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Projection-Mix after count-nuclei."""
    output = tmp_path_factory.mktemp("counted") / "OUT"
    plan = hf.compile("count-nuclei", hf.open_plate(projection_mix), output=output)
    run = plan.run(cluster="threads")
    assert run.failures.empty
    return output


def test_count_nuclei_keeps_the_original_planes(counted: Path, projection_mix: Path) -> None:
    planes = planes_by_name(projection_mix)
    for well in WELLS:
        image = well_array(counted, well)
        assert image.shape == (4, 5, 512, 1024)
        for field in (1, 2):
            for channel in (1, 2, 3, 4):
                for z, plane in enumerate(planes[well, field, channel]):
                    found = tile(image[channel - 1, z], counted, well, field - 1)
                    np.testing.assert_array_equal(found, plane)


def test_count_nuclei_stores_as_many_objects_as_promised(counted: Path) -> None:
    for well in WELLS:
        image = counted / "images.zarr" / well[0] / well[1:] / "0"
        labels = zarr.open_array(str(image / "labels" / "nuclei" / "0"), mode="r")
        assert labels.shape == (512, 1024)
        assert labels.dtype == np.uint32
        assert [objects_in(image / str(n)) for n in range(4)] == [1, 1, 1, 1]
        assert [objects_in(image / "labels" / "nuclei" / str(n)) for n in range(4)] == [1] * 4


def test_every_nucleus_has_one_row(counted: Path) -> None:
    table = hf.Run(counted).table("nuclei")
    for well in WELLS:
        ids = np.unique(well_array(counted, well, "labels/nuclei/0"))
        rows = table[table["well"] == well]
        assert sorted(rows["label"]) == sorted(ids[ids > 0])
        assert len(rows) > 10
    assert (table["area_um2"] > 0).all()


def test_readers_of_others_open_the_plate(counted: Path) -> None:
    ngio = pytest.importorskip("ngio")
    plate = ngio.open_ome_zarr_plate(counted / "images.zarr", mode="r")
    assert sorted(plate.wells_paths()) == ["E/07", "E/08"]
    container = ngio.open_ome_zarr_container(counted / "images.zarr" / "E" / "07" / "0", mode="r")
    assert container.list_labels() == ["nuclei"]
    models = pytest.importorskip("ome_zarr_models.v05.hcs")
    models.HCS.from_zarr(zarr.open_group(str(counted / "images.zarr"), mode="r"))


def test_metadata_says_what_was_done(counted: Path) -> None:
    document = json.loads((counted / "hcsflow_metadata.json").read_text("utf-8"))
    text = json.dumps(document)
    assert "count-nuclei" in text
    assert str(counted.parent) not in text


def keep(stack: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return stack


def keyed_plate(folder: Path, size: int) -> hf.Plate:
    """9 fields × 2 channels × 5 z of one well; every pixel encodes its plane's key."""
    plates = pytest.importorskip("hcsflow.testing.plates")
    plates.key_coded_plate(folder, wells=["B03"], fields=9, channels=2, z=5, size=size)
    return hf.open_plate(folder)


def compare_strategies(folder: Path, size: int) -> None:
    plate = keyed_plate(folder / "PLATE", size)
    found = {}
    for strategy, objects in ((hf.ZarrChunkStrategy.WELL, 1), (hf.ZarrChunkStrategy.FILE, 90)):
        output = folder / strategy.value
        config = stored_as(strategy)
        steps = [hf.FunctionStep(keep, name="keep")]
        run = hf.compile(hf.Pipeline(steps), plate, output=output, config=config).run("threads")
        assert run.failures.empty
        image = output / "images.zarr" / "B" / "03" / "0"
        assert objects_in(image / "0") == objects
        found[strategy.value] = well_array(output, "B03")
    assert found["well"].shape == (2, 5, 3 * size, 3 * size)
    np.testing.assert_array_equal(found["well"], found["file"])
    assert_planes_in_place(found["well"], plate, folder / "well")


def assert_planes_in_place(image: np.ndarray[Any, Any], plate: hf.Plate, output: Path) -> None:
    for key, path in plate.manifest:
        expected = tifffile.imread(Path(plate.path) / path)
        found = tile(image[key.channel, key.z], output, "B03", key.field)
        np.testing.assert_array_equal(found, expected, err_msg=path)


def test_one_object_or_one_a_plane(tmp_path: Path) -> None:
    compare_strategies(tmp_path, size=64)


@pytest.mark.slow
def test_one_object_or_one_a_plane_at_full_size(tmp_path: Path) -> None:
    compare_strategies(tmp_path, size=1080)
