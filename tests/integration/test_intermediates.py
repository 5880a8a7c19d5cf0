"""What waits between steps in memory, on disk or in zarr gives the same plate, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

import hcsflow as hf
from hcsflow.arrays import numpy as numpy_function
from hcsflow.config import Backend
from hcsflow.testing.plates import key_coded_plate


@numpy_function
def across(stack):
    """Take planes in another grouping than they were made in."""
    return stack + stack.max(axis=0, keepdims=True)


def pipeline():
    return hf.Pipeline(
        [
            hf.FunctionStep(("gaussian_filter", {"sigma": 0.7}), name="blur"),
            hf.FunctionStep(across, variable_components=("channel",), name="across"),
            hf.FunctionStep("max_projection", name="project"),
        ],
        name="three",
    )


def stored(output):
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in (output / "images.zarr").rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("plate")
    key_coded_plate(root, wells=("A01", "B02"), fields=2, z=3, channels=2)
    return root


@pytest.fixture(scope="module")
def plate(folder):
    return hf.open_plate(folder)


def run(plate, output, **vfs):
    config = hf.GlobalPipelineConfig(vfs=hf.VFSConfig(**vfs))
    plan = hf.compile(pipeline(), plate, output=output, config=config)
    result = plan.run(cluster="threads")
    assert result.failures.empty, result.failures
    assert not list((output / ".hcsflow" / "scratch").glob("*"))
    return stored(output)


@pytest.mark.parametrize(
    "vfs",
    [
        {"intermediate_backend": Backend.DISK},
        {"intermediate_backend": Backend.ZARR},
        {"memory_limit_gb": 1e-6},
    ],
    ids=["disk", "zarr", "limit"],
)
def test_every_place_gives_the_same_plate(plate, tmp_path, vfs):
    assert run(plate, tmp_path / "other", **vfs) == run(plate, tmp_path / "memory")


def test_the_command_line_says_where_intermediates_go(cli, folder, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("vfs:\n  memory_limit_gb: 0.00001\n")
    done = cli("plan", "count-nuclei", folder, "-o", tmp_path / "out", "--config", settings)
    assert "to zarr:" in done.stdout, done.stdout + done.stderr


BUFFER = np.empty((3, 32, 32), np.uint16)


@numpy_function
def reuses_a_view(stack):
    """Return a view of memory that the next call writes again."""
    np.add(stack, 1, out=BUFFER)
    return BUFFER[:]


@numpy_function
def reuses_its_buffer(stack):
    """Return the very array that the next call writes again."""
    np.add(stack, 1, out=BUFFER)
    return BUFFER


@numpy_function
def makes_anew(stack):
    return stack + 1


def images(plate, output, function):
    steps = [hf.FunctionStep(function, name="s"), hf.FunctionStep("max_projection", name="project")]
    plan = hf.compile(hf.Pipeline(steps, name="two"), plate, output=output)
    failures = plan.run(cluster="threads").failures
    return stored(output), failures


def test_a_function_that_uses_a_buffer_again_cannot_spoil_what_is_kept(tmp_path):
    root = tmp_path / "plate"
    key_coded_plate(root, wells=("A01",), fields=2, z=3, channels=2, size=32)
    plate = hf.open_plate(root)
    right, _ = images(plate, tmp_path / "right", makes_anew)
    assert images(plate, tmp_path / "view", reuses_a_view)[0] == right
    _, failures = images(plate, tmp_path / "itself", reuses_its_buffer)
    assert "read-only" in failures["message"].iloc[0]
    BUFFER.flags.writeable = True
