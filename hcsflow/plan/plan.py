"""The plan: a pipeline compiled for one plate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from hcsflow.config import GlobalPipelineConfig
from hcsflow.plan.planes import PlaneSet
from hcsflow.plan.steps import StepPlan
from hcsflow.plan.text import stable_json
from hcsflow.plan.writes import Carried, WritePlan
from hcsflow.plate import Plate
from hcsflow.recipes import hash_of_recipe, hash_of_unit, recipe_text

__all__ = ["READING_BYTES", "SCHEMA", "Plan", "Resources", "Segment"]

SCHEMA = "hcsflow.plan/1"

HELD_SHARE = 0.6
"""Share of a worker's memory for what flows between steps; the rest is the functions'."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps ``first`` to ``last`` of every well, run as one task.

    Parameters
    ----------
    name : str
        Unique in the plan; the dashboard groups tasks by it.
    first, last : int
        Indices of its steps.
    loop : tuple of str
        Components fixed in all its steps: the task runs the chain once per combination of them,
        so its memory does not grow with the well.
    projected_bytes : int
        Peak memory above an idle worker.
    reads : str or None
        The checkpoint (an output) that it starts from; None: the plate, or the result of the
        segment before.
    carries : tuple of Carried
        Special outputs that cross its end, with the checkpoint or the result.
    needs_gpu : bool
        Whether it must run on a worker with a GPU; only where others have none.
    projected_device_bytes : int
        Peak memory on a device, 0 where the plan uses none.
    """

    name: str
    first: int
    last: int
    loop: tuple[str, ...]
    projected_bytes: int = 0
    reads: str | None = None
    carries: tuple[Carried, ...] = ()
    needs_gpu: bool = False
    projected_device_bytes: int = 0


READING_BYTES = 32 << 20
"""What threads that decode planes side by side may hold besides, of compressed planes."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a plan may use.

    Parameters
    ----------
    workers : int
        Worker processes (or threads).
    memory_bytes : int
        Memory of each.
    threads_per_worker : int
        Always one task at a time; this is for inner threads.
    gpus : int
        Devices in all.
    device_memory_bytes : int
        Memory of one device; 0: unknown, and not held against the plan.
    encoders : int
        Planes that a task encodes at a time, besides its steps: cores that would be idle else.
    """

    workers: int
    memory_bytes: int
    threads_per_worker: int = 1
    gpus: int = 0
    device_memory_bytes: int = 0
    encoders: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled pipeline for one plate; printable, comparable, immutable.

    Parameters
    ----------
    pipeline : str
        Name of the pipeline.
    plate : Plate
        The plate it was compiled for.
    wells : tuple of str
        Wells with a task, in plate order.
    failed_wells : tuple of (str, str, str or None)
        Wells that fail without a task: name, reason, file.
    steps, writes, segments : tuple
        What is done.
    source : PlaneSet
        The planes of the plate.
    config : GlobalPipelineConfig
        Settings in force.
    resources : Resources
        What it may use.
    parameters : tuple of (str, value)
        The pipeline's parameters.
    warnings : tuple of str
        What a user should know before running.
    fingerprints : mapping
        Well name to the fingerprint of its inputs.
    label_stride : int
        Label id = field × stride + local id.
    """

    pipeline: str
    plate: Plate
    wells: tuple[str, ...]
    failed_wells: tuple[tuple[str, str, str | None], ...]
    source: PlaneSet
    steps: tuple[StepPlan, ...]
    writes: tuple[WritePlan, ...]
    segments: tuple[Segment, ...]
    config: GlobalPipelineConfig
    resources: Resources
    parameters: tuple[tuple[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    label_stride: int = 1 << 16
    schema: str = SCHEMA

    @property
    def num_tasks(self) -> int:
        """Tasks on the cluster: one per well and segment."""
        return len(self.wells) * len(self.segments)

    @property
    def num_objects(self) -> int:
        """Stored image and label objects of all wells."""
        return len(self.wells) * sum(w.objects_per_well for w in self.writes)

    @property
    def projected_bytes(self) -> int:
        """Peak memory of the worst task above an idle worker, in bytes."""
        return max((s.projected_bytes for s in self.segments), default=0)

    def segment(self, name: str) -> Segment:
        """Return the segment of a name."""
        return next(segment for segment in self.segments if segment.name == name)

    def next_segment(self, segment: Segment) -> Segment | None:
        """Return the segment that goes on where one ends; None after the last."""
        return next((s for s in self.segments if s.first == segment.last + 1), None)

    def hands_on(self, segment: Segment) -> bool:
        """Tell whether the next segment needs this one's result, rather than a checkpoint."""
        after = self.next_segment(segment)
        return after is not None and after.reads is None

    def writes_of(self, segment: Segment) -> tuple[WritePlan, ...]:
        """Return the outputs that a segment writes and commits."""
        return tuple(w for w in self.writes if segment.first <= w.step <= segment.last)

    @property
    def projected_device_bytes(self) -> int:
        """Peak memory of the worst task on its device, in bytes; 0 where none is used."""
        return max((s.projected_device_bytes for s in self.segments), default=0)

    def held_limit_bytes(self, memory_bytes: int) -> int:
        """Return what a worker of some memory may keep between steps, in bytes.

        A share of it, or ``vfs.memory_limit_gb`` where that is less.
        """
        share = int(memory_bytes * HELD_SHARE)
        asked = self.config.vfs.memory_limit_gb
        return share if asked is None else min(share, int(asked * 1e9))

    def replace(self, **changes: Any) -> Plan:
        """Return a copy with some parts changed; passes use it."""
        return replace(self, **changes)

    def unit_fingerprint(self, well: str, output: str) -> str:
        """Return the fingerprint of the unit (well, output): inputs, steps, layout."""
        return hash_of_unit(self.fingerprints.get(well, ""), self._recipe_text(output))

    def recipe(self, output: str) -> str:
        """Return a hash of how an output is made, whatever the well: steps and layout."""
        return hash_of_recipe(self._recipe_text(output))

    def _recipe_text(self, output: str) -> str:
        write = next(w for w in self.writes if w.output == output)
        return _recipe_text(tuple(s.fingerprint for s in self.steps[: write.step + 1]), write)

    def to_json(self) -> str:
        """Return the plan as text: the same inputs give the same bytes."""
        return stable_json(self, indent=1)


@lru_cache(maxsize=64)
def _recipe_text(steps: tuple[str, ...], write: WritePlan) -> str:
    """Return what is the same for all wells, and long."""
    return recipe_text(steps, json.loads(stable_json(write)))
