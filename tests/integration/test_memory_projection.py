"""A task's measured peak against the plan's projection, on real worker processes."""

import sys

import pytest

import hcsflow as hf
from hcsflow.contracts import contract
from hcsflow.testing.plates import write_imagexpress_plate

LARGE_TASK_BYTES = 256_000_000


def canvas(shape_yx, **_parameters):
    return (shape_yx[0], 4 * shape_yx[1])


@contract(z_out="one", output_shape=canvas, working_planes=0.0)
def stitch(stack):
    import numpy as np

    return np.concatenate(list(stack), axis=1)[np.newaxis]


def step(func, *over, **options):
    name = options.pop("name", func if isinstance(func, str) else func.__name__)
    return hf.FunctionStep(func, name=name, variable_components=list(over or ("z",)), **options)


CASES = {
    "projection": (lambda: [step("max_projection")], {"z": 28}),
    "filters": (lambda: [step("gaussian_filter"), step("median_filter")], {"z": 12}),
    "labels": (lambda: [step("threshold_otsu"), step("label_objects")], {"z": 8, "nuclei": 600}),
    "regrouped checkpoint": (
        lambda: [
            step("gaussian_filter", force_disk_output=True),
            step("median_filter", "channel", "z"),
        ],
        {"z": 3, "channels": 3},
    ),
    "canvas": (lambda: [step("gaussian_filter"), step(stitch, "field")], {"z": 3, "fields": 4}),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a block's peak")
@pytest.mark.parametrize("name", CASES)
def test_a_large_task_takes_no_more_than_projected_and_no_less_than_half(
    name, tmp_path, monkeypatch, request
):
    monkeypatch.syspath_prepend(request.config.rootpath)  # workers find the functions of this file
    steps, plate = CASES[name]
    options = {"fields": 1, "channels": 1, "nuclei": 60} | plate
    write_imagexpress_plate(tmp_path / "PLATE", wells=("A01", "A02"), size=2048, **options)
    opened = hf.open_plate(tmp_path / "PLATE")
    # One encoder, whatever cores there are: their planes are projected for the worst.
    one = hf.Resources(workers=1, memory_bytes=8 << 30)
    plan = hf.compile(steps(), opened, output=tmp_path / "OUT", resources=one)
    run = plan.run(cluster="local")
    assert run.failures.empty, run.failures.to_string()
    measured = max(outcome.peak_bytes for outcome in run.outcomes)
    assert measured > LARGE_TASK_BYTES, "the case is to be of a large task"
    assert measured <= plan.frozen.projected_bytes <= 2 * measured
