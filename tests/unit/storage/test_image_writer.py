"""The streaming image writer: levels, padding, windows, label values, memory."""

import tracemalloc

import cv2
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hcsflow.config import ZarrChunkStrategy, ZarrConfig
from hcsflow.errors import ContractError
from hcsflow.ngff import layout as layouts
from hcsflow.ngff.layout import objects_of, plan_image, slot_of
from hcsflow.plan import PlaneSet
from hcsflow.plate import FieldGrid
from hcsflow.storage import images
from hcsflow.storage.documents import write_array_document
from hcsflow.storage.histogram import GreyHistogram, grey_counts
from hcsflow.storage.images import ImageWriter, halve


def planes_of(**changes):
    given_ = {
        "fields": (0, 1),
        "timepoints": (0,),
        "channels": (0, 1),
        "z": ((0, 1), (0,)),
        "shape_yx": (128, 128),
        "dtype": "uint16",
    }
    return PlaneSet(**(given_ | changes))


def lay_out(planes, *, kind="image", **settings_):
    return plan_image(
        path="0" if kind == "image" else "0/labels/nuclei",
        kind=kind,
        planes=planes,
        grid=FieldGrid(2, 2, ((1, 0), (0, 1), (0, 0), (1, 1)), "drawn"),
        config=ZarrConfig(**settings_),
        pixel_size_um=0.5,
        z_step_um=2.0,
    )


def pixels_of(key, planes):
    """Pixels that depend on the plane's key."""
    rng = np.random.default_rng(abs(hash((key.field, key.timepoint, key.channel, key.z))))
    if np.dtype(planes.dtype).kind == "f":
        return rng.normal(size=planes.shape_yx).astype(planes.dtype)
    top = min(np.iinfo(planes.dtype).max, 5000)
    return rng.integers(0, top, planes.shape_yx).astype(planes.dtype)


def write_all(root, layout, planes, make=pixels_of):
    with ImageWriter(root, layout) as writer:
        for key in planes.iter_keys():
            slot = slot_of(layout, key.channel, key.z)
            plane = make(key, planes)
            writer.write(key.field, key.timepoint, key.channel, slot, plane)
        record = writer.close()
    for array in layout.levels:
        write_array_document(root, array)
    return record


def expected_levels(layout, planes):
    """Build every level with plain numpy."""
    full = np.zeros(layout.levels[0].shape, layout.levels[0].dtype)
    view = full.reshape(len(layout.timepoints), len(layout.channels), layout.z, *full.shape[-2:])
    for key in planes.iter_keys():
        row, column = layout.cells[key.field]
        y, x = row * layout.pitch_yx[0], column * layout.pitch_yx[1]
        tile = view[key.timepoint, key.channel, slot_of(layout, key.channel, key.z)]
        tile[y : y + layout.field_yx[0], x : x + layout.field_yx[1]] = pixels_of(key, planes)
    return full


VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


@VERSIONS
@pytest.mark.parametrize("strategy", ["well", "file", "adaptive"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32"])
def test_planes_are_read_back_where_they_belong(tmp_path, monkeypatch, strategy, dtype, version):
    monkeypatch.setattr(layouts, "MAX_OBJECT_BYTES", 4 * 128 * 128 * np.dtype(dtype).itemsize)
    planes = planes_of(dtype=dtype, fields=(0, 1, 2), timepoints=(0, 1))
    layout = lay_out(planes, chunk_strategy=strategy, ngff_version=version)
    record = write_all(tmp_path, layout, planes)
    assert len(record.objects) == objects_of(layout)
    assert record.planes == planes.num_planes
    want = expected_levels(layout, planes)
    for array in layout.levels:
        found = zarr.open_array(tmp_path / array.path, mode="r")[:]
        np.testing.assert_array_equal(found, want)
        if np.dtype(dtype).kind == "f":
            pairs = want[..., ::2] + want[..., 1::2]
            want = (pairs[..., ::2, :] + pairs[..., 1::2, :]) * np.float32(0.25)
        else:
            w = want.astype(np.int64)
            total = w[..., ::2, ::2] + w[..., ::2, 1::2] + w[..., 1::2, ::2] + w[..., 1::2, 1::2]
            want = ((total + 2) >> 2).astype(dtype)


def test_records_name_the_files(tmp_path):
    planes = planes_of()
    layout = lay_out(planes, chunk_strategy=ZarrChunkStrategy.FILE)
    record = write_all(tmp_path, layout, planes)
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("c/**/*") if p.is_file()}
    assert {stored.path for stored in record.objects} == files
    assert record.nbytes == sum((tmp_path / name).stat().st_size for name in files)


def test_black_planes_are_stored_in_zarr_2_and_absent_objects_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "MAX_OBJECT_BYTES", 4 * 128 * 128 * 2)
    planes = planes_of(channels=(0, 1), z=((0, 1, 2), (0,)))
    settings_ = {"pyramid": False, "ngff_version": "0.4", "chunk_strategy": "adaptive"}
    layout = lay_out(planes, **settings_)
    assert layout.levels[0].shards == (1, 1, 256, 256)
    record = write_all(tmp_path, layout, planes, lambda *_: np.zeros((128, 128), "uint16"))
    assert sorted(o.path for o in record.objects) == [
        f"0/0/{place}/0/0" for place in ("0/0", "0/1", "0/2", "1/0")
    ]


