"""Any array, stored any way, is read back as zarr-python reads it; so is any single plane."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hcsflow.config import ZarrConfig
from hcsflow.storage.zarr import ZarrStorageBackend

DTYPES = ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"]

configs = st.builds(
    ZarrConfig,
    compressor=st.sampled_from(["zstd", "lz4", "blosc", "zlib", "gzip", "none"]),
    compression_level=st.integers(1, 9),
    shuffle=st.booleans(),
    chunk_strategy=st.sampled_from(["well", "file", "adaptive"]),
    ngff_version=st.sampled_from(["0.4", "0.5"]),
)
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    )
)


def same(one, two):
    return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()


@given(arrays, configs)
def test_any_array_comes_back(array, config):
    with tempfile.TemporaryDirectory() as folder:
        backend = ZarrStorageBackend(folder, config=config)
        backend.save(array, "a")
        assert same(backend.load("a"), array)
        assert same(np.asarray(zarr.open_array(Path(folder) / "a", mode="r")[...]), array)
        assert backend.verify("").is_sound


@given(st.data(), configs)
def test_any_planes_come_back_by_name(data, config):
    count = data.draw(st.integers(1, 6))
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    dtype = data.draw(st.sampled_from(["u1", "u2", "i4", "f4", "f8"]))
    elements = hnp.from_dtype(np.dtype(dtype), min_value=0, max_value=200)
    planes = [data.draw(hnp.arrays(dtype, shape, elements=elements)) for _ in range(count)]
    is_well = data.draw(st.booleans())
    forms = "B02_s001_w{}_z001_t001.tif", "plane {}"
    names = [forms[not is_well].format(number + 1) for number in range(count)]
    order = data.draw(st.permutations(range(count)))
    with tempfile.TemporaryDirectory() as folder:
        backend = ZarrStorageBackend(folder, config=config)
        backend.save_batch(planes, [f"s/{name}" for name in names], chunk_name="x")
        found = backend.load_batch([f"s/{names[number]}" for number in order])
        assert all(same(one, planes[n]) for one, n in zip(found, order, strict=True))
