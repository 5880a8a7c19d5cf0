"""No caller changes what is stored, whatever it does with the arrays that it holds."""

from __future__ import annotations

import tempfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hcsflow.storage.memory import MemoryStorageBackend

LIMITS = st.sampled_from([None, 0, 300, 10_000])
ARRAYS = hnp.arrays(
    dtype=st.sampled_from(["uint8", ">u2", "float32", "complex64", "bool", "M8[s]", "U3"]),
    shape=hnp.array_shapes(max_dims=3, max_side=6, min_side=0),
)


def _spoil(array):
    """Change an array by every road that numpy has."""
    with suppress(ValueError, TypeError):
        array[...] = array.dtype.type(1)
    with suppress(ValueError, TypeError):
        array.view(np.uint8)[...] = 7
    with suppress(ValueError, TypeError, BufferError):
        if not array.dtype.hasobject:
            memoryview(array).cast("B")[:] = bytes([9]) * array.nbytes
    with suppress(ValueError):
        array.sort()
    with suppress(ValueError, AttributeError):
        array.resize(3, refcheck=True)


def _layout(array, how):
    """Return an array that holds the values in some layout, and all other ways to its memory."""
    if how == "owner":
        made = array.copy()
        return made, [made]
    if how == "fortran":
        made = np.asfortranarray(array.copy())
        return made, [made]
    if how == "object":
        made = np.empty(1, dtype=object)
        made[0] = array.copy()
        return made, [made[0], made]
    base = np.repeat(array.reshape(-1), 2)
    base[: array.size] = array.reshape(-1)
    made = base[: array.size].reshape(array.shape)
    return made, [base, made]


@given(ARRAYS, LIMITS, st.sampled_from(["owner", "fortran", "view", "object"]), st.booleans())
def test_what_is_stored_stays(array, limit, how, compress):
    with tempfile.TemporaryDirectory() as folder:
        memory = MemoryStorageBackend(limit, folder, enable_compression=compress)
        held, roads = _layout(array, how)
        memory.save(held, "a")
        memory.save({"in": [held]}, "nested")
        for road in roads:
            _spoil(road)
            _spoil(road[...])  # a view made after saving
        for _ in range(2):
            found = memory.load("a")
            inside = memory.load("nested")["in"][0]
            for one in (found, inside):
                plain = one[0] if how == "object" else one
                assert plain.dtype == array.dtype
                assert plain.shape == array.shape
                assert plain.tobytes() == array.tobytes()
                _spoil(plain)
                _spoil(one)
        memory.close()


@given(ARRAYS, LIMITS)
def test_a_copy_is_safe_from_views_made_before(array, limit):
    with tempfile.TemporaryDirectory() as folder:
        memory = MemoryStorageBackend(limit, folder)
        held = array.copy()
        before = held[...]
        memory.save(held, "a", copy=True)
        assert held.flags.writeable
        _spoil(before)
        _spoil(held)
        assert memory.load("a").tobytes() == array.tobytes()
        memory.close()


def test_metadata_of_a_callers_array_is_its_own():
    memory = MemoryStorageBackend()
    held = np.arange(6)
    memory.save(held, "a")
    loaded = memory.load("a")
    with pytest.MonkeyPatch.context() as patch, suppress(AttributeError, DeprecationWarning):
        patch.setattr(held, "shape", (2, 3))
        patch.setattr(loaded, "dtype", np.dtype("f8"))
    assert memory.load("a").shape == (6,)
    assert memory.load("a").dtype == held.dtype


def test_the_one_way_in_is_a_view_made_before():
    """Numpy cannot take a writable view back; ``copy=True`` is for those who have one."""
    memory = MemoryStorageBackend()
    held = np.zeros(3)
    before = held[:]
    memory.save(held, "shared")
    memory.save(before, "copied")
    before[0] = 1
    assert memory.load("shared")[0] == 1
    assert memory.load("copied")[0] == 0


@pytest.mark.parametrize("library", ["torch", "pyclesperanto"])
@given(limit=LIMITS, value=st.integers(0, 200))
def test_arrays_of_other_libraries_are_copied(library, limit, value):
    arrays = pytest.importorskip("hcsflow.arrays")
    pytest.importorskip(library)
    with tempfile.TemporaryDirectory() as folder:
        memory = MemoryStorageBackend(limit, folder, device_limit_bytes=limit)
        held = arrays.convert(np.full((4, 5), value, np.uint8), library)
        memory.save(held, "a")
        memory.save({"in": held}, "nested")
        for spoiled in (held, memory.load("a"), memory.load("nested")["in"]):
            spoiled[0:2] = 255 - value
        assert (arrays.to_numpy(memory.load("a")) == value).all()
        assert (arrays.to_numpy(memory.load("nested")["in"]) == value).all()
        memory.close()


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["save", "load", "delete", "move", "copy"]),
        st.integers(0, 5),
        st.integers(0, 5),
        st.integers(0, 300),
    ),
    max_size=40,
)


@given(ACTIONS, st.sampled_from([0, 150, 500, 2_000]), st.booleans(), st.floats(0.1, 1))
def test_a_limited_store_is_a_dict(actions, limit, compress, threshold):
    with tempfile.TemporaryDirectory() as folder:
        memory = MemoryStorageBackend(
            limit, folder, enable_compression=compress, cleanup_threshold=threshold
        )
        model: dict[int, bytes] = {}
        for action, first, second, size in actions:
            if action == "save":
                model[first] = bytes([size % 251]) * size
                memory.save(np.frombuffer(model[first], np.uint8), f"{first}", overwrite=True)
            elif first not in model:
                with pytest.raises(FileNotFoundError):
                    memory.load(f"{first}")
            elif action == "delete":
                del model[first]
                memory.delete(f"{first}")
            elif action == "move":
                model[second] = model.pop(first)
                memory.move(f"{first}", f"{second}", overwrite=True)
            elif action == "copy" and first != second:
                model[second] = model[first]
                memory.copy(f"{first}", f"{second}", overwrite=True)
            assert {int(name) for name in memory.list_dir("/")} == set(model)
            used = memory.usage()
            assert used.objects == len(model)
            assert used.host.get("numpy", 0) <= limit * threshold
            if first in model:
                assert memory.load(f"{first}").tobytes() == model[first]
        memory.close()
