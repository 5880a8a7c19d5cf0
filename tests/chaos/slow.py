"""The pipeline of the runs on worker processes: nuclei, with a first step that takes its time."""

import time

import hcsflow as hf
from hcsflow.arrays import numpy


@numpy
def dawdle(stack):
    """Take a twentieth of a second over each stack."""
    time.sleep(0.05)
    return stack


pipeline = hf.Pipeline(
    [
        hf.FunctionStep(dawdle, name="dawdle", force_disk_output=True),
        hf.FunctionStep("max_projection", name="project"),
        hf.FunctionStep("threshold_otsu", name="threshold"),
        hf.FunctionStep("label_objects", name="label", min_area=5),
    ],
    name="slow",
)
