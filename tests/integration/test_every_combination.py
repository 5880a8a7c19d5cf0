"""Every NGFF version, layout of fields, chunk strategy and codec: valid, and the same pixels.

The plate of each is made by a run of its own, with labels and tables. The reference of the images
is what the TIFF files hold; that of labels and tables is what is written by default.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr_models import v04, v05  # before any ngio: after it, 1.7 takes 0.4 for 0.5

import hcsflow as hf
from hcsflow.config import FieldLayout, ZarrCompressor
from hcsflow.errors import PlanRefusedError
from hcsflow.execute.status import verify_output
from hcsflow.ngff import layout as layouts
from hcsflow.ngff import objects, pyramid
from hcsflow.storage.images import halve
from hcsflow.testing.plates import write_imagexpress_plate

WELLS = ("A01", "B02")
FIELDS, CHANNELS, HEIGHTS, SIDE = 3, 2, 2, 96
MIN_SIDE = 32
"""Levels end at this size: three of a mosaic, two of a field."""
SMALL = 80_000
"""Bytes of an object under ADAPTIVE: two planes of a mosaic of uint16, one of labels."""

CHECKER = Path(__file__).parents[3] / "shared" / "tools" / "validate_plate.py"
CHECKER_PYTHON = os.environ.get("HCSFLOW_VALIDATORS_PYTHON")
"""A Python (3.12 or newer) with the packages that the checker names."""


@dataclass(frozen=True)
class Combination:
    """A way to store a plate."""

    version: str
    layout: str
    strategy: str
    codec: str

    def __str__(self) -> str:
        return "-".join((self.version, self.layout, self.strategy, self.codec))

    @property
    def settings(self) -> hf.ZarrConfig:
        return hf.ZarrConfig(
            ngff_version=self.version,
            field_layout=FieldLayout(self.layout),
            chunk_strategy=hf.ZarrChunkStrategy(self.strategy),
            compressor=ZarrCompressor(self.codec),
        )


VERSIONS, LAYOUTS, STRATEGIES = ("0.4", "0.5"), ("mosaic", "images"), ("well", "file", "adaptive")
COMBINATIONS = [
    Combination(*each)
    for each in product(VERSIONS, LAYOUTS, STRATEGIES, [str(one) for one in ZarrCompressor])
]
DEFAULT = Combination("0.5", "mosaic", "well", "zstd")
ALL = pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
EVERY_CODEC_ONCE = pytest.mark.parametrize(
    "combination",
    # documents differ by version, layout and strategy; of codecs the arrays' documents alone speak
    [c for n, c in enumerate(COMBINATIONS) if n % len(ZarrCompressor) == n // 6 % 6],
    ids=str,
)


@pytest.fixture(scope="module", autouse=True)
def small_objects() -> Iterator[None]:
    """Let this small plate have levels, and ADAPTIVE cut it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "MAX_OBJECT_BYTES", SMALL)
        patch.setattr(pyramid, "MIN_SIDE_PX", MIN_SIDE)
        yield


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("combinations") / "PLATE"
    write_imagexpress_plate(
        root, wells=WELLS, fields=FIELDS, channels=CHANNELS, z=HEIGHTS, size=SIDE
    )
    return root


def compiled(plate: Path, output: Path, combination: Combination) -> Any:
    config = hf.GlobalPipelineConfig(zarr=combination.settings)
    return hf.compile("count-nuclei", hf.open_plate(plate), output=output, config=config)


@pytest.fixture(scope="module")
def output_of(
    plate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Combination], Path]:
    """Return where a combination's output lies; it is made the first time."""
    root = tmp_path_factory.mktemp("outputs")

    @functools.cache
    def make(combination: Combination) -> Path:
        output = root / str(combination)
        done = compiled(plate, output, combination).run("serial")
        assert done.failures.empty
        return output

    return make


def raw_planes(plate: Path, well: str, field: int) -> np.ndarray:
    """Return the (c, z, y, x) pixels of a field's files."""
    return np.array(
        [
            [tifffile.imread(plate / f"TimePoint_1/ZStep_{z + 1}" / name) for z in range(HEIGHTS)]
            for name in (f"PLATE_{well}_s{field + 1}_w{c + 1}.tif" for c in range(CHANNELS))
        ]
    )


def stored_field(
    output: Path, combination: Combination, name: str, field: int, level: int
) -> np.ndarray:
    """Return a field's pixels of one level; ``name`` is an image's or a label's, from the well."""
    at = "0" if combination.layout == "mosaic" else str(field)
    found = zarr.open_array(output / "images.zarr" / name.format(at) / str(level), mode="r")[...]
    if combination.layout == "images":
        return found
    side = SIDE >> level
    row, column = divmod(field, 2)
    rows, columns = slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
    return found[..., rows, columns]


