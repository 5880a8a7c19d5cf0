"""What the passes look at besides the plan: declared pipeline, manifest, output."""

from __future__ import annotations

from dataclasses import dataclass

from hcsflow.pipeline import Pipeline
from hcsflow.plate import Manifest

__all__ = ["Declared"]


@dataclass(frozen=True, slots=True)
class Declared:
    """The compiler's unchanging inputs."""

    pipeline: Pipeline
    manifest: Manifest
