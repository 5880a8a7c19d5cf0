"""The pipeline of G1: smooth, top-hat, threshold, label, project, in one chain.

    G1_MEMORY_TYPE=cupy hcsflow run benchmarks/gpu_pipeline.py PLATE -o OUT --cluster cuda

The catalogue's functions with the parameters that they have by default, of the memory type that
the environment names (default: numpy). Stored are the projected labels; the labels of each plane
are not, so that a run is not measured by what it writes.
"""

from __future__ import annotations

import os
from typing import Any

import hcsflow as hf
from hcsflow.arrays import memory_types
from hcsflow.contracts import contract
from hcsflow.functions.catalogue import find

KIND = os.environ.get("G1_MEMORY_TYPE", "numpy")


@contract(dtype="uint32", working_planes=8.0, fixed_planes=6.0)
@memory_types(input_type=KIND, output_type=KIND)
def label(stack: Any) -> Any:
    """Label each plane; numbers run on through the stack."""
    return find("label_objects", KIND)(stack)[0]


CHAIN = [
    (find("gaussian_filter", KIND), {"sigma": 2.0}),
    find("white_tophat", KIND),
    find("threshold_otsu", KIND),
    label,
    find("max_projection", KIND),
]

pipeline = hf.Pipeline([hf.FunctionStep(CHAIN, name="chain")], name="gpu-chain")
