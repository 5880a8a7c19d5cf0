"""Settings: frozen, inherited (global ▸ pipeline ▸ step; None inherits), each with its origin.

Settings come from *sources*, such as a file that says ``zarr: {pyramid: false}``; `resolve` lays
one over the other, the stronger `Level` over the weaker, and says where each value came from.
"""

from hcsflow.config.layers import (
    Layer,
    Level,
    Source,
    layer_of,
    load_config,
    parse_assignment,
    parse_value,
    plain_layer,
    read_layer,
    resolve,
    setting_names,
    settings_of,
)
from hcsflow.config.schema import settings_schema
from hcsflow.config.sources import (
    environment_names,
    environment_sources,
    for_step,
    profile_source,
    resolve_step,
    user_config_file,
    user_sources,
)
from hcsflow.config.values import (
    Backend,
    FieldLayout,
    GlobalPipelineConfig,
    InputIdentity,
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
    "InputIdentity",
    "Layer",
    "Level",
    "MaterializationBackend",
    "MissingPolicy",
    "Source",
    "StepMaterializationConfig",
    "VFSConfig",
    "ZarrChunkStrategy",
    "ZarrCompressor",
    "ZarrConfig",
    "environment_names",
    "environment_sources",
    "for_step",
    "layer_of",
    "load_config",
    "parse_assignment",
    "parse_value",
    "plain_layer",
    "profile_source",
    "read_layer",
    "resolve",
    "resolve_step",
    "setting_names",
    "settings_of",
    "settings_schema",
    "user_config_file",
    "user_sources",
]
