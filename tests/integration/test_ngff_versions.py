"""NGFF 0.4 and ADAPTIVE: the whole main job, read back by others, verified, resumed, reported."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr_models import v04, v05  # before any ngio: after it, 1.7 takes 0.4 for 0.5

import hcsflow as hf
from hcsflow.cli.main import main
from hcsflow.errors import PlanRefusedError
from hcsflow.execute.status import verify_output
from hcsflow.ngff import layout as layouts
from hcsflow.plan import Resources
from hcsflow.testing.plates import write_imagexpress_plate

HashTree = Callable[[Path], dict[str, str]]
WELLS = ("A01", "B02")
SMALL = 300_000
"""Bytes of an object: a row of two fields of 256² uint16 fits, two rows do not."""
STRATEGIES = ("well", "file", "adaptive")
DOCUMENTS = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wells of 2 × 2 fields, two channels, two heights."""
    root = tmp_path_factory.mktemp("versions") / "PLATE"
    write_imagexpress_plate(root, wells=WELLS, fields=4, channels=2, z=2, size=256)
    return root


@pytest.fixture(scope="module", autouse=True)
def small_objects() -> Iterator[None]:
    """Let ADAPTIVE cut this small plate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "MAX_OBJECT_BYTES", SMALL)
        yield


def planned(plate: Path, output: Path, version: str, strategy: str) -> Any:
    stored = hf.ZarrConfig(ngff_version=version, chunk_strategy=hf.ZarrChunkStrategy(strategy))
    config = hf.GlobalPipelineConfig(zarr=stored)
    return hf.compile("count-nuclei", hf.open_plate(plate), output=output, config=config)


def run(plate: Path, output: Path, version: str, strategy: str) -> Any:
    done = planned(plate, output, version, strategy).run(cluster="threads")
    assert done.failures.empty
    return done


@pytest.fixture(scope="module")
def outputs(plate: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same job, stored in every way; "0.5-well" is what is written by default."""
    root = tmp_path_factory.mktemp("stored")
    kinds = [("0.5", "well"), ("0.5", "adaptive"), *(("0.4", one) for one in STRATEGIES)]
    for version, strategy in kinds:
        run(plate, root / f"{version}-{strategy}", version, strategy).report()
    return {f"{version}-{strategy}": root / f"{version}-{strategy}" for version, strategy in kinds}


KINDS = pytest.mark.parametrize("kind", ["0.4-well", "0.4-file", "0.4-adaptive", "0.5-adaptive"])


def arrays_of(output: Path) -> dict[str, zarr.Array[Any]]:
    """Return every array of a plate by its path."""
    store = output / "images.zarr"
    files = [*store.rglob(".zarray"), *store.rglob("zarr.json")]
    nodes = {p.parent.relative_to(store).as_posix(): p for p in files}
    return {
        path: zarr.open_array(store / path, mode="r")
        for path, file in nodes.items()
        if file.name == ".zarray" or json.loads(file.read_text())["node_type"] == "array"
    }


@KINDS
def test_pixels_labels_and_tables_are_those_of_the_default(
    outputs: dict[str, Path], kind: str
) -> None:
    usual, found = arrays_of(outputs["0.5-well"]), arrays_of(outputs[kind])
    assert len(found) == 2 * (3 + 3)
    assert set(found) == set(usual)
    for path, array in found.items():
        assert array.metadata.zarr_format == (2 if kind.startswith("0.4") else 3)
        np.testing.assert_array_equal(array[:], usual[path][:])
        assert array[:].any()
    for name in ("nuclei.parquet", "nuclei.csv"):
        ours, theirs = (outputs[each] / "results" / name for each in (kind, "0.5-well"))
        assert ours.read_bytes() == theirs.read_bytes()


@KINDS
def test_as_many_objects_are_stored_as_planned_and_all_are_on_record(
    outputs: dict[str, Path], plate: Path, tmp_path: Path, kind: str
) -> None:
    version, strategy = kind.split("-")
    files = [p for p in (outputs[kind] / "images.zarr").rglob("*") if p.is_file()]
    pixels = [p for p in files if p.name not in DOCUMENTS and p.suffix != ".parquet"]
    assert len(pixels) == planned(plate, tmp_path, version, strategy).frozen.num_objects
    full = [p for p in pixels if "A/01/0/0/" in p.as_posix()]
    assert len(full) == {"well": 1, "file": 16, "adaptive": 8}[strategy]
    assert verify_output(outputs[kind]) == []


@KINDS
def test_other_programs_read_the_plate(outputs: dict[str, Path], kind: str) -> None:
    ngio = pytest.importorskip("ngio")
    store = outputs[kind] / "images.zarr"
    models: Any = v04 if kind.startswith("0.4") else v05
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(store, mode="r")
        assert models.HCS.from_zarr(group).n_wells == 2
        models.ImageLabel.from_zarr(group["B/02/0/labels/nuclei"])
    assert ngio.open_ome_zarr_plate(store, mode="r").wells_paths() == ["A/01", "B/02"]
    container = ngio.open_ome_zarr_container(store / "B/02/0", mode="r")
    assert container.list_labels() == ["nuclei"]
    table = container.get_table("nuclei").dataframe
    values = set(np.unique(container.get_label("nuclei").get_as_numpy())) - {0}
    assert values == set(table.index)
    assert len(container.get_table("FOV_ROI_table").rois()) == 4


