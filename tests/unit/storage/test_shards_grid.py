"""Several shards, Zarr 2 objects, encoder threads, refused writes."""

import contextlib
import gc
import json
import resource
import shutil
import subprocess
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hcsflow.errors import ContractError, PlanRefusedError
from hcsflow.ngff.model import ArrayLayout, Codec
from hcsflow.storage import shards as shards_module
from hcsflow.storage.encoding import Encoders
from hcsflow.storage.objects import checksum_of
from hcsflow.storage.shards import open_writer

GZIP = Codec("gzip", cname="", level=3, shuffle=False)
NONE = Codec("none", cname="", level=0, shuffle=False)
ZSTD = Codec("zstd", cname="", shuffle=False)
OPEN_FILES = Path("/proc/self/fd")


def layout_of(shape, chunks, shards=None, *, codec=None, zarr_format=3, dtype="uint16"):
    return ArrayLayout(
        path="0",
        axes=("t", "c", "z", "y", "x")[-len(shape) :],
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=dtype,
        codec=codec or Codec(),
        scale=(1.0,) * len(shape),
        zarr_format=zarr_format,
    )


def pixels_of(layout):
    rng = np.random.default_rng(1)
    return rng.integers(0, 4000, layout.shape).astype(layout.dtype)


def grid_of(layout):
    return [-(-s // c) for s, c in zip(layout.shape, layout.chunks, strict=True)]


def indices_of(layout, seed=None):
    indices = list(np.ndindex(*grid_of(layout)))
    if seed is not None:
        np.random.default_rng(seed).shuffle(indices)
        indices = [tuple(map(int, index)) for index in indices]
    return indices


def append_all(writer, layout, pixels, indices):
    for index in indices:
        cut = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, layout.chunks, strict=True))
        writer.append(index, pixels[cut])


def write_metadata(folder, layout):
    compressor = {
        "blosc": {"id": "blosc", "cname": layout.codec.cname, "clevel": 1, "shuffle": 1},
        "gzip": {"id": "gzip", "level": 3},
        "zstd": {"id": "zstd", "level": 1},
        "none": None,
    }[layout.codec.name]
    if layout.zarr_format == 2:
        document = {
            "zarr_format": 2,
            "shape": layout.shape,
            "chunks": layout.shards or layout.chunks,
            "dtype": np.dtype(layout.dtype).newbyteorder("<").str,
            "order": "C",
            "fill_value": 0,
            "filters": None,
            "compressor": compressor,
            "dimension_separator": "/",
        }
        (folder / ".zarray").write_text(json.dumps(document))
        return
    codecs = {
        "blosc": zarr.codecs.BloscCodec(cname="zstd", clevel=1, typesize=2, shuffle="shuffle"),
        "gzip": zarr.codecs.GzipCodec(level=3),
        "zstd": zarr.codecs.ZstdCodec(level=1),
        "none": None,
    }
    zarr.create_array(
        folder,
        shape=layout.shape,
        dtype=layout.dtype,
        chunks=layout.chunks,
        shards=layout.shards,
        compressors=codecs[layout.codec.name],
    )


def write(folder, layout, *, encoders=1, seed=None, pixels=None):
    folder.mkdir(parents=True, exist_ok=True)
    writer = open_writer(folder, layout, encoders=encoders)
    append_all(writer, layout, pixels_of(layout) if pixels is None else pixels,
               indices_of(layout, seed))  # fmt: skip
    return writer.close()


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def read_by_tensorstore(folder, zarr_format):
    tensorstore = pytest.importorskip("tensorstore")
    driver = "zarr3" if zarr_format == 3 else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(folder)}}
    return tensorstore.open(spec, read=True).result().read().result()


def encoder_threads():
    return [t for t in threading.enumerate() if t.name.startswith("hcsflow-encode")]


@st.composite
def layouts(draw):
    ndim = draw(st.integers(1, 4))
    chunks = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    shape = tuple(draw(st.integers(1, 3 * c)) for c in chunks)
    shards = tuple(c * draw(st.integers(1, 3)) for c in chunks)
    return layout_of(
        shape,
        chunks,
        draw(st.sampled_from([None, shards])),
        codec=draw(st.sampled_from([Codec(), GZIP, NONE, ZSTD])),
        zarr_format=draw(st.sampled_from([2, 3])),
    )


