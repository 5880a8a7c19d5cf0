from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from hcsflow.config import ZarrConfig
from hcsflow.errors import ConfigError, PlaneError, UsageError
from hcsflow.storage.zarr import ZarrStorageBackend


@pytest.fixture
def backend(tmp_path):
    return ZarrStorageBackend(tmp_path)


def well(fields=9, channels=2, z=5, size=32, store="plate.zarr"):
    names = [
        f"{store}/B03_s{f:03d}_w{c}_z{k:03d}_t001.tif"
        for f in range(1, fields + 1)
        for c in range(1, channels + 1)
        for k in range(1, z + 1)
    ]
    planes = [np.full((size, size), 7 * i, np.uint16) for i in range(len(names))]
    return planes, names


def chunk_files(folder):
    return [p for p in folder.rglob("*") if p.is_file() and p.name != "zarr.json"]


@pytest.mark.parametrize(("strategy", "objects"), [("well", 1), ("file", 90), ("single", 1)])
def test_a_well_in_one_object_or_one_per_plane(tmp_path, backend, strategy, objects):
    planes, names = well()
    config = ZarrConfig(chunk_strategy=strategy)
    backend.save_batch(planes, names, chunk_name="well_B03", zarr_config=config)
    assert len(chunk_files(tmp_path / "plate.zarr" / "B" / "03" / "0" / "0")) == objects
    for plane, name in zip(planes, names, strict=True):
        assert np.array_equal(backend.load(name), plane)
    assert backend.list_files("plate.zarr") == names
    assert backend.is_file(names[0])
    assert not backend.is_file("plate.zarr/B03_s099_w1_z001_t001.tif")


def test_a_batch_is_an_ome_zarr_image(tmp_path, backend):
    models = pytest.importorskip("ome_zarr_models.v05")
    planes, names = well(fields=3, z=2)
    backend.save_batch(planes, names, chunk_name="B03")
    group = zarr.open_group(tmp_path / "plate.zarr" / "B" / "03" / "0", mode="r")
    image = models.Image.from_zarr(group)
    assert [axis.name for axis in image.ome_attributes.multiscales[0].axes] == ["c", "z", "y", "x"]
    assert group["0"].shape == (2, 2, 64, 64)


def test_lists_saved_out_of_order(backend):
    planes, names = well(fields=2, channels=1, z=2)
    backend.save_batch(planes[::-1], names[::-1], chunk_name="B03")
    assert backend.load(names[2]).max() == 14


def test_any_names_make_a_stack(tmp_path, backend):
    planes = [np.full((4, 6), i, np.float32) for i in range(3)]
    backend.save_batch(planes, [f"s/img{i}" for i in (10, 9, 8)], chunk_name="batch")
    assert backend.open_array("s/batch").shape == (3, 4, 6)
    assert backend.load("/s/img9").max() == 1
    assert backend.list_files("s") == ["s/batch", "s/img8", "s/img9", "s/img10"]


def test_batches_refuse_what_does_not_fit(tmp_path, backend):
    plane = np.zeros((4, 4))
    for planes, names, says in [
        ([plane, np.zeros((4, 5))], ["s/a", "s/b"], "one size and dtype"),
        ([plane, plane], ["s/a", "t/b"], "one folder"),
        ([plane, plane], ["s/a", "s/a"], "once"),
        ([plane], ["s/a", "s/b"], "2 paths"),
        ([], [], "one folder"),
    ]:
        with pytest.raises(UsageError, match=says):
            backend.save_batch(planes, names, chunk_name="x")
    assert list(tmp_path.iterdir()) == []
    planes, names = well(fields=1, z=1)
    backend.save_batch(planes, names, chunk_name="B03")
    with pytest.raises(FileExistsError):
        backend.save_batch(planes, names, chunk_name="B03")
    backend.save_batch([p + 1 for p in planes], names, chunk_name="B03", overwrite=True)
    assert backend.load(names[0]).max() == 1
    with pytest.raises(UsageError, match="a plane of a stored image"):
        backend.delete(names[0])


@pytest.mark.parametrize("compressor", ["zstd", "lz4", "blosc", "zlib", "gzip", "none"])
def test_compressors(tmp_path, backend, compressor):
    array = np.arange(3 * 32 * 32, dtype=np.uint16).reshape(3, 32, 32)
    backend.save(array, "a", zarr_config=ZarrConfig(compressor=compressor))
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], array)
    assert len(chunk_files(tmp_path / "a")) == 1


