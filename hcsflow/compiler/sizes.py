"""Bytes of what flows through a segment, and how long it is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from hcsflow.plan import PlaneSet, Segment, StepPlan

__all__ = ["is_read_on", "plane_nbytes", "turn_nbytes"]


def plane_nbytes(planes: PlaneSet) -> int:
    """Return the bytes of one plane."""
    return prod(planes.shape_yx) * np.dtype(planes.dtype).itemsize


def turn_nbytes(
    planes: PlaneSet, segment: Segment, of_stacks: Callable[[Sequence[int]], int] = max
) -> int:
    """Return the bytes of the planes of the largest turn of a segment's loop; ``min``: least."""
    stacks = [1 if "z" in segment.loop else len(heights) for heights in planes.z]
    count = of_stacks(stacks) if "channel" in segment.loop else sum(stacks)
    for component, indices in (("field", planes.fields), ("timepoint", planes.timepoints)):
        count *= 1 if component in segment.loop else len(indices)
    return count * plane_nbytes(planes)


def is_read_on(producer: StepPlan, now: StepPlan, steps: Sequence[StepPlan]) -> bool:
    """Tell whether a later step's input is a step's main output, at or after ``now``."""
    return any(step.index >= now.index and step.source == producer.index for step in steps)
