"""A pipeline that eats memory in the plate's second well, until something stops it."""

import time

import numpy as np

import hcsflow as hf
from hcsflow.arrays import numpy
from hcsflow.contracts import special_inputs

GREED_BYTES = 3 << 30


@special_inputs("plane_keys")
@numpy
def hungry(stack, *, plane_keys):
    """Take far more memory than the contract says, 32 MiB at a time."""
    eaten = []
    while plane_keys[0].well == 1 and sum(block.nbytes for block in eaten) < GREED_BYTES:
        eaten.append(np.ones(32 << 20, np.uint8))
        time.sleep(0.02)
    return stack


pipeline = hf.Pipeline([hf.FunctionStep(hungry, name="hungry")], name="hungry")
