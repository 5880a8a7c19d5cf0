"""Pictures of a report: every kind of store is read as it is, colours and outlines are true."""

import base64
import json

import cv2
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

from hcsflow.errors import PlaneError
from hcsflow.view.levels import Crop, node_at, read_level
from hcsflow.view.thumbnails import Scene, paint, read_scene

AXES = "tczyx"
SHAPE = (2, 2, 3, 48, 80)
PIXELS = np.random.default_rng(3).integers(1, 60_000, SHAPE).astype("uint16")
CROP = Crop(y=20, x=30, height=20, width=40)

STORES = {
    "sharded": {
        "chunks": (1, 1, 1, 16, 16), "shards": (2, 2, 3, 48, 80), "compressors": BloscCodec()
    },
    "gzip": {"chunks": (1, 1, 1, 20, 30), "compressors": GzipCodec()},
    "zstd, blocks": {"chunks": (2, 1, 3, 24, 80), "compressors": ZstdCodec()},
    "plain": {"chunks": (1, 1, 1, 48, 80), "compressors": None},
    "0.4": {"chunks": (1, 2, 2, 30, 50), "zarr_format": 2},
    "0.4, dots": {
        "chunks": (1, 1, 1, 48, 80), "zarr_format": 2, "compressors": None,
        "chunk_key_encoding": {"name": "v2", "separator": "."},
    },
    "by zarr-python alone": {
        "chunks": (1, 1, 1, 48, 80), "filters": TransposeCodec(order=(4, 3, 2, 1, 0))
    },
    "shards by zarr-python alone": {
        "chunks": (2, 2, 3, 48, 80), "compressors": None, "serializer": ShardingCodec(
            chunk_shape=(1, 1, 1, 16, 16), index_location="start"
        ),
    },
}  # fmt: skip


def image(folder, pixels=PIXELS, axes=AXES, levels=2, zarr_format=3, **how):
    """Write an image; level 1 holds every second pixel."""
    group = zarr.open_group(folder, mode="w", zarr_format=zarr_format)
    for level in range(levels):
        data = np.ascontiguousarray(pixels[..., :: 2**level, :: 2**level])
        array = group.create_array(str(level), shape=data.shape, dtype=data.dtype, **how)
        array[...] = data
    datasets = [{"path": str(level)} for level in range(levels)]
    words = {"multiscales": [{"axes": [{"name": a} for a in axes], "datasets": datasets}]}
    group.attrs.update(words if zarr_format == 2 else {"ome": {"version": "0.5"} | words})
    return node_at(folder)


@pytest.mark.parametrize("kind", STORES)
def test_every_store_is_read_as_it_is(tmp_path, kind):
    how = STORES[kind]
    if how.get("shards"):  # as large as the level
        group = image(tmp_path / "0", levels=1, **how)
    else:
        group = image(tmp_path / "0", **how)
        coarse = PIXELS[0, ..., ::2, ::2].max(axis=1)
        np.testing.assert_array_equal(read_level(group, 40, None), coarse)
    first = PIXELS[0].max(axis=1)  # the first timepoint, the maximum over z
    np.testing.assert_array_equal(read_level(group, 80, None), first)
    np.testing.assert_array_equal(read_level(group, 40, CROP), first[:, 20:40, 30:70])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_was_never_written_reads_as_the_store_says(tmp_path, zarr_format):
    how = {"chunks": (1, 16, 16), "zarr_format": zarr_format, "fill_value": 7}
    pixels = np.full((2, 32, 32), 7, "uint16")
    pixels[1, :16, 16:] = 900
    group = image(tmp_path / "0", pixels, "cyx", levels=1, **how)
    files = [p for p in (tmp_path / "0" / "0").rglob("*") if p.is_file()]
    assert sum(file.name.isdigit() or file.name.count(".") == 2 for file in files) == 1
    np.testing.assert_array_equal(read_level(group, 32, None), pixels)


def test_big_endian_pixels_are_the_same(tmp_path):
    pixels = np.arange(64, dtype=">u2").reshape(1, 8, 8)
    group = image(tmp_path / "0", pixels, "cyx", levels=1, zarr_format=2, chunks=(1, 8, 8))
    assert read_level(group, 8, None).tolist() == pixels.tolist()


def test_a_group_without_words_of_ngff_is_read_by_the_axes_given(tmp_path):
    image(tmp_path / "0", **STORES["gzip"])
    zarr.open_group(tmp_path / "0", mode="a").attrs.clear()
    (tmp_path / "0" / "tables").mkdir()
    found = read_level(node_at(tmp_path / "0"), 40, None, tuple(AXES))
    np.testing.assert_array_equal(found, PIXELS[0, ..., ::2, ::2].max(axis=1))


