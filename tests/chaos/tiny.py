"""The pipeline of the runs in one process: three cheap steps, the first one's planes kept."""

import numpy as np
import pandas as pd

import hcsflow as hf
from hcsflow.arrays import numpy
from hcsflow.contracts import special_outputs
from hcsflow.materialize import Labels, Table


@numpy
def lift(stack, *, level=1):
    """Add a level."""
    return stack + np.uint16(level)


@special_outputs(("bright", Labels()))
@numpy
def spread(stack, *, factor=2):
    """Multiply; label what is above the middle."""
    bright = stack > stack.mean()
    return stack * np.uint16(factor), bright.astype(np.uint16)


@special_outputs(("sums", Table()))
@numpy
def count(stack, *, weight=1):
    """One row for each plane."""
    sums = stack.astype(np.int64).sum(axis=(1, 2)) * weight
    return stack, pd.DataFrame({"plane": range(len(stack)), "sum": sums})


pipeline = hf.Pipeline(
    [
        hf.FunctionStep(lift, name="lift", level=1, force_disk_output=True),
        hf.FunctionStep(spread, name="spread", factor=2),
        hf.FunctionStep(count, name="count", weight=1),
    ],
    name="tiny",
)
