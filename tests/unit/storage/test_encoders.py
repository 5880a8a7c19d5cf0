"""Threads that encode: the same bytes, few planes held, nothing left behind."""

import threading
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.config import ZarrConfig
from hcsflow.ngff.layout import plan_image, slot_of
from hcsflow.ngff.model import Codec
from hcsflow.plan import PlaneSet
from hcsflow.plate import FieldGrid
from hcsflow.storage import encoding
from hcsflow.storage.encoding import Encoders
from hcsflow.storage.images import ImageWriter
from hcsflow.storage.well_images import WellImageWriter

SIDE = 256
PLANES = PlaneSet((0, 1), (0, 1), (0, 1), ((0, 1), (0,)), (SIDE, SIDE), "uint16")


def lay_out(kind="image", planes=PLANES, **settings):
    return plan_image(
        path="0" if kind == "image" else "0/labels/nuclei",
        kind=kind,
        planes=planes,
        grid=FieldGrid(1, 2, ((0, 0), (0, 1)), "drawn"),
        config=ZarrConfig(**settings),
        pixel_size_um=0.5,
        z_step_um=2.0,
    )


def plane_of(key, dtype="uint16"):
    rng = np.random.default_rng([key.field, key.timepoint, key.channel, key.z])
    return rng.integers(0, 50, (SIDE, SIDE)).astype(dtype)


def write_all(root, layout, encoders, planes=PLANES):
    with ImageWriter(root, layout, encoders=encoders) as writer:
        buffer = np.empty((SIDE, SIDE), layout.levels[0].dtype)
        for key in planes.iter_keys():
            buffer[:] = plane_of(key)  # the caller's own, used again at once
            slot = slot_of(layout, key.channel, key.z)
            writer.write(key.field, key.timepoint, key.channel, slot, buffer)
        return writer.close()


def encoder_threads():
    return [t for t in threading.enumerate() if t.name.startswith("hcsflow-encode")]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("strategy", ["well", "file", "adaptive"])
@pytest.mark.parametrize("kind", ["image", "label"])
def test_the_number_of_encoders_changes_no_byte_and_no_record(
    tmp_path, hash_tree, kind, strategy, version
):
    channels = (0,) if kind == "label" else PLANES.channels
    dtype = "uint32" if kind == "label" else "uint16"
    planes = replace(PLANES, channels=channels, z=PLANES.z[: len(channels)], dtype=dtype)
    layout = lay_out(kind, planes, chunk_strategy=strategy, ngff_version=version)
    records = [write_all(tmp_path / str(n), layout, n, planes) for n in (1, 2, 7)]
    assert records[0] == records[1] == records[2]
    assert records[0].windows if kind == "image" else records[0].values
    trees = [hash_tree(tmp_path / str(n)) for n in (1, 2, 7)]
    assert trees[0] == trees[1] == trees[2]
    assert encoder_threads() == []


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 4))
def test_pieces_are_taken_in_the_order_of_submission(owners, count):
    taken = []
    names = ["a", "b", "c"]
    with Encoders(count) as encoders:
        for number, owner in enumerate(owners):
            encoders.submit(names[owner], partial(range, number, number + 2), taken.append)
        for name in names:
            encoders.settle(name)
    assert taken == [n for number in range(len(owners)) for n in (number, number + 1)]


@pytest.mark.parametrize("count", [2, 5])
def test_no_more_is_held_than_encoders_and_one(count):
    alive, most = [], []
    gate = threading.Semaphore(0)

    def make(number):
        gate.acquire(timeout=10)
        return (number,)

    with Encoders(count) as encoders:
        for number in range(4 * count):
            alive.append(number)
            gate.release()
            encoders.submit("one", partial(make, number), alive.remove)
            most.append(len(alive))
        encoders.settle("one")
    assert max(most) == count
    assert alive == []


