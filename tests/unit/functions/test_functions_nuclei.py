"""The chain of count-nuclei on synthetic nuclei of known place: touching pairs, uneven light,
camera offset, Poisson and read noise, several heights."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from hcsflow.functions.catalogue import find
from hcsflow.plate import PlaneKey

SIZE = 512
PIXEL_UM = 1.3


def _centres(rng, number):
    """Nuclei 6 to 10 px in radius; a third has a neighbour that touches or overlaps it a little."""
    placed = []
    while len(placed) < number:
        y, x = rng.uniform(14, SIZE - 14, 2)
        radius = rng.uniform(6, 10)
        candidates = [(y, x, radius)]
        if rng.random() < 0.5:
            other, angle = rng.uniform(6, 10), rng.uniform(0, 2 * np.pi)
            reach = (radius + other) * rng.uniform(0.85, 1.0)
            candidates.append((y + reach * np.sin(angle), x + reach * np.cos(angle), other))
        inside = all(13 < cy < SIZE - 13 and 13 < cx < SIZE - 13 for cy, cx, _ in candidates)
        apart = all(
            np.hypot(cy - py, cx - px) > radius_c + radius_p + 4
            for cy, cx, radius_c in candidates
            for py, px, radius_p in placed
        )
        if inside and apart:
            placed += candidates
    return placed


def _field(seed, number=120, heights=3):
    rng = np.random.default_rng(seed)
    placed = _centres(rng, number)
    y, x = np.ogrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.uint32)
    signal = np.zeros((SIZE, SIZE))
    nearest = np.full((SIZE, SIZE), np.inf)
    for index, (cy, cx, radius) in enumerate(placed, start=1):
        box = (slice(int(cy) - 12, int(cy) + 13), slice(int(cx) - 12, int(cx) + 13))
        away = np.hypot(y[box[0]] - cy, x[:, box[1]] - cx)
        mine = (away <= radius) & (away - radius < nearest[box])
        labels[box][mine] = index
        nearest[box] = np.minimum(nearest[box], away - radius)
        shape = np.clip((radius + 0.5 - away), 0, 1) * (1 - 0.3 * (away / radius).clip(0, 1) ** 2)
        signal[box] = np.maximum(signal[box], rng.uniform(250, 700) * shape)
    light = 1.0 - 0.45 * (((y / SIZE - 0.4) ** 2 + (x / SIZE - 0.6) ** 2) / 0.5)
    stack = []
    for height in range(heights):
        blur = 0.8 + 1.2 * abs(height - heights // 2)
        clean = 100 + (80 + ndimage.gaussian_filter(signal, blur)) * light
        stack.append(rng.poisson(clean) + rng.normal(0, 4, clean.shape))
    return np.rint(stack).clip(0, 65535).astype(np.uint16), labels, placed


def _f1(truth, found, least=0.5):
    """Match objects by intersection over union."""
    pairs, shared = np.unique(
        np.stack([truth.ravel(), found.ravel()], axis=1), axis=0, return_counts=True
    )
    area_truth, area_found = np.bincount(truth.ravel()), np.bincount(found.ravel())
    matched = sum(
        count / (area_truth[t] + area_found[f] - count) > least
        for (t, f), count in zip(pairs, shared, strict=True)
        if t and f
    )
    return 2 * matched / (truth.max() + (area_found[1:] > 0).sum())


def _count_nuclei(stack, **changes):
    steps = {
        "max_projection": {},
        "gaussian_filter": {"sigma": 1.5},
        "subtract_background": {"radius": 25},
        "threshold_otsu": {},
        "split_touching": {},
        "label_objects": {"min_area": 30},
    }
    for name, parameters in steps.items():
        stack = find(name)(stack, **{**parameters, **changes.get(name, {})})
    return stack[1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nuclei_are_found_and_split(seed):
    stack, truth, placed = _field(seed)
    labels = _count_nuclei(stack)
    assert labels.shape == (1, SIZE, SIZE)
    assert labels.dtype == np.uint32
    assert _f1(truth, labels[0]) >= 0.9
    assert abs(int(labels.max()) - len(placed)) <= 0.08 * len(placed)


def test_an_empty_field_holds_no_nuclei_where_a_minimum_is_given():
    stack, *_ = _field(0, number=0)
    labels = _count_nuclei(stack, threshold_otsu={"minimum": 60})
    assert labels.max() == 0


def test_nuclei_are_measured_where_they_are():
    dna, truth, placed = _field(3, heights=3)
    other = (truth > 0).astype(np.uint16)[None] * 500 + 20
    keys = [PlaneKey(0, 0, 0, 0, 0, z) for z in range(3)] + [PlaneKey(0, 0, 0, 0, 1, 0)]
    labels = _count_nuclei(dna)
    _, table = find("measure_objects")(
        np.concatenate([dna, other]),
        labels=labels,
        pixel_size_um=PIXEL_UM,
        plane_keys=keys,
        channel_names=["w1", "w2"],
    )
    found = np.stack([table["centroid_y_um"], table["centroid_x_um"]], axis=1)
    true = np.array([(y, x) for y, x, _ in placed]) * PIXEL_UM
    distance, _ = cKDTree(found).query(true)
    assert np.median(distance) < 0.5
    assert (distance < 3).mean() > 0.9
    assert 300 < np.median(table["mean_intensity_w2"]) <= 520
