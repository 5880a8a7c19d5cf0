"""Any array, image or label, stored any way, is read back whole; encoders change no byte."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, note
from hypothesis import strategies as st

from hcsflow.config import FieldLayout, ZarrConfig
from hcsflow.ngff import layout as layouts
from hcsflow.ngff import pyramid
from hcsflow.ngff.arrays import array_document
from hcsflow.ngff.layout import (
    IMAGE_DTYPES,
    ArrayLayout,
    Codec,
    ImageLayout,
    image_of,
    images_of,
    objects_of,
    plan_image,
    region_of,
    slot_of,
)
from hcsflow.plan import PlaneSet
from hcsflow.plate import FieldGrid
from hcsflow.storage.documents import write_array_document
from hcsflow.storage.images import ImageWriter, halve
from hcsflow.storage.shards import open_writer

Index = tuple[int, ...]
Reader = Callable[[Path], Any]
DTYPES = (*IMAGE_DTYPES, "uint64", "int64")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read_by_tensorstore(folder: Path, zarr_format: int) -> np.ndarray:
    tensorstore = pytest.importorskip("tensorstore")
    driver = "zarr3" if zarr_format == 3 else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(folder)}}
    return tensorstore.open(spec, read=True).result().read().result()


def assert_read_back(folder: Path, array: ArrayLayout, pixels: np.ndarray) -> None:
    found = zarr.open_array(folder, mode="r")[...]
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(read_by_tensorstore(folder, array.zarr_format), pixels)


# ---- arrays: any grid of chunks in any grid of objects


@dataclass(frozen=True)
class Calls:
    """An array, and the calls that write it: which chunks come, in which order."""

    array: ArrayLayout
    fill: float
    order: tuple[Index, ...]
    pixels: np.ndarray
    """Chunks are views of it; read-only, they are encoded without a copy."""

    def cut(self, index: Index) -> tuple[slice, ...]:
        sides = zip(index, self.array.chunks, strict=True)
        return tuple(slice(i * size, (i + 1) * size) for i, size in sides)

    @property
    def expected(self) -> np.ndarray:
        """Chunks that do not come read as the fill value."""
        found = np.full(self.array.shape, self.fill, self.array.dtype)
        for index in self.order:
            found[self.cut(index)] = self.pixels[self.cut(index)]
        return found

    def write(self, folder: Path, encoders: int) -> None:
        """Write chunks and document; what the fill value is, the writer does not know."""
        folder.mkdir()
        document = array_document(self.array) | {"fill_value": json_of(self.fill)}
        name = ".zarray" if self.array.zarr_format == 2 else "zarr.json"
        (folder / name).write_text(json.dumps(document))
        with open_writer(folder, self.array, encoders=encoders) as writer:
            for index in self.order:
                writer.append(index, self.pixels[self.cut(index)])
            stored = writer.close()
        assert {one.path for one in stored} == {
            str(folder / key) for key in tree(folder) if not key.endswith(name)
        }


def json_of(fill: float) -> float | str:
    return {inf: "Infinity", -inf: "-Infinity"}.get(fill, fill if fill == fill else "NaN")  # noqa: PLR0124


@st.composite
def codecs(draw: st.DrawFn, zarr_format: int) -> Codec:
    names = ["blosc", "gzip", "zstd", "none", *(["zlib"] if zarr_format == 2 else [])]
    name: Any = draw(st.sampled_from(names))
    level = draw(st.integers(1, 9))
    if name != "blosc":
        return Codec(name, cname="", level=level, shuffle=False)
    cname = draw(st.sampled_from(["zstd", "lz4", "lz4hc", "zlib", "blosclz"]))
    block = draw(st.sampled_from([0, 256, 1 << 18]))
    return Codec("blosc", cname, level, draw(st.booleans()), block)


@st.composite
def array_layouts(draw: st.DrawFn) -> ArrayLayout:
    ndim = draw(st.integers(1, 5))
    sides = st.tuples(*[st.integers(1, 9 if ndim < 4 else 4)] * ndim)
    counts = st.tuples(*[st.integers(1, 4 if ndim < 4 else 2)] * ndim)
    chunks, grid = draw(sides), draw(counts)
    less = draw(st.tuples(*(st.integers(0, side - 1) for side in chunks)))
    shards = tuple(c * n for c, n in zip(chunks, draw(counts), strict=True))
    zarr_format: Any = draw(st.sampled_from([2, 3, 3]))
    return ArrayLayout(
        path="0",
        axes=tuple("tczyx")[-ndim:],
        shape=tuple(n * c - rest for n, c, rest in zip(grid, chunks, less, strict=True)),
        chunks=chunks,
        shards=draw(st.sampled_from([None, shards, shards])),
        dtype=draw(st.sampled_from(DTYPES)),
        codec=draw(codecs(zarr_format)),
        scale=(1.0,) * ndim,
        zarr_format=zarr_format,
    )


@st.composite
def calls(draw: st.DrawFn) -> Calls:
    array = draw(array_layouts())
    dtype = np.dtype(array.dtype)
    grid = [-(-s // c) for s, c in zip(array.shape, array.chunks, strict=True)]
    places = [tuple(map(int, place)) for place in np.ndindex(*grid)]
    order = draw(st.permutations(places))
    kept = draw(st.sampled_from([len(order), len(order), draw(st.integers(0, len(order)))]))
    fills: list[Any] = [0, 1]
    if dtype.kind == "f":
        fills += [nan, inf, -inf, -1.5]
    else:
        fills += [int(np.iinfo(dtype).max), int(np.iinfo(dtype).min)]
    # an object of Zarr 2 is encoded as a whole: what lacks in it is 0
    is_filled_by_reader = array.zarr_format == 3 or array.shards is None
    fill = draw(st.sampled_from(fills)) if is_filled_by_reader else 0
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    noise = rng.integers(0, 256, (*array.shape, dtype.itemsize), "u1").view(dtype)[..., 0]
    few = rng.integers(0, 2, array.shape).astype(dtype)
    plain = np.full(array.shape, fill, dtype)
    pixels = draw(st.sampled_from([noise, few, plain, noise.astype(dtype.newbyteorder(">"))]))
    pixels.flags.writeable = draw(st.booleans())
    return Calls(array, fill, tuple(order[:kept]), pixels)


@given(written=calls(), encoders=st.integers(2, 4))
def test_any_array_is_read_back_and_encoders_change_no_byte(
    by_hand: Reader, written: Calls, encoders: int
) -> None:
    note(f"{written.array}, {len(written.order)} chunks, fill {written.fill}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "1")
        written.write(folder, encoders=1)
        written.write(Path(scratch, "several"), encoders=encoders)
        assert tree(folder) == tree(Path(scratch, "several"))
        assert_read_back(folder, written.array, written.expected)
        if written.array.zarr_format == 3:
            found = by_hand(folder)
            np.testing.assert_array_equal(found.pixels, written.expected)
            assert found.stored == set(written.order)


# ---- images and labels: any planes of any fields, every level


@pytest.fixture(scope="module", autouse=True)
def small_levels() -> Iterator[None]:
    """Let small fields have levels, and tiles that are padded for their sake."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid, "MIN_SIDE_PX", 4)
        patch.setattr(pyramid, "MAX_SMALLEST_PX", 24)
        yield


