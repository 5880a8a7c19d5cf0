"""What Dask is taught of array families, in one process."""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from dask.sizeof import sizeof
from distributed.protocol import deserialize, serialize, serialize_bytes
from distributed.protocol.serialize import deserialize_bytes

from hcsflow.graph.families import register_families


@pytest.fixture(autouse=True)
def taught():
    register_families()
    register_families()  # again is harmless


@dataclass
class Held:
    stack: object
    name: str


def test_what_a_dataclass_holds_is_counted():
    plane = np.zeros((1000, 500), np.uint16)
    assert sizeof(plane) == 1_000_000
    for holder in (Held(plane, "A01"), [Held(plane, "A01")], {"a": Held([plane], "A01")}):
        assert 1_000_000 <= sizeof(holder) < 1_002_000
    assert sizeof(Held) < 10_000
    loop = Held(None, "self")
    loop.stack = loop
    assert sizeof(loop) < 1000


def test_tensors_are_counted_in_containers_and_travel():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = torch.arange(500_000, dtype=torch.int16)
    for holder in (tensor, {"a": tensor}, [tensor], Held(tensor, "A01"), (Held([tensor], ""),)):
        assert 1_000_000 <= sizeof(holder) < 1_002_000
    assert sizeof(torch.nn.Parameter(torch.zeros(4))) == 16
    moved = deserialize_bytes(serialize_bytes({"held": Held(tensor, "A01")}))["held"]
    assert torch.equal(moved.stack, tensor)


def test_tensors_of_any_kind_travel():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    base = torch.arange(24.0).reshape(4, 6)
    for tensor in (base.T, base[::2], base[:0], base.bfloat16(), base[0, 0], base.expand(2, 4, 6)):
        header, frames = serialize(tensor)
        moved = deserialize(header, frames)
        assert moved.dtype == tensor.dtype
        assert torch.equal(moved, tensor)
        assert torch.equal(deserialize_bytes(serialize_bytes(tensor)), tensor)
    assert not deserialize(*serialize(base.clone().requires_grad_())).requires_grad


CODE = """
import sys, pickle
import numpy as np
from dask.sizeof import sizeof
from distributed.protocol import serialize_bytes
from distributed.protocol.serialize import deserialize_bytes
from hcsflow.graph.families import register_families
register_families()
assert {library!r} not in sys.modules
if sys.argv[1] == "make":
    from hcsflow.arrays import convert
    array = convert(np.arange(500_000, dtype=np.float32), {library!r})
    assert sizeof(array) == 2_000_000, sizeof(array)
    assert 2_000_000 <= sizeof({{"a": [array]}}) < 2_002_000
    from distributed.protocol.pickle import dumps, loads
    from types import SimpleNamespace
    buffers = []  # inside a class that Dask does not know, with frames apart and all in one
    for pickled in (dumps(SimpleNamespace(a=array), buffer_callback=buffers.append),
                    dumps(SimpleNamespace(a=array))):
        again = loads(pickled, buffers=buffers).a
        assert np.array_equal(np.asarray(convert(again, "numpy")), np.arange(500_000))
    sys.stdout.buffer.write(serialize_bytes({{"a": [array]}}))
else:
    array = deserialize_bytes(sys.stdin.buffer.read())["a"][0]
    from hcsflow.arrays import find_memory_type, to_numpy
    assert find_memory_type(array) == {library!r}
    assert sizeof(array) == 2_000_000
    assert np.array_equal(to_numpy(array), np.arange(500_000, dtype=np.float32))
"""


@pytest.mark.parametrize(
    "library",
    [
        "jax",
        "pyclesperanto",
        pytest.param("torch", marks=pytest.mark.slow),
        pytest.param("tensorflow", marks=[pytest.mark.slow, pytest.mark.tensorflow]),
    ],
)
def test_arrays_reach_a_process_that_has_not_imported_their_library(library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    code = CODE.format(library=library)
    sent = b""
    for role in ("make", "take"):
        ran = subprocess.run(
            [sys.executable, "-c", code, role], input=sent, capture_output=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr.decode()
        sent = ran.stdout


@pytest.mark.gpu
def test_arrays_on_a_gpu_travel_by_way_of_the_host():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    tensor = torch.arange(12.0, device="cuda")[::2]
    assert sizeof(tensor) == 24
    moved = deserialize_bytes(serialize_bytes(tensor))
    assert moved.is_cuda
    assert torch.equal(moved, tensor)


@pytest.mark.gpu
def test_cupy_arrays_travel_without_numba_or_rmm():
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    if not cupy.cuda.is_available():
        pytest.skip("there is no CUDA device")
    array = cupy.arange(24).reshape(4, 6)[:, ::2]
    assert sizeof(array) == array.nbytes
    moved = deserialize_bytes(serialize_bytes(array))
    assert isinstance(moved, cupy.ndarray)
    assert bool((moved == array).all())
