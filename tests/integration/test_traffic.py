"""Every operation of a run is counted by backend, and the report says the totals."""

from __future__ import annotations

import re

import numpy as np
import pytest

import hcsflow as hf
from hcsflow.config import Backend
from hcsflow.testing.plates import key_coded_plate
from hcsflow.view.record import read_record
from hcsflow.view.report import write_report

WELLS = ("A01", "B02")
PLANES = 2 * 2 * 3  # fields × channels × z of a well
SIZE = 32 * 32 * np.dtype("uint16").itemsize


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    root = tmp_path_factory.mktemp("plate")
    key_coded_plate(root, wells=WELLS, fields=2, channels=2, z=3, size=32)
    output = tmp_path_factory.mktemp("run") / "OUT"
    steps = [
        hf.FunctionStep(("gaussian_filter", {"sigma": 0.7}), name="blur"),
        hf.FunctionStep("max_projection", name="project"),
    ]
    config = hf.GlobalPipelineConfig(vfs=hf.VFSConfig(intermediate_backend=Backend.DISK))
    plan = hf.compile(hf.Pipeline(steps, name="two"), hf.open_plate(root), output=output,
                      config=config)  # fmt: skip
    assert plan.run(cluster="threads").failures.empty
    return output


def test_each_plane_is_read_once_and_each_result_written_once(output):
    for well in read_record(output).wells.values():
        traffic = {backend: (n, nbytes) for backend, n, nbytes, _ in well.traffic}
        assert traffic["virtual_workspace"] == (PLANES, PLANES * SIZE)
        assert traffic["zarr"][1] == 4 * SIZE  # one plane a field and channel
        saves_and_loads = 2 * PLANES * SIZE
        assert traffic["disk"][1] == saves_and_loads


def test_the_report_says_the_totals(output):
    page = write_report(output).read_text()
    rows = dict(re.findall(r"<tr><td>(\w+)</td><td class=\"n\">([\d,]+)</td>", page))
    assert rows["virtual_workspace"] == str(len(WELLS) * PLANES)
    assert {"memory", "disk", "zarr"} <= set(rows)