@pytest.mark.parametrize("strategy", ["well", "file"])
def test_black_planes_are_stored_and_absent_ones_are_not(tmp_path, strategy):
    planes = planes_of(channels=(0, 1), z=((0, 1, 2), (0,)))
    layout = lay_out(planes, chunk_strategy=ZarrChunkStrategy(strategy), pyramid=False)
    record = write_all(tmp_path, layout, planes, lambda *_: np.zeros((128, 128), "uint16"))
    if strategy == "file":
        assert len(record.objects) == 2 * (3 + 1)
        return
    index = np.frombuffer((tmp_path / record.objects[0].path).read_bytes()[:-4][-24 * 16 :], "<u8")
    stored = (index.reshape(2, 3, 2, 2, 2)[..., 0] != 2**64 - 1).sum()
    assert stored == 2 * (3 + 1)


@pytest.mark.parametrize("kind", ["image", "label"])
def test_tiles_are_padded_by_their_edge_labels_by_background(tmp_path, kind):
    planes = planes_of(fields=(0,), channels=(0,), z=((0,),), shape_yx=(1031, 1033), dtype="uint32")
    layout = lay_out(planes, kind=kind)
    assert layout.pitch_yx == (1032, 1034)
    ramp = np.arange(1, 1031 * 1033 + 1, dtype="uint32").reshape(1031, 1033)
    write_all(tmp_path, layout, planes, lambda *_: ramp)
    tile = zarr.open_array(tmp_path / layout.levels[0].path, mode="r")[..., 1032:, :1034].squeeze()
    edge = np.pad(ramp, ((0, 1), (0, 1)), mode="edge" if kind == "image" else "constant")
    np.testing.assert_array_equal(tile, edge)


def test_labels_are_downsampled_by_nearest_and_their_values_listed(tmp_path):
    planes = planes_of(channels=(0,), z=((0,),), dtype="uint32")
    layout = lay_out(planes, kind="label")

    def cells(key, _):
        plane = np.zeros((128, 128), "uint32")
        plane[3:9, 5:11] = key.field * 65536 + 1
        plane[120:, :] = key.field * 65536 + 9
        plane[0, 127] = 5
        return plane

    record = write_all(tmp_path, layout, planes, cells)
    assert record.values == (0, 1, 5, 9, 65537, 65545)
    assert record.windows == ()
    full, half = (zarr.open_array(tmp_path / a.path, mode="r")[:] for a in layout.levels[:2])
    np.testing.assert_array_equal(half, full[::2, ::2])


def test_more_labels_than_are_worth_a_colour_are_not_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_LABEL_COLORS", 100)
    planes = planes_of(channels=(0,), z=((0,),), dtype="uint32")
    layout = lay_out(planes, kind="label")
    record = write_all(
        tmp_path, layout, planes, lambda *_: np.arange(128 * 128, dtype="uint32").reshape(128, 128)
    )
    assert record.values is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int8", "uint32", "int32"])
def test_means_are_exact_with_halves_rounded_up(dtype):
    rng = np.random.default_rng(1)
    info = np.iinfo(dtype)
    plane = rng.integers(info.min, info.max, (270, 538), dtype=dtype, endpoint=True)
    plane[:2, :2] = [[0, 0], [1, 1]]
    wide = plane.astype(object)
    total = wide[::2, ::2] + wide[::2, 1::2] + wide[1::2, ::2] + wide[1::2, 1::2]
    found = halve(plane)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, ((total + 2) // 4).astype(dtype))
    assert found[0, 0] == 1


def test_the_mean_does_not_depend_on_cv2s_threads():
    plane = np.random.default_rng(2).integers(0, 65535, (2048, 2048), dtype="uint16")
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        many = halve(plane)
        cv2.setNumThreads(1)
        np.testing.assert_array_equal(many, halve(plane))
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("plane", [np.zeros((128, 64), "uint16"), np.zeros((128, 128), "uint8")])
def test_a_plane_of_another_size_or_dtype_is_refused(tmp_path, plane):
    planes = planes_of()
    with (
        pytest.raises(ContractError, match=r"takes planes of \(128, 128\) uint16, got"),
        ImageWriter(tmp_path, lay_out(planes)) as writer,
    ):
        writer.write(0, 0, 0, 0, plane)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@VERSIONS
@pytest.mark.parametrize("compressor", ["zstd", "lz4", "zlib", "gzip", "none"])
@pytest.mark.parametrize("kind", ["image", "label"])
def test_every_compressor_is_read_by_zarr_and_tensorstore(tmp_path, kind, compressor, version):
    ts = pytest.importorskip("tensorstore")
    planes = planes_of(channels=(0,), z=((0,),), dtype="uint32")
    settings_ = {"compressor": compressor, "compression_level": 3, "ngff_version": version}
    layout = lay_out(planes, kind=kind, **settings_)
    write_all(tmp_path, layout, planes)
    for array in layout.levels:
        folder = tmp_path / array.path
        found = zarr.open_array(folder, mode="r")[:]
        driver = "zarr" if version == "0.4" else "zarr3"
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(folder)}}
        np.testing.assert_array_equal(ts.open(spec).result().read().result(), found)
    assert found.any()


