"""Settings: frozen, inherited (global ▸ pipeline ▸ step; None inherits), each with its origin.

Settings come in *layers*, such as ``{"zarr": {"pyramid": False}}``; `resolve` lays one over the
other and says where each value came from.
"""

from hcsflow.config.layers import (
    Layer,
    environment_layer,
    environment_names,
    layer_of,
    load_config,
    parse_assignment,
    parse_value,
    read_layer,
    resolve,
    setting_names,
)
from hcsflow.config.values import (
    Backend,
    FieldLayout,
    GlobalPipelineConfig,
    MaterializationBackend,
    MissingPolicy,
    StepMaterializationConfig,
    VFSConfig,
    ZarrChunkStrategy,
    ZarrCompressor,
    ZarrConfig,
)

__all__ = [
    "Backend",
    "FieldLayout",
    "GlobalPipelineConfig",
    "Layer",
    "MaterializationBackend",
    "MissingPolicy",
    "StepMaterializationConfig",
    "VFSConfig",
    "ZarrChunkStrategy",
    "ZarrCompressor",
    "ZarrConfig",
    "environment_layer",
    "environment_names",
    "layer_of",
    "load_config",
    "parse_assignment",
    "parse_value",
    "read_layer",
    "resolve",
    "setting_names",
]
