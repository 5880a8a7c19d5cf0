"""What hcsflow wrote has all its chunks: one that is gone is damage, not the fill value."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from hcsflow.config import ZarrConfig
from hcsflow.errors import PlaneError
from hcsflow.storage.zarr import ZarrStorageBackend

ARRAY = np.arange(4 * 8 * 8, dtype=np.uint16).reshape(4, 8, 8)


def config_of(version, strategy="file"):
    return ZarrConfig(ngff_version=version, chunk_strategy=strategy)


def chunks_of(folder):
    known = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in known)


@pytest.mark.parametrize("strategy", ["file", "well"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("name", ["a", "copied"])
def test_a_missing_chunk_of_an_array_is_damage(tmp_path, version, strategy, name):
    backend = ZarrStorageBackend(tmp_path, config=config_of(version, strategy))
    backend.save(np.zeros_like(ARRAY), "a", attributes={"unit": "um"})  # zeros are stored too
    backend.copy("a", "copied")
    backend.write_attributes(name, {"by": "me"})
    assert backend.read_attributes(name) == {"unit": "um", "by": "me"}
    assert backend.verify().is_sound
    chunks_of(tmp_path / name)[-1].unlink()
    with pytest.raises(PlaneError, match=f"{name}: .*one of its chunks is missing"):
        backend.load(name)
    assert list(backend.verify().damaged) == [name]


def test_a_missing_chunk_of_a_batch_is_damage(tmp_path):
    backend = ZarrStorageBackend(tmp_path, config=config_of("0.5"))
    backend.save_batch(list(ARRAY), [f"s/p{i}" for i in range(4)], chunk_name="x")
    chunks_of(tmp_path / "s" / "x")[2].unlink()
    assert list(backend.verify().damaged) == ["s/x"]
    with pytest.raises(PlaneError, match="missing"):
        backend.load("s/x")
    assert np.array_equal(backend.load("s/p1"), ARRAY[1])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_foreign_array_may_lack_chunks(tmp_path, version):
    zarr.create_array(
        tmp_path / "a", shape=(4, 8, 8), chunks=(1, 8, 8), dtype="u2", fill_value=9,
        zarr_format=2 if version == "0.4" else 3,
    )  # fmt: skip
    backend = ZarrStorageBackend(tmp_path)
    backend.copy("a", "b")
    for name in "ab":
        assert np.unique(backend.load(name)).tolist() == [9]
    assert backend.verify().is_sound


@pytest.mark.parametrize("strategy", ["file", "well"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_well_may_lack_planes_but_no_object(tmp_path, version, strategy):
    backend = ZarrStorageBackend(tmp_path, config=config_of(version, strategy))
    places = [(1, 1), (1, 2), (1, 3), (2, 1)]  # channel 2 was taken at one z
    names = [f"p.zarr/B03_s001_w{c}_z{k:03d}_t001.tif" for c, k in places]
    backend.save_batch(list(ARRAY + 1), names, chunk_name="B03")
    level = "p.zarr/B/03/0/0"
    assert np.count_nonzero(backend.load(level)) == 4 * 64
    assert backend.verify().is_sound
    assert backend.verify(level).is_sound
    gone = chunks_of(tmp_path / level)[0]
    gone.unlink()
    with pytest.raises(PlaneError, match="missing"):
        backend.load(level)
    assert list(backend.verify(level).damaged) == [level]
    assert list(backend.verify("p.zarr").damaged) == [gone.relative_to(tmp_path).as_posix()]


@pytest.mark.parametrize("as_given", ["{}", "{}/", "{}/deep"])
def test_verify_names_what_is_damaged_as_it_was_asked(tmp_path, as_given):
    backend = ZarrStorageBackend()
    backend.save(ARRAY, tmp_path / "deep" / "a")
    chunks_of(tmp_path)[0].unlink()
    (damaged,) = backend.verify(as_given.format(tmp_path)).damaged
    assert damaged == f"{tmp_path}/deep/a"
    with pytest.raises(PlaneError):
        backend.load(damaged)
    below = ZarrStorageBackend(tmp_path)
    for given, found in {
        "/deep": "/deep/a",
        "deep": "deep/a",
        "": "deep/a",
        "/": "/deep/a",
    }.items():
        assert list(below.verify(given).damaged) == [found]
