"""One stream per thread, library and device; work waited for at the end of each block."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from hcsflow.arrays.libraries import adapter_of
from hcsflow.arrays.streams import thread_streams, wait_for


class Card:
    """A CUDA of two devices, told in events: stands in for cupy's module ``cuda``."""

    def __init__(self, *, is_there=True):
        self.is_there, self.events, self.current, self.device = is_there, [], None, 0
        null = SimpleNamespace(record=lambda: "default's work")
        self.Stream = type("Stream", (_Stream,), {"card": self, "null": null})
        self.runtime = SimpleNamespace(getDevice=lambda: self.device)

    def is_available(self):
        return self.is_there

    def get_current_stream(self):
        return self.current


class _Stream:
    def __init__(self, *, non_blocking):
        assert non_blocking
        self.card.events.append(("open", threading.get_ident()))

    def wait_event(self, event):
        self.card.events.append(("wait for", event))

    def synchronize(self):
        self.card.events.append(("synchronize", self))

    def __enter__(self):
        self.before, self.card.current = self.card.current, self

    def __exit__(self, *error):
        self.card.current = self.before


@contextmanager
def loaded(card):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=card))
        patch.delitem(sys.modules, "torch", raising=False)
        yield card


def used_stream(card):
    with thread_streams():
        return card.current


def in_a_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_without_a_gpu_nothing_happens():
    with thread_streams():
        pass
    with loaded(Card(is_there=False)) as card, thread_streams():
        pass
    assert card.events == []


def test_a_library_that_is_being_imported_is_left_alone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", SimpleNamespace())
        with thread_streams():
            pass


def test_a_thread_keeps_its_stream_and_shares_it_with_none():
    def both(card):
        return used_stream(card), used_stream(card)

    with loaded(Card()) as card:
        first, again = in_a_thread(lambda: both(card))
        other, _ = in_a_thread(lambda: both(card))
        assert first is again
        assert first is not other
        assert first is not None


def test_each_device_has_its_own():
    def each(card):
        first = used_stream(card)
        card.device = 1
        return first, used_stream(card)

    with loaded(Card()) as card:
        first, second = in_a_thread(lambda: each(card))
        assert first is not second


def test_work_follows_the_default_stream_and_is_waited_for_after_errors_too():
    def failing(card):
        with thread_streams():
            card.events.append("work")
            raise ValueError("mine")

    with loaded(Card()) as card, pytest.raises(ValueError, match="mine"):
        in_a_thread(lambda: failing(card))
    names = [event if event == "work" else event[0] for event in card.events]
    assert names == ["open", "wait for", "work", "synchronize"]
    assert card.current is None


def test_values_that_are_computed_later_are_waited_for():
    waited = []
    wait_for(SimpleNamespace(block_until_ready=lambda: waited.append(1)))
    wait_for(object())
    assert waited == [1]


def need_cuda(name):
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    if not library.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return library


@pytest.mark.gpu
def test_torch_works_on_the_threads_stream():
    torch = need_cuda("torch")
    torch.cuda.init()

    def streams():
        seen = []
        for _ in range(2):
            with thread_streams():
                seen.append(torch.cuda.current_stream().cuda_stream)
                result = torch.ones(1 << 20, device="cuda").cumsum(0)
        return seen, result

    (mine, result), (other, _) = in_a_thread(streams), in_a_thread(streams)
    default = torch.cuda.default_stream().cuda_stream
    assert mine[0] == mine[1] != default
    assert other[0] != default
    assert float(result[-1]) == 1 << 20  # read on another thread's stream


@pytest.mark.gpu
def test_cupy_works_on_the_threads_stream():
    cupy = need_cuda("cupy")

    def streams():
        seen = []
        for _ in range(2):
            with thread_streams():
                seen.append(cupy.cuda.get_current_stream().ptr)
                result = cupy.ones(1 << 20).cumsum()
        return seen, result

    (mine, result), _ = in_a_thread(streams), in_a_thread(streams)
    assert mine[0] == mine[1] != cupy.cuda.Stream.null.ptr
    assert float(result[-1]) == 1 << 20


@pytest.mark.tensorflow
def test_a_tensor_of_a_gpu_is_handed_on_whatever_stream_the_taker_names():
    tf, torch = pytest.importorskip("tensorflow"), pytest.importorskip("torch")
    adapter = adapter_of("tensorflow")
    tensor = tf.constant([1, 2, 3])
    with pytest.raises(RuntimeError, match="stream"):
        tensor.__dlpack__(stream=1)
    finished = adapter._Finished(tensor)  # what is given of a tensor on a GPU
    assert finished.__dlpack__(stream=1) is not None
    assert torch.from_dlpack(finished).tolist() == [1, 2, 3]


def test_waiting_for_an_array_waits_for_its_librarys_stream():
    with loaded(Card()) as card:
        card.ndarray = type("ndarray", (), {})
        sys.modules["cupy"].ndarray = card.ndarray
        with thread_streams():
            card.events.clear()
            wait_for(card.ndarray())
            assert card.events == [("synchronize", card.current)]
            wait_for([1, 2])
            assert len(card.events) == 1
