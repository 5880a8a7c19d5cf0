"""Cells and quality against plain references."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.segmentation import watershed

from hcsflow.errors import ContractError
from hcsflow.functions.catalogue import find
from hcsflow.testing.optics import place_nuclei, render

SIZE = 128


def field(seed=3, count=12):
    """Return nuclei's labels and a stain of the cells around them, (1, Y, X)."""
    nuclei = place_nuclei(np.random.default_rng(seed), SIZE, count)
    cells = render(nuclei, np.full(len(nuclei), 900.0), size=SIZE, defocus=0.0, wide=True)
    cores = render(nuclei, np.full(len(nuclei), 900.0), size=SIZE, defocus=0.0, wide=False)
    labels = label(cores > cores.max() / 2)
    return np.asarray(labels, np.uint32)[None], (cells + 100).astype(np.uint16)[None]


def test_cells_equal_scikit_images_watershed():
    nuclei, stain = field()
    cells, special = find("segment_cells")(stain, labels=nuclei, smooth=2.0)
    smooth = gaussian(stain[0].astype(np.float32), 2.0, mode="reflect", preserve_range=True)
    area = (smooth > threshold_otsu(smooth)) | (nuclei[0] > 0)
    reference = watershed(-smooth, nuclei[0].astype(np.int32), mask=area)
    assert (cells[0] != reference).mean() < 1e-3  # rounding moves a border pixel here and there
    assert special is cells


def test_a_cell_holds_its_nucleus_and_has_its_number():
    nuclei, stain = field(seed=8)
    cells, _ = find("segment_cells")(stain, labels=nuclei)
    inside = nuclei > 0
    np.testing.assert_array_equal(cells[inside], nuclei[inside])
    assert set(np.unique(cells)) == set(np.unique(nuclei))
    for number in np.unique(nuclei)[1:]:
        assert ndimage.label(cells[0] == number)[1] == 1


def test_without_nuclei_there_are_no_cells_and_a_floor_keeps_noise_out():
    nuclei, stain = field()
    assert not find("segment_cells")(stain, labels=np.zeros_like(nuclei))[0].any()
    cells, _ = find("segment_cells")(stain, labels=nuclei, minimum=1e6)
    np.testing.assert_array_equal(cells, nuclei)


def test_labels_of_another_shape_are_refused():
    nuclei, stain = field()
    with pytest.raises(ContractError, match="like its planes"):
        find("segment_cells")(np.repeat(stain, 2, axis=0), labels=nuclei)


def test_quality_is_of_the_sharpest_plane():
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (64, 64)).astype(np.uint8)
    blurred = ndimage.gaussian_filter(sharp, 2.0)
    stack = np.stack([blurred, sharp, blurred])
    same, row = find("measure_quality")(stack)
    assert same is stack
    assert (row["planes"], row["sharpest_plane"]) == ([3], [2])
    edges = ndimage.laplace(sharp.astype(float), mode="reflect")
    assert row["focus"][0] == pytest.approx(edges.var(), rel=1e-5)
    assert row["mean"][0] == pytest.approx(sharp.mean())
    assert row["standard_deviation"][0] == pytest.approx(sharp.std())
    assert row["percentile_50"][0] == np.percentile(sharp, 50)
    assert row["saturated_fraction"][0] == (sharp == 255).mean()
    lower = find("measure_quality")(stack, saturation=200)[1]
    assert lower["saturated_fraction"][0] == (sharp >= 200).mean()
