"""A stored object that was changed behind hcsflow's back: found, told, and made again."""

from __future__ import annotations

import os

import pytest

import hcsflow as hf
from hcsflow.execute.status import verify_output
from hcsflow.testing.plates import key_coded_plate
from hcsflow.view.report import write_report


@pytest.fixture
def made(tmp_path):
    key_coded_plate(tmp_path / "plate", wells=("A01", "B02"), fields=2, channels=1, z=2, size=256)

    def run():
        plate = hf.open_plate(tmp_path / "plate")
        plan = hf.compile(
            hf.Pipeline([hf.FunctionStep("max_projection", name="project")], name="one"),
            plate, output=tmp_path / "OUT",
        )  # fmt: skip
        return plan.run(cluster="threads")

    assert run().failures.empty
    return tmp_path / "OUT", run


def objects(output):
    folder = output / "images.zarr" / "B" / "02" / "0"
    return sorted(p for p in folder.rglob("*") if p.is_file() and "c" in p.parts)


def test_a_changed_byte_is_made_again_by_the_same_command(made):
    output, run = made
    before = {path: path.read_bytes() for path in objects(output)}
    victim = objects(output)[0]
    spoilt = bytearray(before[victim])
    spoilt[len(spoilt) // 2] ^= 255
    victim.write_bytes(spoilt)
    later = victim.stat().st_mtime + 60  # some time after the run, which takes less than a second
    os.utime(victim, (later, later))
    assert [finding.kind for finding in verify_output(output)] == ["checksum"]
    run()
    assert verify_output(output) == []
    assert {path: path.read_bytes() for path in objects(output)} == before


def test_the_report_of_a_damaged_plate_says_which_well(made):
    output, _ = made
    for path in objects(output):
        path.write_bytes(b"\x00" * path.stat().st_size)
    page = write_report(output).read_text()
    assert "B02: " in page
    assert "the stored image cannot be read" in page
    assert 'id="well-A01"' in page
    assert 'id="well-B02"' not in page
