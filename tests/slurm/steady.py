"""The pipeline of the runs on jobs: a step that takes its time, one that measures."""

import os
import time

import numpy as np
import pandas as pd

import hcsflow as hf
from hcsflow.arrays import numpy
from hcsflow.contracts import special_outputs
from hcsflow.materialize import Table


@numpy
def nap(stack):
    """Wait for as long as the environment says, which no result shows."""
    time.sleep(float(os.environ.get("NAP_S", "0")))
    return stack


@special_outputs(("sums", Table()))
@numpy
def add_up(stack):
    """One row for each plane."""
    sums = stack.astype(np.int64).sum(axis=(1, 2))
    return stack, pd.DataFrame({"plane": range(len(stack)), "sum": sums})


pipeline = hf.Pipeline(
    [hf.FunctionStep(nap, name="nap"), hf.FunctionStep(add_up, name="add_up")], name="steady"
)
