"""Options that several verbs share, and how their text is understood."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hcsflow.errors import UsageError

__all__ = [
    "Acquisition",
    "Chunks",
    "ChunksOption",
    "ConfigFile",
    "FillValue",
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
    "layered_config",
    "parse_settings",
    "split_wells",
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
    Chunks | None, typer.Option("--chunks", help="What one stored object holds. Default: well.")
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


@dataclass(frozen=True, slots=True)
class Request:
    """What ``plan`` and ``run`` compile: the options that they share, understood."""

    pipeline: str
    plate: Path
    output: Path
    workers: int | None
    wells: list[str] | None
    parameters: dict[str, Any]
    config: dict[str, Any]
    acquisition: str | None
    pixel_size_um: float | None


def layered_config(
    file: Path | None,
    *,
    chunks: Chunks | None = None,
    layout: Layout | None = None,
    ngff: Ngff | None = None,
    missing: Missing | None = None,
    fill: int | None = None,
) -> dict[str, Any]:
    """Merge a settings file with options; an option that was given wins.

    Parameters
    ----------
    file : Path or None
        YAML mapping, e.g. ``zarr: {chunk_strategy: file}``.
    chunks, layout, ngff, missing, fill
        Options, None where not given.

    Raises
    ------
    ConfigError
        If the file cannot be read, or names or values in it are wrong.
    """
    from hcsflow.config import read_layer, resolve

    found = read_layer(file) if file is not None else {}
    resolve([(str(file), found)])  # what is wrong in the file is said with its name
    options = {
        "zarr.chunk_strategy": chunks,
        "zarr.field_layout": layout,
        "zarr.ngff_version": ngff,
        "missing": missing,
        "fill_value": fill,
    }
    return found | {name: option for name, option in options.items() if option is not None}
