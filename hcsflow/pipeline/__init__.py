"""Pipelines as declared by a user: steps, patterns, parameters; YAML in and out."""

from hcsflow.pipeline.arrays import ArrayFile
from hcsflow.pipeline.pipeline import Pipeline
from hcsflow.pipeline.step import DROP, PASS, PIPELINE_START, PREVIOUS_STEP, FunctionStep
from hcsflow.pipeline.text import pipeline_from_yaml, pipeline_to_yaml

__all__ = [
    "DROP",
    "PASS",
    "PIPELINE_START",
    "PREVIOUS_STEP",
    "ArrayFile",
    "FunctionStep",
    "Pipeline",
    "pipeline_from_yaml",
    "pipeline_to_yaml",
]
