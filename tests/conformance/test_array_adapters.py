"""Every library's adapter against the kit, and the table of conversions cell by cell."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from hcsflow.arrays import MEMORY_TYPES, convert
from hcsflow.arrays.casting import CASTABLE
from hcsflow.arrays.conversions import DTYPES, HOLDS, conversion
from hcsflow.errors import MemoryConversionError
from hcsflow.testing.array_checks import (
    check_conversion,
    conversion_table,
    numpy_array,
    why_absent,
)
from hcsflow.testing.arrays import ArrayAdapterTests

GOLDEN = Path(__file__).parents[1] / "golden" / "conversions.csv"
SHAPE = (2, 4, 6)


def need(name):
    """Skip where a library, or the device that it cannot do without, is not there."""
    reason = why_absent(name)
    if reason is not None:
        pytest.skip(reason)


def need_gpu(name):
    """Skip where a library sees no GPU."""
    need(name)
    if name == "cupy":
        return
    if name == "torch":
        import torch

        there = torch.cuda.is_available()
    elif name == "tensorflow":
        import tensorflow as tf

        there = bool(tf.config.list_physical_devices("GPU"))
    else:
        import jax

        there = jax.default_backend() == "gpu"
    if not there:
        pytest.skip(f"{name} sees no GPU")


def _of_views(empty, dtype, layout):
    """Lay out an array of a library whose ``empty(shape, dtype)`` and slices are views."""
    if layout == "C":
        array = empty(SHAPE, dtype)
    elif layout == "F":
        array = empty(SHAPE[::-1], dtype).transpose(2, 0)
    elif layout == "strided":
        array = empty((2, 8, 6), dtype)[:, ::2]
    elif layout == "unaligned":
        array = empty((49,), dtype)[1:].reshape(SHAPE)
    elif layout == "zero-size":
        array = empty((0, 4, 6), dtype)
    else:
        array = empty((), dtype)
    return array


class NumpyKit(ArrayAdapterTests):
    memory_type = "numpy"
    cast_dtypes = CASTABLE
    absent_device = "cuda:0"

    def make(self, dtype, layout):
        return numpy_array(dtype, layout)


class TorchKit(ArrayAdapterTests):
    memory_type = "torch"
    cast_dtypes = tuple(dtype for dtype in CASTABLE if dtype != "uint64")

    def make(self, dtype, layout):
        import torch

        def empty(shape, dtype):
            return torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)

        array = _of_views(empty, dtype, layout)
        return array.copy_(torch.arange(array.numel()).reshape(array.shape))


class JaxKit(ArrayAdapterTests):
    memory_type = "jax"
    cast_dtypes = tuple(dtype for dtype in CASTABLE if not dtype.endswith("64"))

    def make(self, dtype, layout):
        import jax.numpy as jnp

        array = jnp.arange(48).reshape(SHAPE).astype(dtype)
        return {"C": array, "zero-size": array[:0], "0-d": array[0, 0, 1]}[layout]


class TensorflowKit(ArrayAdapterTests):
    memory_type = "tensorflow"
    cast_dtypes = tuple(dtype for dtype in CASTABLE if not dtype.endswith("int64"))

    def make(self, dtype, layout):
        import tensorflow as tf

        array = tf.cast(tf.reshape(tf.range(48), SHAPE), dtype)
        return {"C": array, "zero-size": array[:0], "0-d": array[0, 0, 1]}[layout]


class PyclesperantoKit(ArrayAdapterTests):
    memory_type = "pyclesperanto"

    def make(self, dtype, layout):
        import pyclesperanto as cle

        return cle.push(numpy_array(dtype, layout))


class CupyKit(ArrayAdapterTests):
    memory_type = "cupy"
    cast_dtypes = CASTABLE

    def make(self, dtype, layout):
        import cupy

        if layout == "negative":
            return self.make(dtype, "C")[:, ::-1]
        if layout == "F":
            return cupy.asfortranarray(self.make(dtype, "C"))
        array = _of_views(cupy.empty, dtype, layout)
        array[...] = cupy.arange(array.size).reshape(array.shape).astype(dtype)
        return array


class TorchOnGpuKit(TorchKit):
    place = "device"
    device = "cuda"


class JaxOnGpuKit(JaxKit):
    place = "device"


class TensorflowOnGpuKit(TensorflowKit):
    place = "device"


class TestNumpy(NumpyKit):
    pass


class TestTorch(TorchKit):
    @pytest.fixture(autouse=True)
    def _need(self):
        need("torch")


class TestJax(JaxKit):
    @pytest.fixture(autouse=True)
    def _need(self):
        need("jax")

    @pytest.mark.slow  # jax compiles each pair of dtypes anew
    def test_casts(self):
        super().test_casts()


@pytest.mark.tensorflow
class TestTensorflow(TensorflowKit):
    @pytest.fixture(autouse=True)
    def _need(self):
        need("tensorflow")


class TestPyclesperanto(PyclesperantoKit):
    @pytest.fixture(autouse=True)
    def _need(self):
        need("pyclesperanto")


@pytest.mark.gpu
class TestCupy(CupyKit):
    @pytest.fixture(autouse=True)
    def _need(self):
        need_gpu("cupy")


@pytest.mark.gpu
class TestTorchOnGpu(TorchOnGpuKit):
    @pytest.fixture(autouse=True)
    def _need(self):
        need_gpu("torch")


@pytest.mark.gpu
class TestJaxOnGpu(JaxOnGpuKit):
    @pytest.fixture(autouse=True)
    def _need(self):
        need_gpu("jax")


KITS = {
    (kit.memory_type, kit.place or HOLDS[kit.memory_type].places[0]): kit
    for kit in (
        *(NumpyKit, TorchKit, JaxKit, TensorflowKit, PyclesperantoKit, CupyKit),
        *(TorchOnGpuKit, JaxOnGpuKit, TensorflowOnGpuKit),
    )
}


def _pairs():
    for source, place in KITS:
        for target in MEMORY_TYPES:
            if target != source:
                marks = []
                if source == "tensorflow" or (target == "tensorflow" and source != "pyclesperanto"):
                    marks.append(pytest.mark.tensorflow)
                if "cupy" in {source, target} or (place == "device" and source != "pyclesperanto"):
                    marks.append(pytest.mark.gpu)
                yield pytest.param(source, place, target, marks=marks)


def _cells(source, place, target):
    signs = {"=": "zero-copy", "c": "copy", "-": "refused"}
    with GOLDEN.open() as file:
        next(file)
        for row in csv.DictReader(file):
            if (row["source"], row["place"], row["target"]) == (source, place, target):
                for dtype in DTYPES:
                    if row[dtype]:
                        yield dtype, row["layout"], signs[row[dtype]]


@pytest.mark.parametrize(("source", "place", "target"), list(_pairs()))
def test_every_cell_of_the_table(source, place, target):
    needs_gpu = place == "device" and source != "pyclesperanto"
    (need_gpu if needs_gpu else need)(source)
    meets = "pyclesperanto" not in (source, target) or "numpy" in (source, target)
    if meets:
        (need_gpu if (needs_gpu and target != "numpy") or target == "cupy" else need)(target)
    kit, tried = KITS[source, place](), 0
    for dtype, layout, expected in _cells(source, place, target):
        array = kit._make(dtype, layout)
        if array is None:
            continue
        try:
            check_conversion(array, lambda given: convert(given, target), expected)
        except AssertionError as error:
            raise AssertionError(f"{dtype}, {layout}: expected {expected}, {error}") from error
        tried += 1
    assert tried >= 7


def test_opencl_is_refused_to_tensorflow_without_loading_it():
    need("pyclesperanto")
    loaded = "tensorflow" in sys.modules
    with pytest.raises(MemoryConversionError, match="convert to numpy first"):
        convert(PyclesperantoKit().make("uint8", "C"), "tensorflow")
    assert ("tensorflow" in sys.modules) == loaded


def test_the_committed_table_is_the_rules():
    found = GOLDEN.read_text()
    assert found == conversion_table(), (
        "if the rules were meant to change, write the table anew: python -c 'from "
        'hcsflow.testing.array_checks import conversion_table as t; print(t(), end="")\''
        f" > {GOLDEN.name}"
    )


def test_the_same_library_shares():
    assert conversion("numpy", "numpy", "uint16", "strided") == "zero-copy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("numpy", "torch", "uint12", "C"), "dtype must be one of bool"),
        (("numpy", "torch", "uint8", "D"), "layout must be one of C"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises((ValueError, MemoryConversionError), match=message):
        conversion(*arguments)


def test_unknown_libraries_and_places_are_refused():
    with pytest.raises(MemoryConversionError, match="did you mean 'torch'"):
        conversion("numpy", "troch", "uint8")
    with pytest.raises(ValueError, match="numpy arrays lie on the host"):
        conversion("numpy", "torch", "uint8", place="device")