def test_an_error_is_met_by_its_owner_and_by_nobody_after(tmp_path):
    taken = []

    def fail():
        raise ValueError("bad pixels")

    with Encoders(2) as encoders:
        encoders.submit("bad", fail, taken.append)
        encoders.submit("good", lambda: (1,), taken.append)
        with pytest.raises(ValueError, match="bad pixels"):
            encoders.settle("bad")
        with pytest.raises(ValueError, match="bad pixels"):  # also by who waits behind it
            encoders.settle("good")
        encoders.drop("bad")
        encoders.settle("good")
    assert taken == [1]


@pytest.mark.parametrize("encoders", [1, 3])
@pytest.mark.parametrize("strategy", ["well", "file"])
def test_a_codec_that_fails_leaves_no_object_and_no_thread(tmp_path, encoders, strategy):
    layout = lay_out(chunk_strategy=strategy)
    bad = replace(layout.levels[-1], codec=Codec(cname="unknown"))
    layout = replace(layout, levels=(*layout.levels[:-1], bad))
    with pytest.raises((RuntimeError, ValueError)):
        write_all(tmp_path, layout, encoders)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert encoder_threads() == []


def addresses_at_the_codec(monkeypatch):
    """Return a list that fills with the addresses of full planes that are encoded."""
    seen, alive = [], []  # alive, so that no address comes twice
    whole = encoding.whole_chunk

    def noted(array, chunk):
        pixels = whole(array, chunk)
        if pixels.nbytes == SIDE * SIDE * 2:
            seen.append(pixels.__array_interface__["data"][0])
            alive.append(pixels)
        return pixels

    monkeypatch.setattr("hcsflow.storage.chunks.whole_chunk", noted)
    return seen


@pytest.mark.parametrize("field_layout", ["mosaic", "images"])
@pytest.mark.parametrize(
    ("encoders", "is_frozen", "is_copied"),
    [(1, False, False), (1, True, False), (3, True, False), (3, False, True)],
)
def test_planes_that_nobody_writes_to_reach_the_codec_as_they_lie(
    tmp_path, monkeypatch, field_layout, encoders, is_frozen, is_copied
):
    seen = addresses_at_the_codec(monkeypatch)
    planes = [plane_of(key) for key in PLANES.iter_keys()]
    given_ = [plane.__array_interface__["data"][0] for plane in planes]
    with Encoders(encoders) as threads:
        writer = WellImageWriter(tmp_path, lay_out(field_layout=field_layout), threads)
        for key, plane in zip(PLANES.iter_keys(), planes, strict=True):
            plane.flags.writeable = not is_frozen
            writer.write(*key, plane)
        writer.close()
    assert len(seen) == len(given_)
    assert set(seen).isdisjoint(given_) if is_copied else sorted(seen) == sorted(given_)


def test_a_waiting_plane_keeps_no_stack_in_memory(tmp_path):
    stack = np.stack([plane_of(key) for key in PLANES.iter_keys()])
    stack.flags.writeable = False
    gone = weakref.ref(stack)
    with Encoders(2) as threads:
        writer = WellImageWriter(tmp_path, lay_out(), threads)
        writer.write(*next(PLANES.iter_keys()), stack[0])
        del stack
        assert gone() is None
        writer.abort()


@pytest.mark.parametrize(
    ("limit", "above", "cores"),
    [
        ("150000 100000", "max 100000", 2),
        ("400000 100000", "max 100000", 4),
        ("400000 100000", "300000 100000", 3),
        ("max 100000", "100000 100000", 1),
        ("max 100000", "max 100000", None),
    ],
)
def test_a_containers_share_of_the_processors_counts(tmp_path, limit, above, cores):
    group = tmp_path / "sys/fs/cgroup/a.slice/b"
    for folder in (group, tmp_path / "proc/self"):
        folder.mkdir(parents=True)
    (group / "cpu.max").write_text(f"{limit}\n")
    (group.parent / "cpu.max").write_text(f"{above}\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/a.slice/b\n")
    assert encoding._quota_cores(tmp_path) == cores
    assert encoding._quota_cores(tmp_path / "elsewhere") is None
