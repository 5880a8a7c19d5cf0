"""A pipeline that writes down which worker and which GPU each well had."""

import os
import time

import pandas as pd

import hcsflow as hf
from hcsflow.arrays import numpy
from hcsflow.contracts import special_outputs
from hcsflow.materialize import Table


@special_outputs(("places", Table()))
@numpy
def look_around(stack):
    """Stay for a moment, so that every worker gets a well."""
    time.sleep(2)
    found = {"pid": os.getpid(), "job": os.environ["SLURM_JOB_ID"]}
    return stack, pd.DataFrame([found | {"device": os.environ["CUDA_VISIBLE_DEVICES"]}])


pipeline = hf.Pipeline([hf.FunctionStep(look_around, name="look_around")], name="devices")