@KINDS
def test_tensorstore_reads_every_array(outputs: dict[str, Path], kind: str) -> None:
    ts = pytest.importorskip("tensorstore")
    driver = "zarr" if kind.startswith("0.4") else "zarr3"
    for path, array in arrays_of(outputs[kind]).items():
        folder = outputs[kind] / "images.zarr" / path
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(folder)}}
        np.testing.assert_array_equal(ts.open(spec).result().read().result(), array[:])


@KINDS
def test_the_report_shows_the_same_pictures(outputs: dict[str, Path], kind: str) -> None:
    pictures = [
        re.findall(r"data:image/[^\"')]+", (outputs[each] / "report.html").read_text("utf-8"))
        for each in (kind, "0.5-well")
    ]
    assert len(pictures[0]) > 2
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_well_lost_is_made_again_with_the_same_bytes(
    outputs: dict[str, Path], plate: Path, tmp_path: Path, hash_tree: HashTree, strategy: str
) -> None:
    output = tmp_path / "OUT"
    shutil.copytree(outputs[f"0.4-{strategy}"], output)
    before = hash_tree(output / "images.zarr")
    kept = next(p for p in (output / "images.zarr/A/01/0/0").rglob("0") if p.is_file())
    times = kept.stat().st_mtime_ns
    lost = next(p for p in (output / "images.zarr/B/02/0/1").rglob("0") if p.is_file())
    lost.unlink()
    assert [finding.kind for finding in verify_output(output)] == ["missing"]
    run(plate, output, "0.4", strategy)
    assert hash_tree(output / "images.zarr") == before
    assert kept.stat().st_mtime_ns == times


@pytest.mark.parametrize(("before", "after"), [("0.5-well", "0.4"), ("0.4-well", "0.5")])
def test_the_other_version_replaces_the_plate(
    outputs: dict[str, Path],
    plate: Path,
    tmp_path: Path,
    hash_tree: HashTree,
    before: str,
    after: str,
) -> None:
    output = tmp_path / "OUT"
    shutil.copytree(outputs[before], output)
    run(plate, output, after, "well")
    assert hash_tree(output / "images.zarr") == hash_tree(outputs[f"{after}-well"] / "images.zarr")
    assert verify_output(output) == []


@pytest.mark.parametrize(
    ("name", "text", "kind", "path"),
    [
        (".zattrs", "{", "metadata", "images.zarr/.zattrs"),
        (".zattrs", None, "metadata", "images.zarr/.zattrs"),
        ("A/01/0/.zattrs", "{}", "size", "images.zarr/A/01/0/.zattrs"),
        ("A/01/0/0/.zarray", None, "missing", "images.zarr/A/01/0/0/.zarray"),
    ],
)
def test_a_damaged_document_is_found(
    outputs: dict[str, Path], tmp_path: Path, name: str, text: str | None, kind: str, path: str
) -> None:
    output = tmp_path / "OUT"
    shutil.copytree(outputs["0.4-well"], output)
    document = output / "images.zarr" / name
    if text is None:
        document.unlink()
    else:
        document.write_text(text)
    assert (kind, path) in {(found.kind, found.path) for found in verify_output(output)}


def test_a_plate_that_is_no_group_any_more_is_found(
    outputs: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "OUT"
    shutil.copytree(outputs["0.4-well"], output)
    for name in (".zattrs", ".zgroup"):
        (output / "images.zarr" / name).unlink()
    findings = {(f.kind, f.path, f.message) for f in verify_output(output)}
    assert ("missing", "images.zarr/.zattrs", "the plate lists no wells") in findings


@pytest.mark.parametrize(
    "options", [("--ngff", "0.4"), ("--ngff", "0.4", "--chunks", "file"), ("--chunks", "adaptive")]
)
def test_the_command_line_writes_it(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    output = tmp_path / "OUT"
    command = ["run", "max-projection", str(plate), "-o", str(output), "--cluster", "threads"]
    assert main([*command, *options]) == 0
    store = zarr.open_group(output / "images.zarr", mode="r")
    assert store.metadata.zarr_format == (2 if "0.4" in options else 3)
    assert main(["verify", str(output)]) == 0
    assert main([*command, *options]) == 0
    assert "2 wells" in capsys.readouterr().out


def test_a_well_that_does_not_fit_a_workers_memory_as_one_object_is_refused(
    plate: Path, tmp_path: Path
) -> None:
    def compiled(version: str) -> Any:
        return hf.compile(
            "count-nuclei",
            hf.open_plate(plate),
            output=tmp_path,
            config=hf.GlobalPipelineConfig(zarr=hf.ZarrConfig(ngff_version=version)),
            resources=Resources(1, needed - 1 if version == "0.4" else needed),
        )

    needed = 2**62
    needed = compiled("0.5").frozen.projected_bytes
    compiled("0.5")
    with pytest.raises(PlanRefusedError, match=r"objects that NGFF 0\.4 encodes as a whole") as at:
        compiled("0.4")
    assert "NGFF 0.5" in (at.value.hint or "")