def test_attributes_and_lazy_arrays(backend):
    backend.save(np.zeros((2, 8, 8)), "a", attributes={"unit": "um"})
    backend.write_attributes("a", {"origin": "HTD"})
    assert backend.read_attributes("a") == {"unit": "um", "origin": "HTD"}
    lazy = backend.open_array("a")
    assert lazy.chunks == (1, 8, 8)
    assert lazy[0, :2].shape == (2, 8)
    with pytest.raises(FileNotFoundError):
        backend.open_array("b")
    with pytest.raises(FileNotFoundError):
        backend.read_attributes("b")


@pytest.mark.parametrize(
    "array", [np.float32(3), np.arange(5), np.zeros((0, 3)), np.ones((2, 1), bool)]
)
def test_odd_shapes(backend, array):
    backend.save(array, "a")
    assert backend.load("a").dtype == array.dtype
    assert np.array_equal(backend.load("a"), array)


def test_only_numbers_and_known_settings(tmp_path, backend):
    for value in ("text", {"a": 1}, np.array(["a"])):
        with pytest.raises(UsageError, match="arrays of numbers"):
            backend.save(value, "a")
    with pytest.raises(ConfigError, match=r"compression_level must be a whole .* got 1\.5"):
        ZarrConfig(compression_level=1.5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", [{"chunk_strategy": "file"}, "file", {}])
def test_settings_are_a_zarr_config(tmp_path, backend, config):
    for call in (
        lambda: backend.save(np.zeros(3), "a", zarr_config=config),
        lambda: backend.save_batch([np.zeros((3, 3))], ["a"], chunk_name="b", zarr_config=config),
        lambda: ZarrStorageBackend(tmp_path, config=config),
    ):
        with pytest.raises(UsageError, match=r"ZarrConfig, got .*\n.*ZarrConfig\(chunk_strategy="):
            call()
    assert list(tmp_path.iterdir()) == []


def test_the_same_array_gives_the_same_bytes(tmp_path, backend):
    array = np.random.default_rng(0).integers(0, 99, (4, 64, 64)).astype(np.uint16)
    contents = []
    for name in ("a", "b"):
        backend.save(array, name)
        contents.append(
            [p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()]
        )
    assert contents[0] == contents[1]


def test_a_damaged_document_is_named(tmp_path, backend):
    backend.save(np.zeros(3), "a")
    (tmp_path / "a" / "zarr.json").write_text("{")
    with pytest.raises(PlaneError, match=r"zarr\.json: not a Zarr document"):
        backend.load("a")


@pytest.mark.parametrize("value", [np.nan, np.inf, object(), np.float32(1), {"deep": [np.nan]}])
def test_attributes_that_json_cannot_hold_are_refused(tmp_path, backend, value):
    with pytest.raises(UsageError, match="a: its attributes cannot be JSON"):
        backend.save(np.ones((4, 4)), "a", attributes={"x": value})
    assert list(tmp_path.iterdir()) == []
    backend.save(np.ones((4, 4)), "a", attributes={"y": 1})
    with pytest.raises(UsageError, match="a: its attributes cannot be JSON"):
        backend.write_attributes("a", {"x": value})
    assert backend.read_attributes("a") == {"y": 1}


@pytest.mark.parametrize("codecs", ["known", "zarr-python's"])
@pytest.mark.parametrize("shape", [[10**9, 10**9], [10**30, 1], [2**63, 2**63], [0, 10**30]])
def test_a_shape_that_no_memory_holds_is_damage(tmp_path, backend, shape, codecs):
    backend.save(np.ones((64, 64)), "a")
    file = tmp_path / "a" / "zarr.json"
    document = json.loads(file.read_text())
    document["shape"] = shape
    if codecs != "known":
        document["codecs"] = [{"name": "transpose", "configuration": {"order": [1, 0]}},
                              {"name": "bytes", "configuration": {"endian": "little"}}]  # fmt: skip
    file.write_text(json.dumps(document))
    with pytest.raises(PlaneError, match="cannot be read as Zarr"):
        backend.load("a")