@given(layout=layouts(), seed=st.none() | st.integers(0, 9))
@settings(deadline=None)
def test_any_grid_of_objects_is_read_back_and_encoders_change_no_byte(
    tmp_path_factory, layout, seed
):
    folder = tmp_path_factory.mktemp("arrays")
    records = write(folder / "1", layout, seed=seed)
    several = write(folder / "3", layout, seed=seed, encoders=3)
    files, others = files_of(folder / "1"), files_of(folder / "3")
    assert {n: p.read_bytes() for n, p in files.items()} == {
        n: p.read_bytes() for n, p in others.items()
    }
    assert [r[1:] for r in records] == [r[1:] for r in several]
    assert {path for path, *_ in records} == set(map(str, files.values()))
    for path, nbytes, checksum in records:
        data = (folder / path).read_bytes()
        assert (nbytes, checksum) == (len(data), checksum_of(data))
    write_metadata(folder / "1", layout)
    np.testing.assert_array_equal(zarr.open_array(folder / "1", mode="r")[:], pixels_of(layout))
    found = read_by_tensorstore(folder / "1", layout.zarr_format)
    np.testing.assert_array_equal(found, pixels_of(layout))


def test_a_shard_has_its_name_as_soon_as_it_is_complete(tmp_path):
    layout = layout_of((5, 8, 8), (1, 8, 8), (2, 8, 8))
    writer = open_writer(tmp_path, layout)
    append_all(writer, layout, pixels_of(layout), [(0, 0, 0), (2, 0, 0), (1, 0, 0)])
    assert set(files_of(tmp_path)) == {"c/0/0/0", "c/1/0/0.part"}
    append_all(writer, layout, pixels_of(layout), [(4, 0, 0)])  # the last holds a single chunk
    assert "c/2/0/0" in files_of(tmp_path)
    stored = writer.close()
    assert [s.path.removeprefix(f"{tmp_path}/") for s in stored] == [
        "c/0/0/0",
        "c/2/0/0",
        "c/1/0/0",
    ]
    write_metadata(tmp_path, layout)
    want = pixels_of(layout)
    want[3] = 0  # never written
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], want)


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="needs /proc")
def test_interleaved_shards_keep_few_files_open(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "MAX_OPEN_FILES", 3)
    layout = layout_of((60, 4, 4), (1, 4, 4), (3, 4, 4), codec=NONE)
    pixels = pixels_of(layout)
    before = len(list(OPEN_FILES.iterdir()))
    writer = open_writer(tmp_path, layout)
    for turn in range(3):
        append_all(writer, layout, pixels, [(3 * n + turn, 0, 0) for n in range(20)])
        assert len(list(OPEN_FILES.iterdir())) <= before + 3
    assert len(writer.close()) == 20
    write_metadata(tmp_path, layout)
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], pixels)


@pytest.mark.parametrize("encoders", [1, 3])
def test_memory_does_not_depend_on_the_size_of_a_shard(tmp_path, encoders):
    plane = np.random.default_rng(0).integers(0, 4000, (512, 512)).astype("uint16")
    layout = layout_of((64, 512, 512), (1, 512, 512), (64, 512, 512))
    tracemalloc.start()
    with open_writer(tmp_path, layout, encoders=encoders) as writer:
        for index in range(64):
            writer.append((index, 0, 0), plane)
        writer.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # a held chunk: its copy, the encoder's buffer and what it cuts from that
    assert peak < (encoders + 1) * 3 * plane.nbytes


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("is_sharded", [True, False])
def test_the_callers_array_is_free_after_append(tmp_path, zarr_format, is_sharded):
    shards = (8, 300, 300) if is_sharded else None
    layout = layout_of((8, 300, 300), (1, 300, 300), shards, zarr_format=zarr_format)
    buffer = np.empty((300, 300), "uint16")
    with open_writer(tmp_path, layout, encoders=3) as writer:
        for index in range(8):
            buffer[:] = index
            writer.append((index, 0, 0), buffer)
        writer.close()
    write_metadata(tmp_path, layout)
    assert zarr.open_array(tmp_path, mode="r")[:, 7, 7].tolist() == list(range(8))


def test_writers_share_encoders(tmp_path):
    layout = layout_of((6, 64, 64), (1, 64, 64), (3, 64, 64))
    with Encoders(2) as encoders:
        writers = [open_writer(tmp_path / name, layout, encoders=encoders) for name in "abc"]
        for index in indices_of(layout):
            for writer in writers:
                append_all(writer, layout, pixels_of(layout), [index])
        writers[1].abort()
        assert 1 <= len(encoder_threads()) <= 2  # the second starts when the first is at work
        stored = [writer.close() for writer in (writers[0], writers[2])]
    assert encoder_threads() == []
    assert [s[1:] for s in stored[0]] == [s[1:] for s in stored[1]]
    assert not files_of(tmp_path / "b")


@pytest.mark.parametrize("end", ["close", "abort"])
def test_no_thread_is_left(tmp_path, end):
    layout = layout_of((9, 200, 200), (1, 200, 200), (9, 200, 200))
    writer = open_writer(tmp_path, layout, encoders=2)
    append_all(writer, layout, pixels_of(layout), indices_of(layout))
    assert encoder_threads()
    getattr(writer, end)()
    assert encoder_threads() == []
    writer.abort()
    writer.abort()
    assert not files_of(tmp_path)  # what was closed goes too


