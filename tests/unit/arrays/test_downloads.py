"""Results on their way to host memory: when they are there, what is pinned, what is counted."""

import gc
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from hcsflow.arrays import downloads
from hcsflow.arrays.counting import count_arrays
from hcsflow.arrays.downloads import PinnedPool, start_download
from hcsflow.arrays.libraries import _ADAPTERS


class Card:
    """A GPU with cupy's words: what a stream is given is done when an event is waited for."""

    def __init__(self):
        self.log, self.queue, self.out_of_memory = [], [], False
        self.ndarray = type("ndarray", (OnCard,), {"card": self})
        stream = type("Stream", (Stream,), {"card": self})
        self.cuda = SimpleNamespace(
            Event=type("Event", (Event,), {"card": self}),
            Stream=stream,
            alloc_pinned_memory=self.pin,
            get_current_stream=lambda: stream(non_blocking=True),
            runtime=SimpleNamespace(getDevice=lambda: 0),
            is_available=lambda: True,
        )

    def pin(self, nbytes):
        if self.out_of_memory:
            raise MemoryError("cudaErrorMemoryAllocation")
        return bytearray(1 << (nbytes - 1).bit_length())

    def work(self):
        while self.queue:
            self.queue.pop(0)()


class Event:
    def __init__(self, **_how):
        pass

    def record(self, _stream):
        self.card.log.append("record")

    def synchronize(self):
        self.card.log.append("wait")
        self.card.work()


class Stream:
    def __init__(self, *, non_blocking):
        assert non_blocking

    def __enter__(self):
        self.card.log.append("on the stream")

    def __exit__(self, *_error):
        pass

    def record(self):
        return self.card.cuda.Event()

    def wait_event(self, _event):
        self.card.log.append("follow")

    def synchronize(self):
        self.card.work()


class OnCard:
    device = nullcontext()

    def __init__(self, values):
        self.values, self.data = values, SimpleNamespace(ptr=values.ctypes.data)
        self.shape, self.dtype, self.nbytes = values.shape, values.dtype, values.nbytes

    def copy(self, order):
        assert order == "C"
        return type(self)(self.values.copy())

    def get(self, stream, out, blocking):
        assert stream is not None
        assert not blocking
        self.card.queue.append(lambda: np.copyto(out, self.values))


@pytest.fixture
def card(monkeypatch):
    card = Card()
    monkeypatch.setitem(sys.modules, "cupy", card)
    monkeypatch.setattr(downloads, "PINNED", PinnedPool(1 << 20))
    plain = SimpleNamespace(to_host=lambda array: array.values.copy())  # as cupy.asnumpy
    monkeypatch.setitem(_ADAPTERS, "cupy", plain)
    monkeypatch.delenv("HCSFLOW_NO_GPU", raising=False)
    return card


def stack(number=1):
    return np.full((2, 30, 40), number, np.uint16)


def test_what_lies_in_host_memory_is_handed_on_as_it_is():
    array = stack()
    with count_arrays() as counts:
        download = start_download(array)
    assert not download.is_under_way
    assert download.result() is array
    assert not counts.conversions


def test_a_tensor_on_the_cpu_keeps_its_memory():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = torch.arange(6).reshape(1, 2, 3)
    with count_arrays() as counts:
        result = start_download(tensor).result()
    assert result.__array_interface__["data"][0] == tensor.data_ptr()
    assert dict(counts.conversions) == {"zero-copy": 1}


def test_a_result_is_there_when_it_is_asked_for_and_not_before(card):
    with count_arrays() as counts:
        download = start_download(card.ndarray(stack(7)))
    assert download.is_under_way
    assert card.queue  # the copy has not been waited for
    np.testing.assert_array_equal(download.result(), stack(7))
    assert not download.is_under_way
    assert card.log == ["follow", "on the stream", "record", "wait"]
    assert (dict(counts.conversions), dict(counts.nbytes)) == ({"copy": 1}, {"copy": 4800})


def test_a_function_may_use_its_buffer_again(card):
    buffer = stack(1)
    download = start_download(card.ndarray(buffer))
    buffer[:] = 2
    np.testing.assert_array_equal(download.result(), stack(1))


def test_pinned_memory_is_held_by_whatever_shows_it(card):
    first = start_download(card.ndarray(stack())).result()
    assert downloads.PINNED.used_bytes == 8192
    plane = first[1, ::2]
    del first
    gc.collect()
    assert downloads.PINNED.used_bytes == 8192
    del plane
    gc.collect()
    assert downloads.PINNED.used_bytes == 0


@pytest.mark.parametrize("reason", ["limit", "out of memory"])
def test_without_room_a_result_is_copied_at_once(card, monkeypatch, reason):
    monkeypatch.setattr(downloads, "PINNED", PinnedPool(8000 if reason == "limit" else 1 << 20))
    card.out_of_memory = reason == "out of memory"
    with count_arrays() as counts:
        download = start_download(card.ndarray(stack(5)))
    assert not download.is_under_way
    np.testing.assert_array_equal(download.result(), stack(5))
    assert dict(counts.conversions) == {"copy": 1}
    assert downloads.PINNED.used_bytes == 0


def test_other_errors_pass_through(card, monkeypatch):
    def broken(_nbytes):
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(card.cuda, "alloc_pinned_memory", broken)
    with pytest.raises(RuntimeError, match="illegal"):
        start_download(card.ndarray(stack()))
    assert downloads.PINNED.used_bytes == 0


def test_a_copy_that_nobody_asked_for_is_waited_for_before_its_memory_is_free(card):
    download = start_download(card.ndarray(stack()))
    del download
    gc.collect()
    assert not card.queue
    assert card.log[-1] == "wait"
    assert downloads.PINNED.used_bytes == 0


def cuda(name):
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "jax":
        if library.default_backend() != "gpu":
            pytest.skip("jax has no GPU")
    elif not library.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return library


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cupy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "float32"])
def test_a_device_and_the_host_agree(name, dtype):
    from hcsflow.arrays import convert
    from hcsflow.arrays.families import lies_on_device

    cuda(name)
    values = np.random.default_rng(1).integers(0, 2, (3, 70, 50)).astype(dtype)
    for wanted in (values, np.ascontiguousarray(values.transpose(0, 2, 1)), values[:, ::2]):
        array = convert(np.ascontiguousarray(wanted), name, device=0 if name == "torch" else None)
        assert lies_on_device(array)
        pieces = [start_download(array[index : index + 1]) for index in range(3)]
        whole = start_download(array)
        np.testing.assert_array_equal(whole.result(), wanted)
        for index, piece in enumerate(pieces):
            np.testing.assert_array_equal(piece.result()[0], wanted[index])


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cupy", "torch"])
def test_results_lie_in_pinned_memory(name):
    library = cuda(name)
    shape = (4, 512, 512)
    array = library.zeros(shape) if name == "cupy" else library.zeros(shape, device="cuda")
    before = downloads.PINNED.used_bytes
    host = start_download(array).result()
    assert downloads.PINNED.used_bytes > before
    if name == "torch":
        assert library.from_numpy(host).is_pinned()
    else:
        kind = library.cuda.runtime.pointerGetAttributes(host.ctypes.data).type
        assert kind == 1  # cudaMemoryTypeHost
    del host
    gc.collect()
    assert downloads.PINNED.used_bytes == before
