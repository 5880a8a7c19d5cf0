"""Reading planes: every way a TIFF can be right, and every way it can be wrong."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcsflow.errors import MissingPlaneError, PlaneError
from hcsflow.storage import tiff_header
from hcsflow.storage.tiff import PlaneFile, read_header, read_plane
from hcsflow.storage.tiff_header import HeaderMemory, parse_header

DATA = Path(__file__).parents[4] / "shared" / "data"

WRITERS = {
    "plain": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "deflate": {"compression": "deflate", "predictor": True},
    "lzw": {"compression": "lzw", "predictor": True},
    "lzw_tiles": {"compression": "lzw", "tile": (16, 32)},
    "zstd": {"compression": "zstd"},
    "big": {"bigtiff": True},
    "big_endian": {"byteorder": ">"},
    "big_endian_lzw": {"byteorder": ">", "compression": "lzw"},
    "described": {"description": "x" * 999, "resolution": (1e4, 1e4)},
}


def picture(dtype="uint16", shape=(60, 70)):
    return (np.random.default_rng(0).random(shape) * 250).astype(dtype)


def read(path, shape=(60, 70), dtype="uint16"):
    return read_plane(path, shape_yx=shape, dtype=dtype, file="well/plane.tif")


def failure(path, **options):
    with pytest.raises(PlaneError) as caught:
        read(path, **options)
    assert caught.value.file == "well/plane.tif"
    assert str(caught.value).startswith("well/plane.tif: ")
    return str(caught.value)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_every_way_to_write_reads_the_same(tmp_path, writer, dtype):
    options = dict(WRITERS[writer])
    if dtype == "float32":
        options.pop("predictor", None)
    tifffile.imwrite(tmp_path / "p.tif", picture(dtype), **options)
    found = read(tmp_path / "p.tif", dtype=dtype)
    assert np.array_equal(found, picture(dtype))
    assert found.dtype == dtype
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    assert found.flags.writeable


@pytest.mark.parametrize("writer", WRITERS)
def test_truncated_anywhere_is_a_plane_error(tmp_path, writer):
    whole, cut = tmp_path / "whole.tif", tmp_path / "cut.tif"
    tifffile.imwrite(whole, picture(), **WRITERS[writer])
    content = whole.read_bytes()
    for length in sorted({0, 1, 2, 3, 4, 7, 8, 9, 16, *range(20, len(content), 211)}):
        cut.write_bytes(content[:length])
        message = failure(cut)
        assert any(word in message for word in ("cut short", "empty", "not a TIFF", "damaged"))
    cut.write_bytes(content[:-1])
    try:
        last = read(cut)
    except PlaneError:
        return
    assert np.array_equal(last, picture())  # the last byte was padding


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(0, 511), st.integers(0, 255), st.sampled_from(["plain", "deflate", "lzw", "big"])
)
def test_a_changed_byte_never_crashes(tmp_path, at, value, writer):
    path = tmp_path / "p.tif"
    tifffile.imwrite(path, picture(), **WRITERS[writer])
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(content)
    try:
        found = read(path)
    except PlaneError:
        return
    assert found.shape == (60, 70)
    assert found.dtype == np.uint16


def test_messages_say_expected_and_found(tmp_path):
    path = tmp_path / "p.tif"
    tifffile.imwrite(path, picture(shape=(60, 71)))
    assert "expected 60 × 70 uint16, found 60 × 71 uint16" in failure(path)
    tifffile.imwrite(path, picture("uint8"))
    assert "expected 60 × 70 uint16, found 60 × 70 uint8" in failure(path)
    tifffile.imwrite(path, np.zeros((60, 70, 3), np.uint16), photometric="rgb")
    assert "found 60 × 70 × 3 uint16" in failure(path)
    tifffile.imwrite(path, np.zeros((2, 60, 70), np.uint16))
    assert "several pages" in failure(path)


def test_a_preview_page_does_not_count(tmp_path):
    path = tmp_path / "p.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture())
        writer.write(picture()[::2, ::2], subfiletype=1)
    assert np.array_equal(read(path), picture())


def test_not_an_image_file(tmp_path):
    path = tmp_path / "p.tif"
    path.write_text("{'this': 'is not a TIFF'}")
    assert "not a TIFF: it starts with" in failure(path)
    path.write_bytes(b"")
    assert "empty file" in failure(path)
    path.unlink()
    with pytest.raises(MissingPlaneError, match="no such file") as caught:
        read(path)
    assert isinstance(caught.value, FileNotFoundError)
    path.mkdir()
    assert "cannot be read: it is a folder" in failure(path)


def test_what_the_system_said_is_kept_as_cause(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PlaneError) as caught:
        read(tmp_path / "file" / "p.tif")  # a file in place of a folder
    assert isinstance(caught.value.__cause__, NotADirectoryError)


def test_a_link_that_leads_nowhere(tmp_path):
    path = tmp_path / "p.tif"
    path.symlink_to(path)
    assert "cannot be read: Too many levels of symbolic links" in failure(path)
    path.unlink()
    path.symlink_to("gone.tif")
    with pytest.raises(MissingPlaneError, match=r"^well/plane\.tif: no such file"):
        read(path)


def test_offsets_beyond_the_file_are_not_followed(tmp_path):
    path = tmp_path / "p.tif"
    tifffile.imwrite(path, picture())
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(content)
    assert "cut short" in failure(path)


def test_a_directory_that_follows_itself_ends(tmp_path):
    path = tmp_path / "p.tif"
    tifffile.imwrite(path, picture())
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    path.write_bytes(content)
    assert "several pages" in failure(path)


def test_the_file_is_opened_once(tmp_path, monkeypatch):
    path = tmp_path / "p.tif"
    opened = []
    original = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: opened.append(1) or original(self, *a, **k)
    )
    for options in WRITERS.values():
        tifffile.imwrite(str(path), picture(), **options)
        opened.clear()
        read(path)
        assert len(opened) == 1


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((10_000, 10_000), "CENTIMETER", 1.0),
        ((39_077.0, 39_077.0), "INCH", 0.65),
        ((72, 72), "INCH", None),
        ((10_000, 20_000), "CENTIMETER", None),
        ((10_000, 10_000), "NONE", None),
    ],
)
def test_resolution(tmp_path, resolution, unit, expected):
    path = tmp_path / "p.tif"
    tifffile.imwrite(path, picture(), resolution=resolution, resolutionunit=unit)
    found = read_header(path, file="p.tif").resolution_um
    assert found == (expected if expected is None else pytest.approx(expected, rel=1e-4))


def test_header_reads_no_pixels(tmp_path):
    path = tmp_path / "p.tif"
    tifffile.imwrite(path, picture("uint8"))
    header = read_header(path, file="p.tif")
    assert header.shape == (60, 70)
    assert header.dtype == "uint8"


@pytest.mark.skipif(not DATA.is_dir(), reason="no real plates beside the repository")
@pytest.mark.parametrize("folder", ["faim-ipa/ImageXpress", "pe2loaddata"])
def test_real_planes_equal_tifffile(folder):
    files = sorted(p for p in (DATA / folder).rglob("*.tif*") if p.is_file())[::9]
    assert files
    for path in files:
        expected = tifffile.imread(path)
        found = read(path, shape=expected.shape, dtype=expected.dtype)
        assert np.array_equal(found, expected), path.name


# --- headers that are remembered ----------------------------------------------------------------


def parsed(parse, content):
    """Return a header, or what the error says."""
    try:
        return parse(BytesIO(content), "p.tif")
    except PlaneError as error:
        return str(error)


LIKE_PLAIN = {
    **{name: WRITERS[name] for name in ("plain", "strips", "big", "big_endian", "described")},
    "tags_last": {"extratags": [(270, 2, 0, "later " * 50, False)]},
    "deflate": WRITERS["deflate"],
}


def contents(tmp_path, **options):
    tifffile.imwrite(tmp_path / "p.tif", picture(), **options)
    return (tmp_path / "p.tif").read_bytes()


@settings(
    max_examples=4 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(sorted(LIKE_PLAIN)),
    st.lists(st.tuples(st.integers(0, 1600), st.integers(0, 255)), max_size=3),
    st.integers(0, 40) | st.just(0),
)
def test_a_remembered_header_is_that_of_the_file(tmp_path, writer, changes, cut):
    content = contents(tmp_path, **LIKE_PLAIN[writer])
    changed = bytearray(content)
    for at, value in changes:
        changed[at] = value
    changed = bytes(changed[: len(changed) - cut])
    memory = HeaderMemory()
    assert parsed(memory.parse, content) == parsed(parse_header, content)
    for one in (changed, content, changed, changed):
        assert parsed(memory.parse, one) == parsed(parse_header, one)


def test_a_file_like_the_one_before_is_not_parsed(tmp_path, monkeypatch):
    first, second = contents(tmp_path), contents(tmp_path, datetime=None)
    memory = HeaderMemory()
    header = memory.parse(BytesIO(first), "1.tif")
    monkeypatch.setattr(tiff_header, "_directory", None)
    assert memory.parse(BytesIO(second[:-7200] + 7200 * b"\7"), "2.tif") is header
    with pytest.raises(TypeError):
        memory.parse(BytesIO(first + b"\0"), "3.tif")


def test_few_headers_are_remembered(tmp_path):
    memory = HeaderMemory()
    for number in range(3 * tiff_header.MAX_REMEMBERED):
        memory.parse(BytesIO(contents(tmp_path) + number * b"\0"), "p.tif")
        assert len(memory._known) <= tiff_header.MAX_REMEMBERED


@pytest.mark.parametrize("writer", WRITERS)
def test_a_plane_is_read_into_what_is_given(tmp_path, writer):
    tifffile.imwrite(tmp_path / "p.tif", picture(), **WRITERS[writer])
    stack = np.zeros((3, 60, 70), np.uint16)
    given = stack[1]
    with PlaneFile(tmp_path / "p.tif", file="p.tif") as opened:
        opened.read_into(given)
    assert np.array_equal(stack[1], picture())
    assert not stack[::2].any()
