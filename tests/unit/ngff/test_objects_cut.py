"""Objects: cut regularly, disjoint and covering; how many, and what writing them holds."""

from itertools import product
from math import prod

import numcodecs.blosc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.config import ZarrChunkStrategy, ZarrConfig
from hcsflow.errors import PlanRefusedError
from hcsflow.ngff import layout as layouts
from hcsflow.ngff.layout import objects_of, plan_image, prove_regions, region_of, slot_of
from hcsflow.ngff.model import Codec
from hcsflow.ngff.objects import MAX_OBJECT_BYTES, encodes_at_most, held_bytes, object_shape
from hcsflow.plan import PlaneSet
from hcsflow.plate import FieldGrid

GRID = FieldGrid(3, 3, tuple(product(range(3), range(3))), "field number")
NINE = PlaneSet(tuple(range(9)), (0,), (0, 1), (tuple(range(5)),) * 2, (1080, 1080), "uint16")
WELL_BYTES = 2 * 5 * 3240**2 * 2
VERSIONS = ("0.4", "0.5")


def lay_out(planes=NINE, grid=GRID, *, kind="image", **settings):
    return plan_image(
        path="0" if kind == "image" else "0/labels/nuclei",
        kind=kind,
        planes=planes,
        grid=grid,
        config=ZarrConfig(**settings),
        pixel_size_um=0.65,
        z_step_um=5.0,
    )


@st.composite
def cuts(draw):
    counts = draw(st.lists(st.integers(1, 7), min_size=2, max_size=5))
    chunks = (*(1 for _ in counts[:-2]), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    shape = tuple(n * chunk for n, chunk in zip(counts, chunks, strict=True))
    return shape, chunks, draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 30_000))


@given(cuts())
def test_objects_are_disjoint_cover_the_array_and_fit(drawn):
    shape, chunks, itemsize, limit = drawn
    cut = object_shape(shape, chunks, itemsize=itemsize, limit=limit)
    assert all(size % chunk == 0 for size, chunk in zip(cut, chunks, strict=True))
    assert all(
        chunk <= size <= total for chunk, size, total in zip(chunks, cut, shape, strict=True)
    )
    assert prod(cut) * itemsize <= limit or cut == chunks
    painted = np.zeros(shape, np.uint8)
    starts = [range(0, total, size) for total, size in zip(shape, cut, strict=True)]
    for start in product(*starts):
        painted[tuple(slice(at, at + size) for at, size in zip(start, cut, strict=True))] += 1
    assert painted.min() == painted.max() == 1