def levels_of(combination: Combination) -> int:
    return 3 if combination.layout == "mosaic" else 2


@ALL
def test_pixels_labels_and_tables_are_the_same(
    plate: Path, output_of: Callable[[Combination], Path], combination: Combination
) -> None:
    output, usual = output_of(combination), output_of(DEFAULT)
    for well, field in product(WELLS, range(FIELDS)):
        image, labels = (f"{well[0]}/{well[1:]}/{{}}{end}" for end in ("", "/labels/nuclei"))
        want = raw_planes(plate, well, field)
        nuclei = stored_field(usual, DEFAULT, labels, field, 0)
        assert nuclei.any()
        for level in range(levels_of(combination)):
            found = stored_field(output, combination, image, field, level)
            np.testing.assert_array_equal(found, want)
            found = stored_field(output, combination, labels, field, level)
            np.testing.assert_array_equal(found, nuclei)
            want = np.array([[halve(plane) for plane in stack] for stack in want])
            nuclei = halve(nuclei, is_label=True)
    for name in ("nuclei.parquet", "nuclei.csv"):
        assert (output / "results" / name).read_bytes() == (usual / "results" / name).read_bytes()
    assert verify_output(output) == []


@ALL
def test_arrays_are_stored_as_asked_for(
    plate: Path,
    tmp_path: Path,
    output_of: Callable[[Combination], Path],
    combination: Combination,
) -> None:
    """Codec and format by the arrays' documents; objects on disk as many as planned."""
    store = output_of(combination) / "images.zarr"
    images = range(FIELDS) if combination.layout == "images" else [0]
    arrays = [store / "A/01" / f"{at}/{level}" for at, level in product(images, range(2))]
    for array in arrays:
        found = zarr.open_array(array, mode="r")
        assert found.metadata.zarr_format == (2 if combination.version == "0.4" else 3)
        assert codec_of(found) == inner_codec(combination)
    documents = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}
    files = [p for p in store.rglob("*") if p.is_file() and p.suffix != ".parquet"]
    planned = compiled(plate, tmp_path, combination).frozen.num_objects
    assert sum(path.name not in documents for path in files) == planned


def codec_of(array: Any) -> tuple[str | None, str | None]:
    """Return the compressor of an array, and the one inside blosc."""
    (codec,) = array.compressors or (None,)
    text = repr(codec).lower()
    for name in ("blosc", "gzip", "zlib", "zstd"):
        if name in text.split("(")[0]:
            inner = re.search(r"cname.*?(zstd|lz4)", text) if name == "blosc" else None
            return name, inner and inner[1]
    return None, None


def inner_codec(combination: Combination) -> tuple[str | None, str | None]:
    return {
        "zstd": ("blosc", "zstd"),
        "blosc": ("blosc", "zstd"),
        "lz4": ("blosc", "lz4"),
        "zlib": ("zlib" if combination.version == "0.4" else "gzip", None),
        "gzip": ("gzip", None),
        "none": (None, None),
    }[combination.codec]


@EVERY_CODEC_ONCE
def test_documents_are_valid(
    output_of: Callable[[Combination], Path], combination: Combination
) -> None:
    ngio = pytest.importorskip("ngio")
    validate = pytest.importorskip("ngff_zarr.validate").validate
    store = output_of(combination) / "images.zarr"
    models: Any = v04 if combination.version == "0.4" else v05
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plate = zarr.open_group(store, mode="r")
        assert models.HCS.from_zarr(plate).n_wells == len(WELLS)
        documents = {"plate": [plate], "well": [plate["A/01"], plate["B/02"]]}
        documents["image"] = [image for well in documents["well"] for _, image in images_in(well)]
        documents["label"] = [image["labels/nuclei"] for image in documents["image"]]
        for one in documents["image"]:
            models.Image.from_zarr(one)
        for one in documents["label"]:
            models.ImageLabel.from_zarr(one)
    for (kind, groups), strict in product(documents.items(), (False, True)):
        for group in groups:
            validate(dict(group.attrs), version=combination.version, model=kind, strict=strict)
    opened = ngio.open_ome_zarr_plate(store, mode="r")
    assert opened.wells_paths() == ["A/01", "B/02"]
    paths = [f"{well.path}/{path}" for well in documents["well"] for path, _ in images_in(well)]
    for path in paths:
        container = ngio.open_ome_zarr_container(store / path, mode="r")
        assert container.list_labels() == ["nuclei"]
        assert {"nuclei", "FOV_ROI_table", "well_ROI_table"} == set(container.list_tables())
        for name in container.list_tables():
            container.get_table(name)


