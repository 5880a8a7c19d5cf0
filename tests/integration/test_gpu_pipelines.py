"""Whole runs with CuPy variants on a GPU, against the same runs on processors."""

import re

import numpy as np
import pytest
import zarr

from hcsflow.cli.main import main
from hcsflow.config.shipped import share_folder
from hcsflow.execute.probe import probe_machine
from hcsflow.functions.catalogue import memory_types_of
from hcsflow.testing.plates import write_imagexpress_plate

pytestmark = pytest.mark.gpu

CHAIN = ("gaussian_filter", "subtract_background", "threshold_otsu", "max_projection")


@pytest.fixture(scope="module", autouse=True)
def gpu():
    """Skip where cupy or dask-cuda is missing, or has no device."""
    for name in ("cupy", "dask_cuda"):
        pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    probe = probe_machine(gpus=True)
    if not probe.gpus:
        pytest.skip(f"no NVIDIA GPU: {probe.gpu_fault}")


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """Two wells of overlapping nuclei in two channels."""
    folder = tmp_path_factory.mktemp("plate") / "PLATE"
    write_imagexpress_plate(folder, wells=["B02", "B03"], fields=2, channels=2, z=3, size=256)
    return folder


def on_cupy(text):
    """Name the CuPy variant of each function of a pipeline's text that has one."""

    def path(match):
        name = match["name"]
        has_one = name.isidentifier() and "cupy" in _types(name)
        return f"{match['key']}'hcsflow.functions.by_cupy:{name}'" if has_one else match[0]

    return re.sub(r"(?P<key>(?:function|\$nuclei_channel): )(?P<name>\w+)", path, text)


def _types(name):
    from hcsflow.errors import FunctionNotFoundError

    try:
        return memory_types_of(name)
    except FunctionNotFoundError:
        return ()


def both(text, plate, folder):
    """Run a pipeline on a GPU and on threads; return the folders of their images."""
    found = []
    for cluster, pipeline in (("cuda", on_cupy(text)), ("threads", text)):
        file, output = folder / f"{cluster}.yaml", folder / cluster
        file.write_text(pipeline)
        words = ["run", str(file), str(plate), "-o", str(output), "--cluster", cluster]
        assert main([*words, "--no-report"]) == 0
        found.append(output / "images.zarr")
    return found


def images(root, below):
    return [
        zarr.open_array(str(root / row / column / below), mode="r")[...]
        for row, column in (("B", "02"), ("B", "03"))
    ]


def test_a_chain_gives_the_same_masks(plate, tmp_path):
    chain = "".join(f"      - {{function: {name}}}\n" for name in CHAIN)
    text = f"name: masks\nsteps:\n  - name: chain\n    function:\n{chain}"
    assert on_cupy(text).count("by_cupy:") == len(CHAIN)
    cuda, threads = both(text, plate, tmp_path)
    for found, expected in zip(images(cuda, "0/0"), images(threads, "0/0"), strict=True):
        assert expected.any()
        assert (found != expected).mean() < 0.005


def test_nuclei_are_found_and_measured_alike(plate, tmp_path):
    text = (share_folder("graphs") / "count-nuclei" / "pipeline.yaml").read_text()
    assert on_cupy(text).count("by_cupy:") == 5
    cuda, threads = both(text, plate, tmp_path)
    where = "0/labels/nuclei/0"
    for found, expected in zip(images(cuda, where), images(threads, where), strict=True):
        counts = [len(np.unique(labels)) for labels in (found, expected)]
        assert counts[1] > 10
        assert abs(counts[0] - counts[1]) <= 0.03 * counts[1]
