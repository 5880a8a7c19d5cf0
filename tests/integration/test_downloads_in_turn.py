"""Results that are on their way are kept in plan order, each before the step after it."""

from itertools import count

import numpy as np

from hcsflow.arrays import to_numpy
from hcsflow.arrays.downloads import Download
from hcsflow.cli.main import main
from hcsflow.graph import segment
from hcsflow.testing.plates import write_imagexpress_plate

PIPELINE = """
name: two-steps
steps:
  - {name: smooth, function: gaussian_filter, parameters: {sigma: 1.0}}
  - {name: project, function: max_projection}
"""


def test_downloads_are_taken_one_group_later_and_nothing_else_changes(
    tmp_path, monkeypatch, hash_tree
):
    write_imagexpress_plate(tmp_path / "plate", wells=["B02"], fields=1, channels=3, z=2, size=64)
    (tmp_path / "two.yaml").write_text(PIPELINE)
    log, numbers = [], count()

    def slowly(array):
        number, host = next(numbers), np.array(to_numpy(array))
        log.append(f"start {number}")

        def finish():
            log.append(f"finish {number}")
            return host

        return Download(finish)

    words = ["run", str(tmp_path / "two.yaml"), str(tmp_path / "plate"), "--cluster", "serial"]
    assert main([*words, "-o", str(tmp_path / "plain")]) == 0
    monkeypatch.setattr(segment, "start_download", slowly)
    assert main([*words, "-o", str(tmp_path / "late")]) == 0
    assert log == [
        *("start 0", "finish 0"),  # what the next step reads is waited for
        "start 1",
        *(
            "start 2",
            "finish 1",
            "finish 2",
        ),  # what is stored, after the next
        "start 3",
        *("start 4", "finish 3", "finish 4"),
        *("start 5", "finish 5"),
    ]
    plates = [hash_tree(tmp_path / name / "images.zarr") for name in ("plain", "late")]
    assert plates[0] == plates[1]