@st.composite
def configs(draw: st.DrawFn) -> ZarrConfig:
    return ZarrConfig(
        compressor=draw(st.sampled_from(["zstd", "lz4", "blosc", "zlib", "gzip", "none"])),
        compression_level=draw(st.integers(1, 9)),
        shuffle=draw(st.booleans()),
        chunk_strategy=draw(st.sampled_from(["well", "file", "adaptive"])),
        field_layout=draw(st.sampled_from(list(FieldLayout))),
        ngff_version=draw(st.sampled_from(["0.4", "0.5"])),
        pyramid=draw(st.booleans()),
    )


@st.composite
def image_layouts(draw: st.DrawFn) -> tuple[ImageLayout, PlaneSet]:
    kind: Any = draw(st.sampled_from(["image", "label"]))
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    cells = draw(st.permutations(list(product(range(rows), range(columns)))))
    cells = cells[: draw(st.integers(1, len(cells)))]
    channels = 1 if kind == "label" else draw(st.integers(1, 3))
    heights = st.sets(st.integers(0, 3), min_size=1).map(sorted).map(tuple)
    planes = PlaneSet(
        fields=tuple(range(len(cells))),
        timepoints=tuple(range(draw(st.integers(1, 2)))),
        channels=tuple(range(channels)),
        z=tuple(draw(heights) for _ in range(channels)),
        shape_yx=draw(st.tuples(st.integers(1, 24), st.integers(1, 24))),
        dtype="uint32" if kind == "label" else draw(st.sampled_from(IMAGE_DTYPES)),
    )
    limit = draw(st.sampled_from([1, 2000, 20_000, 2**31]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "MAX_OBJECT_BYTES", limit)
        layout = plan_image(
            path="0" if kind == "image" else "0/labels/nuclei",
            kind=kind,
            planes=planes,
            grid=FieldGrid(rows, columns, tuple(cells), "drawn"),
            config=draw(configs()),
            pixel_size_um=draw(st.sampled_from([None, 0.5])),
            z_step_um=draw(st.sampled_from([None, 2.0])),
        )
    return layout, planes


def tile_of(plane: np.ndarray, layout: ImageLayout) -> np.ndarray:
    """Extend a plane to its tile: images go on as at their edge, labels end."""
    extra = [(0, p - s) for p, s in zip(layout.pitch_yx, layout.field_yx, strict=True)]
    return np.pad(plane, extra, mode="constant" if layout.kind == "label" else "edge")


def write_image(
    root: Path, layout: ImageLayout, planes: dict[Index, np.ndarray], encoders: int
) -> int:
    """Write planes by (field, timepoint, channel, slot) in their order; return the objects."""
    objects = 0
    for image in images_of(layout):
        with ImageWriter(root, image, encoders=encoders) as writer:
            for place, plane in planes.items():
                if image_of(layout, place[0]).path == image.path:
                    writer.write(*place, plane)
            objects += len(writer.close().objects)
        for array in image.levels:
            write_array_document(root, array)
    return objects


def expected_levels(
    layout: ImageLayout, image: ImageLayout, planes: dict[Index, np.ndarray]
) -> list[np.ndarray]:
    found = [np.zeros(array.shape, array.dtype) for array in image.levels]
    for place, plane in planes.items():
        if image_of(layout, place[0]).path != image.path:
            continue
        tile = tile_of(plane, image)
        for level, pixels in enumerate(found):
            pixels[region_of(image, level, *place).slices] = tile
            if level + 1 < len(found):
                tile = halve(tile, is_label=image.kind == "label")
    return found


@given(
    drawn=image_layouts(),
    is_whole=st.booleans(),
    encoders=st.integers(2, 4),
    random=st.randoms(use_true_random=False),
)
def test_any_image_is_read_back_at_every_level(
    by_hand: Reader,
    drawn: tuple[ImageLayout, PlaneSet],
    is_whole: bool,
    encoders: int,
    random: Any,
) -> None:
    layout, planes = drawn
    places = [
        (key.field, key.timepoint, key.channel, slot_of(layout, key.channel, key.z))
        for key in planes.iter_keys()
    ]
    random.shuffle(places)
    if not is_whole:
        places = places[: random.randint(0, len(places))]
    rng = np.random.default_rng(random.randint(0, 99))
    given_ = {p: rng.integers(0, 120, planes.shape_yx).astype(planes.dtype) for p in places}
    for plane in given_.values():
        plane.flags.writeable = random.random() < 0.5
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "1")
        objects = write_image(folder, layout, given_, encoders=1)
        write_image(Path(scratch, "several"), layout, given_, encoders)
        assert tree(folder) == tree(Path(scratch, "several"))
        assert objects <= objects_of(layout)
        assert objects == objects_of(layout) or not is_whole
        for image in images_of(layout):
            for array, want in zip(
                image.levels, expected_levels(layout, image, given_), strict=True
            ):
                assert_read_back(folder / array.path, array, want)
                if array.zarr_format == 3:
                    np.testing.assert_array_equal(by_hand(folder / array.path).pixels, want)
