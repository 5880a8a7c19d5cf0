"""Arrays in one go: every shape, dtype, compressor, strategy and format, read back by others."""

import resource
import threading

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hcsflow.config import ZarrChunkStrategy, ZarrCompressor, ZarrConfig
from hcsflow.errors import PlanRefusedError
from hcsflow.storage import zarr_arrays
from hcsflow.storage.zarr_arrays import create_array

DTYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", "complex64", "complex128", ">u2", ">i4", ">f4", ">f8", ">c8",
)  # fmt: skip


def noise(shape, dtype, seed=0):
    raw = np.asarray(np.random.default_rng(seed).normal(0, 50, shape))
    kind = np.dtype(dtype).kind
    if kind == "c":
        raw = raw + 1j * np.cos(raw)
    return np.asarray(abs(raw) if kind in "ub" else raw).astype(dtype)


def read_by_tensorstore(folder, zarr_format):
    tensorstore = pytest.importorskip("tensorstore")
    driver = "zarr3" if zarr_format == 3 else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(folder)}}
    return tensorstore.open(spec, read=True).result().read().result()


def objects_of(folder):
    files = (p for p in folder.rglob("*") if p.is_file())
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in files
        if p.name not in {"zarr.json", ".zarray", ".zattrs"}
    }


@given(
    shape=st.lists(st.integers(0, 7), max_size=4).map(tuple),
    dtype=st.sampled_from(DTYPES),
    compressor=st.sampled_from(list(ZarrCompressor)),
    strategy=st.sampled_from(list(ZarrChunkStrategy)),
    version=st.sampled_from(["0.4", "0.5"]),
    shuffle=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_any_array_is_read_back_by_zarr_and_tensorstore(
    tmp_path_factory, shape, dtype, compressor, strategy, version, shuffle
):
    array = noise(shape, dtype)
    config = ZarrConfig(
        compressor=compressor, chunk_strategy=strategy, ngff_version=version, shuffle=shuffle
    )
    folder = tmp_path_factory.mktemp("store") / "array"
    create_array(folder, array, config, {"unit": "µm"})
    zarr_format = 2 if version == "0.4" else 3
    opened = zarr.open_array(folder, mode="r")
    assert opened.metadata.zarr_format == zarr_format
    assert opened.attrs.asdict() == {"unit": "µm"}
    assert opened.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(opened[...], array)
    np.testing.assert_array_equal(read_by_tensorstore(folder, zarr_format), array)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("strategy", "objects"), [("well", 1), ("single", 1), ("file", 12), ("adaptive", 1)]
)
def test_strategies_say_how_many_objects(tmp_path, version, strategy, objects):
    array = noise((3, 4, 16, 16), "uint16")
    config = ZarrConfig(chunk_strategy=strategy, ngff_version=version)
    create_array(tmp_path / "a", array, config, {})
    assert len(objects_of(tmp_path / "a")) == objects
    assert zarr.open_array(tmp_path / "a", mode="r").chunks == (
        array.shape if version == "0.4" and strategy != "file" else (1, 1, 16, 16)
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("limit", "objects"), [(7 * 4 * 512, 1), (4 * 512 * 3, 3), (3 * 512, 14), (512, 28)]
)
def test_adaptive_cuts_along_the_leading_axes(tmp_path, monkeypatch, version, limit, objects):
    monkeypatch.setattr(zarr_arrays, "MAX_OBJECT_BYTES", limit)
    array = noise((7, 4, 16, 16), "uint16")
    config = ZarrConfig(chunk_strategy="adaptive", ngff_version=version, compressor="none")
    create_array(tmp_path / "a", array, config, {})
    found = objects_of(tmp_path / "a")
    assert len(found) == objects
    if version == "0.4":
        assert max(map(len, found.values())) <= limit
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], array)


@pytest.mark.parametrize("strategy", ["well", "file"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_any_number_of_encoders_writes_the_same_bytes(tmp_path, strategy, version):
    array = np.random.default_rng(0).integers(0, 999, (9, 300, 300)).astype("uint16")
    config = ZarrConfig(chunk_strategy=strategy, ngff_version=version)
    for encoders in (1, 2, 5, None):
        create_array(tmp_path / str(encoders), array, config, {}, encoders=encoders)
    first, *others = (objects_of(tmp_path / name) for name in ("1", "2", "5", "None"))
    assert all(other == first for other in others)
    assert not [t for t in threading.enumerate() if t.name.startswith("hcsflow-encode")]


@pytest.mark.parametrize("order", ["F", "strided", "read-only"])
def test_the_layout_in_memory_does_not_matter(tmp_path, order):
    array = noise((4, 30, 20), "float32")
    given_ = {"F": np.asfortranarray(array), "strided": np.repeat(array, 2, axis=2)[..., ::2]}
    array.flags.writeable = False
    create_array(tmp_path / "a", given_.get(order, array), ZarrConfig(), {})
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], array)


def test_what_the_codec_does_not_hold_is_refused_before_anything_is_written(tmp_path):
    large = np.broadcast_to(np.uint8(0), (3, 1 << 15, 1 << 15))  # 3 GiB
    with pytest.raises(PlanRefusedError, match="blosc encodes at most 2147483631 at once"):
        create_array(tmp_path / "a", large, ZarrConfig(ngff_version="0.4"), {})
    assert list(tmp_path.iterdir()) == []


def test_a_plane_beyond_the_codec_is_cut_in_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_arrays, "encodes_at_most", lambda codec: 1000)
    array = noise((2, 33, 25), "float64")
    create_array(tmp_path / "a", array, ZarrConfig(), {})
    opened = zarr.open_array(tmp_path / "a", mode="r")
    assert opened.chunks == (1, 5, 25)
    np.testing.assert_array_equal(opened[...], array)


def test_a_refused_write_leaves_no_folder(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            create_array(tmp_path / "a", noise((4, 64, 64), "float64"), ZarrConfig(), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_attributes_that_are_no_json_leave_no_folder(tmp_path):
    with pytest.raises(TypeError):
        create_array(tmp_path / "a", noise((4, 4), "uint8"), ZarrConfig(), {"x": object()})
    assert list(tmp_path.iterdir()) == []