@given(cuts())
def test_an_axis_is_cut_only_when_those_before_it_are_single_and_no_more_than_needed(drawn):
    shape, chunks, itemsize, limit = drawn
    cut = object_shape(shape, chunks, itemsize=itemsize, limit=limit)
    is_cut = [size < total for size, total in zip(cut, shape, strict=True)]
    for axis, cut_here in enumerate(is_cut):
        if not cut_here:
            continue
        assert cut[:axis] == chunks[:axis]
        total, size, chunk = shape[axis] // chunks[axis], cut[axis] // chunks[axis], chunks[axis]
        pieces = -(-total // size)
        larger = (*cut[:axis], -(-total // (pieces - 1)) * chunk, *shape[axis + 1 :])
        assert prod(larger) * itemsize > limit  # one piece less would not do
        assert size == -(-total // pieces)  # as alike as can be


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("limit", "objects"),
    [
        (WELL_BYTES, (2, 5, 3240, 3240)),
        (WELL_BYTES - 1, (1, 5, 3240, 3240)),
        (WELL_BYTES // 2 - 1, (1, 3, 3240, 3240)),
        (WELL_BYTES // 10, (1, 1, 3240, 3240)),
        (WELL_BYTES // 10 - 1, (1, 1, 2160, 3240)),
        (WELL_BYTES // 30, (1, 1, 1080, 3240)),
        (WELL_BYTES // 30 - 1, (1, 1, 1080, 2160)),
        (1, (1, 1, 1080, 1080)),
    ],
)
def test_a_well_is_cut_by_channel_then_z_then_rows_of_fields(monkeypatch, version, limit, objects):
    monkeypatch.setattr(layouts, "MAX_OBJECT_BYTES", limit)
    layout = lay_out(chunk_strategy="adaptive", ngff_version=version)
    prove_regions(layout)
    assert layout.levels[0].shards == objects
    assert layout.levels[0].chunks == (1, 1, 1080, 1080)
    grid = [-(-s // o) for s, o in zip(layout.levels[0].shape, objects, strict=True)]
    lower = [
        prod(-(-s // o) for s, o in zip(array.shape, array.shards, strict=True))
        for array in layout.levels[1:]
    ]
    assert objects_of(layout) == prod(grid) + sum(lower)


def test_time_is_cut_first(monkeypatch):
    planes = PlaneSet((0,), tuple(range(10)), (0, 1), ((0,),) * 2, (64, 64), "uint16")
    monkeypatch.setattr(layouts, "MAX_OBJECT_BYTES", 4 * 2 * 64 * 64 * 2)
    one = FieldGrid(1, 1, ((0, 0),), "drawn")
    full = lay_out(planes, one, chunk_strategy="adaptive").levels[0]
    assert (full.axes, full.shards) == (("t", "c", "y", "x"), (4, 2, 64, 64))


@pytest.mark.parametrize("version", VERSIONS)
def test_by_default_an_object_may_have_two_gib(version):
    assert MAX_OBJECT_BYTES == 2 * 1024**3
    adaptive = lay_out(chunk_strategy="adaptive", ngff_version=version)
    assert [a.shards for a in adaptive.levels] == [a.shape for a in adaptive.levels]
    assert objects_of(adaptive) == objects_of(lay_out(ngff_version=version)) == 4


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize("strategy", ["well", "file", "adaptive"])
def test_versions_differ_in_nothing_but_format_and_codec(kind, strategy):
    from dataclasses import replace

    new, old = (
        lay_out(kind=kind, chunk_strategy=strategy, ngff_version=version)
        for version in reversed(VERSIONS)
    )
    assert (old.ngff_version, new.ngff_version) == VERSIONS
    for ours, theirs in zip(old.levels, new.levels, strict=True):
        assert (ours.zarr_format, theirs.zarr_format) == (2, 3)
        assert replace(ours, zarr_format=3, codec=theirs.codec) == theirs


@pytest.mark.parametrize(
    ("setting", "name"),
    [("zstd", "blosc"), ("lz4", "blosc"), ("zlib", "zlib"), ("gzip", "gzip"), ("none", "none")],
)
def test_codecs_of_zarr_2_are_those_its_readers_know(setting, name):
    image = lay_out(compressor=setting, ngff_version="0.4")
    assert image.levels[0].codec.name == name
    label = lay_out(kind="label", compressor=setting, ngff_version="0.4")
    assert label.levels[0].codec.name == ("none" if setting == "none" else "blosc")


def test_the_limit_is_that_of_the_encoder():
    assert encodes_at_most(Codec("blosc")) == numcodecs.blosc.MAX_BUFFERSIZE


LARGE = PlaneSet(tuple(range(9)), (0,), (0, 1), (tuple(range(52)),) * 2, (1080, 1080), "uint16")


@pytest.mark.parametrize(
    ("kind", "strategy"), [("image", "well"), ("label", "well"), ("label", "file")]
)
def test_an_object_over_the_codecs_limit_is_refused_in_zarr_2_with_advice(kind, strategy):
    settings = {"kind": kind, "chunk_strategy": strategy}
    with pytest.raises(PlanRefusedError, match=r"has 2183\d* bytes, in NGFF 0\.4 blosc") as caught:
        lay_out(LARGE, ngff_version="0.4", **settings)
    assert all(word in caught.value.hint for word in ("adaptive", "NGFF 0.5"))
    assert "file" not in caught.value.hint  # labels are one object a level there too
    lay_out(LARGE, **settings)  # shards may be as large as they like


def test_large_wells_are_stored_in_zarr_2_as_files_or_cut_or_without_a_codec():
    assert objects_of(lay_out(LARGE, ngff_version="0.4", chunk_strategy="file")) == 9 * 104 + 3
    cut = lay_out(LARGE, ngff_version="0.4", chunk_strategy="adaptive")
    assert cut.levels[0].shards == (1, 52, 3240, 3240)
    assert objects_of(cut) == 2 + 3
    assert objects_of(lay_out(LARGE, ngff_version="0.4", compressor="none")) == 4


@st.composite
def plane_sets(draw):
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    fields = draw(st.integers(1, rows * columns))
    heights = st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True).map(sorted)
    z = tuple(tuple(draw(heights)) for _ in range(draw(st.integers(1, 3))))
    times = tuple(range(draw(st.integers(1, 3))))
    planes = PlaneSet(tuple(range(fields)), times, tuple(range(len(z))), z, (64, 64), "uint16")
    cells = draw(st.permutations(list(product(range(rows), range(columns)))))
    return planes, FieldGrid(rows, columns, tuple(cells[:fields]), "drawn")


def chunks_of(layout, planes):
    return [
        region_of(layout, 0, k.field, k.timepoint, k.channel, slot_of(layout, k.channel, k.z)).chunk
        for k in planes.iter_keys()
    ]


def object_at(array, chunk):
    stored = array.shards or array.chunks
    return tuple(i * c // s for i, c, s in zip(chunk, array.chunks, stored, strict=True))


@given(plane_sets(), st.sampled_from(["well", "file", "adaptive"]), st.integers(8_000, 300_000))
def test_only_objects_with_planes_are_counted(drawn, strategy, limit):
    planes, grid = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "MAX_OBJECT_BYTES", limit)
        layout = lay_out(planes, grid, chunk_strategy=ZarrChunkStrategy(strategy))
    prove_regions(layout)
    chunks = chunks_of(layout, planes)
    wanted = sum(len({object_at(array, chunk) for chunk in chunks}) for array in layout.levels)
    assert objects_of(layout) == wanted


@given(plane_sets(), st.sampled_from(["well", "file", "adaptive"]), st.randoms())
def test_what_writing_holds_is_the_objects_begun_and_not_complete(drawn, strategy, random):
    planes, grid = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "MAX_OBJECT_BYTES", 40_000)
        layout = lay_out(planes, grid, chunk_strategy=strategy, ngff_version="0.4")
    order = chunks_of(layout, planes)
    random.shuffle(order)
    held = held_bytes(layout, order)
    sizes = [prod(a.shards) * 2 for a in layout.levels if a.shards]
    most = sum(
        prod(a.shards) * 2 * len({object_at(a, chunk) for chunk in order})
        for a in layout.levels
        if a.shards
    )
    assert sum(sizes) + max(sizes, default=0) <= held <= most + max(sizes, default=0)
    assert held_bytes(layout, order, may_lack=True) == most + max(sizes, default=0)
    if strategy != "adaptive":
        assert held == most + max(sizes, default=0)


def test_in_zarr_3_nothing_is_held():
    assert held_bytes(lay_out(), chunks_of(lay_out(), NINE)) == 0


def test_cut_objects_are_written_one_after_the_other(monkeypatch):
    monkeypatch.setattr(layouts, "MAX_OBJECT_BYTES", WELL_BYTES // 10)
    layout = lay_out(chunk_strategy="adaptive", ngff_version="0.4", pyramid=False)
    plane_by_plane = sorted(chunks_of(layout, NINE))
    assert held_bytes(layout, plane_by_plane) == 2 * WELL_BYTES // 10
    field_by_field = chunks_of(layout, NINE)
    assert held_bytes(layout, field_by_field) == WELL_BYTES + WELL_BYTES // 10