@VERSIONS
@pytest.mark.parametrize("strategy", ["well", "adaptive"])
def test_the_same_calls_give_the_same_bytes(tmp_path, hash_tree, monkeypatch, version, strategy):
    monkeypatch.setattr(layouts, "MAX_OBJECT_BYTES", 100_000)
    planes = planes_of(timepoints=(0, 1))
    for folder in ("a", "b"):
        layout = lay_out(planes, ngff_version=version, chunk_strategy=strategy)
        write_all(tmp_path / folder, layout, planes)
    assert hash_tree(tmp_path / "a") == hash_tree(tmp_path / "b")


@pytest.mark.slow
def test_nine_fields_of_1080_px_are_one_object_or_ninety_with_equal_pixels(tmp_path):
    stack = (0, 1, 2, 3, 4)
    planes = planes_of(fields=tuple(range(9)), z=(stack, stack), shape_yx=(1080, 1080))
    grid = FieldGrid(3, 3, tuple((n // 3, n % 3) for n in range(9)), "drawn")
    arrays = []
    for strategy, count in (("well", 1), ("file", 90)):
        layout = plan_image(
            path="0",
            kind="image",
            planes=planes,
            grid=grid,
            config=ZarrConfig(chunk_strategy=ZarrChunkStrategy(strategy)),
            pixel_size_um=0.65,
            z_step_um=5.0,
        )
        record = write_all(tmp_path / strategy, layout, planes)
        assert sum(stored.path.startswith("0/0/") for stored in record.objects) == count
        assert len(record.objects) == count + 3
        arrays.append(zarr.open_array(tmp_path / strategy / "0/0", mode="r"))
    for key in planes.iter_keys():
        row, column = grid.cells[key.field]
        y, x = slice(row * 1080, row * 1080 + 1080), slice(column * 1080, column * 1080 + 1080)
        want = pixels_of(key, planes)
        for array in arrays:
            np.testing.assert_array_equal(array[key.channel, key.z, y, x], want)


def test_memory_does_not_grow_with_the_well(tmp_path):
    """Python's own peak for 4 and for 40 planes of 512 KiB."""
    peaks = []
    for timepoints in (1, 10):
        planes = planes_of(
            timepoints=tuple(range(timepoints)),
            fields=(0, 1, 2, 3),
            channels=(0,),
            z=((0,),),
            shape_yx=(512, 512),
        )
        layout = lay_out(planes)
        plane = np.random.default_rng(0).integers(0, 65535, (512, 512), dtype="uint16")
        tracemalloc.start()
        write_all(tmp_path / str(timepoints), layout, planes, lambda *_, p=plane: p)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2


def test_windows_of_16_bit_images_are_exact_quantiles():
    rng = np.random.default_rng(0)
    values = rng.integers(100, 4100, (4, 256, 256), dtype="uint16")
    histogram = GreyHistogram(np.dtype("uint16"))
    for plane in values:
        histogram.take(grey_counts(plane))
    window = histogram.window()
    ranked = np.sort(values.ravel())
    assert (window.min, window.max) == (0, 65535)
    assert window.start == ranked[int(np.ceil(0.001 * values.size)) - 1]
    assert window.end == ranked[int(np.ceil(0.999 * values.size)) - 1]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=60), st.randoms())
@settings(max_examples=30, deadline=None)
def test_windows_of_float_images_hold_the_values_and_ignore_order(values, random):
    planes = [np.array([[v, np.nan, np.inf]], "float32") for v in values]
    windows = []
    for _ in range(2):
        histogram = GreyHistogram(np.dtype("float32"))
        for plane in planes:
            histogram.take(grey_counts(plane))
        windows.append(histogram.window())
        random.shuffle(planes)
    assert windows[0] == windows[1]
    window = windows[0]
    assert window.min <= window.start < window.end
    low = min(values)
    assert abs(window.start - low) <= max(abs(low) / 64, 1.0) or window.start <= low


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32"])
@pytest.mark.parametrize("level", [0, 255])
def test_flat_and_empty_channels_have_a_usable_window(dtype, level):
    histogram = GreyHistogram(np.dtype(dtype))
    for _ in range(2):
        window = histogram.window()
        assert window.min <= window.start < window.end <= max(window.max, window.start + 1)
        plane = np.full((8, 8), min(level, 127 if dtype == "int8" else 255), dtype)
        histogram.take(grey_counts(plane))
