"""Bytes of what flows through a segment, and how long it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from hcsflow.plan import PlaneSet, Segment, StepPlan

__all__ = ["is_read_on", "plane_nbytes", "turn_nbytes"]


def plane_nbytes(planes: PlaneSet) -> int:
    """Return the bytes of one plane."""
    return prod(planes.shape_yx) * np.dtype(planes.dtype).itemsize


def _turns(planes: PlaneSet, segment: Segment) -> int:
    """Return how many turns of a segment's loop share out a well's planes."""
    counts = {"field": len(planes.fields), "timepoint": len(planes.timepoints)}
    return max(1, prod(counts[c] for c in segment.loop))


def turn_nbytes(planes: PlaneSet, segment: Segment) -> int:
    """Return the bytes of the planes of one turn."""
    return planes.num_planes * plane_nbytes(planes) // _turns(planes, segment)


def is_read_on(producer: StepPlan, now: StepPlan, steps: Sequence[StepPlan]) -> bool:
    """Tell whether a later step's input is a step's main output, at or after ``now``."""
    return any(step.index >= now.index and step.source == producer.index for step in steps)
