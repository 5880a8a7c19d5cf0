"""Zarr stores that other programs wrote."""

from __future__ import annotations

import json

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, TransposeCodec, ZstdCodec

from hcsflow.errors import PlaneError
from hcsflow.storage.zarr import ZarrStorageBackend

ARRAY = np.random.default_rng(0).integers(0, 999, (3, 40, 50)).astype("u2")


@pytest.fixture
def backend(tmp_path):
    return ZarrStorageBackend(tmp_path)


V3 = {
    "plain": {"compressors": None},
    "blosc": {"compressors": BloscCodec(cname="lz4hc", shuffle="bitshuffle")},
    "gzip": {"compressors": GzipCodec()},
    "zstd_checksum": {"compressors": ZstdCodec(checksum=True)},
    "two_codecs": {"compressors": [GzipCodec(), ZstdCodec()]},
    "big_endian": {"serializer": BytesCodec(endian="big")},
    "transposed": {"filters": TransposeCodec(order=(2, 1, 0))},
    "sharded": {"shards": (2, 32, 32)},
    "dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "v2_keys": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
}
V2 = {
    "plain": {"compressors": None},
    "zlib": {"compressors": numcodecs.Zlib()},
    "zstd": {"compressors": numcodecs.Zstd()},
    "lzma": {"compressors": numcodecs.LZMA()},
    "bz2": {"compressors": numcodecs.BZ2()},
    "lz4": {"compressors": numcodecs.LZ4()},
    "blosc": {"compressors": numcodecs.Blosc("blosclz", shuffle=2)},
    "delta": {"filters": [numcodecs.Delta("<u2")]},
    "fortran": {"order": "F"},
    "slashes": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
}
CASES = [*((3, name, given) for name, given in V3.items()), *((2, *item) for item in V2.items())]


DTYPES = {2: ["u2", ">u2", "f4", "bool", "c8"], 3: ["u2", "f4", "bool", "c8"]}
CASES_OF_DTYPES = [
    (form, name, options, dtype)
    for form, name, options in CASES
    for dtype in (DTYPES[form] if name in ("plain", "blosc") else ["u2"])
]


@pytest.mark.parametrize(
    ("form", "name", "options", "dtype"), CASES_OF_DTYPES, ids=lambda v: str(v)[:16]
)
def test_arrays_of_zarr_python(tmp_path, backend, form, name, options, dtype):
    data = ARRAY.astype(dtype)
    made = zarr.create_array(
        tmp_path / "a", shape=data.shape, dtype=dtype, chunks=(1, 16, 16), zarr_format=form,
        attributes={"by": "another"}, **options,
    )  # fmt: skip
    made[...] = data
    found = backend.load("a")
    assert np.array_equal(found, data)
    assert found.dtype == zarr.open_array(tmp_path / "a", mode="r")[...].dtype.newbyteorder("=")
    found[0] = 0
    assert backend.read_attributes("a") == {"by": "another"}
    assert backend.is_file("a")
    assert backend.list_files("") == ["a"]
    backend.write_attributes("a", {"more": 1})
    assert dict(zarr.open_array(tmp_path / "a", mode="r").attrs) == {"by": "another", "more": 1}


@pytest.mark.parametrize("form", [2, 3])
def test_chunks_that_were_never_written_are_the_fill_value(tmp_path, backend, form):
    made = zarr.create_array(
        tmp_path / "a", shape=(4, 8), dtype="f4", chunks=(2, 8), fill_value=np.nan, zarr_format=form
    )
    made[:2] = 1
    found = backend.load("a")
    assert (found[:2] == 1).all()
    assert np.isnan(found[2:]).all()
    assert backend.verify("").is_sound


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
def test_arrays_of_tensorstore(tmp_path, backend, driver):
    tensorstore = pytest.importorskip("tensorstore")
    store = tensorstore.open(
        {"driver": driver, "kvstore": {"driver": "file", "path": str(tmp_path / "a")}},
        create=True, dtype=tensorstore.uint16, shape=ARRAY.shape,
    ).result()  # fmt: skip
    store[...] = ARRAY
    assert np.array_equal(backend.load("a"), ARRAY)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_of_ngff_zarr(tmp_path, backend, version):
    ngff_zarr = pytest.importorskip("ngff_zarr")
    image = ngff_zarr.to_ngff_image(ARRAY, dims=["z", "y", "x"])
    scales = ngff_zarr.to_multiscales(image, scale_factors=[2], chunks=32)
    ngff_zarr.to_ngff_zarr(str(tmp_path / "image.zarr"), scales, version=version)
    levels = backend.list_files("image.zarr", recursive=True)
    assert np.array_equal(backend.load(levels[0]), ARRAY)
    with pytest.raises(IsADirectoryError, match=f"an OME-Zarr image.*{levels[0]}"):
        backend.load("image.zarr")


@pytest.mark.parametrize("form", [2, 3])
def test_a_group_says_what_it_is_and_what_to_load(tmp_path, backend, form):
    plate = {"plate": {"wells": [{"path": "B/03", "rowIndex": 1, "columnIndex": 2}]}}
    well = {"well": {"images": [{"path": "1"}]}}
    cases = {
        "plate": (plate, "an OME-Zarr plate.*plate/B/03"),
        "well": (well, "an OME-Zarr well.*well/1"),
        "bare": ({}, "a Zarr group"),
        "odd": ({"plate": 3}, "damaged"),
    }
    for name, (attributes, says) in cases.items():
        given = {"ome": attributes} if form == 3 else attributes
        zarr.create_group(tmp_path / name, zarr_format=form, attributes=given)
        for call in (backend.load, backend.open_array):
            with pytest.raises(IsADirectoryError, match=says):
                call(name)
        assert backend.read_attributes(name) == given
        assert backend.is_dir(name)


def test_what_cannot_be_read_is_named(tmp_path, backend):
    zarr.create_array(tmp_path / "v3", data=ARRAY)
    file = tmp_path / "v3" / "zarr.json"
    document = json.loads(file.read_text())
    document["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "h42"}]
    file.write_text(json.dumps(document))
    with pytest.raises(PlaneError, match=r"v3.*h42"):
        backend.load("v3")
    zarr.create_array(tmp_path / "v2", data=ARRAY, zarr_format=2)
    file = tmp_path / "v2" / ".zarray"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "compressor": {"id": "h43"}}))
    with pytest.raises(PlaneError, match=r"v2.*h43"):
        backend.load("v2")
    pickled = {**document, "dtype": "|O", "filters": [{"id": "pickle"}], "fill_value": None}
    file.write_text(json.dumps(pickled))
    with pytest.raises(PlaneError, match="pickles"):
        backend.load("v2")
    for dtype in ("|O", document["dtype"]):
        pickled = {**document, "dtype": dtype, "compressor": {"id": "pickle"}, "fill_value": None}
        file.write_text(json.dumps(pickled))
        for call in (backend.load, backend.open_array):
            with pytest.raises(PlaneError, match="pickles"):
                call("v2")


def test_other_files_are_no_arrays(tmp_path, backend):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.tif").write_bytes(b"II*\0")
    assert backend.list_files("images") == []
    assert backend.list_files("", recursive=True) == []
    with pytest.raises(FileNotFoundError, match="a file, not a Zarr array"):
        backend.load("images/a.tif")