def images_in(well: Any) -> list[tuple[str, Any]]:
    attributes = dict(well.attrs)
    listed = attributes.get("ome", attributes)["well"]["images"]
    return [(image["path"], well[image["path"]]) for image in listed]


CHECK_ALL = """
import importlib.util, logging, sys
logging.disable(logging.CRITICAL)
spec = importlib.util.spec_from_file_location("checker", sys.argv[1])
checker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(checker)
for path in sys.stdin.read().splitlines():
    checker.main([path, "--quiet", "--json", path + ".checked.json"])
"""


@pytest.mark.validators
@pytest.mark.timeout(600)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_plate_checker_passes_every_combination(
    output_of: Callable[[Combination], Path], version: str, layout: str
) -> None:
    """All readers and validators that the checker knows, in one process for many plates.

    Those that it does not ask for must pass too, but that of ngff-zarr the zlib of Zarr 2: it reads
    by zarrs, which has no such codec.
    """
    if not CHECKER.is_file():
        pytest.skip(f"there is no {CHECKER}")
    if CHECKER_PYTHON is None or shutil.which(CHECKER_PYTHON) is None:
        pytest.skip("HCSFLOW_VALIDATORS_PYTHON names no Python")
    chosen = [each for each in COMBINATIONS if (each.version, each.layout) == (version, layout)]
    stores = {each: output_of(each) / "images.zarr" for each in chosen}
    subprocess.run(
        [CHECKER_PYTHON, "-c", CHECK_ALL, str(CHECKER)],
        input="\n".join(map(str, stores.values())),
        text=True,
        check=True,
        timeout=580,
    )
    assert len(stores) == len(STRATEGIES) * len(ZarrCompressor)
    for each, store in stores.items():
        result = json.loads(Path(f"{store}.checked.json").read_text("utf-8"))
        checks = {one["check"]: one for one in result["results"] if one["status"] != "SKIP"}
        if (each.version, each.codec) == ("0.4", "zlib"):
            del checks["ngff-zarr"]
        failed = [one for one in checks.values() if one["status"] != "PASS"]
        assert (result["ok"], failed) == (True, []), str(each)
        assert checks.keys() >= {"json-schema-strict", "ome-zarr-py", "ngio", "iohub", "yaozarrs"}


# ---- what cannot be stored so is refused, and the advice helps

CODEC_LIMIT = 150_000
"""Bytes that codecs encode at once here: a mosaic of labels fits, its image does not."""


@pytest.fixture
def small_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codecs with the limits that blosc and zstd have at 2 GiB, in reach of a small plate."""
    monkeypatch.setattr(objects, "_ENCODED_BYTES", {"blosc": CODEC_LIMIT, "zstd": CODEC_LIMIT})


@pytest.mark.usefixtures("small_codecs")
@pytest.mark.parametrize("codec", ["zstd", "lz4", "blosc"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_codec_cannot_encode_in_one_object_is_refused(
    plate: Path, tmp_path: Path, layout: str, codec: str
) -> None:
    refused = Combination("0.4", layout, "well", codec)
    if layout == "images":
        compiled(plate, tmp_path / "images", refused)  # a field's image fits
        return
    with pytest.raises(PlanRefusedError, match=f"blosc encodes {CODEC_LIMIT} at most") as at:
        compiled(plate, tmp_path / "refused", refused)
    assert not (tmp_path / "refused").exists()
    advice = at.value.hint or ""
    assert set(re.findall(r"adaptive|file|0\.5", advice)) == {"adaptive", "0.5"}
    for instead in (
        Combination("0.4", layout, "adaptive", codec),
        Combination("0.5", layout, "well", codec),
    ):
        output = tmp_path / str(instead)
        assert compiled(plate, output, instead).run("serial").failures.empty
        found = stored_field(output, instead, "B/02/{}", 2, 0)
        np.testing.assert_array_equal(found, raw_planes(plate, "B02", 2))


@pytest.mark.usefixtures("small_codecs")
@pytest.mark.parametrize("codec", ["zlib", "gzip", "none"])
def test_codecs_without_a_limit_are_not_refused(plate: Path, tmp_path: Path, codec: str) -> None:
    compiled(plate, tmp_path, Combination("0.4", "mosaic", "well", codec))
