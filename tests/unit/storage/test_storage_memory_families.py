"""Every family of objects goes down to disk past a limit and comes back equal, as it was."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hcsflow.arrays import convert, memory_type_of, to_numpy
from hcsflow.errors import MemoryConversionError
from hcsflow.storage.families import duplicate, sizeof
from hcsflow.storage.memory import MemoryStorageBackend

PIXELS = np.arange(5000, dtype=np.uint16).reshape(50, 100)


@dataclass
class Result:
    well: str
    labels: object


def _array(library):
    pytest.importorskip(library)
    try:
        return convert(PIXELS.copy(), library)
    except MemoryConversionError as error:
        pytest.skip(str(error))


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def full(tmp_path, request):
    """A backend with no room in memory."""
    backend = MemoryStorageBackend(
        limit_bytes=0, device_limit_bytes=0, spill_dir=tmp_path, enable_compression=request.param
    )
    yield backend
    backend.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "library",
    [
        "numpy",
        "torch",
        "jax",
        "pyclesperanto",
        pytest.param("tensorflow", marks=pytest.mark.tensorflow),
        pytest.param("cupy", marks=pytest.mark.gpu),
    ],
)
def test_arrays_of_every_library_spill(full, library):
    full.save(_array(library), "a")
    assert full.usage().spilled > 0
    assert full.usage().spilled_uncompressed == PIXELS.nbytes
    assert full.usage().host == full.usage().device == {}
    assert full.stat("a") == ("a", False, PIXELS.nbytes, library)
    found = full.load("a")
    assert memory_type_of(found) == library
    assert np.array_equal(to_numpy(found), PIXELS)


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_cuda_arrays_come_back_to_the_gpu(full, library):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    is_torch = library == "torch"
    if not (module.cuda.is_available() if is_torch else module.default_backend() == "gpu"):
        pytest.skip(f"{library} sees no GPU")
    full.save(convert(PIXELS.astype(np.int16), library, device=0), "a")
    assert full.usage().device == {}
    found = full.load("a")
    assert np.array_equal(to_numpy(found), PIXELS)
    assert "cuda" in str(getattr(found, "device", "")).lower()


def test_tables_spill(full):
    frame = pd.DataFrame({"area": np.arange(500), "well": ["A01"] * 500})
    table = pa.table({"area": np.arange(500)})
    full.save(frame, "frame")
    full.save(table, "table")
    assert full.usage().host == {}
    pd.testing.assert_frame_equal(full.load("frame"), frame)
    assert full.load("table").equals(table)


def test_containers_of_arrays_spill(full):
    made = {
        "dict": {"a": PIXELS, "torch": _array("torch")},
        "list": [PIXELS, PIXELS[::2], "text"],
        "tuple": (PIXELS, 3.5),
        "dataclass": Result("A01", _array("pyclesperanto")),
    }
    for name, value in made.items():
        full.save(value, name)
    assert full.usage().host == {}
    assert np.array_equal(full.load("dict")["a"], PIXELS)
    assert memory_type_of(full.load("dict")["torch"]) == "torch"
    assert np.array_equal(full.load("list")[1], PIXELS[::2])
    assert full.load("tuple")[1] == 3.5
    labels = full.load("dataclass").labels
    assert memory_type_of(labels) == "pyclesperanto"
    assert np.array_equal(to_numpy(labels), PIXELS)


def test_device_arrays_go_to_host_memory_then_to_disk_and_return(tmp_path):
    size = PIXELS.nbytes
    memory = MemoryStorageBackend(
        limit_bytes=2 * size, device_limit_bytes=3 * size, spill_dir=tmp_path
    )
    base = _array("pyclesperanto")
    for number in range(7):
        memory.save(convert(PIXELS + number, memory_type_of(base)), f"p{number}")
    used = memory.usage()
    assert used.device == {"pyclesperanto": 3 * size}
    assert used.host == {"pyclesperanto": 2 * size}
    assert used.spilled_uncompressed == 2 * size
    for number in (0, 3, 6, 1):
        found = memory.load(f"p{number}")
        assert memory_type_of(found) == "pyclesperanto"
        assert np.array_equal(to_numpy(found), PIXELS + number)
        assert memory.usage().device == {"pyclesperanto": 3 * size}
        assert memory.usage().host["pyclesperanto"] <= 2 * size
    memory.close()


def test_device_arrays_do_not_count_against_host_memory(tmp_path):
    memory = MemoryStorageBackend(limit_bytes=0, spill_dir=tmp_path)
    memory.save(_array("pyclesperanto"), "a")
    assert memory.usage().device == {"pyclesperanto": PIXELS.nbytes}
    assert memory.usage().spilled == 0
    memory.close()


def test_what_cannot_be_written_stays_and_the_rest_goes(tmp_path):
    memory = MemoryStorageBackend(limit_bytes=10_000, spill_dir=tmp_path)
    bound = {"function": lambda: 1, "array": np.zeros(1000)}
    memory.save(bound, "bound", copy=False)
    memory.save(3, "small")
    memory.save(np.ones(1000), "array")
    assert memory.usage().host["container"] > 8_000
    assert memory.usage().spilled_uncompressed == 8_000
    assert memory.load("bound", copy=False) is bound
    assert memory.load("array").sum() == 1000
    assert memory.load("small") == 3
    memory.close()


def test_a_dtype_that_numpy_lacks_spills_its_librarys_way(tmp_path):
    torch = pytest.importorskip("torch")
    memory = MemoryStorageBackend(limit_bytes=100, spill_dir=tmp_path)
    memory.save(torch.ones(500, dtype=torch.bfloat16), "b")
    assert memory.usage().spilled > 1_000
    assert memory.load("b").dtype == torch.bfloat16
    memory.close()


def test_copies_share_nothing_that_changes():
    torch = pytest.importorskip("torch")
    inner = torch.zeros(3)
    given = {"t": inner, "again": inner, "n": [np.zeros(2)], "r": Result("A01", inner)}
    copied = duplicate(given)
    inner += 1
    given["n"][0] += 1
    assert float(copied["t"].sum()) == 0
    assert copied["again"] is copied["t"]
    assert copied["r"].labels is copied["t"]
    assert copied["n"][0].sum() == 0
    frame = pd.DataFrame({"cells": [[1], [2]]})
    other = duplicate({"frame": frame})["frame"]
    frame["cells"][0].append(9)
    assert other["cells"][0] == [1]
    numbers = np.arange(4)
    table = pa.table({"x": pa.array(numbers)})
    shared = duplicate(table)
    numbers[0] = 99
    assert shared["x"][0].as_py() == 0


def test_what_torch_shares_with_jax_cannot_change_what_is_stored():
    torch = pytest.importorskip("torch")
    pytest.importorskip("jax")
    tensor = torch.full((64, 64), 7, dtype=torch.int32)
    shared = convert(tensor, "jax")
    memory = MemoryStorageBackend()
    memory.save(shared, "alone")
    memory.save({"x": shared}, "nested")
    tensor.fill_(99)
    assert int(shared[0, 0]) == 99
    for _ in range(2):
        found = (memory.load("alone"), memory.load("nested")["x"])
        assert [int(array[0, 0]) for array in found] == [7, 7]
        for array in found:
            convert(array, "torch").fill_(5)
    memory.close()


@pytest.mark.tensorflow
@pytest.mark.slow
def test_what_torch_shares_with_tensorflow_cannot_change_what_is_stored():
    torch = pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    tensor = torch.full((64, 64), 7, dtype=torch.int32)
    memory = MemoryStorageBackend()
    memory.save(convert(tensor, "tensorflow"), "alone")
    tensor.fill_(99)
    convert(memory.load("alone"), "torch").fill_(5)
    assert int(memory.load("alone")[0, 0]) == 7
    memory.close()


def test_a_masked_array_is_kept_with_its_mask(tmp_path):
    masked = np.ma.array(np.arange(500.0), mask=np.arange(500) % 2)
    memory = MemoryStorageBackend(limit_bytes=100, spill_dir=tmp_path)
    memory.save(masked, "alone")
    memory.save({"x": masked}, "nested")
    assert memory.usage().spilled > 4_000
    for found in (memory.load("alone"), memory.load("nested")["x"]):
        np.testing.assert_array_equal(np.ma.getmaskarray(found), masked.mask)
        assert found.sum() == masked.sum()
    memory.close()


def test_tensors_with_gradients_are_kept_as_values():
    torch = pytest.importorskip("torch")
    weights = torch.ones(3, requires_grad=True)
    memory = MemoryStorageBackend()
    memory.save(weights * 2, "w")
    assert memory.load("w").tolist() == [2, 2, 2]


def test_sizes_count_what_is_inside_once():
    array = np.zeros(1000)
    assert sizeof(Result("A01", array)) == ("container", sizeof(Result("A01", array)).nbytes)
    assert 8_000 < sizeof(Result("A01", array)).nbytes < 9_000
    assert sizeof([array, array]).nbytes < 9_000
    endless = [array]
    endless.append(endless)
    assert sizeof(endless).nbytes < 9_000


def test_sizing_and_copying_import_no_library():
    code = (
        "import sys; from hcsflow.storage.memory import MemoryStorageBackend\n"
        "m = MemoryStorageBackend(limit_bytes=0); m.save({'a': [1] * 1000}, 'x'); m.load('x')\n"
        "m.close()\n"
        "heavy = {'torch', 'jax', 'tensorflow', 'cupy', 'pyclesperanto', 'pandas', 'zarr'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
