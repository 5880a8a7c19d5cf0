"""What verbs print about plans, runs and outputs, as models."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hcsflow.cli.documents import Part, SettingEntry, WellReason

__all__ = [
    "CancelDocument",
    "DetachedDocument",
    "FailuresDocument",
    "PlanDocument",
    "ReportDocument",
    "RunDocument",
    "StatusDocument",
    "VerifyDocument",
]


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


class StepFigures(Part):
    """One step of a plan."""

    name: str
    functions: list[str]
    calls_per_well: int
    planes_per_well: int
    shape_yx: list[int]
    dtype: str
    projected_bytes: int


class StepForecast(Part):
    """What one step of one well took; "read" and "write" stand for input and output."""

    name: str
    seconds: float
    longest_seconds: float
    peak_bytes: int = Field(description="0 where it was not measured.")
    projected_bytes: int
    user_function: str | None = Field(
        None, description="The step's function, where it is none of hcsflow's own."
    )


class UnitFigures(Part):
    """What one output of a well took: all tasks since the checkpoint before it."""

    output: str = Field(description='"" is the final one.')
    wells: int = Field(description="Wells measured.")
    seconds: float = Field(description="Of a typical well (the lower median).")
    longest_seconds: float
    peak_bytes: int = Field(description="Of the worst task; 0 where it was not measured.")
    projected_bytes: int
    bytes_read: int
    bytes_written: int
    steps: list[StepForecast]


class OutputFigures(Part):
    """What one output takes on disk, by its wells measured."""

    output: str = Field(description='"" is the final one.')
    wells_measured: int
    stored_bytes: int = Field(description="Of all wells of the plan.")


class ForecastPart(Part):
    """What a run will come to, by what was measured."""

    source: Literal["probe", "run"]
    wells_measured: int
    wells_left: int
    workers: int
    seconds_per_well: float
    seconds: float | None = Field(description="Of what is left; null where part is unknown.")
    stored_bytes: int = Field(description="Of all wells of the plan, compressed.")
    raw_bytes: int = Field(description="The same, uncompressed.")
    peak_bytes: int = Field(description="Of the worst task measured; 0 where unknown.")
    projected_bytes: int
    steps: list[StepForecast]
    outputs: list[OutputFigures] = Field(description="Those that were measured.")


class SizePart(Part):
    """What one output will take on disk, all wells of the plan."""

    output: str = Field(description='"" is the final one.')
    store: str
    codec: str = Field(description="Of its image and its labels, in words.")
    objects: int = Field(description="Files with pixels: chunks, shards or TIFF files.")
    documents: int = Field(description="Documents and tables beside them in the plate.")
    raw_bytes: int = Field(description="Pixels, uncompressed.")
    stored_bytes: int = Field(description="Expected on disk.")
    low_bytes: int
    high_bytes: int
    basis: Literal["run", "probe", "typical"] = Field(
        description="Wells measured, or what is typical of codec and pixels."
    )
    wells_measured: int


class SegmentPart(Part):
    """A segment's wells: those whose work is there already, and those to do."""

    name: str
    wells_kept: int
    wells_to_do: int


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
    documents: int = Field(description="Documents and tables in the plates; objects come besides.")
    raw_bytes: int = Field(description="Pixels of all outputs, uncompressed.")
    stored_bytes: int = Field(description="Expected on disk, all outputs.")
    outputs: list[SizePart]
    free_bytes: int | None = Field(description="Of the output's disk; null where unknown.")
    projected_bytes_per_task: int
    workers: int
    memory_bytes_per_worker: int
    device_bytes_per_task: int = Field(description="Peak on a device; 0 where none is used.")
    segments: list[SegmentPart] = Field(
        description="What the output holds already of each segment, and what is to do."
    )
    forecast: ForecastPart | None = Field(
        description="Null until wells were measured, by --probe or by a run."
    )
    settings: list[SettingEntry] = Field([], description="Those that are not the defaults.")
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
        description="Stored wells made with other steps, parameters or storage settings: not in "
        "plate and tables."
    )
    segments: list[SegmentPart] = Field(
        [], description="What the run kept of each segment, and what it had to do."
    )
    measured: list[UnitFigures] = Field(
        [], description="Time and memory of each output, measured beside projected."
    )


class FailuresDocument(Part):
    """``hcsflow failures --json``."""

    schema_: Literal["hcsflow.failures/1"] = Field(alias="schema")
    output: str
    failures: list[Fault]
    rerun: str | None


class StepProgress(Part):
    """How far the wells of a run are with one step."""

    step: str
    through: int
    at: int
    seconds_per_well: float | None


class Process(Part):
    """A run that is alive: its process, its cluster, what it is at."""

    host: str
    pid: int
    since: str = Field(description="When the process started, ISO 8601 in UTC.")
    detached: bool
    cluster: str | None
    workers: int | None
    waiting: bool = Field(description="Whether it waits for its first worker.")
    dashboard: str | None
    tunnel: str | None = Field(description="Command that makes the dashboard seen from elsewhere.")
    open: dict[str, str] = Field(description="Wells at work, each with its step.")
    steps: list[StepProgress]
    wells_per_minute: float | None
    seconds_left: float | None


class DetachedDocument(Part):
    """``hcsflow run --detach --json``."""

    schema_: Literal["hcsflow.detached/1"] = Field(alias="schema")
    output: str
    host: str
    pid: int
    running: bool = Field(description="False where the run was over before this was printed.")
    log: str = Field(description="File that takes what the run prints.")
    dashboard: str | None
    tunnel: str | None


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
    error: str | None = Field(description="What ended the latest run before its time.")
    log: str | None = Field(description="File with what that run printed, where it was detached.")
    seconds_left: float | None = Field(
        description="Wall time of what is left, by what was measured; null where that is unknown."
    )
    left_out: list[str] = Field(
        description="Stored wells made with other steps, parameters or storage settings: not in "
        "plate and tables."
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
