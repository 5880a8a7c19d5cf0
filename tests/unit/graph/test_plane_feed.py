"""Planes in plan order, read ahead or not: by any number of threads the same stacks and errors."""

from __future__ import annotations

import threading
import time

import pytest

import hcsflow as hf
from hcsflow.errors import PlaneError
from hcsflow.graph import feed
from hcsflow.graph.feed import PlaneFeed, WellPlanes
from hcsflow.graph.positions import StagePositions
from hcsflow.plan import LocalKey, Resources
from hcsflow.testing.plates import key_coded_plate

FIELDS, HEIGHTS = 3, 4
KEYS = [[LocalKey(f, 0, 0, z) for z in range(HEIGHTS)] for f in range(FIELDS)]
"""By field: its stack."""


@pytest.fixture(params=[1, 3])
def planes(request, tmp_path, monkeypatch):
    """A well's planes, read by one thread or by three; a plane is missing."""
    monkeypatch.setattr(feed, "reading_threads", lambda *_: request.param)
    root = tmp_path / "P"
    code = key_coded_plate(root, wells=("A01",), fields=FIELDS, channels=1, z=HEIGHTS, size=32)
    next((root / "TimePoint_1" / "ZStep_2").glob("*_s2_*")).unlink()
    plate = hf.open_plate(root)
    config = {"missing": "fill", "fill_value": 7}
    plan = hf.compile("convert", plate, output=tmp_path / "out", config=config).frozen
    files = StagePositions(plan.plate, plate.manifest, root, 0)
    found = WellPlanes(plan, plate.manifest, 0, positions=files)
    found.root, found.code = root, code
    return found


def damage(planes, *, field, z):
    path = next((planes.root / "TimePoint_1" / f"ZStep_{z + 1}").glob(f"*_s{field + 1}_*"))
    path.write_bytes(path.read_bytes()[:900])


def values(planes, keys):
    return [7 if (k.field, k.z) == (1, 1) else planes.code.value(0, *k) for k in keys]


def test_stacks_come_in_the_order_asked_for(planes):
    with PlaneFeed(planes, KEYS) as ahead:
        for keys in KEYS:
            stack = ahead.take()
            assert stack.shape == (HEIGHTS, 32, 32)
            assert stack[:, 0, 0].tolist() == values(planes, keys)
            assert stack.flags.owndata, "a store keeps it without copying"
        with pytest.raises(LookupError):
            ahead.take()
    assert planes.bytes_read == (FIELDS * HEIGHTS - 1) * 32 * 32 * 2


def test_no_more_than_one_request_is_read_ahead(planes):
    with PlaneFeed(planes, KEYS) as ahead:
        ahead.take()
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            assert planes.bytes_read <= 2 * HEIGHTS * 32 * 32 * 2
            time.sleep(0.01)


@pytest.mark.parametrize(("patience_s", "ahead"), [(-1.0, 1), (60.0, 0)])
def test_on_one_core_a_thread_reads_ahead_only_where_storage_is_waited_for(
    planes, monkeypatch, patience_s, ahead
):
    monkeypatch.setattr(feed, "PATIENCE_S", patience_s)
    planes.threads = 1
    before = threading.active_count()
    with PlaneFeed(planes, KEYS) as reading:
        assert reading.take()[:, 0, 0].tolist() == values(planes, KEYS[0])
        assert threading.active_count() == before + ahead
        for keys in KEYS[1:]:
            assert reading.take()[:, 0, 0].tolist() == values(planes, keys)
    assert threading.active_count() == before


def test_the_error_is_that_of_the_first_plane_and_comes_when_it_is_due(planes):
    damage(planes, field=1, z=2)
    damage(planes, field=1, z=3)
    damage(planes, field=2, z=0)
    with PlaneFeed(planes, KEYS) as ahead:
        assert ahead.take()[:, 0, 0].tolist() == values(planes, KEYS[0])
        with pytest.raises(PlaneError, match=r"ZStep_3.*_s2"):
            ahead.take()


def test_nothing_is_left_behind_after_an_error(planes):
    damage(planes, field=0, z=0)
    before = threading.active_count()
    with pytest.raises(PlaneError, match=r"ZStep_1.*_s1"), PlaneFeed(planes, KEYS) as ahead:
        ahead.take()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("cores", "side", "expected"), [(1, 1024, 1), (8, 1024, 8), (8, 2048, 5), (8, 8192, 1)]
)
def test_threads_are_those_that_the_worker_has_cores_and_memory_for(cores, side, expected):
    resources = Resources(workers=2, memory_bytes=1, encoders=cores)
    assert feed.reading_threads(resources, 2 * side**2) == expected


def test_a_single_request_needs_no_thread(planes):
    before = threading.active_count()
    with PlaneFeed(planes, KEYS[:1]) as ahead:
        assert ahead.take()[:, 0, 0].tolist() == values(planes, KEYS[0])
        assert (threading.active_count() > before) == (planes.threads > 1)
