"""The settings themselves: frozen, with their defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self

import yaml

from hcsflow.config.checks import fitted, kinds_of, unknown_setting
from hcsflow.errors import ConfigError

__all__ = [
    "Backend",
    "FieldLayout",
    "GlobalPipelineConfig",
    "InputIdentity",
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


class InputIdentity(StrEnum):
    """How it is told that an input file is still the one that was processed."""

    STAT = "stat"
    CONTENT = "content"


class _Settings:
    """What all groups of settings can do."""

    __slots__ = ()

    def __new__(cls, *_: Any, **given: Any) -> Self:
        """Refuse names that are no settings, with what they are called here."""
        names = [each.name for each in fields(cls)]  # type: ignore[arg-type]
        for name in given:
            if name not in names:
                raise unknown_setting(name, names, f"{cls.__name__}: ")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        """Turn the text of a choice into the choice, and hold values to their kinds and limits.

        Raises
        ------
        ConfigError
            If a value is of another kind, no choice, or beyond its limits.
        """
        for name, kinds in kinds_of(type(self)).items():
            object.__setattr__(self, name, fitted(name, getattr(self, name), kinds))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        names = [each.name for each in fields(self)]  # type: ignore[arg-type]
        raise unknown_setting(name, names, f"{type(self).__name__}: ")

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed."""
        return replace(self, **changes)  # type: ignore[type-var]


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
        1 (fast) to 9 (small). On microscope planes, zstd's 3 saves 1 % of the space at a third of
        the speed; see `hcsflow.ngff.model.Codec` for what was measured.
    shuffle : bool
        Byte shuffle before compression; without it planes take a quarter more. Labels are never
        shuffled.
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


@dataclass(frozen=True, slots=True)
class StepMaterializationConfig(_Settings):
    """Where and how one step's output is kept, if it is.

    Parameters
    ----------
    sub_dir : str or None
        Folder below the output; None is ``<nn>_<step>``.
    backend : MaterializationBackend or None
        None inherits from `VFSConfig`.
    zarr : mapping or ZarrConfig, optional
        The step's own Zarr settings, e.g. ``{"chunk_strategy": "file"}``; those that it leaves out
        are the pipeline's. A whole `ZarrConfig` leaves none out. Kept as a read-only mapping.

    Examples
    --------
    >>> kept = StepMaterializationConfig(zarr={"chunk_strategy": "file", "pyramid": None})
    >>> {name: str(value) for name, value in kept.zarr.items()}
    {'chunk_strategy': 'file'}
    """

    sub_dir: str | None = None
    backend: MaterializationBackend | None = None
    zarr: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names and values, those of ``zarr`` too.

        Raises
        ------
        ConfigError
            If a name is unknown or a value does not fit.
        """
        for name in ("sub_dir", "backend"):
            kinds = kinds_of(type(self))[name]
            object.__setattr__(self, name, fitted(name, getattr(self, name), kinds))
        given = self.zarr if isinstance(self.zarr, ZarrConfig) else _own(self.zarr)
        whole = given if isinstance(given, ZarrConfig) else ZarrConfig(**given)
        names = [each.name for each in fields(whole)] if whole is given else given
        own = MappingProxyType({name: getattr(whole, name) for name in names})
        object.__setattr__(self, "zarr", own)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.sub_dir, self.backend, dict(self.zarr)))


def _own(zarr: Any) -> dict[str, Any]:
    """Return what a step sets of Zarr; None inherits."""
    if zarr is not None and not isinstance(zarr, Mapping):
        raise ConfigError(
            f"a step's zarr must be a mapping of settings, got {zarr!r}",
            hint='for example {"chunk_strategy": "file"}',
        )
    given = {str(name): value for name, value in (zarr or {}).items()}
    for name in given:
        if name not in kinds_of(ZarrConfig):
            raise unknown_setting(name, kinds_of(ZarrConfig), "a step's zarr: ")
    return {name: value for name, value in given.items() if value is not None}


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
    input_identity : InputIdentity
        A well is done again when its files' names, sizes or dates change (``"stat"``), or, whatever
        their dates, their contents (``"content"``: each plan reads all files of its wells once).
    """

    vfs: VFSConfig = field(default_factory=VFSConfig)
    zarr: ZarrConfig = field(default_factory=ZarrConfig)
    num_workers: int | None = None
    missing: MissingPolicy = MissingPolicy.ERROR
    fill_value: int = 0
    input_identity: InputIdentity = InputIdentity.STAT

    def __post_init__(self) -> None:
        """Check values and groups.

        Raises
        ------
        ConfigError
            If a value does not fit, or a group is not of its class.
        """
        _Settings.__post_init__(self)
        for name, kind in (("vfs", VFSConfig), ("zarr", ZarrConfig)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(
                    f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}",
                    hint="a mapping of settings is read by hcsflow.compile(…, config={…})",
                )

    def to_yaml(self) -> str:
        """Return all settings as a file that `hcsflow.config.load_config` reads.

        Examples
        --------
        >>> "num_workers: 4" in GlobalPipelineConfig(num_workers=4).to_yaml().splitlines()
        True
        """
        document = json.loads(json.dumps(asdict(self)))  # choices become their text
        return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
