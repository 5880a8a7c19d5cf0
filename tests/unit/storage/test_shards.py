"""Shards and chunks on disk: readable by others, deterministic, whole or absent."""

import json
import subprocess
import sys

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hcsflow.errors import ContractError
from hcsflow.ngff.arrays import array_document
from hcsflow.ngff.model import ArrayLayout, Codec
from hcsflow.storage.chunks import ChunkWriter
from hcsflow.storage.objects import checksum_of
from hcsflow.storage.shards import ABSENT, ShardWriter, open_writer

CODECS = {
    "blosc-zstd": Codec(),
    "blosc-lz4": Codec(cname="lz4", shuffle=False),
    "zstd": Codec("zstd", cname="", shuffle=False),
    "gzip": Codec("gzip", cname="", level=3, shuffle=False),
    "none": Codec("none", cname="", level=0, shuffle=False),
}


def array_of(shape, chunks, *, is_sharded=True, dtype="uint16", codec="blosc-zstd"):
    axes = ("t", "c", "z", "y", "x")[-len(shape) :]
    return ArrayLayout(
        path="0",
        axes=axes,
        shape=shape,
        chunks=chunks,
        shards=tuple(-(-s // c) * c for s, c in zip(shape, chunks, strict=True))
        if is_sharded
        else None,
        dtype=dtype,
        codec=CODECS[codec],
        scale=(1.0,) * len(shape),
    )


def store(folder, array, pixels, order=None):
    """Write an array's chunks, in the order given; return the records."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zarr.json").write_text(json.dumps(array_document(array)))
    grid = [-(-s // c) for s, c in zip(array.shape, array.chunks, strict=True)]
    indices = list(np.ndindex(*grid)) if order is None else order
    writer = open_writer(folder, array)
    for index in indices:
        cut = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, array.chunks, strict=True))
        writer.append(index, pixels[cut])
    return writer.close()


def noise(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def read_by_tensorstore(folder):
    tensorstore = pytest.importorskip("tensorstore")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder)}}
    return tensorstore.open(spec, read=True).result().read().result()


@given(
    counts=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2)),
    tile=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    rest=st.tuples(st.integers(0, 39), st.integers(0, 39)),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "uint32", "float32", "float64"]),
    codec=st.sampled_from(sorted(CODECS)),
    is_sharded=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_read_by_zarr_and_tensorstore(
    tmp_path_factory, counts, tile, rest, dtype, codec, is_sharded
):
    shape = (counts[0], *(n * t - r % t for n, t, r in zip(counts[1:], tile, rest, strict=True)))
    array = array_of(shape, (1, *tile), is_sharded=is_sharded, dtype=dtype, codec=codec)
    pixels = noise(shape, dtype)
    folder = tmp_path_factory.mktemp("array")
    store(folder, array, pixels)
    opened = zarr.open_array(folder, mode="r")
    assert opened.metadata.dimension_names == array.axes
    np.testing.assert_array_equal(opened[:], pixels)
    np.testing.assert_array_equal(read_by_tensorstore(folder), pixels)


def test_absent_chunks_read_as_zero_and_black_ones_are_stored(tmp_path):
    array = array_of((3, 32, 32), (1, 32, 32))
    writer = open_writer(tmp_path, array)
    writer.append((0, 0, 0), np.zeros((32, 32), "uint16"))
    writer.append((2, 0, 0), np.full((32, 32), 7, "uint16"))
    (stored,) = writer.close()
    (tmp_path / "zarr.json").write_text(json.dumps(array_document(array)))
    index = np.frombuffer((tmp_path / "c/0/0/0").read_bytes()[-52:-4], "<u8").reshape(3, 2)
    assert index[0, 0] == 0
    assert index[0, 1] > 0
    assert (index[1] == ABSENT).all()
    assert stored.nbytes == index[2].sum() + 52
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:, 5, 5], [0, 0, 7])


def test_the_index_ends_with_its_checksum(tmp_path):
    array = array_of((2, 16, 16), (1, 16, 16))
    store(tmp_path, array, noise((2, 16, 16), "uint16"))
    data = (tmp_path / "c/0/0/0").read_bytes()
    assert int.from_bytes(data[-4:], "little") == google_crc32c.value(data[-36:-4])


@pytest.mark.parametrize("is_sharded", [True, False])
def test_records_hold_size_and_checksum_of_the_file(tmp_path, is_sharded):
    array = array_of((3, 20, 20), (1, 20, 20), is_sharded=is_sharded)
    records = store(tmp_path, array, noise((3, 20, 20), "uint16"))
    assert len(records) == (1 if is_sharded else 3)
    for path, nbytes, checksum in records:
        data = (tmp_path / path).read_bytes()
        assert (nbytes, checksum) == (len(data), checksum_of(data))
    assert checksum_of(b"123456789") == "crc32c:e3069283"  # the check value of CRC-32C


def test_another_process_writes_the_same_bytes(tmp_path):
    """Blosc's bytes would depend on its threads, gzip's on the time."""
    script = (
        "import sys, pathlib, numpy as np, time\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import numcodecs.blosc; numcodecs.blosc.use_threads = True\n"
        "from test_shards import *\n"
        "for codec in sys.argv[3:]:\n"
        "    a = array_of((4, 300, 300), (1, 300, 300), codec=codec)\n"
        "    pixels = noise((4, 300, 300), 'uint16') >> 6\n"
        "    store(pathlib.Path(sys.argv[2], codec), a, pixels)\n"
    )
    here = str(__file__).rsplit("/", 1)[0]
    codecs, name = ("blosc-zstd", "gzip"), "c/0/0/0"
    command = [sys.executable, "-c", script, here, str(tmp_path / "other"), *codecs]
    subprocess.run(command, check=True, timeout=60)
    for codec in codecs:
        array = array_of((4, 300, 300), (1, 300, 300), codec=codec)
        store(tmp_path / "own" / codec, array, noise((4, 300, 300), "uint16") >> 6)
        own, other = (tmp_path / folder / codec / name for folder in ("own", "other"))
        assert own.read_bytes() == other.read_bytes()


def test_chunks_lie_in_the_order_of_the_calls(tmp_path):
    array = array_of((3, 16, 16), (1, 16, 16), codec="none")
    pixels = noise((3, 16, 16), "uint16")
    store(tmp_path, array, pixels, order=[(2, 0, 0), (0, 0, 0), (1, 0, 0)])
    data = (tmp_path / "c/0/0/0").read_bytes()
    assert data[: 3 * 512] == pixels[2].tobytes() + pixels[0].tobytes() + pixels[1].tobytes()
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], pixels)


@pytest.mark.parametrize("is_sharded", [True, False])
def test_a_place_is_written_once(tmp_path, is_sharded):
    writer = open_writer(tmp_path, array_of((2, 8, 8), (1, 8, 8), is_sharded=is_sharded))
    writer.append((1, 0, 0), np.zeros((8, 8), "uint16"))
    with pytest.raises(ContractError, match=r"chunk \(1, 0, 0\) is written already"):
        writer.append((1, 0, 0), np.ones((8, 8), "uint16"))
    writer.abort()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    "chunk",
    [np.zeros((9, 8), "uint16"), np.zeros((8, 8), "uint8"), np.zeros((2, 8, 8), "uint16")],
    ids=["size", "dtype", "rank"],
)
def test_pixels_that_do_not_fit_are_refused(tmp_path, chunk):
    writer = open_writer(tmp_path, array_of((2, 8, 8), (1, 8, 8)))
    with pytest.raises(ContractError, match=r"takes chunks \(1, 8, 8\) of uint16, got"):
        writer.append((0, 0, 0), chunk)
    writer.abort()


def test_a_failed_writer_leaves_no_object(tmp_path):
    array = array_of((2, 8, 8), (1, 8, 8))
    writer = ShardWriter(tmp_path, array)
    writer.append((0, 0, 0), np.zeros((8, 8), "uint16"))
    assert not (tmp_path / "c/0/0/0").exists()
    writer.abort()
    writer.abort()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_full_disk_leaves_no_chunk(tmp_path):
    """A folder in the chunk's place stands in for a write that the system refuses."""
    writer = ChunkWriter(tmp_path, array_of((1, 8, 8), (1, 8, 8), is_sharded=False))
    (tmp_path / "c/0/0/0").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        writer.append((0, 0, 0), np.zeros((8, 8), "uint16"))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_strided_and_big_endian_planes_are_stored_right(tmp_path):
    array = array_of((2, 8, 8), (1, 8, 8))
    pixels = noise((2, 16, 8), "uint16")[:, ::2]
    store(tmp_path, array, pixels.astype(">u2"))
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], pixels)
