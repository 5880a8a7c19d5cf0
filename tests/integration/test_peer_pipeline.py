"""The pipeline that OpenHCS is compared with: the same counts as by the long way round."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

import hcsflow as hf
from hcsflow.testing.plates import write_imagexpress_plate

PIPELINE = Path(__file__).parents[2] / "benchmarks" / "peer_pipeline.py"


@pytest.fixture(scope="module")
def peer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peer_pipeline", PIPELINE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def smoothed(plane):
    """scikit-image's Gaussian, cut off to whole grey levels."""
    return gaussian(plane, sigma=1.5, preserve_range=True).astype(plane.dtype)


def segmented(plane):
    """Threshold, label by sides, split what is above 400 px one by one, keep 40 to 4,000 px."""
    regions, count = ndimage.label(plane > threshold_otsu(plane))
    found = regions.copy()
    following = count + 1
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        own = regions[box] == number
        if own.sum() <= 400:
            continue
        distance = ndimage.distance_transform_edt(np.pad(own, 1))[1:-1, 1:-1]
        peaks = peak_local_max(
            distance, min_distance=5, footprint=np.ones((3, 3)), labels=own.astype(int),
            exclude_border=False,
        )  # fmt: skip
        if len(peaks) < 2:
            continue
        marks = np.zeros(own.shape, int)
        marks[tuple(peaks.T)] = np.arange(following, following + len(peaks))
        following += len(peaks)
        found[box][own] = watershed(-distance, marks, mask=own)[own]
    areas = np.bincount(found.ravel())
    areas[0] = 0
    kept = np.flatnonzero((areas >= 40) & (areas <= 4000))
    table = np.zeros(len(areas), int)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[found]


def test_a_plate_is_counted_as_by_the_long_way_round(tmp_path):
    write_imagexpress_plate(
        tmp_path / "plate", wells=("B02", "C05"), fields=2, channels=2, z=3, size=256, nuclei=14
    )
    plate = hf.open_plate(tmp_path / "plate")
    plan = hf.compile(str(PIPELINE), plate, output=tmp_path / "out")
    run = plan.run(cluster="threads")
    table = run.table("counts")
    counts = table.set_index(["well", "field", "channel"])["cell_count"].to_dict()
    expected = {}
    for well in plate.wells:
        pixels = plate[well].to_xarray().isel(t=0).transpose("field", "c", "z", "y", "x").to_numpy()
        for field, channel in np.ndindex(pixels.shape[:2]):
            projected = np.max([smoothed(plane) for plane in pixels[field, channel]], axis=0)
            expected[well, field + 1, f"w{channel + 1}"] = segmented(projected).max()
    assert counts == expected
    assert sum(counts.values()) > 2 * 2 * 14


def blobs(seed: int, count: int, spread: float) -> np.ndarray:
    """Overlapping discs of noise on a dim background."""
    random = np.random.default_rng(seed)
    plane = random.poisson(100, (160, 144)).astype(float)
    y, x = np.indices(plane.shape)
    for row, column, radius in zip(
        random.uniform(0, 160, count), random.uniform(0, 144, count), random.uniform(2, 22, count),
        strict=True,
    ):  # fmt: skip
        inside = np.hypot(y - row, x - column) < radius
        plane[inside] += random.normal(600, spread, inside.sum())
    return plane.clip(0).astype(np.uint16)


@given(st.integers(0, 2**32), st.integers(0, 30), st.sampled_from([0.0, 20.0, 400.0]))
def test_labels_are_those_of_region_by_region(peer, seed, count, spread):
    plane = smoothed(blobs(seed, count, spread)) if seed % 2 else blobs(seed, count, spread)
    labels, found = peer.segment(plane)
    expected = segmented(plane)
    assert found == expected.max()
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 100), (2, 96), (3, 140), (40, 40), (21, 60), (100, 44)]
)
def test_boxes_and_lines(peer, rows, columns):
    """Regions that fill their bounding box, as lines one or two pixels wide do."""
    plane = np.full((150, 144), 10, np.uint16)
    plane[5 : 5 + rows, 2 : 2 + columns] = 200
    plane[120:122, 3:] = 200
    plane[126:140, 7:9] = plane[138:140, 7:140] = 200
    np.testing.assert_array_equal(peer.segment(plane)[0], segmented(plane))


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_an_even_plane_holds_nothing(peer, value):
    plane = np.full((64, 64), value, np.uint16)
    labels, count = peer.segment(plane)
    assert count == 0
    assert not labels.any()


def test_smoothing_cuts_off_fractions(peer):
    random = np.random.default_rng(4)
    stack = random.integers(0, 65536, (3, 70, 91)).astype(np.uint16)
    expected = [smoothed(plane) for plane in stack]
    np.testing.assert_array_equal(peer.smooth(stack), expected)


def test_rows_say_where_they_come_from(peer):
    stack = np.stack([blobs(1, 5, 20.0), blobs(2, 9, 20.0)])
    same, first, second, counts = peer.count_cells(stack, channel_names=["w1", "w2"])
    assert same is stack
    frame = pd.DataFrame(counts)
    assert frame["channel"].tolist() == ["w1", "w2"]
    assert frame["cell_count"].tolist() == [first.max(), second.max()]
