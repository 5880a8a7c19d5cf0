"""High-content-screening plates to OME-Zarr, tables and a report: compiled, on Dask, resumable.

Everything that a user needs hangs on this module and is loaded when it is first asked for, so
that ``import hcsflow`` costs nothing.

Examples
--------
>>> import hcsflow as hf
>>> hf.ZarrChunkStrategy.WELL.value
'well'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hcsflow.arrays import memory_types, stack_slices, unstack_slices
    from hcsflow.config import (
        Backend,
        FieldLayout,
        GlobalPipelineConfig,
        MaterializationBackend,
        StepMaterializationConfig,
        VFSConfig,
        ZarrChunkStrategy,
        ZarrCompressor,
        ZarrConfig,
    )
    from hcsflow.contracts import special_inputs, special_outputs
    from hcsflow.errors import HcsflowError, MemoryConversionError, StorageResolutionError
    from hcsflow.pipeline import DROP, PASS, PIPELINE_START, FunctionStep, Pipeline
    from hcsflow.plan import Resources
    from hcsflow.session.plan import Plan, compile  # noqa: A004 - the verb of the trade
    from hcsflow.session.plate import Plate, open_plate
    from hcsflow.session.run import Run
    from hcsflow.session.workspace import open_workspace
    from hcsflow.storage import FileManager, storage_registry

_HOMES = {
    "hcsflow.arrays": ("memory_types", "stack_slices", "unstack_slices"),
    "hcsflow.config": (
        "Backend",
        "FieldLayout",
        "GlobalPipelineConfig",
        "MaterializationBackend",
        "StepMaterializationConfig",
        "VFSConfig",
        "ZarrChunkStrategy",
        "ZarrCompressor",
        "ZarrConfig",
    ),
    "hcsflow.contracts": ("special_inputs", "special_outputs"),
    "hcsflow.errors": ("HcsflowError", "MemoryConversionError", "StorageResolutionError"),
    "hcsflow.pipeline": ("DROP", "PASS", "PIPELINE_START", "FunctionStep", "Pipeline"),
    "hcsflow.plan": ("Resources",),
    "hcsflow.session.plan": ("Plan", "compile"),
    "hcsflow.session.plate": ("Plate", "open_plate"),
    "hcsflow.session.run": ("Run",),
    "hcsflow.session.workspace": ("open_workspace",),
    "hcsflow.storage": ("FileManager", "storage_registry"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DROP",
    "PASS",
    "PIPELINE_START",
    "Backend",
    "FieldLayout",
    "FileManager",
    "FunctionStep",
    "GlobalPipelineConfig",
    "HcsflowError",
    "MaterializationBackend",
    "MemoryConversionError",
    "Pipeline",
    "Plan",
    "Plate",
    "Resources",
    "Run",
    "StepMaterializationConfig",
    "StorageResolutionError",
    "VFSConfig",
    "ZarrChunkStrategy",
    "ZarrCompressor",
    "ZarrConfig",
    "compile",
    "memory_types",
    "open_plate",
    "open_workspace",
    "special_inputs",
    "special_outputs",
    "stack_slices",
    "storage_registry",
    "unstack_slices",
]


def __getattr__(name: str) -> object:
    """Load a public name from the module it lives in."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - reads files; only when asked

        return version("hcsflow")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hcsflow' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - with its module, only when asked

    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
