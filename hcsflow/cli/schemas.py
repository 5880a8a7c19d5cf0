"""What ``--json`` prints, verb by verb, as models; their JSON Schemas are public.

A document's number grows when a field is taken away or changes its meaning.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hcsflow.errors import UsageError, nearest

__all__ = ["DOCUMENTS", "json_schema"]


class Part(BaseModel):
    """A part of a document; unknown fields are an error."""

    model_config = ConfigDict(extra="forbid")


class Fault(Part):
    """A well that failed."""

    well: str
    step: str | None
    error: str | None
    message: str | None
    file: str | None = Field(description="File at fault, relative to the plate.")
    hint: str | None = Field(description="What to do.")
    where: str | None = Field(None, description="Last line of the user's own code, where known.")
    traceback: str | None = Field(None, description="With --traceback.")


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


class StepFigures(Part):
    """One step of a plan."""

    name: str
    functions: list[str]
    calls_per_well: int
    planes_per_well: int
    shape_yx: list[int]
    dtype: str
    projected_bytes: int


class PlanDocument(Part):
    """``hcsflow plan --json``."""

    schema_: Literal["hcsflow.plan/1"] = Field(alias="schema")
    pipeline: str
    plate: str
    wells: list[str]
    failed_wells: list[WellReason]
    steps: list[StepFigures]
    tasks: int
    objects: int
    objects_per_well: int
    raw_bytes: int
    projected_bytes_per_task: int
    workers: int
    memory_bytes_per_worker: int
    warnings: list[str]


class RunDocument(Part):
    """``hcsflow run --json``."""

    schema_: Literal["hcsflow.run/1"] = Field(alias="schema")
    output: str
    plate: str | None = Field(description="The OME-Zarr plate written; null where no well is.")
    report: str | None
    tables: list[str]
    seconds: float
    done: list[str]
    skipped: list[str] = Field(description="Wells that were whole already.")
    cancelled: list[str]
    failed: list[Fault]
    rerun: str | None = Field(description="Command that runs the failed wells again.")
    left_out: list[str] = Field(
        description="Stored wells that other steps or parameters made: not in plate and tables."
    )


class FailuresDocument(Part):
    """``hcsflow failures --json``."""

    schema_: Literal["hcsflow.failures/1"] = Field(alias="schema")
    output: str
    failures: list[Fault]
    rerun: str | None


class Process(Part):
    """The process of a run that is alive."""

    host: str
    pid: int


class StatusDocument(Part):
    """``hcsflow status --json``."""

    schema_: Literal["hcsflow.status/1"] = Field(alias="schema")
    output: str
    pipeline: str
    plate: str
    running: Process | None
    wells: int
    done: list[str]
    failed: list[str]
    pending: list[str]
    objects: int = Field(description="Stored objects of the wells that are done.")
    nbytes: int
    seconds: float = Field(description="Sum of the wells' wall times.")
    left_out: list[str] = Field(
        description="Stored wells that other steps or parameters made: not in plate and tables."
    )


class Finding(Part):
    """One thing that is not as the journal says."""

    kind: Literal["missing", "size", "checksum", "metadata", "unlisted"]
    path: str
    well: str | None
    message: str


class VerifyDocument(Part):
    """``hcsflow verify --json``."""

    schema_: Literal["hcsflow.verify/1"] = Field(alias="schema")
    output: str
    ok: bool
    objects: int
    findings: list[Finding]


class CancelDocument(Part):
    """``hcsflow cancel --json``."""

    schema_: Literal["hcsflow.cancel/1"] = Field(alias="schema")
    cancelled: bool


class ReportDocument(Part):
    """``hcsflow report --json``."""

    schema_: Literal["hcsflow.report/1"] = Field(alias="schema")
    report: str


class ParameterEntry(Part):
    """A keyword argument of a step function."""

    name: str
    type: str
    required: bool
    default: bool | int | float | str | None
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


DOCUMENTS: dict[str, type[Part]] = {
    "cancel": CancelDocument,
    "demo": DemoDocument,
    "doctor": DoctorDocument,
    "failures": FailuresDocument,
    "functions": FunctionsDocument,
    "inspect": InspectDocument,
    "plan": PlanDocument,
    "report": ReportDocument,
    "run": RunDocument,
    "status": StatusDocument,
    "verify": VerifyDocument,
}


def json_schema(verb: str) -> dict[str, Any]:
    """Return the JSON Schema of a verb's document.

    Raises
    ------
    UsageError
        If the verb prints none; lists those that do.
    """
    if verb not in DOCUMENTS:
        meant = nearest(verb, DOCUMENTS)
        raise UsageError(
            f"no document is printed by {verb!r}; there are: {', '.join(DOCUMENTS)}",
            hint=f"did you mean {meant!r}?" if meant else None,
        )
    return DOCUMENTS[verb].model_json_schema(by_alias=True)
