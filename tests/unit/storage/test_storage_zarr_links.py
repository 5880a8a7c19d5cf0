"""Links in Zarr stores: none leads out of the base, a listing follows none."""

import os

import numpy as np
import pytest

from hcsflow.errors import PathError
from hcsflow.storage.zarr import ZarrStorageBackend

PLANE = np.arange(64, dtype="u2").reshape(8, 8)
WELL = ["p.zarr/B03_s001_w1_z001_t001.tif"]


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base" / "p.zarr").mkdir(parents=True)
    return tmp_path / "base"


@pytest.fixture
def outside(tmp_path):
    """Return the well's row in a store that is none of the base's."""
    ZarrStorageBackend(tmp_path).save_batch([PLANE], [f"out/{WELL[0]}"], chunk_name="B03")
    return tmp_path / "out" / "p.zarr" / "B"


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize("link", ["B", "B/03"])
def test_a_well_is_not_written_or_read_out_of_the_base(base, outside, link):
    (base / "p.zarr" / link).parent.mkdir(exist_ok=True)
    (base / "p.zarr" / link).symlink_to(outside / link[2:])
    backend, before = ZarrStorageBackend(base), contents(outside)
    calls = [
        lambda: backend.save_batch([PLANE], WELL, chunk_name="B03"),
        lambda: backend.save_batch([PLANE], WELL, chunk_name="B03", overwrite=True),
        lambda: backend.load(WELL[0]),
        lambda: backend.stat(WELL[0]),
        lambda: backend.copy(WELL[0], "copy"),
    ]
    for call in calls:
        with pytest.raises(PathError, match="leads out of"):
            call()
    backend.finish_plate("p.zarr")
    assert backend.list_files("p.zarr") == []
    assert contents(outside) == before
    assert np.array_equal(ZarrStorageBackend().load(str(base / WELL[0])), PLANE)


@pytest.mark.parametrize("link", ["0", "0/0"])
def test_an_array_of_a_well_is_not_read_out_of_the_base(base, outside, link):
    backend = ZarrStorageBackend(base)
    backend.save_batch([PLANE], WELL, chunk_name="B03")
    inner = base / "p.zarr" / "B" / "03" / link
    inner.rename(base / "kept")
    inner.symlink_to(outside / "03" / link)
    with pytest.raises(PathError, match="leads out of"):
        backend.load(WELL[0])
    inner.unlink()
    inner.symlink_to(base / "kept")
    assert np.array_equal(backend.load(WELL[0]), PLANE)


def test_a_batch_of_other_names_is_not_written_or_read_out_of_the_base(base, tmp_path):
    ZarrStorageBackend(tmp_path).save_batch([PLANE], ["out/left"], chunk_name="x")
    (base / "s").mkdir()
    (base / "s" / "x").symlink_to(tmp_path / "out" / "x")
    backend, before = ZarrStorageBackend(base), contents(tmp_path / "out")
    assert not backend.is_file("s/left")
    with pytest.raises(PathError, match="leads out of"):
        backend.save_batch([PLANE], ["s/left"], chunk_name="x", overwrite=True)
    assert contents(tmp_path / "out") == before


def test_loops_end(tmp_path):
    backend = ZarrStorageBackend(tmp_path)
    backend.save(PLANE, "g/a")
    for name in ("l1", "l2"):
        os.symlink("..", tmp_path / "g" / name)  # noqa: PTH211
    (tmp_path / "g" / "self").symlink_to("self")
    assert backend.list_files("", recursive=True) == ["g/a"]
    assert backend.list_dir("g") == ["a"]
    assert backend.verify().checked == 1
    backend.copy("g", "h")
    assert backend.list_files("h", recursive=True) == ["h/a"]
    assert (tmp_path / "h" / "l1").is_symlink()


@pytest.mark.parametrize("is_base", [True, False])
def test_a_store_that_is_a_link_is_a_store(tmp_path, is_base):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    base = tmp_path / "link" if is_base else tmp_path
    backend, store = ZarrStorageBackend(base), "" if is_base else "link/"
    backend.save(PLANE, f"{store}a")
    backend.save_batch([PLANE], [f"{store}{WELL[0]}"], chunk_name="B03")
    backend.save_batch([PLANE], [f"{store}left"], chunk_name="x")
    assert np.array_equal(backend.load(f"{store}{WELL[0]}"), PLANE)
    assert np.array_equal(backend.load(f"{store}left"), PLANE)
    listed = backend.list_files(store.rstrip("/"), recursive=True)
    assert listed == [f"{store}{name}" for name in ("a", "left", WELL[0], "x")]
