"""What the writer stores is read by implementations that share no code with it, nor each other.

zarr-python, zarrs (Rust; as zarr-python's codecs, and alone as zarrista), tensorstore (C++) and
zarrita (TypeScript). The reference is what was given to the writer, never another reader.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hcsflow.config import ZarrChunkStrategy, ZarrCompressor, ZarrConfig
from hcsflow.ngff import layout as layouts
from hcsflow.ngff import pyramid
from hcsflow.ngff.layout import IMAGE_DTYPES, ArrayLayout, plan_image, region_of, slot_of
from hcsflow.plan import PlaneSet
from hcsflow.plate import FieldGrid
from hcsflow.storage.documents import write_array_document
from hcsflow.storage.images import ImageWriter, halve

HERE = Path(__file__).parent
NODE_FOLDER = os.environ.get("HCSFLOW_NODE_MODULES")
"""A ``node_modules`` with zarrita; without it, npm fetches what ``package.json`` names."""

SMALL = 25_000
"""Bytes of an object under ADAPTIVE: four planes of 2 × 2 fields of 48 × 32 uint16."""
PLANES = PlaneSet((0, 1, 2), (0,), (0, 1), ((0, 1, 2, 3, 4), (0, 2)), (48, 32), "uint16")
NUCLEI = replace(PLANES, channels=(0,), z=((0, 1, 2, 3, 4),), dtype="uint32")
GRID = FieldGrid(2, 2, ((1, 0), (0, 1), (0, 0)), "drawn")
"""The lower right has no field."""
NEVER_WRITTEN = {(1, 0, 3), (2, 1, 2), (0, 0, 1)}
"""(field, channel, z) of planes that are planned and do not come."""

STRATEGIES = [ZarrChunkStrategy.WELL, ZarrChunkStrategy.FILE, ZarrChunkStrategy.ADAPTIVE]


@dataclass(frozen=True)
class Stored:
    """An array on disk, and what was given to its writer."""

    name: str
    folder: Path
    array: ArrayLayout
    pixels: np.ndarray
    written: frozenset[tuple[int, ...]]


def write(root: Path, name: str, config: ZarrConfig, kind: Any, planes: PlaneSet) -> list[Stored]:
    """Write an image or its labels; return every level of it."""
    layout = plan_image(
        path="0" if kind == "image" else "0/labels/nuclei",
        kind=kind,
        planes=planes,
        grid=GRID,
        config=config,
        pixel_size_um=0.5,
        z_step_um=2.0,
    )
    given = [np.zeros(array.shape, array.dtype) for array in layout.levels]
    written: list[set[tuple[int, ...]]] = [set() for _ in layout.levels]
    rng = np.random.default_rng(7)
    with ImageWriter(root / name, layout) as writer:
        for key in planes.iter_keys():
            plane = rng.integers(0, 120, planes.shape_yx).astype(planes.dtype)
            if (key.field, key.channel, key.z) in NEVER_WRITTEN:
                continue
            place = (key.field, key.timepoint, key.channel, slot_of(layout, key.channel, key.z))
            writer.write(*place, plane)
            for level, pixels in enumerate(given):
                region = region_of(layout, level, *place)
                pixels[region.slices] = plane
                written[level].add(region.chunk)
                plane = halve(plane, is_label=kind == "label")
        writer.close()
    for array in layout.levels:
        write_array_document(root / name, array)
    return [
        Stored(f"{name}/{array.path}", root / name / array.path, array, pixels, frozenset(chunks))
        for array, pixels, chunks in zip(layout.levels, given, written, strict=True)
    ]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> list[Stored]:
    """Every version, strategy, codec, kind and level; and every dtype of images."""
    root = tmp_path_factory.mktemp("arrays")
    made: list[Stored] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "MAX_OBJECT_BYTES", SMALL)
        patch.setattr(pyramid, "MIN_SIDE_PX", 16)
        for version, strategy, codec in product(("0.4", "0.5"), STRATEGIES, ZarrCompressor):
            config = ZarrConfig(
                ngff_version=version, chunk_strategy=strategy, compressor=codec, compression_level=3
            )
            name = f"{version}-{strategy}-{codec}"
            made += write(root, f"{name}-image", config, "image", PLANES)
            made += write(root, f"{name}-label", config, "label", NUCLEI)
            if codec is ZarrCompressor.ZSTD:
                plain = replace(config, shuffle=False, pyramid=False)
                made += write(root, f"{name}-unshuffled", plain, "image", PLANES)
                for dtype in IMAGE_DTYPES:
                    planes = replace(PLANES, dtype=dtype)
                    made += write(root, f"{name}-{dtype}", plain, "image", planes)
    return made


def test_the_arrays_are_those_that_are_meant(arrays: list[Stored]) -> None:
    """All levels, objects that are only partly filled, planes that are missing, several shards."""
    assert {one.array.path for one in arrays} == {
        f"{image}/{level}" for image in ("0", "0/labels/nuclei") for level in range(3)
    }
    adaptive = next(one.array for one in arrays if one.name.startswith("0.5-adaptive-zstd-image"))
    assert (adaptive.shape, adaptive.shards) == ((2, 5, 96, 64), (1, 2, 96, 64))
    assert len({one.name for one in arrays}) == len(arrays) > 200
    assert all(0 < len(one.written) < prod(chunk_counts(one)) for one in arrays)


def chunk_counts(one: Stored) -> list[int]:
    return [-(-s // c) for s, c in zip(one.array.shape, one.array.chunks, strict=True)]


def assert_same(one: Stored, found: np.ndarray) -> None:
    assert found.dtype == one.pixels.dtype, one.name
    np.testing.assert_array_equal(found, one.pixels, err_msg=one.name)


def test_zarr_python_reads_every_array(arrays: list[Stored]) -> None:
    for one in arrays:
        assert_same(one, zarr.open_array(one.folder, mode="r")[...])


def test_tensorstore_reads_every_array(arrays: list[Stored]) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    for one in arrays:
        driver = "zarr" if one.array.zarr_format == 2 else "zarr3"
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(one.folder)}}
        assert_same(one, tensorstore.open(spec, read=True).result().read().result())


@pytest.fixture
def zarrs_pipeline() -> Iterator[type]:
    """Let zarrs decode for zarr-python: it finds objects and shards' chunks, in Rust, alone."""
    zarrs = pytest.importorskip("zarrs")
    path = "zarrs.ZarrsCodecPipeline"
    with zarr.config.set({"codec_pipeline.path": path, "codec_pipeline.strict": True}):
        yield zarrs.ZarrsCodecPipeline


