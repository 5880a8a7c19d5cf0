"""The settings themselves: frozen, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from hcsflow.errors import ConfigError

__all__ = [
    "Backend",
    "FieldLayout",
    "GlobalPipelineConfig",
    "MaterializationBackend",
    "MissingPolicy",
    "StepMaterializationConfig",
    "VFSConfig",
    "ZarrChunkStrategy",
    "ZarrCompressor",
    "ZarrConfig",
]


class Backend(StrEnum):
    """Storage backends by name."""

    MEMORY = "memory"
    DISK = "disk"
    ZARR = "zarr"
    VIRTUAL_WORKSPACE = "virtual_workspace"
    OMERO_LOCAL = "omero_local"
    NAPARI_STREAM = "napari_stream"
    FIJI_STREAM = "fiji_stream"


class MaterializationBackend(StrEnum):
    """Backends that final results may go to."""

    ZARR = "zarr"
    DISK = "disk"


class ZarrCompressor(StrEnum):
    """Compressors; each maps to a codec that every OME-Zarr reader knows."""

    ZSTD = "zstd"
    LZ4 = "lz4"
    BLOSC = "blosc"
    ZLIB = "zlib"
    GZIP = "gzip"
    NONE = "none"


class ZarrChunkStrategy(StrEnum):
    """What one stored object holds."""

    WELL = "well"
    FILE = "file"
    ADAPTIVE = "adaptive"
    SINGLE = "single"


class FieldLayout(StrEnum):
    """How a well's fields lie in OME-Zarr."""

    MOSAIC = "mosaic"
    IMAGES = "images"


class MissingPolicy(StrEnum):
    """What happens to a plane that is expected and not there."""

    ERROR = "error"
    SKIP = "skip"
    FILL = "fill"


_CHOICES: Mapping[str, type[StrEnum]] = {
    "intermediate_backend": Backend,
    "materialization_backend": MaterializationBackend,
    "compressor": ZarrCompressor,
    "chunk_strategy": ZarrChunkStrategy,
    "field_layout": FieldLayout,
    "backend": MaterializationBackend,
    "missing": MissingPolicy,
}
"""Settings that are choices, by name."""


LIMITS: Mapping[str, tuple[int, int | None]] = {
    "compression_level": (1, 9),
    "num_workers": (1, None),
    "memory_limit_gb": (0, None),
    "fill_value": (0, None),
}
"""Lowest and highest value of settings that are numbers; None is no limit."""

_FRACTIONS = frozenset({"memory_limit_gb"})


class _Settings:
    """What all groups of settings can do; choices may be given by their text."""

    __slots__ = ()

    def __post_init__(self) -> None:
        """Turn the text of a choice into the choice, and hold numbers to their limits.

        Raises
        ------
        ConfigError
            If there is no such choice, or a number is not one or beyond its limits.
        """
        for name, kind in _CHOICES.items():
            value = getattr(self, name, None)
            if value is not None and not isinstance(value, kind):
                object.__setattr__(self, name, _choice(kind, value, name))
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name, None)
            kinds = (int, float) if name in _FRACTIONS else (int,)
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            if value is not None and not (is_number and low <= value <= (high or value)):
                limits = f"at least {low}" if high is None else f"{low} to {high}"
                number = "a number" if name in _FRACTIONS else "a whole number"
                raise ConfigError(f"{name} must be {number}, {limits}, got {value!r}")

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed."""
        return replace(self, **changes)  # type: ignore[type-var]


def _choice(kind: type[StrEnum], value: object, name: str) -> StrEnum:
    found = {member.value: member for member in kind}.get(str(value).lower())
    if found is None:
        raise ConfigError(f"{name} must be {', '.join(kind)}, got {value!r}")
    return found


@dataclass(frozen=True, slots=True)
class VFSConfig(_Settings):
    """Where data lives between and after steps.

    Parameters
    ----------
    intermediate_backend : Backend
        Between steps.
    materialization_backend : MaterializationBackend
        Final results and materialised steps.
    memory_limit_gb : float or None
        Host tier per worker, in GB; None takes the worker's share.
    persistent_storage_root_path : str or None
        Root of relative output paths.
    """

    intermediate_backend: Backend = Backend.MEMORY
    materialization_backend: MaterializationBackend = MaterializationBackend.ZARR
    memory_limit_gb: float | None = None
    persistent_storage_root_path: str | None = None


@dataclass(frozen=True, slots=True)
class ZarrConfig(_Settings):
    """How OME-Zarr is written.

    Parameters
    ----------
    store_name : str
        Folder of the plate below the output.
    compressor : ZarrCompressor
        ZSTD and LZ4 become blosc with that inner codec, ZLIB becomes gzip in NGFF 0.5.
    compression_level : int
        1 (fast) to 9 (small).
    shuffle : bool
        Byte shuffle before compression.
    chunk_strategy : ZarrChunkStrategy
        Planes per stored object: all of a stored image, one, or as many as fit 2 GiB.
    field_layout : FieldLayout
        One mosaic a well, or one image a field.
    ngff_version : str
        ``"0.5"`` (Zarr 3) or ``"0.4"`` (Zarr 2, where objects are encoded as a whole: writing
        one takes its size in memory).
    ome_zarr_metadata, write_plate_metadata, pyramid : bool
        Parts that may be left out.
    """

    store_name: str = "images.zarr"
    compressor: ZarrCompressor = ZarrCompressor.ZSTD
    compression_level: int = 1
    shuffle: bool = True
    chunk_strategy: ZarrChunkStrategy = ZarrChunkStrategy.WELL
    field_layout: FieldLayout = FieldLayout.MOSAIC
    ngff_version: str = "0.5"
    ome_zarr_metadata: bool = True
    write_plate_metadata: bool = True
    pyramid: bool = True

    def __post_init__(self) -> None:
        """Check the choices.

        Raises
        ------
        ConfigError
            If a value is none of those there are.
        """
        _Settings.__post_init__(self)
        if self.ngff_version not in ("0.4", "0.5"):
            raise ConfigError(f"ngff_version must be '0.4' or '0.5', got {self.ngff_version!r}")


@dataclass(frozen=True, slots=True)
class StepMaterializationConfig(_Settings):
    """Where one step's output is kept, if it is.

    Parameters
    ----------
    sub_dir : str or None
        Folder below the output; None is ``<nn>_<step>``.
    backend : MaterializationBackend or None
        None inherits from `VFSConfig`.
    """

    sub_dir: str | None = None
    backend: MaterializationBackend | None = None


@dataclass(frozen=True, slots=True)
class GlobalPipelineConfig(_Settings):
    """Everything that can be set for a run.

    Parameters
    ----------
    vfs, zarr : VFSConfig, ZarrConfig
        Storage settings.
    num_workers : int or None
        None is min(cores, wells, RAM ÷ projected peak).
    missing : MissingPolicy
        What an expected plane that is not there does.
    fill_value : int
        Pixel value for ``missing="fill"``.
    """

    vfs: VFSConfig = field(default_factory=VFSConfig)
    zarr: ZarrConfig = field(default_factory=ZarrConfig)
    num_workers: int | None = None
    missing: MissingPolicy = MissingPolicy.ERROR
    fill_value: int = 0
