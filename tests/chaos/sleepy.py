"""A pipeline whose workers fall asleep (SIGSTOP) when about to commit, where they are told to."""

import os
import signal
import sys

import numpy as np

import hcsflow as hf
from hcsflow.arrays import numpy


@numpy
def lift(stack, *, level=1):
    """Add a level; with CHAOS_SLEEP, see to it that this process stops before its commit."""

    def sleep_at_the_gate(event, args):
        if event == "open" and str(args[0]).endswith(".hcsflow/gate"):
            os.kill(os.getpid(), signal.SIGSTOP)

    if "CHAOS_SLEEP" in os.environ:
        sys.addaudithook(sleep_at_the_gate)
    return stack + np.uint16(level)


pipeline = hf.Pipeline([hf.FunctionStep(lift, name="lift", level=1)], name="sleepy")
