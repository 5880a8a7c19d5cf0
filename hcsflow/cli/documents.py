"""What verbs print about plates, functions, settings and this machine, as models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ConfigShowDocument",
    "DemoDocument",
    "DoctorDocument",
    "FunctionsDocument",
    "InspectDocument",
    "Part",
    "SettingEntry",
    "WellReason",
]


class Part(BaseModel):
    """A part of a document; unknown fields are an error."""

    model_config = ConfigDict(extra="forbid")


class WellReason(Part):
    """A well that cannot be processed, known before any pixel is read."""

    well: str
    reason: str
    file: str | None


class ChannelEntry(Part):
    """One channel of a plate."""

    label: str
    name: str
    name_origin: str
    z: int = Field(description="Planes expected per field and timepoint.")
    projection: bool = Field(description="The only plane is a projection the instrument stored.")
    projection_method: str | None
    z_um: float | None


class Length(Part):
    """A length and where it was found."""

    um: float | None
    origin: str


class Grid(Part):
    """Where each field lies in a well's mosaic."""

    rows: int
    columns: int
    cells: list[tuple[int, int]]
    origin: str
    overlap_px: float | None


class MissingPlanes(Part):
    """Planes that one well lacks; the first few by name."""

    well: str
    planes: int
    first: list[str]


class Projections(Part):
    """Projections that the instrument stored beside a channel's stacks."""

    channel: str
    method: str | None
    files: int


class InspectDocument(Part):
    """``hcsflow inspect --json``."""

    schema_: Literal["hcsflow.inspect/1"] = Field(alias="schema")
    path: str
    name: str
    microscope: str
    layout: str
    uuid: str | None
    acquisition: str
    acquisitions: list[str]
    rows: int
    columns: int
    wells: list[str]
    fields: list[str]
    timepoints: list[str]
    channels: list[ChannelEntry]
    z: list[str]
    shape_yx: list[int]
    dtype: str
    pixel_size: Length
    z_step: Length
    grid: Grid
    planes: int
    nbytes: int
    absent: int = Field(description="Planes of the full grid that were never expected.")
    missing: list[MissingPlanes]
    missing_wells: list[str]
    projections: list[Projections]
    ignored: dict[str, int] = Field(description="Files left aside, by reason.")
    faults: list[WellReason]


class SettingEntry(Part):
    """A setting that holds."""

    name: str = Field(description="Dotted, as in zarr.chunk_strategy.")
    value: bool | int | float | str | None
    origin: str = Field(
        description="A file's path, a variable, an option, a pipeline, a step, or 'default'."
    )
    step: str | None = Field(description="The step that has it for itself; null for the whole run.")


class ParameterValue(Part):
    """A pipeline's parameter, or a step's that was set."""

    name: str
    value: Any
    origin: str


class FileEntry(Part):
    """A settings file that was looked for."""

    path: str
    found: bool


class ConfigShowDocument(Part):
    """``hcsflow config show --json``."""

    schema_: Literal["hcsflow.config-show/1"] = Field(alias="schema")
    pipeline: str | None
    files: list[FileEntry]
    settings: list[SettingEntry]
    parameters: list[ParameterValue]


class ParameterEntry(Part):
    """A keyword argument of a step function."""

    name: str
    type: str
    required: bool
    default: bool | int | float | str | None
    allowed: str = Field("", description="Limits or choices in words; empty where there are none.")
    meaning: str = Field(description="What it is, with its unit.")


class FunctionEntry(Part):
    """One ready-made step function."""

    name: str
    summary: str
    variants: dict[str, str] = Field(description="Memory type to module:qualname.")
    parameters: list[ParameterEntry]
    special_inputs: list[str]
    special_outputs: list[str]


class FunctionsDocument(Part):
    """``hcsflow functions --json``."""

    schema_: Literal["hcsflow.functions/1"] = Field(alias="schema")
    functions: list[FunctionEntry]


class Check(Part):
    """One finding about this machine; ``ok`` is null for what a run does not need."""

    name: str
    ok: bool | None
    detail: str
    hint: str | None


class DoctorDocument(Part):
    """``hcsflow doctor --json``."""

    schema_: Literal["hcsflow.doctor/1"] = Field(alias="schema")
    cluster: str | None = Field(None, description="What --cluster named; null without it.")
    ok: bool
    checks: list[Check]


class DemoWell(Part):
    """One well of the demo against what was planted in it."""

    well: str
    status: str
    true: int | None = Field(description="Nuclei drawn; null where a fault was planted.")
    found: int | None
    f1: float | None = Field(description="F1 at IoU 0.5 over the well's fields.")
    worst_field_f1: float | None
    fault: str | None = Field(description="The fault that was planted.")
    file: str | None = Field(description="The file named by the failure.")
    message: str | None
    as_planted: bool


class DemoDocument(Part):
    """``hcsflow demo --json``."""

    schema_: Literal["hcsflow.demo/1"] = Field(alias="schema")
    ok: bool
    wells: list[DemoWell]
    seconds: float
    plate: str
    output: str
    report: str
