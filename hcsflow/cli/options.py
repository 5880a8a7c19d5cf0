"""Options that several verbs share, and how their text is understood."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from hcsflow.errors import UsageError

if TYPE_CHECKING:
    from hcsflow.config import Source

__all__ = [
    "Acquisition",
    "Chunks",
    "ChunksOption",
    "ClusterOption",
    "ConfigFile",
    "FillValue",
    "Granularity",
    "GranularityOption",
    "JsonFlag",
    "Layout",
    "LayoutOption",
    "Missing",
    "MissingOption",
    "Ngff",
    "NgffOption",
    "OutputArgument",
    "OutputOption",
    "PipelineArgument",
    "PixelSize",
    "PlateArgument",
    "Request",
    "Set",
    "Wells",
    "WorkersOption",
    "file_sources",
    "parse_settings",
    "split_wells",
    "with_request",
]


class Chunks(StrEnum):
    """``--chunks``."""

    WELL = "well"
    FILE = "file"
    ADAPTIVE = "adaptive"


class Layout(StrEnum):
    """``--layout``."""

    MOSAIC = "mosaic"
    IMAGES = "images"


class Ngff(StrEnum):
    """``--ngff``."""

    V05 = "0.5"
    V04 = "0.4"


class Granularity(StrEnum):
    """``--granularity``."""

    SEGMENT = "segment"
    STEP = "step"


class Missing(StrEnum):
    """``--missing``."""

    ERROR = "error"
    SKIP = "skip"
    FILL = "fill"


PlateArgument = Annotated[
    Path, typer.Argument(metavar="PLATE", help="The microscope's folder; only ever read.")
]
PipelineArgument = Annotated[
    str,
    typer.Argument(metavar="PIPELINE", help="A .yaml or .py file, or the name of a ready one."),
]
OutputArgument = Annotated[Path, typer.Argument(metavar="OUT", help="What `run -o` wrote.")]
OutputOption = Annotated[
    Path, typer.Option("-o", "--output", metavar="OUT", help="Folder for all that is written.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Wells = Annotated[
    str | None, typer.Option(metavar="WELLS", help="Wells or patterns, e.g. 'A01,B*'.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Set a parameter, or step.parameter. Repeatable."
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings as YAML.")
]
ChunksOption = Annotated[
    Chunks | None,
    typer.Option(
        "--chunks",
        help="What an object holds: a well's level, a plane (file), up to 2 GiB (adaptive). "
        "Default: well.",
    ),
]
LayoutOption = Annotated[
    Layout | None, typer.Option("--layout", help="How a well's fields lie. Default: mosaic.")
]
NgffOption = Annotated[
    Ngff | None, typer.Option("--ngff", help="OME-Zarr version written. Default: 0.5.")
]
MissingOption = Annotated[
    Missing | None,
    typer.Option("--missing", help="A plane is expected and not there. Default: error."),
]
FillValue = Annotated[
    int | None, typer.Option("--fill-value", min=0, help="Pixel value for --missing fill.")
]
Acquisition = Annotated[
    str | None, typer.Option(help="Which acquisition, where the plate has several.")
]
PixelSize = Annotated[
    float | None,
    typer.Option("--pixel-size-um", min=0.0, help="Pixel size in µm, where unknown or wrong."),
]
ClusterOption = Annotated[
    str,
    typer.Option(
        envvar="HCSFLOW_CLUSTER",
        metavar="CLUSTER",
        help="'local' (processes), 'threads', 'serial', 'cuda', 'slurm', 'pbs', 'lsf', 'sge', "
        "'htcondor', a profile.yaml or 'tcp://host:port'.",
    ),
]
GranularityOption = Annotated[
    Granularity, typer.Option("--granularity", help="One task a well, or one for each step.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Default: min(cores, wells, RAM ÷ projected peak)."),
]


def parse_settings(items: Iterable[str] | None) -> dict[str, Any]:
    """Read ``--set`` options; numbers, lists, true, false and null are taken as such.

    Raises
    ------
    ConfigError
        If one is not ``name=value``.

    Examples
    --------
    >>> parse_settings(["sigma=2.5", "threshold.method=otsu"])
    {'sigma': 2.5, 'threshold.method': 'otsu'}
    """
    from hcsflow.config import parse_assignment

    return dict(parse_assignment(item) for item in items or ())


def split_wells(text: str | None) -> list[str] | None:
    """Split ``--wells`` at commas and write names as hcsflow does; None selects every well.

    Raises
    ------
    UsageError
        If nothing is named.

    Examples
    --------
    >>> split_wells("a1, B02, c*")
    ['A01', 'B02', 'C*']
    """
    if text is None:
        return None
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise UsageError("--wells names no well", hint="for example --wells 'A01,B*'")
    return [_canonical(name) for name in found]


def _canonical(name: str) -> str:
    """Return a well's name with capitals and two digits; a pattern only gets its capitals."""
    from hcsflow.errors import PlateError
    from hcsflow.plate.names import canonical_well

    try:
        return canonical_well(name)
    except PlateError:
        return name.upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What ``plan`` and ``run`` compile: each field is an option of both."""

    pipeline: PipelineArgument
    plate: PlateArgument
    output: OutputOption
    cluster: ClusterOption = "local"
    workers: WorkersOption = None
    granularity: GranularityOption = Granularity.SEGMENT
    wells: Wells = None
    settings: Set = None
    config: ConfigFile = None
    chunks: ChunksOption = None
    layout: LayoutOption = None
    ngff: NgffOption = None
    missing: MissingOption = None
    fill_value: FillValue = None
    acquisition: Acquisition = None
    pixel_size_um: PixelSize = None

    @property
    def profile(self) -> Path | None:
        """The profile's file, where the cluster is given as one."""
        file = Path(self.cluster)
        return file if file.suffix in {".yaml", ".yml"} else None

    def sources(self) -> list[Source]:
        """Return the settings that were asked for, each with where it was.

        Raises
        ------
        ConfigError
            If a file cannot be read, a name in it is unknown, or a value does not fit.
        """
        from hcsflow.config import Level, Source, resolve
        from hcsflow.session.settings import profile_sources

        options = {
            "--chunks": ("zarr.chunk_strategy", self.chunks),
            "--layout": ("zarr.field_layout", self.layout),
            "--ngff": ("zarr.ngff_version", self.ngff),
            "--missing": ("missing", self.missing),
            "--fill-value": ("fill_value", self.fill_value),
        }
        file = file_sources(self.config)
        given = [
            Source(Level.CALL, option, {name: str(value) if isinstance(value, StrEnum) else value})
            for option, (name, value) in options.items()
            if value is not None
        ]
        resolve([*profile_sources(self.cluster), *file, *given])  # refused before all else
        return [*file, *given]


def file_sources(config: Path | None) -> list[Source]:
    """Return the settings in the file of ``--config``.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    from hcsflow.config import Level, Source, read_layer

    return [] if config is None else [Source(Level.CALL, str(config), read_layer(config))]


def with_request(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options of `Request` in place of its parameter ``request``.

    Typer has no groups of options; a signature put together does the same.
    """
    hints = get_type_hints(Request, include_extras=True)
    shared = [
        Parameter(
            each.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if each.default is MISSING else each.default,
            annotation=hints[each.name],
        )
        for each in fields(Request)
    ]
    own = [p for p in signature(verb, eval_str=True).parameters.values() if p.name != "request"]

    @wraps(verb)
    def command(**options: Any) -> None:
        request = Request(**{each.name: options.pop(each.name) for each in shared})
        verb(request=request, **options)

    parameters = [*shared, *(p.replace(kind=Parameter.KEYWORD_ONLY) for p in own)]
    command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    command.__dict__["__signature__"] = Signature(parameters, return_annotation=None)
    return command