@pytest.mark.parametrize("encoders", [1, 2])
@pytest.mark.parametrize("shards", [None, (2, 40, 40), (6, 40, 40)])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_encoder_that_fails_leaves_nothing(tmp_path, encoders, shards, zarr_format):
    layout = layout_of(
        (6, 40, 40), (1, 40, 40), shards, codec=Codec(cname="unknown"), zarr_format=zarr_format
    )
    writer = open_writer(tmp_path, layout, encoders=encoders)

    def fill():
        append_all(writer, layout, pixels_of(layout), indices_of(layout))
        writer.close()

    with pytest.raises((RuntimeError, ValueError)):
        fill()
    assert not files_of(tmp_path)
    assert encoder_threads() == []
    with pytest.raises(ContractError, match="the writer is closed"):
        writer.append((5, 0, 0), np.zeros((40, 40), "uint16"))
    with pytest.raises(ContractError, match="the writer is closed"):
        writer.close()


@contextlib.contextmanager
def largest_file(nbytes):
    """Let the system refuse bytes beyond ``nbytes`` of any file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("encoders", [1, 2])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_refused_write_leaves_nothing_wherever_it_comes(tmp_path, encoders, zarr_format):
    """The limit goes through all writes of a shard: chunks, index, checksum."""
    layout = layout_of((4, 8, 8), (1, 8, 8), (4, 8, 8), codec=NONE, zarr_format=zarr_format)
    whole = 4 * 128 + (0 if zarr_format == 2 else 4 * 16 + 4)
    for limit in sorted({*range(0, whole, 60), whole - 1}):
        with largest_file(limit), pytest.raises(OSError, match=r"too large.*0/0/0'"):
            write(tmp_path, layout, encoders=encoders)
        assert not files_of(tmp_path)
    with largest_file(whole):
        (stored,) = write(tmp_path, layout, encoders=encoders)
    assert stored.nbytes == whole


@pytest.mark.parametrize("shards", [None, (2, 64, 64), (8, 64, 64)])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
def test_a_full_disk_leaves_nothing(tmp_path, shards, zarr_format):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", tmp_path],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("may not mount a small tmpfs")
    try:
        layout = layout_of((8, 64, 64), (1, 64, 64), shards, codec=NONE, zarr_format=zarr_format)
        with pytest.raises(OSError, match=r"No space left on device: .*/"):
            write(tmp_path, layout, encoders=2)
        assert not files_of(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_second_writer_of_an_object_is_refused_and_the_first_goes_on(tmp_path):
    layout = layout_of((2, 8, 8), (1, 8, 8), (2, 8, 8))
    first, second = open_writer(tmp_path, layout), open_writer(tmp_path, layout)
    append_all(first, layout, pixels_of(layout), [(0, 0, 0)])
    with pytest.raises(FileExistsError):
        append_all(second, layout, pixels_of(layout), [(0, 0, 0)])
    append_all(first, layout, pixels_of(layout), [(1, 0, 0)])
    first.close()
    write_metadata(tmp_path, layout)
    np.testing.assert_array_equal(zarr.open_array(tmp_path, mode="r")[:], pixels_of(layout))


@pytest.mark.parametrize("index", [(2, 0, 0), (0, -1, 0), (0, 0)])
def test_there_is_no_place_outside_the_grid(tmp_path, index):
    layout = layout_of((2, 8, 8), (1, 8, 8), (2, 8, 8))
    with open_writer(tmp_path, layout) as writer:
        with pytest.raises(ContractError, match=r"has \(2, 1, 1\) chunks, none at"):
            writer.append(index, np.zeros((8, 8), "uint16"))
        writer.append((1, 0, 0), np.zeros((8, 8), "uint16"))
        assert len(writer.close()) == 1


@pytest.mark.parametrize(("zarr_format", "is_refused"), [(2, True), (3, False)])
def test_an_object_beyond_the_codec_is_refused(tmp_path, zarr_format, is_refused):
    side = 1 << 14
    shape = (4, side, side)  # 2 GiB
    layout = layout_of(shape, (1, side, side), shape, zarr_format=zarr_format)
    if is_refused:
        with pytest.raises(PlanRefusedError, match="2147483648 bytes, blosc encodes at most"):
            open_writer(tmp_path, layout)
        layout = replace(layout, shards=(2, side, side))
    open_writer(tmp_path, layout).abort()


def test_a_writer_that_is_forgotten_ends_its_threads(tmp_path):
    layout = layout_of((9, 200, 200), (1, 200, 200))
    writer = open_writer(tmp_path, layout, encoders=2)
    append_all(writer, layout, pixels_of(layout), indices_of(layout))
    threads = encoder_threads()
    del writer
    gc.collect()
    for thread in threads:
        thread.join(5)
    assert encoder_threads() == []