def test_zarrs_reads_every_array(arrays: list[Stored], zarrs_pipeline: type) -> None:
    for one in arrays:
        array = zarr.open_array(one.folder, mode="r")
        assert isinstance(array.async_array.codec_pipeline, zarrs_pipeline)
        assert_same(one, array[...])


def test_zarrs_alone_reads_every_array_but_those_of_zlib(arrays: list[Stored]) -> None:
    """Documents too are parsed in Rust, where Zarr 2's zlib is not known."""
    zarrista = pytest.importorskip("zarrista")
    refused = set()
    for one in arrays:
        store = zarrista.store.FilesystemStore(one.folder)
        if one.array.codec.name == "zlib":
            with pytest.raises(zarrista.exceptions.ArrayCreateError, match="codec zlib"):
                zarrista.Array.open(store)
            refused.add(one.name.rsplit("-", 1)[0])
            continue
        assert_same(one, zarrista.Array.open(store)[...].to_numpy())
    assert refused == {f"0.4-{strategy}-zlib" for strategy in STRATEGIES}


@pytest.fixture(scope="module")
def node_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and zarrita beside it, as Node looks for modules."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or (npm is None and NODE_FOLDER is None):
        pytest.skip("Node.js with npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "read_arrays.mjs"):
        shutil.copy(HERE / name, folder)
    if NODE_FOLDER is not None:
        (folder / "node_modules").symlink_to(Path(NODE_FOLDER).resolve())
        return folder / "read_arrays.mjs"
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(
        install, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        pytest.skip(f"npm cannot fetch zarrita: {done.stderr.strip()[-300:]}")
    return folder / "read_arrays.mjs"


@pytest.mark.readers
def test_zarrita_reads_every_array(arrays: list[Stored], node_script: Path) -> None:
    done = subprocess.run(
        ["node", node_script],
        input=json.dumps([str(one.folder) for one in arrays]),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    found = json.loads(done.stdout)
    for one in arrays:
        assert found[str(one.folder)] == {
            "shape": list(one.pixels.shape),
            "dtype": one.pixels.dtype.name,
            "sha256": hashlib.sha256(one.pixels.tobytes()).hexdigest(),
        }, one.name


def test_every_shard_is_as_the_specification_says(
    arrays: list[Stored], by_hand: Callable[[Path], Any]
) -> None:
    sharded = [one for one in arrays if one.array.zarr_format == 3]
    for one in sharded:
        found = by_hand(one.folder)
        assert_same(one, found.pixels)
        assert found.stored == one.written, one.name
        unit = one.array.shards or one.array.chunks
        counts = [u // c for u, c in zip(unit, one.array.chunks, strict=True)]
        assert found.objects == {
            "/".join(["c", *(str(i // n) for i, n in zip(chunk, counts, strict=True))])
            for chunk in one.written
        }
    assert {one.array.shards is None for one in sharded} == {True, False}


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "checksum": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "index": lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
    "cut short": lambda data: data[:-10],
    "shifted": lambda data: data[1:],
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_seen_by_hand_and_by_the_readers(
    tmp_path: Path, by_hand: Callable[[Path], Any], what: str
) -> None:
    """So the tests above would find a wrong index."""
    planes = PlaneSet((0,), (0,), (0, 1, 2, 3), ((0,),) * 4, (64, 64), "uint16")
    stored = write(tmp_path, "damaged", ZarrConfig(), "image", planes)[0]
    assert_same(stored, by_hand(stored.folder).pixels)
    (file,) = (p for p in (stored.folder / "c").rglob("*") if p.is_file())
    file.write_bytes(DAMAGE[what](file.read_bytes()))
    with pytest.raises(AssertionError):
        by_hand(stored.folder)
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        zarr.open_array(stored.folder, mode="r")[...]