def cut(folder):
    victim = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-9])
    return str(victim)


def no_json(folder):
    (folder / "0" / "zarr.json").write_text("{")
    return str(folder / "0" / "zarr.json")


def no_axes(folder):
    zarr.open_group(folder, mode="a").attrs["ome"] = {"multiscales": [{}]}
    return "axes"


def no_mapping(folder):
    zarr.open_group(folder, mode="a").attrs["ome"] = "0.5"
    return "'str'"


def no_group(folder):
    (folder / "zarr.json").unlink()
    return "no array or group"


def no_rows(folder):
    document = json.loads((folder / "0" / "zarr.json").read_text())
    document["shape"] = [2, 2, 3, 0, 80]
    (folder / "0" / "zarr.json").write_text(json.dumps(document))
    return "0"


@pytest.mark.parametrize("spoil", [cut, no_json, no_axes, no_mapping, no_group, no_rows])
def test_a_damaged_image_says_which_and_why(tmp_path, spoil):
    image(tmp_path / "0", levels=1, **STORES["sharded"])
    reason = spoil(tmp_path / "0")
    with pytest.raises(PlaneError, match="the stored image cannot be read") as caught:
        read_scene(tmp_path / "0", side=80)
    assert str(tmp_path / "0") in caught.value.message
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint == "`hcsflow verify` names what is damaged"


def decoded(uri):
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


def scene(labels=None):
    pixels = np.zeros((2, 60, 90), np.float32)
    pixels[0, :30] = 100
    pixels[1, :, :45] = 200
    return Scene(pixels, labels, ("ff0000", "00ff00"))


def test_channels_are_added_in_their_colours():
    picture = paint(scene(), [(0, 100), (0, 200)], max_bytes=10**6)
    assert (picture.width, picture.height, picture.outlines) == (90, 60, None)
    blue, green, red = np.moveaxis(decoded(picture.image), 2, 0)
    inside = np.s_[4:26, 4:41], np.s_[4:26, 49:86], np.s_[34:56, 4:41], np.s_[34:56, 49:86]
    shown = [[round(float(c[at].mean()) / 255, 1) for c in (red, green, blue)] for at in inside]
    assert shown == [[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_one_channel_is_grey_and_fits_its_bytes():
    noise = np.random.default_rng(0).integers(0, 999, (1, 200, 200)).astype(np.float32)
    sizes = []
    for limit in (10**6, 22_000):
        picture = paint(Scene(noise, None, ("ff0000",)), [(0, 999)], max_bytes=limit)
        blue, green, red = np.moveaxis(decoded(picture.image).astype(int), 2, 0)
        assert abs(blue - red).max() <= 3
        assert abs(green - red).max() <= 3
        sizes.append(len(base64.b64decode(picture.image.partition(",")[2])))
    assert sizes[0] > 22_000 >= sizes[1]


@pytest.mark.parametrize("is_bold", [False, True])
@pytest.mark.parametrize(("only", "colour"), [(None, (255, 255, 255)), (0, (0, 176, 255))])
def test_outlines_are_the_borders_of_objects_and_nothing_else(is_bold, only, colour):
    labels = np.zeros((60, 90), np.uint32)
    labels[10:20, 10:20], labels[10:20, 20:33] = 7, 2**31 + 5  # they touch
    labels[59, 89] = 1
    picture = paint(
        scene(labels), [(0, 100), (0, 200)], max_bytes=10**6, only=only, has_bold_outlines=is_bold
    )
    drawn = decoded(picture.outlines)
    padded = np.pad(labels.astype(int), 1, mode="edge")
    around = [np.roll(padded, by, (0, 1))[1:-1, 1:-1] for by in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    border = np.any([side != labels for side in around], axis=0)
    if not is_bold:
        border &= labels > 0
    assert drawn.shape == (60, 90, 4)
    np.testing.assert_array_equal(drawn[..., 3], np.where(border, 255, 0))
    assert {tuple(pixel) for pixel in drawn[border][:, :3].tolist()} == {colour}


def test_labels_keep_their_values_when_they_are_reduced(tmp_path):
    labels = np.zeros((64, 64), np.uint32)
    labels[8:40, 16:48] = 2**32 - 3
    image(tmp_path / "0", np.ones((1, 64, 64), "uint16"), "cyx", levels=1, chunks=(1, 64, 64))
    image(tmp_path / "0" / "labels" / "cells", labels, "yx", levels=1, chunks=(64, 64))
    found = read_scene(tmp_path / "0", side=32, labels="cells")
    assert found.pixels.shape == (1, 32, 32)
    np.testing.assert_array_equal(found.labels, labels[::2, ::2])
    assert read_scene(tmp_path / "0", side=32, labels="nuclei").labels is None
