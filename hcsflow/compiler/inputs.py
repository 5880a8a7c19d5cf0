"""What the passes look at besides the plan: declared pipeline, manifest, output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hcsflow.pipeline import Pipeline
from hcsflow.plate import Manifest

__all__ = ["Declared", "Granularity", "Recorded"]

Recorded = Mapping[tuple[str, str], tuple[str, ...]]
"""(Step, catalogue name) → memory types of the variants that made what the output holds."""

Granularity = Literal["segment", "step"]
"""How much one task does: all it can, or one step, for looking at."""


@dataclass(frozen=True, slots=True)
class Declared:
    """The compiler's unchanging inputs."""

    pipeline: Pipeline
    manifest: Manifest
    granularity: Granularity = "segment"
    recorded: Recorded = field(default_factory=dict)
