"""Layouts: the architecture's worked numbers, the pyramid's rules, regions."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcsflow.config import FieldLayout, ZarrChunkStrategy, ZarrCompressor, ZarrConfig
from hcsflow.errors import PlanRefusedError
from hcsflow.ngff.layout import (
    image_of,
    images_of,
    objects_of,
    plan_image,
    planes_of,
    prove_labels,
    prove_regions,
    raw_bytes,
    region_of,
    slot_of,
)
from hcsflow.ngff.pyramid import plan_pyramid
from hcsflow.plan import PlaneSet
from hcsflow.plate import FieldGrid


def grid_of(rows, columns, fields=None):
    cells = tuple(product(range(rows), range(columns)))
    return FieldGrid(rows, columns, cells[:fields], "field number")


def lay_out(planes, grid, *, kind="image", um=0.65, z_um=5.0, **settings_):
    return plan_image(
        path="0" if kind == "image" else "0/labels/nuclei",
        kind=kind,
        planes=planes,
        grid=grid,
        config=ZarrConfig(**settings_),
        pixel_size_um=um,
        z_step_um=z_um,
    )


MIX = PlaneSet((0, 1), (0,), (0, 1, 2, 3), ((0,),) * 4, (512, 512), "uint16", ("z",))
COUNT = PlaneSet(
    (0, 1), (0,), (0, 1, 2, 3), ((0, 1, 2, 3, 4),) * 2 + ((0,),) * 2, (512, 512), "uint16"
)
NINE = PlaneSet(tuple(range(9)), (0,), (0, 1), (tuple(range(5)),) * 2, (1080, 1080), "uint16")
NUCLEI = PlaneSet((0, 1), (0,), (0,), ((0,),), (512, 512), "uint16", ("z",))


@pytest.mark.parametrize(
    ("planes", "grid", "shape", "chunk", "levels", "well", "file"),
    [
        (MIX, (1, 2), (4, 512, 1024), (1, 512, 512), 4, 4, 8 + 3),
        (COUNT, (1, 2), (4, 5, 512, 1024), (1, 1, 512, 512), 4, 4, 24 + 3),
        (NINE, (3, 3), (2, 5, 3240, 3240), (1, 1, 1080, 1080), 4, 4, 90 + 3),
    ],
    ids=["max-projection", "count-nuclei", "nine-fields"],
)
def test_the_worked_numbers_of_the_architecture(planes, grid, shape, chunk, levels, well, file):
    for strategy, objects in (("well", well), ("file", file), ("single", well)):
        layout = lay_out(planes, grid_of(*grid), chunk_strategy=ZarrChunkStrategy(strategy))
        prove_regions(layout)
        assert layout.levels[0].shape == shape
        assert layout.levels[0].chunks == chunk
        assert len(layout.levels) == levels
        assert objects_of(layout) == objects
        assert layout.levels[0].shards == (None if strategy == "file" else shape)


def test_levels_halve_down_to_the_worked_sizes():
    nine = lay_out(NINE, grid_of(3, 3))
    assert [a.shape[-1] for a in nine.levels] == [3240, 1620, 810, 405]
    mix = lay_out(MIX, grid_of(1, 2))
    assert [a.shape[-2:] for a in mix.levels] == [(512, 1024), (256, 512), (128, 256), (64, 128)]


@pytest.mark.parametrize("strategy", ["well", "file"])
def test_labels_have_no_channel_axis_and_one_shard_a_level(strategy):
    layout = lay_out(
        NUCLEI, grid_of(1, 2), kind="label", chunk_strategy=ZarrChunkStrategy(strategy)
    )
    full = layout.levels[0]
    assert (full.axes, full.shape, full.dtype) == (("y", "x"), (512, 1024), "uint32")
    assert (full.codec.name, full.codec.level) == ("zstd", 1)
    assert objects_of(layout) == 4
    prove_labels(lay_out(COUNT, grid_of(1, 2)), layout)


def test_absent_slots_count_neither_as_objects_nor_as_bytes():
    layout = lay_out(COUNT, grid_of(1, 2), chunk_strategy=ZarrChunkStrategy.FILE, pyramid=False)
    assert np.prod(layout.levels[0].shape) // 512**2 == 40
    assert planes_of(layout) == objects_of(layout) == 24
    assert raw_bytes(layout) == 24 * 512 * 512 * 2


def test_a_channel_with_one_plane_has_it_in_slot_zero():
    planes = PlaneSet((0,), (0,), (0, 1), ((2, 5, 7), (5,)), (64, 64), "uint16")
    layout = lay_out(planes, grid_of(1, 1))
    assert layout.z == 3
    assert [slot_of(layout, 0, z) for z in (2, 5, 7)] == [0, 1, 2]
    assert slot_of(layout, 1, 5) == 0
    assert layout.slots == ((0, 1, 2), (0,))


def test_a_height_that_a_channel_lacks_has_no_slot():
    planes = PlaneSet((0,), (0,), (0, 1), ((0, 1, 2), (0, 2)), (64, 64), "uint16")
    layout = lay_out(planes, grid_of(1, 1))
    with pytest.raises(LookupError, match="channel 1 has no plane at z 1"):
        slot_of(layout, 1, 1)


def test_time_has_an_axis_only_where_it_is_longer_than_one():
    planes = PlaneSet((0,), (0, 1, 2), (0,), ((0,),), (64, 64), "uint8")
    assert lay_out(planes, grid_of(1, 1)).levels[0].axes == ("t", "c", "y", "x")
    assert lay_out(planes, grid_of(1, 1), kind="label").levels[0].axes == ("t", "y", "x")


def test_scales_are_physical_and_double_with_each_level():
    layout = lay_out(COUNT, grid_of(1, 2), um=0.65, z_um=5.0)
    assert [a.scale for a in layout.levels[:2]] == [(1, 5, 0.65, 0.65), (1, 5, 1.3, 1.3)]
    unknown = lay_out(COUNT, grid_of(1, 2), um=None, z_um=5.0)
    assert (unknown.has_unit, unknown.has_z_unit) == (False, False)
    assert unknown.levels[0].scale == (1, 1, 1, 1)
    flat = lay_out(COUNT, grid_of(1, 2), um=0.65, z_um=None)
    assert (flat.has_unit, flat.has_z_unit) == (True, False)


def test_stitched_fields_are_one_tile():
    planes = PlaneSet((0,), (0,), (0,), ((0,),), (900, 1700), "uint16", ("field",))
    layout = lay_out(planes, grid_of(2, 2))
    assert layout.levels[0].shape == (1, 900, 1700)
    assert layout.cells == ((0, 0),)


@pytest.mark.parametrize(
    ("setting", "value", "name", "level"),
    [
        ("compressor", ZarrCompressor.ZSTD, "blosc-zstd", 3),
        ("compressor", ZarrCompressor.BLOSC, "blosc-zstd", 3),
        ("compressor", ZarrCompressor.LZ4, "blosc-lz4", 3),
        ("compressor", ZarrCompressor.ZLIB, "gzip-", 3),
        ("compressor", ZarrCompressor.GZIP, "gzip-", 3),
        ("compressor", ZarrCompressor.NONE, "none-", 0),
    ],
)
def test_compressors_map_to_codecs_that_every_reader_knows(setting, value, name, level):
    codec = lay_out(MIX, grid_of(1, 2), compression_level=3, **{setting: value}).levels[0].codec
    assert (f"{codec.name}-{codec.cname}", codec.level) == (name, level)


@pytest.mark.parametrize(
    ("planes", "strategy", "objects"),
    [
        (MIX, "well", 2 * 3),
        (MIX, "file", 2 * (4 + 2)),
        (NINE, "well", 9 * 4),
        (NINE, "file", 9 * (10 + 3)),
    ],
)
def test_each_field_is_an_image_of_its_own_size(planes, strategy, objects):
    layout = lay_out(
        planes,
        grid_of(3, 3),
        field_layout=FieldLayout.IMAGES,
        chunk_strategy=ZarrChunkStrategy(strategy),
    )
    prove_regions(layout)
    images = images_of(layout)
    assert [image.path for image in images] == [str(n) for n in range(len(planes.fields))]
    assert all(image.levels[0].shape[-2:] == planes.shape_yx for image in images)
    assert objects_of(layout) == sum(map(objects_of, images)) == objects
    assert raw_bytes(layout) == sum(map(raw_bytes, images))
    assert max(images[0].levels[-1].shape[-2:]) >= 128


def test_labels_lie_in_the_image_of_their_field():
    image = lay_out(MIX, grid_of(1, 2), field_layout=FieldLayout.IMAGES)
    labels = lay_out(NUCLEI, grid_of(1, 2), kind="label", field_layout=FieldLayout.IMAGES)
    prove_labels(image, labels)
    assert image_of(labels, 1).levels[0].path == "1/labels/nuclei/0"
    with pytest.raises(PlanRefusedError, match="do not fit"):
        prove_labels(image, lay_out(NUCLEI, grid_of(1, 2), kind="label"))


def test_stitched_fields_are_one_image():
    planes = PlaneSet((0,), (0,), (0,), ((0,),), (900, 1000), "uint16", ("field",))
    layout = lay_out(planes, grid_of(2, 2), field_layout=FieldLayout.IMAGES)
    assert images_of(layout) == (layout,)
    assert layout.levels[0].shape == (1, 900, 1000)


def test_fields_that_would_share_an_image_are_refused():
    layout = lay_out(MIX, grid_of(1, 2), field_layout=FieldLayout.IMAGES)
    for damaged in (replace(layout, fields=(0, 0)), replace(layout, cells=((0, 0), (0, 1)))):
        with pytest.raises(PlanRefusedError, match="region"):
            prove_regions(damaged)
    with pytest.raises(LookupError, match="no field 7"):
        image_of(layout, 7)


@pytest.mark.parametrize("dtype", ["bool", "complex64", "float16", "uint64"])
def test_dtypes_that_readers_do_not_share_are_refused(dtype):
    with pytest.raises(PlanRefusedError, match=f"dtype {dtype} is not stored"):
        lay_out(PlaneSet((0,), (0,), (0,), ((0,),), (64, 64), dtype), grid_of(1, 1))


def test_a_plane_over_the_codecs_limit_is_refused():
    planes = PlaneSet((0,), (0,), (0,), ((0,),), (32768, 32768), "uint16")
    with pytest.raises(PlanRefusedError, match="one plane has 2147483648 bytes"):
        lay_out(planes, grid_of(1, 1))


def test_a_field_without_a_place_is_refused():
    with pytest.raises(PlanRefusedError, match="field 8 has no place in the grid of 4"):
        lay_out(NINE, grid_of(2, 2))


@pytest.mark.parametrize(
    ("field", "grid", "pitch", "levels"),
    [
        ((1080, 1080), (3, 3), (1080, 1080), 4),
        ((512, 512), (1, 2), (512, 512), 4),
        ((1081, 1081), (1, 1), (1081, 1081), 1),
        ((1081, 1081), (3, 3), (1082, 1082), 2),
        ((2049, 2049), (1, 1), (2050, 2050), 2),
        ((1022, 1024), (4, 4), (1022, 1024), 2),
        ((1022, 1024), (5, 5), (1024, 1024), 6),
        ((100, 100), (1, 1), (100, 100), 1),
        ((2, 2), (1, 3000), (2, 2), 2),
    ],
)
def test_pyramids_worked_by_hand(field, grid, pitch, levels):
    assert plan_pyramid(field, grid) == (pitch, levels)


sides = st.integers(1, 2600)
grids = st.tuples(st.integers(1, 6), st.integers(1, 6))


@given(st.tuples(sides, sides), grids)
@settings(max_examples=100, deadline=None)
def test_pyramids_keep_the_rules(field, grid):
    pitch, levels = plan_pyramid(field, grid)
    last = [p >> (levels - 1) for p in pitch]
    longer = [max(p * g for p, g in zip(pitch, grid, strict=True)) >> n for n in range(levels)]
    assert all(p % (1 << (levels - 1)) == 0 for p in pitch)
    assert all(n == 0 or side >= 128 for n, side in enumerate(longer))
    assert longer[-1] <= 2048
    assert last[0] % 2 or last[1] % 2 or longer[-1] // 2 < 128
    if pitch != field:
        # only because it had to be, and by less than the power of two that mends it
        natural = [max(f * g for f, g in zip(field, grid, strict=True))]
        halved = list(field)
        while all(f % 2 == 0 for f in halved) and natural[-1] // 2 >= 128:
            halved = [f // 2 for f in halved]
            natural.append(natural[-1] // 2)
        assert natural[-1] > 2048
        assert all(0 <= p - f < 64 for f, p in zip(field, pitch, strict=True))


@st.composite
def plane_sets(draw):
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    fields = draw(st.integers(1, rows * columns))
    channels = draw(st.integers(1, 3))
    heights = st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True).map(sorted)
    z = tuple(tuple(draw(heights)) for _ in range(channels))
    planes = PlaneSet(
        tuple(range(fields)),
        tuple(range(draw(st.integers(1, 2)))),
        tuple(range(channels)),
        z,
        (draw(st.integers(1, 80)), draw(st.integers(1, 80))),
        "uint16",
    )
    cells = draw(st.permutations(list(product(range(rows), range(columns)))))
    return planes, FieldGrid(rows, columns, tuple(cells[:fields]), "drawn")


@given(plane_sets(), st.sampled_from(["well", "file"]))
@settings(max_examples=30, deadline=None)
def test_regions_are_disjoint_on_chunk_edges_and_cover_all_planes(drawn, strategy):
    planes, grid = drawn
    layout = lay_out(planes, grid, chunk_strategy=ZarrChunkStrategy(strategy))
    prove_regions(layout)
    for level, array in enumerate(layout.levels):
        painted = np.zeros(array.shape, np.uint8)
        seen = set()
        for key in planes.iter_keys():
            slot = slot_of(layout, key.channel, key.z)
            region = region_of(layout, level, key.field, key.timepoint, key.channel, slot)
            assert all(
                s.start == i * c and s.stop == (i + 1) * c
                for s, i, c in zip(region.slices, region.chunk, array.chunks, strict=True)
            )
            painted[region.slices] += 1
            seen.add(region.chunk)
        assert painted.max() == 1
        assert len(seen) == planes.num_planes == planes_of(layout)
        assert painted.sum() == planes.num_planes * np.prod(array.chunks)


def test_the_proof_bites():
    from dataclasses import replace

    layout = lay_out(NINE, grid_of(3, 3))
    full = layout.levels[0]
    broken = [
        replace(layout, cells=((0, 0),) * 9),
        replace(layout, cells=((0, 0), (0, 9), *layout.cells[2:])),
        replace(layout, cells=layout.cells[:-1]),
        replace(layout, slots=((0, 1, 2, 3, 5),) * 2),
        replace(layout, timepoints=(0, 1)),
        replace(layout, pitch_yx=(1081, 1080)),
        replace(layout, levels=(replace(full, chunks=(1, 1, 540, 1080)), *layout.levels[1:])),
        replace(layout, levels=(replace(full, shards=(1, 5, 3240, 1620)), *layout.levels[1:])),
        replace(layout, levels=(replace(full, shards=(3, 5, 3240, 3240)), *layout.levels[1:])),
        replace(layout, levels=(full, layout.levels[2])),
    ]
    for one in broken:
        with pytest.raises(PlanRefusedError):
            prove_regions(one)


def test_labels_that_do_not_fit_their_image_are_refused():
    image = lay_out(COUNT, grid_of(1, 2))
    small = PlaneSet((0, 1), (0,), (0,), ((0,),), (256, 512), "uint16", ("z",))
    tall = PlaneSet((0, 1), (0,), (0,), ((0, 1, 2),), (512, 512), "uint16")
    with pytest.raises(PlanRefusedError, match="levels"):
        prove_labels(image, lay_out(small, grid_of(1, 2), kind="label"))
    with pytest.raises(PlanRefusedError, match="z"):
        prove_labels(image, lay_out(tall, grid_of(1, 2), kind="label"))
